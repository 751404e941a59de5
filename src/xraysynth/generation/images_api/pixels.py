"""Images as an API sends them: their format, their provenance mark, and their pixels in grey."""

import base64
import binascii
from dataclasses import dataclass
from typing import Any

import numpy as np

from xraysynth.errors import ImageError
from xraysynth.records import sha256_bytes

SUFFIXES = {"PNG": "png", "JPEG": "jpg", "WEBP": "webp"}
"""Pillow's name of a format -> suffix of a file."""

BLACK_LEVEL = 8
"""An image whose brightest pixel is below this grey level is taken for a failure of the model."""

PNG_SIGNATURE = b"\x89PNG"
PNG_HEADER_BYTES = 8
PNG_CHUNK_OVERHEAD_BYTES = 12
"""Length, type and checksum of a PNG chunk: 4 bytes each."""


def decode_base64(text: str) -> bytes:
    """Decodes base64; the head of a data URI is skipped.

    Raises:
        ImageError: If the text is not base64.
    """
    try:
        return base64.b64decode(text.partition("base64,")[2] or text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ImageError(f"the image is not valid base64 ({error})") from error


@dataclass(frozen=True, kw_only=True)
class ImageFacts:
    """Facts that an image file states about itself.

    Attributes:
        sha256: Hash of the file.
        bytes: Size of the file.
        format: Pillow's name of the format.
        mode: Pillow's name of the pixel format, such as "RGB".
        width_px: Width.
        height_px: Height.
        c2pa: Whether the file holds a provenance mark (C2PA).
    """

    sha256: str
    bytes: int
    format: str | None
    mode: str
    width_px: int
    height_px: int
    c2pa: bool

    @property
    def suffix(self) -> str:
        """Suffix of a file in this format."""
        return SUFFIXES.get(str(self.format), "bin")


def decode_grey_pixels(data: bytes) -> tuple[np.ndarray, ImageFacts]:
    """Decodes the bytes of an image, which are PNG, JPEG or WebP as a rule.

    Colour becomes luma (ITU-R 601-2), transparency becomes black, and 16 bits become 8.

    Returns:
        Pixels `(H, W)` uint8, and the facts of the file.

    Raises:
        ImageError: If the bytes are not an image that `open_image` takes, or the image is black.
    """
    from xraysynth.images import open_image

    try:
        image = open_image(data, "the answer")
        facts = _read_facts(data, image)
        image.draft("L", image.size)  # decodes only the luma of a JPEG
        pixels = _to_luma(image)
    except ImageError:
        raise
    except Exception as error:  # decoders raise many kinds of exceptions on damaged bytes
        raise ImageError(f"the bytes are not an image ({type(error).__name__})") from error
    if pixels.max() < BLACK_LEVEL:
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
    """Converts a Pillow image of any mode to pixels `(H, W)` uint8."""
    from PIL import Image

    if image.mode.startswith("I;16"):
        return (np.asarray(image) >> 8).astype(np.uint8)
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        if image.mode != "RGBA":  # a conversion to the same mode would copy it
            image = image.convert("RGBA")
        black = Image.new("RGBA", image.size, (0, 0, 0, 255))
        image = Image.alpha_composite(black, image)
    return np.asarray(image.convert("L"))


def has_c2pa(data: bytes) -> bool:
    """Whether a C2PA manifest, which states who made an image, is embedded in a file.

    A PNG holds it in a chunk caBX, other formats in a JUMBF box that is labelled c2pa.
    """
    if data.startswith(PNG_SIGNATURE):
        return b"caBX" in _png_chunk_types(data)
    return b"jumb" in data and b"c2pa" in data


def _png_chunk_types(data: bytes) -> set[bytes]:
    chunk_types = set()
    position = PNG_HEADER_BYTES
    while position + 8 <= len(data):
        length = int.from_bytes(data[position : position + 4], "big")
        chunk_types.add(data[position + 4 : position + 8])
        position += PNG_CHUNK_OVERHEAD_BYTES + length
    return chunk_types
