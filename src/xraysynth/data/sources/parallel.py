"""Images of a source, decoded into the study's format by several processes."""

import multiprocessing
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any

from xraysynth.data.sources.base import Source
from xraysynth.errors import XraysynthError
from xraysynth.images import encode_png, study_format


def load_images(
    source: Source, locators: Sequence[str], size_px: int
) -> Iterator[str | tuple[bytes, dict[str, Any]]]:
    """PNG bytes and columns per row, in order, or the message of what is wrong with it."""
    work = [(source, locator, size_px) for locator in locators]
    workers = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    if len(work) < 64 or workers == 1:
        yield from map(_load_one, work)
        return
    # Forking a process that has used torch can hang; spawned workers cost seconds, once.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_one_thread) as executor:
        yield from executor.map(_load_one, work, chunksize=8)


def _one_thread() -> None:
    os.environ["OMP_NUM_THREADS"] = "1"


def _load_one(work: tuple[Source, str, int]) -> str | tuple[bytes, dict[str, Any]]:
    source, locator, size_px = work
    try:
        loaded = source.load(locator, size_px)
    except XraysynthError as error:
        return str(error)
    return encode_png(study_format(loaded.pixels, size_px)), dict(loaded.columns)
