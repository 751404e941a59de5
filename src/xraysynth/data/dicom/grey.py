"""Scaling the grey levels of a DICOM image to 8 bits."""

from typing import TYPE_CHECKING

import numpy as np

from xraysynth.data.dicom.lookup import apply_modality, apply_voi, read_items, read_rescale
from xraysynth.decoding import DEEP_GREY
from xraysynth.grey_levels import CLIPPED_PERCENT

if TYPE_CHECKING:
    from pydicom import Dataset

CONSTANT_WINDOW = "window without contrast ignored"

MARKER_AREA = 0.05
"""Largest fraction of a picture that burnt-in letters cover."""

MARKER_GAP = 0.25
"""Letters are farther from the brightest tissue than this fraction of the range of tissue."""


def scale_grey(
    stored: np.ndarray, visible: np.ndarray | None, dataset: "Dataset"
) -> tuple[np.ndarray | None, tuple[str, ...]]:
    """Apply modality transformation and VOI table or window, and scale the result to 8 bits.

    Without table and window, 8 bits stay as they are, and deeper values are scaled by `find_range`. So
    they are where a window leaves no contrast.

    Args:
        stored: Stored values, `(H, W)`.
        visible: `(H, W)` bool, the pixels that count for the range; None for all.
        dataset: The data set of the image.

    Returns:
        `(H, W)` uint8 in the direction in which it is stored, None if the visible part has no
        contrast, and notes on what was done and ignored.

    Raises:
        Exception: The modality transformation is damaged.
    """
    values = apply_modality(stored, dataset)
    shown, notes = apply_voi(values, dataset)
    if shown is not None:
        grey = scale_to_range(shown, _find_extremes(_select(shown, visible)))
        if grey is not None:
            return grey, notes
        notes += (CONSTANT_WINDOW,)
    if stored.dtype == np.uint8 and not _turns_or_bends(dataset):
        return (stored if _select(stored, visible).size else None), notes
    grey = scale_to_range(values, find_range(_select(values, visible)))
    return grey, (*notes, DEEP_GREY)


def _select(values: np.ndarray, visible: np.ndarray | None) -> np.ndarray:
    return values if visible is None else values[visible]


def _turns_or_bends(dataset: "Dataset") -> bool:
    """Whether the modality transformation does more than shift and stretch the values."""
    rescale = read_rescale(dataset)
    is_turned = rescale is not None and not rescale[0] > 0
    return is_turned or bool(read_items(dataset, "ModalityLUTSequence"))


def _find_extremes(values: np.ndarray) -> tuple[float, float]:
    return (float(values.min()), float(values.max())) if values.size else (0.0, 0.0)


def find_range(values: np.ndarray) -> tuple[float, float]:
    """Return the range of a deep image without a window: that of the middle 99 % of its pixels.

    Letters that are burnt in do not count, even if they cover more than half a percent: one value at
    an end of the range, far from all others.

    Args:
        values: The pixels that are no padding, of any shape.
    """
    if not values.size:
        return 0.0, 0.0
    values = values.ravel().astype(np.float64)
    values = _without_letters(values, float(values.max()))
    values = _without_letters(values, float(values.min()))
    low, high = np.percentile(values, [CLIPPED_PERCENT, 100 - CLIPPED_PERCENT])
    return float(low), float(high)


def _without_letters(values: np.ndarray, extreme: float) -> np.ndarray:
    """The values without those at an extreme, if these are letters that the percentiles do not cut."""
    is_letter = values == extreme
    if not CLIPPED_PERCENT / 100 < is_letter.mean() <= MARKER_AREA:
        return values
    tissue = values[~is_letter]
    gap = np.abs(tissue - extreme).min()
    return tissue if gap > MARKER_GAP * np.ptp(tissue) > 0 else values


def scale_to_range(values: np.ndarray, limits: tuple[float, float]) -> np.ndarray | None:
    """Scale values to uint8 so that `limits` become 0 and 255; None if they are no range.

    Args:
        values: `(H, W)` of any number type; float64 is overwritten.
        limits: The lowest and the highest value; those beyond are clipped.
    """
    low, high = limits
    if not 0 < high - low < np.inf:  # nor is NaN a range, which a damaged rescale slope gives
        return None
    # In place, as each copy of a large image takes a quarter of a gigabyte.
    scaled = values.astype(np.float64, copy=False)
    np.clip(scaled, low, high, out=scaled)
    scaled -= low
    scaled /= high - low
    scaled *= 255
    return np.asarray(np.rint(scaled, out=scaled), np.uint8)
