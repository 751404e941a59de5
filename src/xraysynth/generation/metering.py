"""Measurement of a stretch of work: its time, memory and energy, and the machine that it ran on."""

import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from xraysynth.environment import hidden_variables
from xraysynth.files import append_json_line
from xraysynth.generation.ledger import Ledger
from xraysynth.jobs.provenance import cpu_cores, peak_memory_mb

ESTIMATING_MODES = ("cpu_load", "constant")
"""codecarbon's tracking modes that estimate the energy instead of reading a counter."""


@dataclass
class Meter:
    """A running measurement; its `ledger` is filled in when the measured work ends."""

    ledger: Ledger = field(default_factory=Ledger)


@contextmanager
def measure_resources() -> Iterator[Meter]:
    """Measures the work inside a `with` block.

    Yields:
        A meter, whose ledger is complete after the block, also when the block raises. The ledger
        has `seconds`, the peaks `peak_rss_mb` and `peak_vram_mb`, the `cpu_cores` that this process
        may use and, where torch sees a GPU, its name `gpu` and its total `gpu_memory_mb`. Where
        codecarbon is installed, it also has `energy_kwh` of this process and `energy_method`: read
        from the processor's counters where these can be read, and otherwise estimated from the
        processor's rated power and load.
    """
    meter = Meter()
    _reset_peaks()
    tracker = _start_energy_tracker()
    start = time.perf_counter()
    try:
        yield meter
    finally:
        seconds = round(time.perf_counter() - start, 3)
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
    """Measures one of several sessions of work and appends it to a file of JSON lines.

    The file gets a first line when the session begins and a second one with its measurements when
    the session ends, also by an error. A session that was killed leaves only the first line, by
    which `ledger.aggregate_sessions` knows that its measurements are missing.

    Args:
        journal: The file of JSON lines.
    """
    append_json_line(journal, {"session": "begun"})
    meter = Meter()
    try:
        with measure_resources() as meter:
            yield
    finally:
        append_json_line(journal, {"session": "ended"} | meter.ledger.known_values)


def _reset_peaks() -> None:
    """Resets the peaks of memory, so that one process can measure several stretches of work."""
    with suppress(OSError):  # only Linux can do so; elsewhere the peak is that of the whole process
        Path("/proc/self/clear_refs").write_text("5")
    torch = _torch_on_gpu()
    if torch:
        torch.cuda.reset_peak_memory_stats()


def _peak_rss_mb() -> float:
    """Returns the largest resident set since the last reset in MB, if the system reports it."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return peak_memory_mb()
    for line in lines:
        if line.startswith("VmHWM"):
            kibibytes = int(line.split()[1])
            return kibibytes * 1024 / 1e6
    return peak_memory_mb()


def _peak_vram_mb() -> float | None:
    torch = _torch_on_gpu()
    return round(torch.cuda.max_memory_allocated() / 1e6, 1) if torch else None


def _gpu_properties() -> tuple[str | None, int | None]:
    """Returns the name and the memory in MB of the GPU that torch uses, or None and None."""
    torch = _torch_on_gpu()
    if not torch:
        return None, None
    properties = torch.cuda.get_device_properties(torch.cuda.current_device())
    return properties.name, round(properties.total_memory / 1e6)


def _torch_on_gpu() -> Any:
    """Returns the module torch if it is already imported and sees a GPU, else None."""
    torch = sys.modules.get("torch")  # a measurement must not import torch
    return torch if torch is not None and torch.cuda.is_available() else None


def _start_energy_tracker() -> Any:
    """Starts a codecarbon tracker of this process; returns None if codecarbon is not installed."""
    # In an allocation it would ask Slurm for its cores, and fail where scontrol is not there.
    with hidden_variables("SLURM_", "CODECARBON_", "codecarbon_"):
        try:
            from codecarbon import OfflineEmissionsTracker
        except ImportError:
            return None
        logging.getLogger("codecarbon").disabled = True  # its notes would mix with the progress bar
        tracker = OfflineEmissionsTracker(
            country_iso_code="USA",  # only decides the grams of carbon, which are not used
            save_to_file=False,
            allow_multiple_runs=True,
            tracking_mode="process",
            log_level="critical",
        )
        tracker.start()
        return tracker


def _stop_energy_tracker(tracker: Any) -> tuple[float | None, str | None]:
    """Stops a tracker and returns the energy in kWh and the method by which it is known."""
    if tracker is None:
        return None, None
    tracker.stop()
    if not hasattr(tracker, "final_emissions_data"):  # it could not start, which it only logs
        return None, None
    method = "processor counters"
    for component in tracker._hardware:
        if getattr(component, "_mode", "") in ESTIMATING_MODES:
            method = "estimated from rated power and load"
    return tracker.final_emissions_data.energy_consumed, method
