"""What images cost: seconds, memory, energy, dollars and refusals, per image and in total."""

import logging
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from xraysynth.files import append_line, read_lines
from xraysynth.jobs.provenance import cpu_cores, peak_memory_mb

Entry = Mapping[str, Any]
"""A line of a store's journal: `outcome`, and `facts` with `seconds`, `cost_usd`, …"""

MACHINE = ("cpu_cores", "gpu", "gpu_memory_mb")
"""What a metered stretch of work says of its machine."""


@contextmanager
def metered() -> Iterator[dict[str, Any]]:
    """Measure a stretch of work; the dictionary is filled when it ends, also by an error.

    `seconds`, `peak_rss_mb`, `peak_vram_mb` (MB = 10^6 bytes) and, with codecarbon installed,
    `energy_kwh` of this process and `energy_method`: what it reads from the processor's counters
    where it may, and otherwise an estimate from the processor's rated power and its load. Of the
    machine: the `cpu_cores` that this process may use and, where torch sees a GPU, its name `gpu`
    and all of its memory, `gpu_memory_mb`.
    """
    found: dict[str, Any] = {}
    _reset_peaks()
    tracker = _energy_tracker()
    began = time.perf_counter()
    try:
        yield found
    finally:
        found |= {
            "seconds": round(time.perf_counter() - began, 3),
            "peak_rss_mb": round(_peak_rss_mb(), 1),
            "peak_vram_mb": _peak_vram_mb(),
            "cpu_cores": cpu_cores(),
            **_gpu(),
            **_energy(tracker),
        }


@contextmanager
def metered_session(journal: Path) -> Iterator[None]:
    """Measure a stretch of work that may be one of several, and add it to a file of JSON lines.

    A line says that the session has begun, and another one, also after an error, what it took: of
    a session that was killed only the first is there, so that it is missed.
    """
    append_line(journal, {"session": "begun"})
    found: dict[str, Any] = {}
    try:
        with metered() as found:
            yield
    finally:
        append_line(journal, {"session": "ended"} | found)


def whole(journal: Path) -> dict[str, Any]:
    """What all sessions of a journal took together: the entries of `metered`.

    `seconds` and `energy_kwh` are None where a session does not know them, and what the others
    know is then in `seconds_at_least` and `energy_kwh_at_least`. `sessions` counts all,
    `unmetered_sessions` those that left no measurement.
    """
    lines = read_lines(journal)
    ended = [line for line in lines if line["session"] == "ended"]
    begun = sum(line["session"] == "begun" for line in lines)
    found = _facts(ended) | {"sessions": begun, "unmetered_sessions": begun - len(ended)}
    found.pop("session", None)
    for name in ("seconds", "energy_kwh"):
        known = _knowing(ended, name)
        found[name] = _total(known, name) if known and len(known) == begun else None
        if known and found[name] is None:
            found[f"{name}_at_least"] = _total(known, name)
    return found


def summary(attempts: Sequence[Entry], sessions: Sequence[Entry]) -> dict[str, Any]:
    """The ledger of a pool from every journal entry and from its `metered` sessions.

    A rate divides what is known by the images that it is known of. `images_per_hour` is over the
    time of sessions, loading the model left out, and `seconds_per_image` the time of sessions,
    loading and refusals included, over their images; `seconds_p50` and `seconds_p95` are over
    images. `energy_kwh` is None where some image was made unmetered; what is known of it is then
    `energy_kwh_at_least`. Dollars are what the answers said was used: `cost_usd` of those that did,
    None where none did, and `cost_usd_per_image` over the images of known price; `possible_usd` is
    what other answers, or one that never came, may have cost.
    """
    images = [entry for entry in attempts if entry["outcome"] == "image"]
    seconds = [e["facts"]["seconds"] for e in images if e["facts"].get("seconds") is not None]
    prices = [price for entry in attempts if (price := _price(entry)) is not None]
    priced = sum(_price(entry) is not None for entry in images)
    return _facts(sessions) | {
        "images": len(images),
        "attempts": len(attempts),
        "seconds_p50": _percentile(seconds, 50),
        "seconds_p95": _percentile(seconds, 95),
        "images_per_hour": _images_per_hour(sessions),
        "seconds_per_image": _per_image(sessions, "seconds"),
        **_energy_of(sessions, len(images)),
        "cost_usd": sum(prices) if prices else None,
        "cost_usd_per_image": sum(prices) / priced if priced else None,
        "possible_usd": sum(e["facts"].get("cost_possible_usd") or 0.0 for e in attempts),
        "retries": sum(e["facts"].get("retries") or 0 for e in attempts),
    }


