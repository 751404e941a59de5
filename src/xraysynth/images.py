"""Decoding of image files with checks, and the square grey format of a study's images."""

import contextlib
import io
import os
import re
import stat
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from xraysynth.decoding import DecodedImage, decode_grey, decode_upright
from xraysynth.errors import ImageError, XraysynthError
from xraysynth.records import sha256_bytes

IMAGE_FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "WEBP", "GIF", "PPM", "JPEG2000")
"""Pillow's names of the formats that are read: their decoders start no program and read no other file."""

MAX_FILE_MB = 256
"""Larger files are rejected before they are read."""

MAX_MEGAPIXELS = 64
"""Larger images are rejected before they are decoded; no chest radiograph comes close."""

MAX_MEGAPIXELS_OF_GREEDY_DECODERS = 32
"""The limit for WebP, JPEG 2000 and DICOM, whose decoders need 20 bytes or more for each pixel."""

MAX_SIDE_PX = 16_384
"""Images with a longer side are rejected before they are decoded, as they are padded to a square."""

MAX_ASPECT_RATIO = 10
"""Images whose longer side is more times the shorter one are rejected before they are decoded."""

MAX_JPEG_SCANS = 100
"""JPEGs with more scans are rejected: each scan costs the time of decoding the whole image."""

_JPEG_SIGNATURE, _JPEG_START_OF_SCAN = b"\xff\xd8", b"\xff\xda"
_PREFIX_BYTES = 16
_GREEDY_FORMATS = ("WEBP", "JPEG2000")
_COPY_AGAIN = "copy or download it again, or remove it"


def open_image(data: bytes, name: str) -> Image.Image:
    """Open an image of one of the `IMAGE_FORMATS` whose size is plausible; pixels are not decoded yet.

    Every image file of the package is opened here. Opening and decoding may fail with an exception of
    any type: call it inside `name_decoder_errors`.

    Args:
        data: The bytes of the file.
        name: Name of the file, for the messages.

    Raises:
        ImageError: The file is in a format that is not read, or its size is not plausible.
        UnidentifiedImageError: The file is in no known format.
    """
    try:
        with warnings.catch_warnings():
            # Pillow warns of large images; the limits below are stricter.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(data), formats=IMAGE_FORMATS)
    except Image.DecompressionBombError as error:  # Pillow's own limit, about 179 megapixels
        raise ImageError(
            f"{name}: the image has more than the {MAX_MEGAPIXELS} megapixels allowed; downscale it"
        ) from error
    except UnidentifiedImageError:
        _require_not_another_format(data, name)
        raise
    require_plausible_size(*image.size, name, is_greedy=image.format in _GREEDY_FORMATS)
    _require_few_scans(data, name)
    return image


@contextlib.contextmanager
def name_decoder_errors(name: str, remedy: str = _COPY_AGAIN) -> Iterator[None]:
    """Turn every exception of a decoder within the block into an `ImageError` that names the file.

    On damaged bytes decoders raise exceptions of nearly any type.
    """
    try:
        yield
    except XraysynthError:
        raise
    except UnidentifiedImageError as error:
        raise ImageError(
            f"{name}: this is not a readable image (it is none of {', '.join(IMAGE_FORMATS)}); {remedy}"
        ) from error
    except Exception as error:
        raise ImageError(
            f"{name}: this is not a readable image ({describe_error(error)}); {remedy}"
        ) from error


def describe_error(error: Exception) -> str:
    """Return the text of a decoder's error without objects in memory, which name no file; or its type.

    >>> describe_error(OSError("cannot identify image file <_io.BytesIO object at 0x7f81a6f63240>"))
    'cannot identify image file'
    """
    return re.sub(r" ?<[^<>]* object at 0x\w+>", "", str(error)) or type(error).__name__


