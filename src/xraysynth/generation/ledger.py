"""The ledger: what images cost in seconds, memory, energy and dollars, per image and in total.

>>> ledger = aggregate_attempts([Attempt("image", cost_usd=0.04), Attempt("refused", cost_usd=0.02)], [])
>>> ledger.images, ledger.attempts, ledger.cost_usd
(1, 2, 0.06)
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from operator import attrgetter
from pathlib import Path
from typing import Any

from xraysynth.files import read_json_lines
from xraysynth.records import JsonObject, from_json


@dataclass(frozen=True, kw_only=True)
class Ledger:
    """What it took to make images or to fine-tune: of one session, or of all sessions together.

    A field is None where it was not measured or does not apply, such as dollars for a model that
    runs on this machine, or images for a fine-tuning. `aggregate_attempts` and `aggregate_sessions`
    define the totals.

    Attributes:
        images: Images that were made.
        attempts: Requests that ended, with or without an image.
        retries: Calls that failed and were repeated.
        sessions: Sessions that began.
        unmetered_sessions: Sessions that left no measurement, because they were killed.
        seconds: Time of all sessions; None where one of them is not measured.
        seconds_at_least: Lower bound of that time, from the sessions that are measured.
        load_seconds: Time in which the model was loaded.
        seconds_p50: Median of the time per image.
        seconds_p95: 95th percentile of the time per image.
        seconds_per_image: Time of sessions over their images, with loading and refusals.
        images_per_hour: Images over the time of sessions, without loading.
        energy_kwh: Energy of all sessions; None where one of them is not measured.
        energy_kwh_at_least: Lower bound of that energy, from the sessions that are measured.
        energy_kwh_per_1000: Energy per 1,000 images.
        energy_method: How the energy is known: read from counters, or estimated.
        cost_usd: Dollars that the service's answers report.
        cost_usd_per_image: Dollars over the images whose price is known.
        possible_usd: Dollars that may have been billed in addition, where an answer did not say.
        peak_rss_mb: Peak of main memory, in MB (10^6 bytes), as all memory here.
        peak_vram_mb: Peak of GPU memory.
        cpu_cores: Processor cores that the process may use.
        gpu: Name of the GPU.
        gpu_memory_mb: All memory of the GPU.
        device: Where the model runs: "cpu", "cuda", or the service that serves it.
        engine: Library or service that makes the images.
        model: Name of the model.
        dtype: Number format in which the model computes.
        variant: Variant of the weight files that were loaded, such as fp16.
        steps: Denoising steps per image.
        parameters: Parameters of the model.
        trained_parameters: Parameters that were fine-tuned.
        bytes_on_disk: Size of the model's files.
    """

    images: int | None = None
    attempts: int | None = None
    retries: int | None = None
    sessions: int | None = None
    unmetered_sessions: int | None = None

    seconds: float | None = None
    seconds_at_least: float | None = None
    load_seconds: float | None = None
    seconds_p50: float | None = None
    seconds_p95: float | None = None
    seconds_per_image: float | None = None
    images_per_hour: float | None = None

    energy_kwh: float | None = None
    energy_kwh_at_least: float | None = None
    energy_kwh_per_1000: float | None = None
    energy_method: str | None = None

    cost_usd: float | None = None
    cost_usd_per_image: float | None = None
    possible_usd: float | None = None

    peak_rss_mb: float | None = None
    peak_vram_mb: float | None = None
    cpu_cores: int | None = None
    gpu: str | None = None
    gpu_memory_mb: int | None = None

    device: str | None = None
    engine: str | None = None
    model: str | None = None
    dtype: str | None = None
    variant: str | None = None
    steps: int | None = None
    parameters: int | None = None
    trained_parameters: int | None = None
    bytes_on_disk: int | None = None

    @property
    def known_values(self) -> dict[str, float | str]:
        """Field name -> value, for the fields that are not None."""
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        return {name: value for name, value in values.items() if value is not None}


MACHINE_FIELDS = ("cpu_cores", "gpu", "gpu_memory_mb")
"""Fields of a session's ledger that describe its machine."""

