"""Pixels that are not square, which would change the shape of heart and lungs."""

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from xraysynth.data.dicom.windows import read_numbers
from xraysynth.images import require_plausible_size

if TYPE_CHECKING:
    from pydicom import Dataset

SQUARED = "pixels made square"

LEAST_DEVIATION = 0.01
"""Height and width of a pixel that differ by less are the same, rounded."""

MOST_DEVIATION = 4.0
"""A ratio beyond this is no pixel's, but a damaged element's."""

_KEYWORDS = ("PixelSpacing", "ImagerPixelSpacing", "PixelAspectRatio")


def make_square(pixels: np.ndarray, dataset: "Dataset", name: str) -> np.ndarray | None:
    """Resize an image whose pixels are not square, along the side with the coarser pixels.

    Args:
        pixels: `(H, W)` uint8.
        dataset: The data set of the image.
        name: Name of the file, for the messages.

    Returns:
        The image with square pixels; None if they are square already, or nothing tells their shape.

    Raises:
        ImageError: The resized image has no plausible size.
    """
    ratio = _height_by_width(dataset)
    if max(ratio, 1 / ratio) < 1 + LEAST_DEVIATION:
        return None
    height, width = pixels.shape
    if ratio > 1:
        height = round(height * ratio)
    else:
        width = round(width / ratio)
    require_plausible_size(width, height, name, is_greedy=True)
    resized = Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC)
    return np.asarray(resized)


def _height_by_width(dataset: "Dataset") -> float:
    """Height of a pixel by its width, from the first element that tells it; 1 if none does."""
    for keyword in _KEYWORDS:
        numbers = read_numbers(dataset, keyword)
        if len(numbers) == 2 and min(numbers) > 0:
            ratio = numbers[0] / numbers[1]
            return ratio if 1 / MOST_DEVIATION <= ratio <= MOST_DEVIATION else 1.0
    return 1.0
