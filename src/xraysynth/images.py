"""Files to pixels: guarded decoding, and the one format that every image of a study is put into."""

import io
import warnings
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from xraysynth.errors import ImageError

MAX_MEGAPIXELS = 64
"""Larger images are refused before they are decoded: no chest radiograph comes close."""

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
    """Pixels `(H, W)` uint8 grey of an encoded 8-bit image.

    Colour is turned to luma (ITU-R 601-2); orientation tags are ignored, as radiographs are stored
    upright. Raises `ImageError` naming the file for what is empty, damaged, larger than
    `MAX_MEGAPIXELS`, or not plain 8-bit grey or colour.
    """
    if not data:
        raise ImageError(f"{name}: the file is empty (0 bytes); copy or download it again")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # own limit below
            image = Image.open(io.BytesIO(data))
            _require_plain_8bit(image, name)
            return np.asarray(image.convert("L"))
    except Image.DecompressionBombError as error:  # Pillow's own limit, about 179 megapixels
        raise ImageError(
            f"{name}: more than the {MAX_MEGAPIXELS} megapixels allowed; downscale it"
        ) from error
    except (UnidentifiedImageError, OSError, SyntaxError) as error:
        raise ImageError(
            f"{name}: not a readable image ({error}); copy or download it again, or remove it"
        ) from error


def _require_plain_8bit(image: Image.Image, name: str) -> None:
    megapixels = image.width * image.height / 1e6
    if megapixels > MAX_MEGAPIXELS:
        raise ImageError(
            f"{name}: {megapixels:.0f} megapixels, more than the {MAX_MEGAPIXELS} allowed; downscale it"
        )
    if image.mode not in ("1", "L", "P", "RGB"):
        kind = "16-bit" if image.mode.startswith("I") else image.mode
        remedy = _REMEDY_BY_MODE.get(image.mode, "convert it to 8-bit grey")
        raise ImageError(f"{name}: a {kind} image, but 8-bit grey or RGB is needed; {remedy}")


def read_image(path: Path) -> np.ndarray:
    """`decode_image` of a file."""
    try:
        return decode_image(Path(path).read_bytes(), str(path))
    except FileNotFoundError:
        raise ImageError(f"{path}: no such file; check the path in the manifest") from None


def read_colour(path: Path) -> np.ndarray:
    """Pixels `(H, W)` uint8 of a grey file, `(H, W, 3)` of any other, its alpha left out."""
    with Image.open(path) as image:
        return np.asarray(image if image.mode == "L" else image.convert("RGB"))


def pad_and_resize(pixels: np.ndarray, size_px: int) -> np.ndarray:
    """`(H, W)` uint8 -> `(size_px, size_px)` uint8: padded with black to a square, then resized.

    Padding keeps the aspect ratio, and with it the cardiothoracic ratio. Resizing is antialiased
    (bicubic with a support that grows with the scale, as Parmar et al., arXiv:2104.11222, ask for).
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
    """`(H, W)` uint8 as PNG bytes, the same bytes for the same pixels, without metadata."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG", compress_level=6)
    return buffer.getvalue()
