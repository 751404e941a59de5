"""Memory that is freed stays for the next step of a training, and goes back to the system at its end."""

import ctypes
import resource
from pathlib import Path

import pytest
import torch

from xraysynth.freed_memory import freed_memory_kept

MIB = 2**20
BLOCK_MIB = 40
"""Larger than what glibc keeps by itself."""

is_glibc = hasattr(ctypes.CDLL(None), "malloc_trim")
pytestmark = pytest.mark.skipif(not is_glibc, reason="only glibc can be told what to keep")


def fill_and_free(times):
    for _ in range(times):
        torch.empty(BLOCK_MIB * MIB, dtype=torch.uint8).fill_(1)


def page_faults(times):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    fill_and_free(times)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def resident_mib():
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / MIB


def test_what_is_freed_is_used_again_in_the_block_alone():
    outside = page_faults(10)
    with freed_memory_kept():
        fill_and_free(1)
        inside = page_faults(10)
    afterwards = page_faults(10)
    assert inside < outside / 10
    assert afterwards > outside / 2


def test_what_was_kept_goes_back_at_the_end_also_after_an_error():
    kept_mib = []

    def fail():
        with freed_memory_kept():
            fill_and_free(1)
            kept_mib.append(resident_mib())
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert resident_mib() < kept_mib[0] - BLOCK_MIB / 2


@pytest.mark.parametrize(
    "name", ["MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES"]
)
def test_what_the_user_has_set_stays(monkeypatch, name):
    monkeypatch.setenv(name, "1")
    with freed_memory_kept():
        fill_and_free(1)
        assert page_faults(10) > BLOCK_MIB * 10
