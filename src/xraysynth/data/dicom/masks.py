"""Parts of a DICOM image that show no patient: padding, and what a display shutter covers."""

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw

from xraysynth.data.dicom.headers import VALUE_SEPARATOR, format_value
from xraysynth.data.dicom.windows import read_numbers

if TYPE_CHECKING:
    from pydicom import Dataset

PADDING = "padding painted black"
SHUTTER = "shutter painted black"
SENSELESS_SHUTTER = "senseless shutter ignored"

LEAST_VISIBLE = 0.1
"""A shutter that leaves less than this fraction of the image is senseless: no chest would be seen."""


def find_masked(
    stored: np.ndarray, dataset: "Dataset"
) -> tuple[np.ndarray | None, tuple[str, ...]]:
    """Return which pixels are padding or covered by a shutter, and notes on both.

    Args:
        stored: Stored values, `(H, W)`.
        dataset: The data set of the image.

    Returns:
        `(H, W)` bool, None if there is no such pixel, and the notes.
    """
    notes: tuple[str, ...] = ()
    masked = find_padding(stored, dataset)
    if masked is not None:
        notes = (PADDING,)
    visible = find_visible(stored.shape, dataset)
    if visible is None or visible.all():
        return masked, notes
    if visible.mean() < LEAST_VISIBLE:
        return masked, (*notes, SENSELESS_SHUTTER)
    covered = ~visible if masked is None else masked | ~visible
    return covered, (*notes, SHUTTER)


def find_padding(stored: np.ndarray, dataset: "Dataset") -> np.ndarray | None:
    """Return which pixels have the padding value, or one from it to the limit of the padding range.

    None if no pixel has.

    Args:
        stored: Stored values, `(H, W)`.
        dataset: The data set of the image.
    """
    values = read_numbers(dataset, "PixelPaddingValue")[:1]
    if not values:
        return None
    values += read_numbers(dataset, "PixelPaddingRangeLimit")[:1]
    low, high = min(values), max(values)
    if stored.dtype.kind == "i" and low >= 2**15:
        low, high = low - 2**16, high - 2**16  # a negative value that was written as unsigned
    elif stored.dtype.kind == "u" and high < 0:
        low, high = low + 2**16, high + 2**16
    is_padding = np.asarray((stored >= low) & (stored <= high))
    return is_padding if is_padding.any() else None


def find_visible(shape: tuple[int, ...], dataset: "Dataset") -> np.ndarray | None:
    """Return which pixels the display shutters leave visible (PS3.3 C.7.6.11); None without a shutter.

    Edges and vertices are rows and columns counted from 1, and belong to the visible part.

    Args:
        shape: `(H, W)` of the image.
        dataset: The data set of the image.
    """
    kinds = format_value(dataset.get("ShutterShape")).upper().split(VALUE_SEPARATOR)
    visible = np.ones(shape, bool)
    has_shutter = False
    finders = {
        "RECTANGULAR": _inside_rectangle,
        "CIRCULAR": _inside_circle,
        "POLYGONAL": _inside_polygon,
    }
    for kind, find_inside in finders.items():
        inside = find_inside(shape, dataset) if kind in kinds else None
        if inside is not None:
            visible &= inside
            has_shutter = True
    return visible if has_shutter else None


def _grid(shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Row and column of each pixel, counted from 1, to be broadcast."""
    return np.arange(1, shape[0] + 1)[:, None], np.arange(1, shape[1] + 1)[None, :]


def _inside_rectangle(shape: tuple[int, ...], dataset: "Dataset") -> np.ndarray | None:
    edges = []
    for name in ("LeftVertical", "RightVertical", "UpperHorizontal", "LowerHorizontal"):
        edges += read_numbers(dataset, f"Shutter{name}Edge")[:1]
    if len(edges) < 4:
        return None
    left, right, upper, lower = edges
    rows, columns = _grid(shape)
    return np.asarray((rows >= upper) & (rows <= lower) & (columns >= left) & (columns <= right))


def _inside_circle(shape: tuple[int, ...], dataset: "Dataset") -> np.ndarray | None:
    center = read_numbers(dataset, "CenterOfCircularShutter")
    radius = read_numbers(dataset, "RadiusOfCircularShutter")
    if len(center) < 2 or not radius:
        return None
    rows, columns = _grid(shape)
    return np.asarray((rows - center[0]) ** 2 + (columns - center[1]) ** 2 <= radius[0] ** 2)


def _inside_polygon(shape: tuple[int, ...], dataset: "Dataset") -> np.ndarray | None:
    numbers = read_numbers(dataset, "VerticesOfThePolygonalShutter")
    if len(numbers) < 6:
        return None
    vertices = []
    for row, column in zip(numbers[::2], numbers[1::2], strict=False):
        vertices.append((column - 1, row - 1))
    canvas = Image.new("1", (shape[1], shape[0]))
    ImageDraw.Draw(canvas).polygon(vertices, fill=1, outline=1)
    return np.asarray(canvas)
