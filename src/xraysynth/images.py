"""Decoding of image files with checks, and the square grey format of a study's images."""

import io
import warnings
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from xraysynth.errors import ImageError

MAX_MEGAPIXELS = 64
"""Larger images are rejected before they are decoded; no chest radiograph comes close."""

_REMEDY_BY_MODE = {
    "RGBA": "flatten its alpha channel and save it as 8-bit grey",
    "LA": "flatten its alpha channel and save it as 8-bit grey",
    "PA": "flatten its alpha channel and save it as 8-bit grey",
    "CMYK": "convert it to 8-bit grey",
    "I;16": "window it to 8-bit grey, or read the original with source=dicom",
    "I": "window it to 8-bit grey, or read the original with source=dicom",
    "F": "window it to 8-bit grey",
}


def decode_image(data: bytes, name: str) -> np.ndarray:
    """Decode an 8-bit image to grey.

    Colour is converted to luma (ITU-R 601-2); orientation tags are ignored, as radiographs are stored
    upright.

    Args:
        data: The bytes of the file.
        name: Name of the file, for the messages.

    Returns:
        `(H, W)` uint8.

    Raises:
        ImageError: The file is empty, damaged, larger than `MAX_MEGAPIXELS`, or neither 8-bit grey
            nor 8-bit colour.
    """
    if not data:
        raise ImageError(f"{name}: the file is empty (0 bytes); copy or download it again")
    try:
        with warnings.catch_warnings():
            # Pillow warns of large images; the limit below is stricter.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(data))
            _require_plain_8bit(image, name)
            return np.asarray(image.convert("L"))
    except Image.DecompressionBombError as error:  # Pillow's own limit, about 179 megapixels
        raise ImageError(
            f"{name}: the image has more than the {MAX_MEGAPIXELS} megapixels allowed; downscale it"
        ) from error
    except (UnidentifiedImageError, OSError, SyntaxError) as error:
        raise ImageError(
            f"{name}: this is not a readable image ({error}); copy or download it again, or remove it"
        ) from error


def _require_plain_8bit(image: Image.Image, name: str) -> None:
    megapixels = image.width * image.height / 1e6
    if megapixels > MAX_MEGAPIXELS:
        raise ImageError(
            f"{name}: the image has {megapixels:.0f} megapixels, more than the {MAX_MEGAPIXELS} "
            "allowed; downscale it"
        )
    if image.mode not in ("1", "L", "P", "RGB"):
        kind = "16-bit" if image.mode.startswith("I") else image.mode
        remedy = _REMEDY_BY_MODE.get(image.mode, "convert it to 8-bit grey")
        raise ImageError(
            f"{name}: this is a {kind} image, but 8-bit grey or RGB is needed; {remedy}"
        )


def read_image(path: Path) -> np.ndarray:
    """Read and decode an image file (`decode_image`).

    Returns:
        `(H, W)` uint8, grey.

    Raises:
        ImageError: There is no such file, or it cannot be used.
    """
    try:
        return decode_image(Path(path).read_bytes(), str(path))
    except FileNotFoundError:
        raise ImageError(f"{path}: there is no such file; check the path in the manifest") from None


def read_colour(path: Path) -> np.ndarray:
    """Read an image file without losing colours: `(H, W)` uint8 if it is grey, else `(H, W, 3)`."""
    with Image.open(path) as image:
        return np.asarray(image if image.mode == "L" else image.convert("RGB"))


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