MODEL_FIELDS = (
    *("device", "engine", "model", "dtype", "variant", "steps", "load_seconds"),
    *("parameters", "trained_parameters", "bytes_on_disk"),
)
"""Fields in which a generator describes itself (`Generator.model_ledger`)."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One request that ended: its outcome, and what is known of its time and price.

    Attributes:
        outcome: One of `records.Outcome`.
        seconds: Time that the request took.
        cost_usd: Dollars that the answer reports.
        cost_possible_usd: Dollars that may have been billed, as the answer did not say.
        retries: Calls that failed before this answer came.
    """

    outcome: str
    seconds: float | None = None
    cost_usd: float | None = None
    cost_possible_usd: float | None = None
    retries: int | None = None

    @classmethod
    def from_entry(cls, outcome: str, facts: JsonObject) -> "Attempt":
        """Builds the attempt from the outcome and the facts of a store's journal entry."""
        return cls(
            outcome,
            seconds=facts.get("seconds"),
            cost_usd=facts.get("cost_usd"),
            cost_possible_usd=facts.get("cost_possible_usd"),
            retries=facts.get("retries"),
        )

    @property
    def reported_usd(self) -> float | None:
        """Dollars that the answer reports; None where it reports none, which may still be billed."""
        is_unreported = not self.cost_usd and (self.cost_possible_usd or 0.0) > 0
        return None if is_unreported else self.cost_usd


def aggregate_sessions(journal: Path) -> Ledger:
    """Adds up all sessions of a journal that `metering.measure_session` wrote.

    Args:
        journal: The file of JSON lines.

    Returns:
        A ledger whose `sessions` counts all sessions and `unmetered_sessions` those without a
        measurement. `seconds` and `energy_kwh` are None where a session does not know them; the sum
        over the other sessions is then in `seconds_at_least` and `energy_kwh_at_least`.
    """
    sessions: list[Ledger] = []
    begun = 0
    for line in read_json_lines(journal):
        if line["session"] == "begun":
            begun += 1
        elif line["session"] == "ended":
            sessions.append(from_json(Ledger, line))
    seconds, seconds_at_least = _total_or_lower_bound(sessions, "seconds", expected_sessions=begun)
    energy_kwh, energy_kwh_at_least = _total_or_lower_bound(
        sessions, "energy_kwh", expected_sessions=begun
    )
    return replace(
        _combine_model_and_machine(sessions),
        sessions=begun,
        unmetered_sessions=begun - len(sessions),
        seconds=seconds,
        seconds_at_least=seconds_at_least,
        energy_kwh=energy_kwh,
        energy_kwh_at_least=energy_kwh_at_least,
    )


def aggregate_attempts(attempts: Sequence[Attempt], sessions: Sequence[Ledger]) -> Ledger:
    """Computes the ledger of a pool from all its requests and all its sessions.

    A rate divides a known total by the images for which it is known:

    - `seconds_p50` and `seconds_p95` are percentiles over images.
    - `seconds_per_image` is the time of sessions, with loading and refusals, over their images.
    - `images_per_hour` leaves out the time in which the model was loaded.
    - `energy_kwh` is None where an image was made in a session without a measurement; the energy of
      the other sessions is then in `energy_kwh_at_least`.
    - `cost_usd` sums the dollars that the answers report, and is None where none reports any;
      `cost_usd_per_image` divides them by the images of known price.
    - `possible_usd` is what the other answers, and calls without an answer, may have cost.

    Args:
        attempts: Every request that ended, also those that were repeated.
        sessions: The ledger of every session that worked on the pool.
    """
    images = [attempt for attempt in attempts if attempt.outcome == "image"]
    ledger = replace(
        _combine_model_and_machine(sessions),
        images=len(images),
        attempts=len(attempts),
        retries=sum(attempt.retries or 0 for attempt in attempts),
    )
    ledger = _with_speed(ledger, images, sessions)
    ledger = _with_energy(ledger, len(images), sessions)
    return _with_prices(ledger, attempts)


def _with_speed(ledger: Ledger, images: Sequence[Attempt], sessions: Sequence[Ledger]) -> Ledger:
    seconds = [attempt.seconds for attempt in images if attempt.seconds is not None]
    return replace(
        ledger,
        seconds_p50=_percentile(seconds, 50),
        seconds_p95=_percentile(seconds, 95),
        seconds_per_image=_mean_per_image(sessions, "seconds"),
        images_per_hour=_compute_images_per_hour(sessions),
    )


