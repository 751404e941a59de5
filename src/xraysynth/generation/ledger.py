"""What images cost: seconds, memory, energy, dollars and refusals, per image and in total.

>>> found = aggregate_attempts([Attempt("image", cost_usd=0.04), Attempt("refused", cost_usd=0.02)], [])
>>> found.images, found.attempts, found.cost_usd
(1, 2, 0.06)
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from xraysynth.files import read_json_lines
from xraysynth.records import JsonObject, from_json


@dataclass(frozen=True, kw_only=True)
class Ledger:
    """What making images or a fine-tuning took: one session of it, or all together.

    None stands for what was not measured or is not meant: dollars of what computes here, the images
    of a fine-tuning. MB are 10^6 bytes. What each total is of, `aggregate_attempts` and
    `aggregate_sessions` say.
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
    steps: int | None = None
    parameters: int | None = None
    trained_parameters: int | None = None
    bytes_on_disk: int | None = None

    @property
    def known_values(self) -> dict[str, float | str]:
        """Name -> value of what is not None."""
        values = ((item.name, getattr(self, item.name)) for item in fields(self))
        return {name: value for name, value in values if value is not None}


MACHINE_FIELDS = ("cpu_cores", "gpu", "gpu_memory_mb")
"""What a session says of its machine."""

MODEL_FIELDS = (
    *("device", "engine", "model", "dtype", "steps", "load_seconds"),
    *("parameters", "trained_parameters", "bytes_on_disk"),
)
"""What a generator says of itself (`Generator.measured`)."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """How one request ended, and what is known of it; `cost_possible_usd` may have been billed."""

    outcome: str
    seconds: float | None = None
    cost_usd: float | None = None
    cost_possible_usd: float | None = None
    retries: int | None = None

    @classmethod
    def from_entry(cls, outcome: str, facts: JsonObject) -> "Attempt":
        """The attempt of an entry in a store's journal."""
        names = ("seconds", "cost_usd", "cost_possible_usd", "retries")
        return cls(outcome, *(facts.get(name) for name in names))

    @property
    def reported_usd(self) -> float | None:
        """Dollars that the answer said it cost; None where it did not say, which is not for nothing."""
        silent = not self.cost_usd and (self.cost_possible_usd or 0.0) > 0
        return None if silent else self.cost_usd


def aggregate_sessions(journal: Path) -> Ledger:
    """What all sessions of a journal (`metering.measure_session`) took together.

    `seconds` and `energy_kwh` are None where a session does not know them, and what the others
    know is then in `seconds_at_least` and `energy_kwh_at_least`. `sessions` counts all,
    `unmetered_sessions` those that left no measurement.
    """
    lines = read_json_lines(journal)
    sessions = [from_json(Ledger, line) for line in lines if line["session"] == "ended"]
    begun = sum(line["session"] == "begun" for line in lines)
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
    """The ledger of a pool from all attempts and from its sessions.

    A rate divides what is known by the images that it is known of. `images_per_hour` is over the
    time of sessions, loading the model left out, and `seconds_per_image` the time of sessions,
    loading and refusals included, over their images; `seconds_p50` and `seconds_p95` are over
    images. `energy_kwh` is None where some image was made unmetered; what is known of it is then
    `energy_kwh_at_least`. Dollars are what the answers said was used: `cost_usd` of those that did,
    None where none did, and `cost_usd_per_image` over the images of known price; `possible_usd` is
    what other answers, or one that never came, may have cost.
    """
    images = [attempt for attempt in attempts if attempt.outcome == "image"]
    seconds = [attempt.seconds for attempt in images if attempt.seconds is not None]
    prices = [attempt.reported_usd for attempt in attempts if attempt.reported_usd is not None]
    priced = sum(attempt.reported_usd is not None for attempt in images)
    metered_images = _sum_field(_sessions_with(sessions, "energy_kwh"), "images")
    count = len(sessions) if metered_images >= len(images) else None
    energy_kwh, energy_kwh_at_least = _total_or_lower_bound(
        sessions, "energy_kwh", expected_sessions=count
    )
    energy_kwh_per_image = _mean_per_image(sessions, "energy_kwh")
    return replace(
        _combine_model_and_machine(sessions),
        images=len(images),
        attempts=len(attempts),
        retries=sum(attempt.retries or 0 for attempt in attempts),
        seconds_p50=_percentile(seconds, 50),
        seconds_p95=_percentile(seconds, 95),
        seconds_per_image=_mean_per_image(sessions, "seconds"),
        images_per_hour=_compute_images_per_hour(sessions),
        energy_kwh=energy_kwh,
        energy_kwh_at_least=energy_kwh_at_least,
        energy_kwh_per_1000=None if energy_kwh_per_image is None else energy_kwh_per_image * 1000,
        cost_usd=sum(prices) if prices else None,
        cost_usd_per_image=sum(prices) / priced if priced else None,
        possible_usd=sum(attempt.cost_possible_usd or 0.0 for attempt in attempts),
    )


def _compute_images_per_hour(sessions: Sequence[Ledger]) -> float | None:
    """Images over the time left after loading, of the sessions that say how long loading took.

    Where none says, nothing is loaded.
    """
    counted = _sessions_with(sessions, "load_seconds") or sessions
    working = _sum_field(counted, "seconds") - _sum_field(counted, "load_seconds")
    return _sum_field(counted, "images") / working * 3600 if working > 0 else None


def _total_or_lower_bound(
    sessions: Sequence[Ledger], name: str, *, expected_sessions: int | None
) -> tuple[float | None, float | None]:
    """A total where `of` sessions know it, else what it is at least."""
    knowing = _sessions_with(sessions, name)
    total = _sum_field(knowing, name) if knowing else None
    return (total, None) if len(knowing) == expected_sessions else (None, total)


def _mean_per_image(sessions: Sequence[Ledger], name: str) -> float | None:
    """A total over the images of the sessions that know it."""
    knowing = _sessions_with(sessions, name)
    images = _sum_field(knowing, "images")
    return _sum_field(knowing, name) / images if images else None


def _sessions_with(sessions: Sequence[Ledger], name: str) -> list[Ledger]:
    return [session for session in sessions if getattr(session, name) is not None]


def _combine_model_and_machine(sessions: Sequence[Ledger]) -> Ledger:
    """Of the model and the machine: the last session that knows, and the highest of the peaks.

    The machine is left out where sessions differ in it: what they add up to was measured on none.
    """
    machines = {tuple(getattr(session, name) for name in MACHINE_FIELDS) for session in sessions}
    names = (*MODEL_FIELDS, "energy_method", *(MACHINE_FIELDS if len(machines) == 1 else ()))
    found: dict[str, Any] = {}
    for session in sessions:
        found |= {
            name: session.known_values[name] for name in names if name in session.known_values
        }
    for name in ("peak_rss_mb", "peak_vram_mb"):
        peaks = [getattr(session, name) for session in _sessions_with(sessions, name)]
        found[name] = max(peaks, default=None)
    return Ledger(**found)


def _sum_field(sessions: Sequence[Ledger], name: str) -> float:
    return float(sum(getattr(session, name) or 0 for session in sessions))


def _percentile(values: Sequence[float], percent: int) -> float | None:
    import numpy as np

    return float(np.percentile(values, percent)) if values else None
