"""Grey levels of opened image files: what is repaired on the way, what is refused, what is flagged."""

import contextlib
from dataclasses import dataclass

import numpy as np
from PIL import Image

from xraysynth.errors import ImageError
from xraysynth.grey_levels import CLIPPED_PERCENT, scale_to_8bit

OPAQUE_ALPHA = "opaque alpha removed"
TRANSPARENT_BORDER = "transparent part made black"
PALETTE = "palette resolved"
ONE_BIT = "1 bit widened"
DEEP_GREY = "16 bits scaled to their range"
DEEPER_GREY = "32 bits scaled to their range"
DEEP_COLOUR = "16 bits of colour cut to 8"
TURNED = "turned upright"
CROPPED = "borders cropped"

REPAIRS = (
    OPAQUE_ALPHA,
    TRANSPARENT_BORDER,
    PALETTE,
    ONE_BIT,
    DEEP_GREY,
    DEEPER_GREY,
    DEEP_COLOUR,
    TURNED,
    CROPPED,
)
"""What reading may change to make a file usable; "colour to grey" is no repair."""

COLOUR_PHOTOGRAPH = "colour photograph"
"""The flag of files whose colours are more than a grey radiograph has, such as a photographed screen."""

_ALPHA_MODES = ("RGBA", "LA", "PA", "RGBa", "La")
_DEEP_MODES = ("I;16", "I;16B", "I;16L", "I;16N", "I", "F")
_COLOUR_MODES = ("RGB", "RGBX", "CMYK", "YCbCr", "RGBA")
_ANIMATED_FORMATS = ("GIF", "PNG", "WEBP", "TIFF")
_EXIF_ORIENTATION, _UPRIGHT = 274, 1
_TURN_OF_ORIENTATION = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_TIFF_PHOTOMETRIC, _WHITE_IS_ZERO = 262, 0
_TIFF_SUBFILE, _REDUCED_COPY, _MOST_REDUCED_COPIES = 254, 1, 12
_TIFF_SAMPLE_FORMAT, _UNSIGNED, _SIGNED = 339, 1, 2
_MOST_HALF_TRANSPARENT = 0.01
_COLOUR_LEVELS, _COLOUR_AREA, _COLOUR_THUMBNAIL_PX = 16, 0.2, 128
_LEAST_LEVELS_OF_DEEP_COLOUR = 128


@dataclass(frozen=True)
class DecodedImage:
    """The grey levels of an image file.

    Attributes:
        pixels: `(H, W)` uint8.
        repairs: What was changed to make the file usable (`REPAIRS`).
        flags: "colour photograph", as colours are lost here; the other flags come from the pixels.
    """

    pixels: np.ndarray
    repairs: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()


def decode_grey(image: Image.Image, name: str) -> DecodedImage:
    """Decode an opened image to 8-bit grey (`decode_upright`); colour becomes luma (ITU-R 601-2).

    Raises:
        ImageError: What the file means is not certain; the message says how to save it.
    """
    upright, repairs = decode_upright(image, name)
    flags = (COLOUR_PHOTOGRAPH,) if _is_colour_photograph(upright) else ()
    return DecodedImage(np.asarray(upright.convert("L")), repairs, flags)


def decode_upright(image: Image.Image, name: str) -> tuple[Image.Image, tuple[str, ...]]:
    """Decode an opened image to 8 bits, grey or colour, as its file says that it stands.

    Orientation tags are followed. Gamma, colour profiles and colours declared transparent are ignored, as
    viewers of radiographs do.
    Grey of 16 or 32 bits is scaled as `scale_to_8bit` says; alpha is removed where it hides nothing.

    Args:
        image: The image, opened, in any mode.
        name: Name of the file, for the messages.

    Returns:
        The image in mode "L" or "RGB", and the repairs (`REPAIRS`).

    Raises:
        ImageError: There are several frames, parts that are transparent, or a mode with two meanings.
    """
    _require_one_frame(image, name)
    _require_one_meaning(image, name)
    is_deep_colour = ";16" in str(getattr(image, "tile", "")) and image.mode not in _DEEP_MODES
    orientation = _read_orientation(image)
    plain, repairs = _to_8bit(image, name)
    if is_deep_colour:
        _require_range_of_deep_colour(plain, name)
        repairs += (DEEP_COLOUR,)
    if orientation != _UPRIGHT:
        # Pillow turns a TIFF itself while it decodes it.
        if image.format != "TIFF":
            plain = plain.transpose(_TURN_OF_ORIENTATION[orientation])
        repairs += (TURNED,)
    return plain, repairs


def _to_8bit(image: Image.Image, name: str) -> tuple[Image.Image, tuple[str, ...]]:
    """The image in mode "L" or "RGB", and what was repaired for it."""
    if image.mode in _ALPHA_MODES:
        return _without_alpha(image, name)
    if image.mode in _DEEP_MODES:
        return _scale_deep_grey(image, name)
    if image.mode == "P":
        image.info.pop("transparency", None)  # a colour key or a table of them, ignored as in grey
        return image.convert("RGB"), (PALETTE,)
    if image.mode == "1":
        return image.convert("L"), (ONE_BIT,)
    if image.mode in _COLOUR_MODES:
        return image.convert("RGB"), ()
    if image.mode != "L":
        raise ImageError(f"{name}: this is a {image.mode} image; save it as 8-bit grey PNG")
    return image, ()


def _require_one_frame(image: Image.Image, name: str) -> None:
    """Refuse animations and files of several pages; small copies of a TIFF's first page do not count."""
    if image.format not in _ANIMATED_FORMATS or not getattr(image, "is_animated", False):
        return
    if image.format == "TIFF" and _other_pages_are_copies(image):
        return
    raise ImageError(
        f"{name}: the file has several pages or frames, but a radiograph has one; save the one that is "
        "meant as a file of its own"
    )


