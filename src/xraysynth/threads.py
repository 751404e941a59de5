"""How many processor threads a job uses: one for a small network, all cores for a large one.

Two threads that share the work of a small network wait for each other most of the time; where another
process needs a core as well, they make it ten times as slow. Sums differ in their last digit with the
number of threads, so that one thread also gives the same values on every machine.

A number that the user has set (`OMP_NUM_THREADS`, `MKL_NUM_THREADS`) is respected throughout.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

LARGE_FLOPS = 5e10
"""Floating-point operations of one forward pass of a batch from which all cores are used.

A ResNet-18 needs 1e10 for 32 images of 64 px, and 1.2e11 for 32 images of 224 px.
"""

_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
_DEFAULT_VARIABLE = "XRAYSYNTH_DEFAULT_THREADS"
"""Says to started processes that OMP_NUM_THREADS was set here, and not by the user."""

_WORKERS_VARIABLE = "XRAYSYNTH_WORKERS"


def use_one_thread_by_default() -> None:
    """Make one thread the default of this process and of those that it starts.

    To be called before numpy and torch are imported, which read the number of threads once.
    """
    if threads_asked_for() is None:
        os.environ.update({"OMP_NUM_THREADS": "1", _DEFAULT_VARIABLE: "1"})


def threads_asked_for() -> int | None:
    """Return the number of threads that the user has set; None without one."""
    if os.environ.get(_DEFAULT_VARIABLE) == os.environ.get("OMP_NUM_THREADS") == "1":
        return None
    for name in _VARIABLES:
        first = os.environ.get(name, "").partition(",")[0].strip()  # "4,2" for nested threads
        if first.isdigit() and int(first) > 0:
            return int(first)
    return None


def available_cores() -> int:
    """Return how many processor cores are this process's share.

    The cores that the scheduler and the container leave (affinity, cgroup, SLURM_CPUS_PER_TASK),
    divided among the processes that torchrun or a study have started side by side.
    """
    from joblib import cpu_count

    cores: int = min(cpu_count(), _positive_number("SLURM_CPUS_PER_TASK", cpu_count()))
    neighbours = _positive_number("LOCAL_WORLD_SIZE", 1) * _positive_number(_WORKERS_VARIABLE, 1)
    return max(1, cores // neighbours)


def share_cores(workers: int) -> None:
    """Say to this process and those that it starts that it is one of several side by side."""
    os.environ[_WORKERS_VARIABLE] = str(workers)


def choose_threads(*, is_large: bool) -> int:
    """Return the number of threads for a network: the user's, else all cores or one."""
    return threads_asked_for() or (available_cores() if is_large else 1)


def count_flops(forward: Callable[..., Any], *inputs: Any) -> int:
    """Count the floating-point operations of a call, by making it."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        forward(*inputs)
    return int(counter.get_total_flops())


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Let torch use this number of threads in the block."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute in one thread, torch and linear algebra, so that tables are the same on every machine."""
    import scipy.linalg  # noqa: F401  # libraries that are loaded later would not be limited
    from threadpoolctl import threadpool_limits

    with torch_threads(1), threadpool_limits(1):
        yield


def _positive_number(name: str, default: int) -> int:
    value = os.environ.get(name, "")
    return int(value) if value.isdigit() and int(value) > 0 else default
