"""Reading the images of a source in the study's format, in several processes where that is faster."""

import multiprocessing
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from statistics import median
from time import perf_counter
from typing import Any

from xraysynth.data.pixel_flags import flag_pixels
from xraysynth.data.sources.base import LoadedImage, Source
from xraysynth.decoding import CROPPED
from xraysynth.errors import ImageError, XraysynthError
from xraysynth.grey_levels import crop_borders
from xraysynth.images import encode_png, pad_and_resize
from xraysynth.processes import exit_with_parent
from xraysynth.threads import available_cores

SAMPLE_SIZE = 8
"""Number of images that are timed to estimate how long the others will take."""

STARTUP_SECONDS = 3.0
"""About the time it takes to start processes; they are started if they save more than that."""


@dataclass(frozen=True)
class ReadImage:
    """An image in the study's format.

    Attributes:
        png: The bytes of the PNG.
        columns: Columns of the manifest that are known only after reading.
        repairs: What was changed to make the file usable.
        flags: What a reader of the audit should look at.
    """

    png: bytes
    columns: dict[str, Any]
    repairs: tuple[str, ...]
    flags: tuple[str, ...]


@dataclass(frozen=True)
class UnreadableImage:
    """An image that cannot be used.

    Attributes:
        reason: The message of the error.
        is_final: Whether what the file holds is the reason, so that reading it again gives the same
            error until it changes.
    """

    reason: str
    is_final: bool


def load_images(
    source: Source, locators: Sequence[str], size_px: int, *, crop_borders: bool = False
) -> Iterator[ReadImage | UnreadableImage]:
    """Read images of a source, pad and resize them.

    Args:
        source: The source.
        locators: Locators of the images (`Source.rows`).
        size_px: Width and height of the study's images.
        crop_borders: Whether edges of one grey level are cut off (`grey_levels.crop_borders`).

    Yields:
        Each image in order, or why it cannot be used.
    """
    load = partial(_load_image, source, size_px, crop_borders)
    seconds = []
    for locator in locators[:SAMPLE_SIZE]:
        start = perf_counter()
        decoded = load(locator)
        seconds.append(perf_counter() - start)
        yield decoded
    remaining, workers = locators[SAMPLE_SIZE:], available_cores()
    # The median, because the first image also waits until its source has opened its files.
    if not remaining or len(remaining) * median(seconds) * (1 - 1 / workers) <= STARTUP_SECONDS:
        yield from map(load, remaining)
        return
    # Forking a process that has used torch can hang; spawned workers cost seconds, once.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=prepare_worker) as executor:
        yield from executor.map(load, remaining, chunksize=8)


def prepare_worker() -> None:
    """Limit a worker process to one thread, and to the life of the process that started it."""
    os.environ["OMP_NUM_THREADS"] = "1"
    exit_with_parent()


def _load_image(
    source: Source, size_px: int, has_crop: bool, locator: str
) -> ReadImage | UnreadableImage:
    try:
        loaded = source.load(locator, size_px)
    except XraysynthError as error:
        return UnreadableImage(str(error), is_final=_lies_in_file(error))
    flags = dict.fromkeys(loaded.flags)
    if not source.is_simulated:
        flags |= dict.fromkeys(flag_pixels(loaded.pixels))
    if has_crop:
        loaded = _crop(loaded)
    return ReadImage(
        png=encode_png(pad_and_resize(loaded.pixels, size_px)),
        columns=dict(loaded.columns),
        repairs=loaded.repairs,
        flags=tuple(flags),
    )


def _lies_in_file(error: XraysynthError) -> bool:
    """Whether what a file holds is the reason of an error, and not that it cannot be opened now."""
    cause = error.__cause__ or error.__context__
    # The operating system numbers its errors; decoders raise OSErrors too, which have no number.
    cannot_open = isinstance(cause, OSError) and cause.errno is not None
    return isinstance(error, ImageError) and not cannot_open


def _crop(loaded: LoadedImage) -> LoadedImage:
    """Cut borders of one grey level off an image, if it has any."""
    pixels = crop_borders(loaded.pixels)
    if pixels.shape == loaded.pixels.shape:
        return loaded
    return replace(loaded, pixels=pixels, repairs=(*loaded.repairs, CROPPED))
