"""Looking at images: headers of all, pixels of as many as fit a stated amount of work."""

import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from xraysynth.data.dicom.files import HEAD_BYTES as DICOM_HEAD_BYTES
from xraysynth.data.dicom.files import is_dicom_head
from xraysynth.data.duplicates import Fingerprints, fingerprint_pixels
from xraysynth.data.inspection.copies import digest_of_head
from xraysynth.data.pixel_flags import flag_pixels
from xraysynth.data.sources.base import Source
from xraysynth.data.sources.parallel import prepare_worker
from xraysynth.errors import XraysynthError
from xraysynth.images import name_decoder_errors, open_image, pad_and_resize
from xraysynth.progress import DELAY_SECONDS, progress_bar
from xraysynth.threads import available_cores

MAX_MEGAPIXELS_LOOKED_AT = 3000
"""Pixels are decoded of at most so many million, about half a minute on two cores."""

FINGERPRINT_PX = 64
"""Images are compared at the size at which a study prepares them by default."""

HEAD_BYTES = 2**16
"""The beginning of a file that nearly always holds its header."""

MIN_FILES_FOR_PROCESSES = 300
"""Fewer files are read sooner than processes start."""

CHUNK = 16

_BITS_BY_MODE = {"1": 1, "I;16": 16, "I;16B": 16, "I;16L": 16, "I": 32, "F": 32}


@dataclass(frozen=True)
class Header:
    """What the beginning of a file says.

    Attributes:
        width: Width in pixels; 0 if it is not known.
        height: Height in pixels; 0 if it is not known.
        mode: Colour mode: Pillow's name, or DICOM's Photometric Interpretation.
        bits: Bits per sample.
        format: Name of the format.
        size: Size of the file in bytes.
        head: Digest of the beginning of the file, "" for none.
        error: Why the header cannot be read; "" if it can.
    """

    width: int = 0
    height: int = 0
    mode: str = ""
    bits: int = 8
    format: str = ""
    size: int = 0
    head: str = ""
    error: str = ""

    @property
    def megapixels(self) -> float:
        """Millions of pixels."""
        return self.width * self.height / 1e6


@dataclass(frozen=True)
class Look:
    """What decoding an image has shown.

    Attributes:
        repairs: What was changed to make it usable.
        flags: What its owner should look at.
        perceptual_hash: Hash of the picture, 32 bytes; empty if it cannot be used.
        thumbnail: 32 x 32 pixels for comparisons.
        digest: Digest of the picture as a study prepares it, which equal pictures share.
        error: Why it cannot be used; "" if it can.
    """

    repairs: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()
    perceptual_hash: bytes = b""
    thumbnail: bytes = b""
    digest: str = ""
    error: str = ""


@dataclass(frozen=True)
class Item:
    """An image to look at: its source, the source's locator, and its file where it has one of its own."""

    source: Source
    locator: str
    file: Path | None


@dataclass
class Eyes:
    """Processes that look at images; few images are looked at in this process.

        with Eyes(len(items)) as eyes:
            headers = eyes.map(read_header, items, "read headers")

    Attributes:
        count: Number of images.
    """

    count: int
    _executor: ProcessPoolExecutor | None = field(default=None, init=False)

    def __enter__(self) -> "Eyes":
        if self.count >= MIN_FILES_FOR_PROCESSES:
            # Forking a process with threads can hang; spawned workers cost a second, once.
            self._executor = ProcessPoolExecutor(
                available_cores(), mp_context=get_context("spawn"), initializer=prepare_worker
            )
        return self

    def __exit__(self, *error: object) -> None:
        if self._executor is not None:
            self._executor.shutdown(cancel_futures=True)

    def map(self, function: Any, items: Sequence[Any], description: str) -> list[Any]:
        """Apply a function to every item, with a progress bar, and return the results in order."""
        results = []
        with progress_bar(description, len(items), delay=DELAY_SECONDS) as bar:
            for result in self._iterate(function, items):
                results.append(result)
                bar.update()
        return results

    def _iterate(self, function: Any, items: Sequence[Any]) -> Iterator[Any]:
        if self._executor is None:
            return map(function, items)
        return self._executor.map(function, items, chunksize=CHUNK)


def read_header(item: Item) -> Header:
    """Read the header of an image's file; an error is a part of the answer."""
    if item.file is None:
        return _array_header(item)
    try:
        size = os.stat(item.file).st_size
        with item.file.open("rb") as file:
            head = file.read(HEAD_BYTES)
    except OSError as error:
        return Header(error=f"{item.file}: {error.strerror}")
    digest = digest_of_head(head)
    try:
        read = _read_dicom_header if is_dicom_head(head[:DICOM_HEAD_BYTES]) else _read_image_header
        values = read(item.file, head)
    except XraysynthError as error:
        return Header(size=size, head=digest, error=str(error))
    return Header(**values, size=size, head=digest)