def _with_energy(ledger: Ledger, image_count: int, sessions: Sequence[Ledger]) -> Ledger:
    metered_images = _sum_field(_sessions_with(sessions, "energy_kwh"), "images")
    all_images_metered = metered_images >= image_count
    energy_kwh, energy_kwh_at_least = _total_or_lower_bound(
        sessions, "energy_kwh", expected_sessions=len(sessions) if all_images_metered else None
    )
    kwh_per_image = _mean_per_image(sessions, "energy_kwh")
    return replace(
        ledger,
        energy_kwh=energy_kwh,
        energy_kwh_at_least=energy_kwh_at_least,
        energy_kwh_per_1000=None if kwh_per_image is None else kwh_per_image * 1000,
    )


def _with_prices(ledger: Ledger, attempts: Sequence[Attempt]) -> Ledger:
    prices: list[float] = []
    priced_images = 0
    for attempt in attempts:
        if attempt.reported_usd is not None:
            prices.append(attempt.reported_usd)
            priced_images += attempt.outcome == "image"
    return replace(
        ledger,
        cost_usd=sum(prices) if prices else None,
        cost_usd_per_image=sum(prices) / priced_images if priced_images else None,
        possible_usd=sum(attempt.cost_possible_usd or 0.0 for attempt in attempts),
    )


def _compute_images_per_hour(sessions: Sequence[Ledger]) -> float | None:
    """Divides images by the time that is left after loading the model.

    Only sessions that know how long loading took are counted; where none knows, no model was loaded
    and all are counted.
    """
    counted = _sessions_with(sessions, "load_seconds") or sessions
    working_seconds = _sum_field(counted, "seconds") - _sum_field(counted, "load_seconds")
    if working_seconds <= 0:
        return None
    return _sum_field(counted, "images") / working_seconds * 3600


def _total_or_lower_bound(
    sessions: Sequence[Ledger], name: str, *, expected_sessions: int | None
) -> tuple[float | None, float | None]:
    """Sums a field over the sessions that know it.

    Returns:
        (total, None) where as many sessions as expected know the field, else (None, lower bound).
    """
    knowing = _sessions_with(sessions, name)
    total = _sum_field(knowing, name) if knowing else None
    return (total, None) if len(knowing) == expected_sessions else (None, total)


def _mean_per_image(sessions: Sequence[Ledger], name: str) -> float | None:
    """Divides the total of a field by the images of the sessions that know the field."""
    knowing = _sessions_with(sessions, name)
    images = _sum_field(knowing, "images")
    return _sum_field(knowing, name) / images if images else None


def _sessions_with(sessions: Sequence[Ledger], name: str) -> list[Ledger]:
    return [session for session in sessions if getattr(session, name) is not None]


def _combine_model_and_machine(sessions: Sequence[Ledger]) -> Ledger:
    """Combines what sessions know of model and machine: the last known value, and the highest peaks.

    The machine is left out where sessions ran on different ones, as their sum was measured on none.
    """
    machines = set(map(attrgetter(*MACHINE_FIELDS), sessions))
    machine_fields = MACHINE_FIELDS if len(machines) == 1 else ()
    values: dict[str, Any] = {}
    for session in sessions:
        for name in (*MODEL_FIELDS, "energy_method", *machine_fields):
            value = getattr(session, name)
            if value is not None:
                values[name] = value
    return Ledger(
        **values,
        peak_rss_mb=_max_field(sessions, "peak_rss_mb"),
        peak_vram_mb=_max_field(sessions, "peak_vram_mb"),
    )


def _sum_field(sessions: Sequence[Ledger], name: str) -> float:
    return float(sum(getattr(session, name) or 0 for session in sessions))


def _max_field(sessions: Sequence[Ledger], name: str) -> float | None:
    """Returns the largest value of a field over the sessions that know it; None if none does."""
    knowing = _sessions_with(sessions, name)
    return max(map(attrgetter(name), knowing), default=None)


def _percentile(values: Sequence[float], percent: int) -> float | None:
    import numpy as np

    return float(np.percentile(values, percent)) if values else None
