"""Images of a source, decoded into the study's format, by several processes where that is quicker."""

import multiprocessing
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from statistics import median
from time import perf_counter
from typing import Any

from xraysynth.data.sources.base import Source
from xraysynth.errors import XraysynthError
from xraysynth.images import encode_png, pad_and_resize

SAMPLE_SIZE = 8
"""How many images say what the others will take."""

STARTUP_SECONDS = 3.0
"""About what it takes to start processes: they are for work on which they save more."""

DecodedImage = str | tuple[bytes, dict[str, Any]]


def load_images(source: Source, locators: Sequence[str], size_px: int) -> Iterator[DecodedImage]:
    """PNG bytes and columns per row, in order, or the message of what is wrong with it."""
    work = [(source, locator, size_px) for locator in locators]
    seconds = []
    for item in work[:SAMPLE_SIZE]:
        begun = perf_counter()
        decoded = _load_image(item)
        seconds.append(perf_counter() - begun)
        yield decoded
    rest, workers = work[SAMPLE_SIZE:], _count_processors()
    # The median, because the first image also waits for what its source has to load.
    if not rest or len(rest) * median(seconds) * (1 - 1 / workers) <= STARTUP_SECONDS:
        yield from map(_load_image, rest)
        return
    # Forking a process that has used torch can hang; spawned workers cost seconds, once.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(
        workers, mp_context=context, initializer=_limit_to_one_thread
    ) as executor:
        yield from executor.map(_load_image, rest, chunksize=8)


def _count_processors() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _limit_to_one_thread() -> None:
    os.environ["OMP_NUM_THREADS"] = "1"


def _load_image(work: tuple[Source, str, int]) -> DecodedImage:
    source, locator, size_px = work
    try:
        loaded = source.load(locator, size_px)
    except XraysynthError as error:
        return str(error)
    return encode_png(pad_and_resize(loaded.pixels, size_px)), dict(loaded.columns)