def _price(entry: Entry) -> float | None:
    """Dollars that an answer said it cost; None where it did not say, which is not for nothing."""
    facts = entry["facts"]
    usd: float | None = facts.get("cost_usd")
    silent = not usd and (facts.get("cost_possible_usd") or 0.0) > 0
    return None if silent else usd


def _images_per_hour(sessions: Sequence[Entry]) -> float | None:
    """Images over the time left after loading, of the sessions that say how long loading took.

    Where none says, nothing is loaded.
    """
    counted = _knowing(sessions, "load_seconds") or sessions
    working = _total(counted, "seconds") - _total(counted, "load_seconds")
    return _total(counted, "images") / working * 3600 if working > 0 else None


def _energy_of(sessions: Sequence[Entry], images: int) -> dict[str, float | None]:
    known = _knowing(sessions, "energy_kwh")
    each, total = _per_image(sessions, "energy_kwh"), _total(known, "energy_kwh")
    complete = len(known) == len(sessions) and _total(known, "images") >= images
    found = {
        "energy_kwh": total if known and complete else None,
        "energy_kwh_per_1000": None if each is None else each * 1000,
    }
    return found if complete or not known else found | {"energy_kwh_at_least": total}


def _per_image(sessions: Sequence[Entry], name: str) -> float | None:
    """A total over the images of the sessions that know it."""
    known = _knowing(sessions, name)
    images = _total(known, "images")
    return _total(known, name) / images if images else None


def _knowing(sessions: Sequence[Entry], name: str) -> list[Entry]:
    return [session for session in sessions if session.get(name) is not None]


def _facts(sessions: Sequence[Entry]) -> dict[str, Any]:
    """Of the model and the machine: the last session that knows, and the highest of the peaks.

    The machine is left out where sessions differ in it: what they add up to was measured on none.
    """
    found: dict[str, Any] = {}
    for session in sessions:
        found |= {name: value for name, value in session.items() if value is not None}
    for name in ("seconds", "energy_kwh", "images", "started"):
        found.pop(name, None)
    if len({tuple(session.get(name) for name in MACHINE) for session in sessions}) > 1:
        found = {name: value for name, value in found.items() if name not in MACHINE}
    for name in ("peak_rss_mb", "peak_vram_mb"):
        found[name] = max((s[name] for s in sessions if s.get(name) is not None), default=None)
    return found


def _total(sessions: Sequence[Entry], name: str) -> float:
    return float(sum(session.get(name) or 0 for session in sessions))


def _percentile(values: Sequence[float], percent: int) -> float | None:
    return float(np.percentile(values, percent)) if values else None


def _reset_peaks() -> None:
    """Linux forgets its peak when asked to, so that one process can meter several stretches."""
    with suppress(OSError):  # elsewhere the peak is that of the process so far
        Path("/proc/self/clear_refs").write_text("5")
    if torch := _torch_on_gpu():
        torch.cuda.reset_peak_memory_stats()


def _peak_rss_mb() -> float:
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return peak_memory_mb()
    kibibytes = next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
    return kibibytes * 1024 / 1e6


def _peak_vram_mb() -> float | None:
    torch = _torch_on_gpu()
    return round(torch.cuda.max_memory_allocated() / 1e6, 1) if torch else None


def _gpu() -> dict[str, Any]:
    if not (torch := _torch_on_gpu()):
        return {}
    properties = torch.cuda.get_device_properties(torch.cuda.current_device())
    return {"gpu": properties.name, "gpu_memory_mb": round(properties.total_memory / 1e6)}


def _torch_on_gpu() -> Any:
    torch = sys.modules.get("torch")  # asking must not import it
    return torch if torch is not None and torch.cuda.is_available() else None


def _energy_tracker() -> Any:
    """A running codecarbon tracker of this process, or None where it is not installed."""
    try:
        from codecarbon import OfflineEmissionsTracker
    except ImportError:
        return None
    logging.getLogger("codecarbon").disabled = True  # its notes would mix with the progress
    tracker = OfflineEmissionsTracker(
        country_iso_code="USA",  # decides grams of carbon only, which are not used
        save_to_file=False,
        allow_multiple_runs=True,
        tracking_mode="process",
        log_level="critical",
    )
    tracker.start()
    return tracker


def _energy(tracker: Any) -> dict[str, Any]:
    if tracker is None:
        return {"energy_kwh": None}
    tracker.stop()
    modes = [getattr(part, "_mode", "") for part in tracker._hardware]
    estimated = any(mode in ("cpu_load", "constant") for mode in modes)
    method = "estimated from rated power and load" if estimated else "processor counters"
    data = tracker.final_emissions_data
    return {"energy_kwh": data.energy_consumed, "energy_method": method}
