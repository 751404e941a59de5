"""Memory that is freed stays for the next step of a training, and goes back to the system at its end."""

import ctypes
import resource
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from xraysynth.freed_memory import freed_memory_kept

BLOCK_BYTES = 80 * 2**20
"""Larger than what glibc keeps by itself."""

LIBC = ctypes.CDLL(None)
pytestmark = pytest.mark.skipif(
    not hasattr(LIBC, "mallinfo2"),
    reason="only glibc can be told what to keep, and says what it has",
)


class Mallinfo(ctypes.Structure):
    """What glibc says of its memory (mallinfo2, man 3)."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in (
            *("arena", "ordblks", "smblks", "hblks", "hblkhd"),
            *("usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"),
        )
    ]


def memory():
    LIBC.mallinfo2.restype = Mallinfo
    return LIBC.mallinfo2()


def resident_bytes():
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def block():
    return torch.empty(BLOCK_BYTES, dtype=torch.uint8).fill_(1)


def is_mapped_anew():
    """Whether a large block is one that the system is asked for, and gets back once it is freed."""
    mapped_bytes = memory().hblkhd
    allocated = block()
    return memory().hblkhd >= mapped_bytes + len(allocated)


def run_in_new_process(statements):
    """Run them where nothing was freed before, out of which a block could be taken."""
    code = f"import os; from test_freed_memory import *; {statements}"
    subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parent, check=True)


def require_that_only_the_block_keeps():
    assert is_mapped_anew()
    with freed_memory_kept():
        assert not is_mapped_anew()
        assert memory().fordblks >= BLOCK_BYTES
        with freed_memory_kept():
            assert not is_mapped_anew()
        assert not is_mapped_anew()
    assert is_mapped_anew()


def require_that_nothing_is_kept():
    with freed_memory_kept():
        assert is_mapped_anew()


def require_that_all_goes_back_after_an_error():
    kept_bytes = []

    def fail():
        with freed_memory_kept():
            block()
            kept_bytes.append(resident_bytes())
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert resident_bytes() < kept_bytes[0] - BLOCK_BYTES / 2


def test_what_is_freed_is_kept_in_the_block_alone():
    run_in_new_process("require_that_only_the_block_keeps()")


def test_what_was_kept_goes_back_at_the_end_also_after_an_error():
    run_in_new_process("require_that_all_goes_back_after_an_error()")


@pytest.mark.parametrize(
    "name", ["MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES"]
)
def test_what_the_user_has_set_stays(name):
    run_in_new_process(f"os.environ[{name!r}] = '1'; require_that_nothing_is_kept()")
