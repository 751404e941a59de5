"""A DICOM image as a viewer shows it: bones white, air black, nothing burnt in."""

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from xraysynth.data.dicom.aspect import SQUARED, make_square
from xraysynth.data.dicom.decoding import (
    GREY_PHOTOMETRICS,
    PALETTE_PHOTOMETRIC,
    PHOTOMETRICS,
    decode_pixels,
    read_photometric,
)
from xraysynth.data.dicom.grey import scale_grey
from xraysynth.data.dicom.headers import format_value
from xraysynth.data.dicom.masks import find_masked
from xraysynth.data.dicom.windows import read_numbers
from xraysynth.data.pixel_flags import looks_inverted
from xraysynth.decoding import PALETTE, DecodedImage, decode_grey
from xraysynth.errors import ImageError
from xraysynth.images import describe_error

if TYPE_CHECKING:
    from pydicom import Dataset

INVERTED_BY_SHAPE = "inverted by its presentation LUT shape"
INVERTED_BY_SIGN = "inverted by its pixel intensity relationship"
OVERLAY = "overlay left off"

_OVERLAY_GROUPS = range(0x6000, 0x6020, 2)
_OVERLAY_ROWS = 0x0010


def render(dataset: "Dataset", file_name: str, *, photometric: str = "") -> DecodedImage:
    """Render a single-frame DICOM image; overlays are never burnt in.

    Grey: modality table or rescale, then VOI table or the first window, scaled to the range that the
    result uses (`grey.scale_grey`), with padding and shutters black. Colour becomes luma, and pixels that
    are not square are made so.

    Args:
        dataset: The data set with pixel data.
        file_name: Name of the file, for the messages.
        photometric: "MONOCHROME1" or "MONOCHROME2" to override the Photometric Interpretation of a grey
            image; "" trusts the file.

    Returns:
        The picture, with notes on what was changed or ignored to show it as repairs.

    Raises:
        ImageError: The image has several frames or too many pixels, cannot be decoded, has no contrast
            or is in a colour space that is not read.
    """
    if photometric and not _is_colour(dataset):
        dataset.PhotometricInterpretation = photometric
    kind = read_photometric(dataset, file_name)
    if kind in GREY_PHOTOMETRICS:
        rendered = _render_grey(dataset, kind, file_name, is_certain=bool(photometric))
    else:
        rendered = _render_colour(dataset, kind, file_name)
    repairs = (*rendered.repairs, OVERLAY) if _has_overlay(dataset) else rendered.repairs
    squared = make_square(rendered.pixels, dataset, file_name)
    if squared is None:
        return DecodedImage(rendered.pixels, repairs, rendered.flags)
    return DecodedImage(squared, (*repairs, SQUARED), rendered.flags)


def _is_colour(dataset: "Dataset") -> bool:
    kind = format_value(dataset.get("PhotometricInterpretation")).upper()
    return kind in PHOTOMETRICS and kind not in GREY_PHOTOMETRICS


def _has_overlay(dataset: "Dataset") -> bool:
    return any((group, _OVERLAY_ROWS) in dataset for group in _OVERLAY_GROUPS)


def _render_grey(
    dataset: "Dataset", photometric: str, name: str, *, is_certain: bool
) -> DecodedImage:
    """Render a grey image; where the photometric interpretation is certain, nothing else inverts it."""
    stored = decode_pixels(dataset, name)
    if stored.ndim != 2:
        raise ImageError(
            f"{name}: the image is {photometric} with {stored.shape[-1]} channels; export it again"
        )
    masked, mask_notes = find_masked(stored, dataset)
    try:
        visible = None if masked is None else ~masked
        grey, notes = scale_grey(stored, visible, dataset)
    except Exception as error:  # damaged tables and numbers raise nearly any type
        raise ImageError(
            f"{name}: the grey levels cannot be computed ({describe_error(error)}); export it again"
        ) from error
    if grey is None:
        raise ImageError(
            f"{name}: every pixel has the same value after windowing, or none; remove the file"
        )
    inversion = "" if is_certain else _explain_inversion(grey, photometric, dataset)
    if (photometric == "MONOCHROME1") != bool(inversion):
        grey = 255 - grey
    if masked is not None:
        grey = np.where(masked, np.uint8(0), grey)
    inversion_notes = (inversion,) if inversion else ()
    return DecodedImage(grey, (*notes, *mask_notes, *inversion_notes))


def _explain_inversion(grey: np.ndarray, photometric: str, dataset: "Dataset") -> str:
    """Why an image is inverted against its photometric interpretation; "" if it is not.

    MONOCHROME1 says already what a presentation LUT shape INVERSE says. The sign of the relation of
    pixels to X-ray intensity is often wrong, so the picture must agree.

    Args:
        grey: The scaled values, in the direction in which they are stored.
        photometric: "MONOCHROME1" or "MONOCHROME2".
        dataset: The data set.
    """
    is_bright_high = photometric == "MONOCHROME2"
    shape = str(dataset.get("PresentationLUTShape") or "").strip().upper()
    if is_bright_high and shape == "INVERSE":
        return INVERTED_BY_SHAPE
    sign_of_dark_bones = 1.0 if is_bright_high else -1.0
    signs = read_numbers(dataset, "PixelIntensityRelationshipSign")[:1]
    shown = grey if is_bright_high else 255 - grey
    if signs == [sign_of_dark_bones] and looks_inverted(shown):
        return INVERTED_BY_SIGN
    return ""


def _render_colour(dataset: "Dataset", photometric: str, name: str) -> DecodedImage:
    """Render a colour image as luma (ITU-R 601-2)."""
    stored = decode_pixels(dataset, name)
    repairs: tuple[str, ...] = ()
    n_bits = int(dataset.BitsStored)
    if photometric == PALETTE_PHOTOMETRIC:
        stored, repairs = _apply_palette(stored, dataset, name), (PALETTE,)
        n_bits = 8 * stored.itemsize
    if stored.ndim != 3 or stored.shape[2] != 3 or stored.dtype.kind != "u":
        raise ImageError(
            f"{name}: the image is {photometric}, but has not three channels; export it again"
        )
    if stored.dtype != np.uint8:
        stored = np.rint(stored / (2.0**n_bits - 1) * 255).clip(0, 255).astype(np.uint8)
    decoded = decode_grey(Image.fromarray(np.ascontiguousarray(stored)), name)
    return DecodedImage(decoded.pixels, (*repairs, *decoded.repairs), decoded.flags)


def _apply_palette(stored: np.ndarray, dataset: "Dataset", name: str) -> np.ndarray:
    from pydicom.pixels.processing import apply_color_lut

    try:
        return np.asarray(apply_color_lut(stored, dataset))
    except Exception as error:  # a damaged palette raises nearly any type
        raise ImageError(
            f"{name}: the palette cannot be applied ({describe_error(error)}); save it as 8-bit grey"
        ) from error