def _require_not_another_format(data: bytes, name: str) -> None:
    """Refuse by name a format that Pillow knows by the first bytes, without running its decoder."""
    Image.init()
    for known, (factory, accept) in Image.OPEN.items():
        if known in IMAGE_FORMATS or accept is None:
            continue
        with contextlib.suppress(SyntaxError, IndexError, TypeError, ValueError):
            if accept(data[:_PREFIX_BYTES]) is True:
                title = getattr(factory, "format_description", known)
                raise ImageError(
                    f"{name}: the content is {title} ({known}), which is not read, as only "
                    f"{', '.join(IMAGE_FORMATS)} are; save it as 8-bit grey PNG, or remove it"
                )


def require_plausible_size(width: int, height: int, name: str, *, is_greedy: bool = False) -> None:
    """Refuse an image that would need a gigabyte, before it is decoded and padded to a square.

    Args:
        width: Width in pixels.
        height: Height in pixels.
        name: Name of the file, for the messages.
        is_greedy: Whether `MAX_MEGAPIXELS_OF_GREEDY_DECODERS` holds in place of `MAX_MEGAPIXELS`.

    Raises:
        ImageError: The image has no pixels or exceeds the megapixels, `MAX_SIDE_PX` or
            `MAX_ASPECT_RATIO`.
    """
    max_megapixels = MAX_MEGAPIXELS_OF_GREEDY_DECODERS if is_greedy else MAX_MEGAPIXELS
    megapixels = width * height / 1e6
    shorter, longer = sorted((width, height))
    problem = ""
    if shorter < 1:
        problem = f"has {width} x {height} pixels; {_COPY_AGAIN}"
    elif megapixels > max_megapixels:
        problem = (
            f"has {megapixels:.0f} megapixels, more than the {max_megapixels} allowed; downscale it"
        )
    elif longer > MAX_SIDE_PX:
        problem = f"has {width} x {height} pixels, but a side may have {MAX_SIDE_PX}; crop or downscale it"
    elif longer > MAX_ASPECT_RATIO * shorter:
        problem = (
            f"has {width} x {height} pixels, but the longer side may be {MAX_ASPECT_RATIO} times the "
            "shorter one; crop it"
        )
    if problem:
        raise ImageError(f"{name}: the image {problem}")


def _require_few_scans(data: bytes, name: str) -> None:
    """Refuse a progressive JPEG that would be decoded over and over again."""
    if not data.startswith(_JPEG_SIGNATURE):
        return
    scans = data.count(_JPEG_START_OF_SCAN)
    if scans > MAX_JPEG_SCANS:
        raise ImageError(
            f"{name}: the JPEG has {scans} scans, more than the {MAX_JPEG_SCANS} allowed; save it again"
        )


def decode_radiograph(data: bytes, name: str) -> DecodedImage:
    """Decode an image file to 8-bit grey, with what was repaired and what a reader should look at.

    Repaired is what the file says for certain (`decoding.decode_upright`).

    Args:
        data: The bytes of the file.
        name: Name of the file, for the messages.

    Raises:
        ImageError: The file is empty, damaged, in none of the `IMAGE_FORMATS`, of no plausible size,
            or what it shows is not certain, as with several frames or transparent parts.
    """
    with _open_checked(data, name) as image:
        return decode_grey(image, name)


@contextlib.contextmanager
def _open_checked(data: bytes, name: str) -> Iterator[Image.Image]:
    """Open an image whose file is not empty, and name the file in errors of its decoder."""
    if not data:
        raise ImageError(f"{name}: the file is empty (0 bytes); {_COPY_AGAIN}")
    with name_decoder_errors(name):
        yield open_image(data, name)


def decode_image(data: bytes, name: str) -> np.ndarray:
    """Decode an image file to grey, `(H, W)` uint8 (`decode_radiograph`).

    Raises:
        ImageError: The image cannot be used.
    """
    return decode_radiograph(data, name).pixels