def _other_pages_are_copies(image: Image.Image) -> bool:
    """Whether all pages of a TIFF but the first are reduced copies of it, as scanners add."""
    try:
        for page in range(1, _MOST_REDUCED_COPIES + 2):
            image.seek(page)
            if not _tiff_tag(image, _TIFF_SUBFILE, 0) & _REDUCED_COPY:
                return False
    except EOFError:
        return True
    finally:
        image.seek(0)
    return False


def _require_one_meaning(image: Image.Image, name: str) -> None:
    """Refuse what programs show in different ways: CMYK that does not say how, and signed bytes."""
    sample_format = _tiff_tag(image, _TIFF_SAMPLE_FORMAT, _UNSIGNED)
    problem = ""
    if image.format in ("JPEG", "MPO") and image.mode == "CMYK" and "adobe" not in image.info:
        problem = "a CMYK JPEG without the mark that says whether its inks are inverted"
    elif image.mode == "L" and sample_format == _SIGNED:
        problem = "a TIFF of signed bytes, which most programs show wrong"
    if problem:
        raise ImageError(f"{name}: this is {problem}; save it as 8-bit grey PNG")


def _tiff_tag(image: Image.Image, tag: int, default: int) -> int:
    """The first value of a tag of a TIFF; the default for other formats and odd values."""
    value = getattr(image, "tag_v2", {}).get(tag, default)
    first = value[0] if isinstance(value, tuple) and value else value
    return first if isinstance(first, int) else default


def _read_orientation(image: Image.Image) -> int:
    """The orientation that the metadata state, from 1 (upright) to 8; damaged metadata state none."""
    with contextlib.suppress(Exception):  # decoders raise nearly any type on damaged metadata
        orientation = image.getexif().get(_EXIF_ORIENTATION, _UPRIGHT)
        if orientation in _TURN_OF_ORIENTATION:
            return int(orientation)
    return _UPRIGHT


def _without_alpha(image: Image.Image, name: str) -> tuple[Image.Image, tuple[str, ...]]:
    """Remove an alpha channel that hides nothing, and make a transparent border black.

    One transparency for the whole image says nothing. Where it differs, the transparent pixels must
    all have one colour, and few may be half transparent: then they are no part of the picture.
    """
    full = image.convert("RGBA")
    pixels = np.asarray(full)
    alpha = pixels[..., 3]
    if alpha.min() == alpha.max():
        return full.convert("RGB"), (OPAQUE_ALPHA,)
    hidden = pixels[alpha == 0][:, :3]
    half_transparent = float(((alpha > 0) & (alpha < 255)).mean())
    if (
        len(hidden)
        and half_transparent <= _MOST_HALF_TRANSPARENT
        and not np.ptp(hidden, axis=0).any()
    ):
        black = Image.new("RGBA", image.size, (0, 0, 0, 255))
        return Image.alpha_composite(black, full).convert("RGB"), (TRANSPARENT_BORDER,)
    raise ImageError(
        f"{name}: parts of the picture are transparent, so what it shows depends on its background; "
        "flatten its alpha channel and save it as 8-bit grey"
    )


def _scale_deep_grey(image: Image.Image, name: str) -> tuple[Image.Image, tuple[str, ...]]:
    """Scale grey of 16 or 32 bits to 8 (`scale_to_8bit`), with bones white."""
    is_16bit = image.mode.startswith("I;16") or image.format == "PPM"
    is_white_zero = _tiff_tag(image, _TIFF_PHOTOMETRIC, 1) == _WHITE_IS_ZERO
    values = np.asarray(image)
    if image.mode == "I" and _tiff_tag(image, _TIFF_SAMPLE_FORMAT, _SIGNED) == _UNSIGNED:
        values = values.view(np.uint32)
    if not np.isfinite(values).all():
        raise ImageError(
            f"{name}: there are pixels without a value (NaN or infinite); set them to 0"
        )
    grey = scale_to_8bit(values)
    is_scaled = not np.array_equal(grey, values)
    if is_white_zero:
        grey = 255 - grey
    repair = DEEP_GREY if is_16bit else DEEPER_GREY
    return Image.fromarray(grey), (repair,) if is_scaled else ()


def _require_range_of_deep_colour(plain: Image.Image, name: str) -> None:
    """Refuse 16-bit colour of which the upper 8 bits, all that is decoded, hold too little."""
    low, high = np.percentile(
        np.asarray(plain.convert("L")), [CLIPPED_PERCENT, 100 - CLIPPED_PERCENT]
    )
    if high - low < _LEAST_LEVELS_OF_DEEP_COLOUR:
        raise ImageError(
            f"{name}: this is 16-bit colour, of which the upper 8 bits are read, but the picture uses "
            f"only {int(high - low) + 1} of their 256 levels; save it as 16-bit grey"
        )


def _is_colour_photograph(upright: Image.Image) -> bool:
    """Whether a fifth of the picture has a colour: its channels differ by more than 16 levels.

    JPEG's rounding of grey stays below 5 levels; coloured arrows and letters stay below a fifth.
    """
    if upright.mode != "RGB":
        return False
    factor = max(1, min(upright.size) // _COLOUR_THUMBNAIL_PX)
    small = np.asarray(upright.reduce(factor))
    chroma = small.max(axis=2) - small.min(axis=2)
    return bool((chroma > _COLOUR_LEVELS).mean() > _COLOUR_AREA)