def _read_image_header(path: Path, head: bytes) -> dict[str, Any]:
    """Width, height, mode, bits and format, from the beginning of the file if that is enough."""
    with name_decoder_errors(str(path)):
        try:
            image = open_image(head, str(path))
        except Exception:
            image = open_image(path.read_bytes(), str(path))
        bits = _BITS_BY_MODE.get(image.mode, 8)
        width, height = image.size
        return {
            "width": width,
            "height": height,
            "mode": image.mode,
            "bits": bits,
            "format": str(image.format),
        }


def _read_dicom_header(path: Path, head: bytes) -> dict[str, Any]:
    """The same of a DICOM file, whose header may be long."""
    from pydicom import dcmread

    with name_decoder_errors(str(path)):
        header = dcmread(path, force=True, stop_before_pixels=True)
        syntax = getattr(header.file_meta, "TransferSyntaxUID", None)
        compression = f" ({syntax.name})" if syntax is not None and syntax.is_compressed else ""
        return {
            "width": int(header.get("Columns") or 0),
            "height": int(header.get("Rows") or 0),
            "mode": str(header.get("PhotometricInterpretation") or "no pixels"),
            "bits": int(header.get("BitsStored") or 8),
            "format": f"DICOM{compression}",
        }


def _array_header(item: Item) -> Header:
    """The header of an image that is a part of an array."""
    try:
        height, width = item.source.load(item.locator, FINGERPRINT_PX).pixels.shape
    except XraysynthError as error:
        return Header(error=str(error))
    return Header(width, height, "L", 8, "NumPy array")


def look_at(item: Item) -> Look:
    """Decode an image as `prepare` does; an error is a part of the answer."""
    try:
        loaded = item.source.load(item.locator, FINGERPRINT_PX)
    except XraysynthError as error:
        return Look(error=str(error))
    pixels = pad_and_resize(loaded.pixels, FINGERPRINT_PX)
    perceptual_hash, thumbnail = fingerprint_pixels(pixels)
    return Look(
        tuple(loaded.repairs),
        tuple(dict.fromkeys([*loaded.flags, *flag_pixels(loaded.pixels)])),
        perceptual_hash.tobytes(),
        thumbnail.tobytes(),
        digest_of_head(pixels.tobytes()),
    )


def choose_looked_at(headers: Sequence[Header], *, everything: bool = False) -> list[int]:
    """Choose the images whose pixels are decoded: all, or a random sample of a stated amount of work.

    The sample depends on nothing but the number and the sizes of the images.

    Returns:
        Sorted numbers of images.
    """
    readable = [number for number, header in enumerate(headers) if not header.error]
    total = sum(headers[number].megapixels for number in readable)
    if everything or total <= MAX_MEGAPIXELS_LOOKED_AT:
        return readable
    order = np.random.default_rng(0).permutation(len(readable))
    chosen, megapixels = [], 0.0
    for position in order:
        number = readable[int(position)]
        megapixels += headers[number].megapixels
        if megapixels > MAX_MEGAPIXELS_LOOKED_AT:
            break
        chosen.append(number)
    return sorted(chosen)


def stack_fingerprints(looks: Mapping[int, Look]) -> tuple[list[int], Fingerprints]:
    """Stack the fingerprints of the images that can be used, with the numbers of these images."""
    numbers = [number for number, look in looks.items() if look.perceptual_hash]
    hashes = b"".join(looks[number].perceptual_hash for number in numbers)
    thumbnails = b"".join(looks[number].thumbnail for number in numbers)
    return numbers, Fingerprints(
        np.frombuffer(hashes, np.uint8).reshape(-1, 32),
        np.frombuffer(thumbnails, np.uint8).reshape(-1, 1024),
    )


def picture_of(size_px: int, item: Item) -> bytes:
    """Encode an image as a small JPEG; empty if it cannot be decoded."""
    import io

    from PIL import Image

    try:
        pixels = pad_and_resize(item.source.load(item.locator, size_px).pixels, size_px)
    except XraysynthError:
        return b""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="JPEG", quality=85)
    return buffer.getvalue()


def pictures(eyes: Eyes, items: Sequence[Item], *, size_px: int) -> list[bytes]:
    """Encode images as small JPEGs (`picture_of`)."""
    return eyes.map(partial(picture_of, size_px), items, "draw contact sheets")