def read_file(path: Path, *, sha256: str = "") -> bytes:
    """Read a file of at most `MAX_FILE_MB`; a pipe or a device, which may never end, is refused.

    Args:
        path: The file.
        sha256: SHA-256 that the manifest has of the file; "" for none.

    Raises:
        ImageError: There is no such file, it cannot be read, or its SHA-256 is another.
    """
    try:
        require_plain_file(path)
        data = Path(path).read_bytes()
    except FileNotFoundError:
        raise ImageError(
            f"{path}: there is no such file; restore it (images of a cohort come back when prepare is run "
            "again), or correct the path in the manifest"
        ) from None
    except OSError as error:
        raise ImageError(f"{path}: {error.strerror}; check the file and its rights") from error
    if sha256 and sha256_bytes(data) != sha256:
        raise ImageError(
            f"{path}: SHA-256 differs from the manifest; restore it (images of a cohort come back when "
            "prepare is run again, those of a pool when its folder is deleted and generate is run again)"
        )
    return data


def require_plain_file(path: Path) -> None:
    """Refuse what is no file or larger than `MAX_FILE_MB`, before it is opened.

    Raises:
        ImageError: It is a pipe, a device or a folder, or too large.
        OSError: There is no such file, or it may not be looked at.
    """
    status = os.stat(path)
    if not stat.S_ISREG(status.st_mode):
        raise ImageError(f"{path}: this is a folder, a pipe or a device, not a file; remove it")
    if status.st_size > MAX_FILE_MB * 1e6:
        raise ImageError(
            f"{path}: the file has {status.st_size / 1e6:.0f} MB, more than the {MAX_FILE_MB} allowed "
            "of an image; downscale it or remove it"
        )


def read_image(path: Path, *, sha256: str = "") -> np.ndarray:
    """Read and decode an image file (`decode_image`).

    Args:
        path: The file.
        sha256: SHA-256 that the manifest has of the file; "" for none.

    Returns:
        `(H, W)` uint8, grey.

    Raises:
        ImageError: There is no such file, it cannot be used, or its SHA-256 is another.
    """
    return decode_image(read_file(path, sha256=sha256), str(path))


def read_colour(path: Path, *, sha256: str = "") -> np.ndarray:
    """Read an image file without losing colours: `(H, W)` uint8 if it is grey, else `(H, W, 3)`.

    Args:
        path: The file.
        sha256: SHA-256 that the manifest has of the file; "" for none.

    Raises:
        ImageError: There is no such file, it is no readable image, or its SHA-256 is another.
    """
    with _open_checked(read_file(path, sha256=sha256), str(path)) as image:
        return np.asarray(decode_upright(image, str(path))[0])


def read_size(path: Path) -> tuple[int, int]:
    """Read width and height of an image file in pixels.

    Raises:
        ImageError: There is no such file, or it is no readable image.
    """
    with name_decoder_errors(str(path)):
        return open_image(read_file(path), str(path)).size


def pad_and_resize(pixels: np.ndarray, size_px: int) -> np.ndarray:
    """Pad an image with black to a square, and resize it.

    Padding preserves the aspect ratio, and with it the cardiothoracic ratio. Resizing is antialiased
    (bicubic with a support that grows with the scale, as Parmar et al., arXiv:2104.11222, recommend).

    Args:
        pixels: `(H, W)` uint8.
        size_px: Width and height of the result.

    Returns:
        `(size_px, size_px)` uint8.
    """
    height, width = pixels.shape
    if (height, width) == (size_px, size_px):
        return pixels
    side = max(height, width)
    square = np.zeros((side, side), np.uint8)
    top, left = (side - height) // 2, (side - width) // 2
    square[top : top + height, left : left + width] = pixels
    resized = Image.fromarray(square).resize((size_px, size_px), Image.Resampling.BICUBIC)
    return np.asarray(resized)


def encode_png(pixels: np.ndarray) -> bytes:
    """Encode an image as PNG without metadata; the same pixels give the same bytes.

    Args:
        pixels: `(H, W)` or `(H, W, 3)` uint8.
    """
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG", compress_level=6)
    return buffer.getvalue()
