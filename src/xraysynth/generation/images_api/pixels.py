"""What an API sent as an image: its format, its provenance mark, and its pixels in grey."""

import base64
import binascii
import io
from dataclasses import dataclass
from typing import Any

import numpy as np

from xraysynth.errors import ImageError
from xraysynth.records import sha256_bytes

SUFFIXES = {"PNG": "png", "JPEG": "jpg", "WEBP": "webp"}


def decode_base64(text: str) -> bytes:
    """The bytes; raises `ImageError` for what is no base64. A data URI's head is skipped."""
    try:
        return base64.b64decode(text.partition("base64,")[2] or text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ImageError(f"the image is not valid base64 ({error})") from error


@dataclass(frozen=True, kw_only=True)
class ImageFacts:
    """What an image file says of itself; `c2pa`: it holds a provenance mark."""

    sha256: str
    bytes: int
    format: str | None
    mode: str
    width_px: int
    height_px: int
    c2pa: bool

    @property
    def suffix(self) -> str:
        """Of a file of this format."""
        return SUFFIXES.get(str(self.format), "bin")


def decode_grey_pixels(data: bytes) -> tuple[np.ndarray, ImageFacts]:
    """Pixels `(H, W)` uint8 and facts of PNG, JPEG or WebP bytes.

    Colour becomes luma (ITU-R 601-2), transparency becomes black, 16 bits become 8. Raises
    `ImageError` for what is no image, too large or black.
    """
    from PIL import Image

    from xraysynth.images import MAX_MEGAPIXELS

    try:
        image = Image.open(io.BytesIO(data))
        if image.width * image.height > MAX_MEGAPIXELS * 1e6:
            raise ImageError(
                f"{image.width} × {image.height} px: above {MAX_MEGAPIXELS} megapixels"
            )
        facts = _read_facts(data, image)
        image.draft("L", image.size)  # of a JPEG only the luma is decoded
        pixels = _to_luma(image)
    except ImageError:
        raise
    except Exception as error:  # decoders raise all sorts of things on damaged bytes
        raise ImageError(f"the bytes are no image ({type(error).__name__})") from error
    if pixels.max() < 8:
        raise ImageError("the image is black")
    return pixels, facts


def _read_facts(data: bytes, image: Any) -> ImageFacts:
    return ImageFacts(
        sha256=sha256_bytes(data),
        bytes=len(data),
        format=image.format,
        mode=image.mode,
        width_px=image.width,
        height_px=image.height,
        c2pa=has_c2pa(data),
    )


def _to_luma(image: Any) -> np.ndarray:
    from PIL import Image

    if image.mode.startswith("I;16"):
        return (np.asarray(image) >> 8).astype(np.uint8)
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, (0, 0, 0, 255)), image)
    return np.asarray(image.convert("L"))


def has_c2pa(data: bytes) -> bool:
    """Whether a C2PA manifest is embedded: PNG chunk caBX, or a JUMBF box labelled c2pa elsewhere."""
    if data.startswith(b"\x89PNG"):
        return b"caBX" in _png_chunk_types(data)
    return b"jumb" in data and b"c2pa" in data


def _png_chunk_types(data: bytes) -> set[bytes]:
    found, at = set(), 8
    while at + 8 <= len(data):
        found.add(data[at + 4 : at + 8])
        at += 12 + int.from_bytes(data[at : at + 4], "big")
    return found
