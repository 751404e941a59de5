"""Grey levels as arrays: deep ones scaled to 8 bits, and borders of one level cut off."""

import numpy as np

CLIPPED_PERCENT = 0.5
"""Share of the pixels at each end of a deep image that does not count for its range, in percent."""


def scale_to_8bit(values: np.ndarray) -> np.ndarray:
    """Scale grey levels of more than 8 bits to 8 bits, by the range that the image uses.

    Values that are 8 bits in a larger type (whole numbers from 0 to 255, or multiples of 256 or 257
    within 16 bits) come back exactly. All others are scaled so that the middle 99 % of the pixels span
    0 to 255: half a percent at each end is clipped, as markers and dead pixels would else set the scale.

    Args:
        values: `(H, W)` of any number type, finite.

    Returns:
        `(H, W)` uint8; all 0 if every pixel has the same value.

    >>> scale_to_8bit(np.array([[0, 257, 65535]], np.uint16))
    array([[  0,   1, 255]], dtype=uint8)
    >>> scale_to_8bit(np.array([[400, 900, 1400]], np.uint16))
    array([[  0, 128, 255]], dtype=uint8)
    """
    exact = _read_8bit_exactly(values)
    if exact is not None:
        return exact
    low, high = np.percentile(values, [CLIPPED_PERCENT, 100 - CLIPPED_PERCENT])
    if low == high:
        low, high = float(values.min()), float(values.max())
    if low == high:
        return np.zeros(values.shape, np.uint8)
    scaled = np.clip(values, low, high).astype(np.float64)
    scaled -= low
    scaled /= high - low
    scaled *= 255
    return np.asarray(np.rint(scaled), np.uint8)


def _read_8bit_exactly(values: np.ndarray) -> np.ndarray | None:
    """The 8 bits that deeper values hold, or None if they hold more."""
    low, high = values.min(), values.max()
    if low < 0 or high > 65535 or (values.dtype.kind == "f" and (values % 1).any()):
        return None
    for step in (1, 256, 257):
        if high <= 255 * step and (step == 1 or not (values % step).any()):
            exact: np.ndarray = (values // step).astype(np.uint8)
            return exact
    return None


def crop_borders(pixels: np.ndarray) -> np.ndarray:
    """Cut off rows and columns at the edges whose grey levels differ by at most 8.

    An image of which less than half of a side would be left is returned as it is.

    Args:
        pixels: `(H, W)` uint8.

    Returns:
        The part within the borders; all of it if there are none.
    """
    rows = _inner_range(pixels, axis=1)
    columns = _inner_range(pixels[rows], axis=0)
    cropped = pixels[rows, columns]
    is_too_small = 2 * cropped.shape[0] < pixels.shape[0] or 2 * cropped.shape[1] < pixels.shape[1]
    return pixels if is_too_small else cropped


def _inner_range(pixels: np.ndarray, axis: int) -> slice:
    """From the first to the last line with contrast."""
    if not pixels.size:
        return slice(0, 0)
    has_contrast = np.ptp(pixels, axis=axis) > 8
    inner = np.flatnonzero(has_contrast)
    return slice(inner[0], inner[-1] + 1) if len(inner) else slice(0, 0)
