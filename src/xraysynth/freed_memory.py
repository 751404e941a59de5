"""Memory that a step of a training frees, kept for its next step.

glibc gives every large block back to the system as soon as it is freed. The next step gets it anew, and
the system clears its pages again: a seventh of the processor time of a small network on a CPU.
"""

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of malloc.h
_KEPT_BYTES = 2**30
_USUAL_MMAP_BYTES = 2**25
"""The largest threshold that glibc chooses by itself; its trim threshold is then twice as large."""

_open_blocks: list[Any] = []
"""One entry for each block of `freed_memory_kept` that this process is in."""

_USERS_VARIABLES = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES")


@contextmanager
def freed_memory_kept() -> Iterator[None]:
    """Keep what the block frees for what it allocates next; up to 1 GiB at a time.

    After the block, or the outermost of several, all of it goes back to the system. Nothing changes
    where the C library is not glibc, or where the user has set its thresholds. No value that is computed
    depends on it.
    """
    libc = _load_glibc()
    if libc is None or any(map(os.environ.get, _USERS_VARIABLES)):
        yield
        return
    _open_blocks.append(libc)
    _set_thresholds(libc, _KEPT_BYTES, _KEPT_BYTES)
    try:
        yield
    finally:
        _open_blocks.pop()
        if not _open_blocks:
            _set_thresholds(libc, _USUAL_MMAP_BYTES, 2 * _USUAL_MMAP_BYTES)
            libc.malloc_trim(0)


def _load_glibc() -> Any:
    """Return glibc if this process uses it, else None."""
    try:
        libc = ctypes.CDLL(None)
    except (OSError, TypeError):  # not a POSIX system
        return None
    return libc if hasattr(libc, "mallopt") and hasattr(libc, "malloc_trim") else None


def _set_thresholds(libc: Any, mmap_bytes: int, trim_bytes: int) -> None:
    libc.mallopt(_MMAP_THRESHOLD, mmap_bytes)
    libc.mallopt(_TRIM_THRESHOLD, trim_bytes)
