"""What images cost: seconds, memory, energy, dollars and refusals, per image and in total."""

import logging
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from xraysynth.provenance import cpu_cores, peak_memory_mb

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


def summary(attempts: Sequence[Entry], sessions: Sequence[Entry]) -> dict[str, Any]:
    """The ledger of a pool from every journal entry and from its `metered` sessions.

    `images_per_hour` is over the time of all sessions, loading the model left out, and
    `seconds_per_image` the time of all sessions, loading and refusals included, over their images;
    `seconds_p50` and `seconds_p95` are over images; dollars are what the answers said was used, and
    `possible_usd` what an answer that never came may have cost.
    """
    images = [entry for entry in attempts if entry["outcome"] == "image"]
    seconds = [e["facts"]["seconds"] for e in images if e["facts"].get("seconds") is not None]
    found = _facts(sessions)
    working = _total(sessions, "seconds") - _total(sessions, "load_seconds")
    energy = _total(sessions, "energy_kwh")
    cost = sum(entry["facts"].get("cost_usd") or 0.0 for entry in attempts)
    metered_images = int(_total(sessions, "images"))
    return found | {
        "images": len(images),
        "attempts": len(attempts),
        "seconds_p50": _percentile(seconds, 50),
        "seconds_p95": _percentile(seconds, 95),
        "images_per_hour": metered_images / working * 3600 if working > 0 else None,
        "seconds_per_image": _total(sessions, "seconds") / metered_images
        if metered_images
        else None,
        "energy_kwh": energy or None,
        "energy_kwh_per_1000": energy / metered_images * 1000
        if energy and metered_images
        else None,
        "cost_usd": cost,
        "cost_usd_per_image": cost / len(images) if images else None,
        "possible_usd": sum(e["facts"].get("cost_possible_usd") or 0.0 for e in attempts),
        "retries": sum(e["facts"].get("retries") or 0 for e in attempts),
    }


def _facts(sessions: Sequence[Entry]) -> dict[str, Any]:
    """Of the model and the machine: the last session that knows, and the highest of the peaks.

    The machine is left out where sessions differ in it: what they add up to was measured on none.
    """
    found: dict[str, Any] = {}
    for session in sessions:
        found |= {name: value for name, value in session.items() if value is not None}
    for name in ("seconds", "images", "started"):
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
