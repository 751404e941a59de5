"""Reading the images of a source in the study's format, in several processes where that is faster."""

import multiprocessing
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from statistics import median
from time import perf_counter
from typing import Any

from xraysynth.data.sources.base import LoadedImage, Source
from xraysynth.decoding import CROPPED, crop_borders
from xraysynth.errors import XraysynthError
from xraysynth.images import encode_png, pad_and_resize
from xraysynth.processes import exit_with_parent

SAMPLE_SIZE = 8
"""Number of images that are timed to estimate how long the others will take."""

STARTUP_SECONDS = 3.0
"""About the time it takes to start processes; they are started if they save more than that."""

DecodedImage = str | tuple[bytes, dict[str, Any]]
"""PNG bytes and columns (`LoadedImage.columns`) of an image, or an error message."""


def load_images(
    source: Source, locators: Sequence[str], size_px: int, *, crop_borders: bool = False
) -> Iterator[DecodedImage]:
    """Read images of a source, pad and resize them.

    Args:
        source: The source.
        locators: Locators of the images (`Source.rows`).
        size_px: Width and height of the study's images.
        crop_borders: Whether edges of one grey level are cut off (`decoding.crop_borders`).

    Yields:
        PNG bytes and columns of each image in order, or the message of its error.
    """
    load = partial(_load_image, source, size_px, crop_borders)
    seconds = []
    for locator in locators[:SAMPLE_SIZE]:
        start = perf_counter()
        decoded = load(locator)
        seconds.append(perf_counter() - start)
        yield decoded
    remaining, workers = locators[SAMPLE_SIZE:], _count_processors()
    # The median, because the first image also waits until its source has opened its files.
    if not remaining or len(remaining) * median(seconds) * (1 - 1 / workers) <= STARTUP_SECONDS:
        yield from map(load, remaining)
        return
    # Forking a process that has used torch can hang; spawned workers cost seconds, once.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_prepare_worker) as executor:
        yield from executor.map(load, remaining, chunksize=8)


def _count_processors() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _prepare_worker() -> None:
    """Limit a worker process to one thread, and to the life of the process that started it."""
    os.environ["OMP_NUM_THREADS"] = "1"
    exit_with_parent()


def _load_image(source: Source, size_px: int, has_crop: bool, locator: str) -> DecodedImage:
    try:
        loaded = source.load(locator, size_px)
    except XraysynthError as error:
        return str(error)
    if has_crop:
        loaded = _crop(loaded)
    return encode_png(pad_and_resize(loaded.pixels, size_px)), dict(loaded.columns)


def _crop(loaded: LoadedImage) -> LoadedImage:
    """Cut borders of one grey level off an image, if it has any."""
    pixels = crop_borders(loaded.pixels)
    if pixels.shape == loaded.pixels.shape:
        return loaded
    return replace(loaded, pixels=pixels, repairs=(*loaded.repairs, CROPPED))
