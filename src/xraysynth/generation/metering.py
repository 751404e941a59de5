"""Measuring a stretch of work: its time, memory and energy, and the machine that it ran on."""

import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from xraysynth.files import append_json_line
from xraysynth.generation.ledger import Ledger
from xraysynth.jobs.provenance import cpu_cores, peak_memory_mb


@dataclass
class Meter:
    """A running measurement: `ledger` says what the work took once it has ended."""

    ledger: Ledger = field(default_factory=Ledger)


@contextmanager
def measure_resources() -> Iterator[Meter]:
    """Measure a stretch of work; the meter's ledger is there when it ends, also by an error.

    It has `seconds`, `peak_rss_mb`, `peak_vram_mb` and, with codecarbon installed, `energy_kwh` of
    this process and `energy_method`: what it reads from the processor's counters where it may, and
    otherwise an estimate from the processor's rated power and its load. Of the machine: the
    `cpu_cores` that this process may use and, where torch sees a GPU, its name `gpu` and all of its
    memory, `gpu_memory_mb`.
    """
    meter = Meter()
    _reset_peaks()
    tracker = _start_energy_tracker()
    began = time.perf_counter()
    try:
        yield meter
    finally:
        seconds = round(time.perf_counter() - began, 3)
        energy_kwh, energy_method = _stop_energy_tracker(tracker)
        gpu, gpu_memory_mb = _gpu_properties()
        meter.ledger = Ledger(
            seconds=seconds,
            peak_rss_mb=round(_peak_rss_mb(), 1),
            peak_vram_mb=_peak_vram_mb(),
            cpu_cores=cpu_cores(),
            gpu=gpu,
            gpu_memory_mb=gpu_memory_mb,
            energy_kwh=energy_kwh,
            energy_method=energy_method,
        )


@contextmanager
def measure_session(journal: Path) -> Iterator[None]:
    """Measure a stretch of work that may be one of several, and add it to a file of JSON lines.

    A line says that the session has begun, and another one, also after an error, what it took: of
    a session that was killed only the first is there, so that it is missed.
    """
    append_json_line(journal, {"session": "begun"})
    meter = Meter()
    try:
        with measure_resources() as meter:
            yield
    finally:
        append_json_line(journal, {"session": "ended"} | meter.ledger.known_values)


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


def _gpu_properties() -> tuple[str | None, int | None]:
    """Name and memory in MB of the GPU that torch sees."""
    if not (torch := _torch_on_gpu()):
        return None, None
    properties = torch.cuda.get_device_properties(torch.cuda.current_device())
    return properties.name, round(properties.total_memory / 1e6)


def _torch_on_gpu() -> Any:
    torch = sys.modules.get("torch")  # asking must not import it
    return torch if torch is not None and torch.cuda.is_available() else None


def _start_energy_tracker() -> Any:
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


def _stop_energy_tracker(tracker: Any) -> tuple[float | None, str | None]:
    """Energy in kWh of a tracker's work, and how it is known."""
    if tracker is None:
        return None, None
    tracker.stop()
    modes = [getattr(part, "_mode", "") for part in tracker._hardware]
    estimated = any(mode in ("cpu_load", "constant") for mode in modes)
    method = "estimated from rated power and load" if estimated else "processor counters"
    return tracker.final_emissions_data.energy_consumed, method
