"""What gives a made image away at a glance: colour, shape, letters, symmetry and grain.

None of these is good or bad by itself but the colour cast: they say something beside the same measures
of real images. Images are `(H, W)` or `(H, W, 3)` uint8, as they came from the generator: resizing
changes the grain and may remove letters.
"""

from collections.abc import Iterable

import numpy as np
from scipy import ndimage

from xraysynth.errors import ImageError

MIN_SIDE_PX = 32

MEASURES = {
    "colour_cast": "mean channel spread, 0 is grey; lower is more like a radiograph",
    "aspect": "width / height",
    "letters": "letter-like marks near the borders; radiographs have few",
    "symmetry": "correlation with the mirror image; made images are often too symmetric",
    "spectral_slope": "exponent of the fall of power with frequency; higher is smoother",
    "fine_grain": "share of power above 0.25 cycles/px; higher is more grain",
}


def measure_appearance(image: np.ndarray) -> dict[str, float]:
    """Every measure of one image."""
    grey = luma(image)
    slope, share = fit_power_spectrum(grey)
    values = (
        colour_cast(image),
        aspect_ratio(image),
        float(count_letters(grey)),
        mirror_symmetry(grey),
        slope,
        share,
    )
    return dict(zip(MEASURES, values, strict=True))


def measure_images(images: Iterable[np.ndarray]) -> dict[str, np.ndarray]:
    """Every measure of every image of a pool: measure -> `(N,)` float64."""
    rows = [list(measure_appearance(image).values()) for image in images]
    columns = np.array(rows, dtype=np.float64).reshape(-1, len(MEASURES)).T
    return dict(zip(MEASURES, columns, strict=True))


def luma(image: np.ndarray) -> np.ndarray:
    """`(H, W)` float64 in [0, 255]: the luma of ITU-R 601-2, or grey as it is."""
    if image.dtype != np.uint8 or image.ndim not in (2, 3) or image.shape[2:] not in ((), (3,)):
        raise ImageError(
            f"appearance needs (H, W) or (H, W, 3) uint8, got {image.shape} {image.dtype}; flatten an "
            "alpha channel first"
        )
    if min(image.shape[:2]) < MIN_SIDE_PX:
        raise ImageError(
            f"appearance needs at least {MIN_SIDE_PX} px a side, got {image.shape[:2]}"
        )
    return image.astype(np.float64) @ [0.299, 0.587, 0.114] if image.ndim == 3 else image * 1.0


def colour_cast(image: np.ndarray) -> float:
    """Mean over pixels of (largest - smallest channel) / 255, in [0, 1]. Lower is better.

    >>> colour_cast(np.full((32, 32, 3), 90, np.uint8))
    0.0
    >>> colour_cast(np.full((32, 32, 3), [90, 90, 141], np.uint8))
    0.2
    """
    if image.ndim == 2:
        return 0.0
    return float((image.max(2).astype(np.int16) - image.min(2)).mean() / 255)


def aspect_ratio(image: np.ndarray) -> float:
    """Width / height.

    >>> aspect_ratio(np.zeros((200, 300), np.uint8))
    1.5
    """
    return float(image.shape[1] / image.shape[0])


def mirror_symmetry(grey: np.ndarray) -> float:
    """Pearson correlation of an image with its left-right mirror, in [-1, 1].

    1 is perfect symmetry, which no chest has: heart and stomach lie to one side. A constant image
    has 1.

    >>> mirror_symmetry(np.tile(np.abs(np.arange(64) - 31.5), (64, 1)))
    1.0
    >>> mirror_symmetry(np.tile(np.arange(64.0), (64, 1)))
    -1.0
    """
    centred = grey - grey.mean()
    power = float((centred**2).sum())
    if power == 0:
        return 1.0
    return round(float((centred * centred[:, ::-1]).sum()) / power, 12)


def fit_power_spectrum(grey: np.ndarray) -> tuple[float, float]:
    """Slope and high-frequency share of the power spectrum |F(f)|² of the Hann-windowed image.

    The slope is a in |F(f)|² ~ f^-a, fitted to ring means between 0.05 and 0.45 cycles/px on log axes:
    about 2 to 4 for radiographs, 0 for white noise. The share is the power above 0.25 cycles/px over
    all power but the constant, in [0, 1]. A constant image has (0, 0).

    >>> rng = np.random.default_rng(0)
    >>> slope, share = fit_power_spectrum(rng.normal(size=(128, 128)))
    >>> abs(slope) < 0.1, 0.7 < share < 0.9
    (True, True)
    """
    height, width = grey.shape
    window = np.outer(np.hanning(height), np.hanning(width))
    centred = (grey - (grey * window).sum() / window.sum()) * window
    power = np.abs(np.fft.fft2(centred)) ** 2
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width)[None])
    power[0, 0] = 0.0
    if power.sum() < 1e-6:
        return 0.0, 0.0
    share = float(power[frequency > 0.25].sum() / power.sum())
    edges = np.geomspace(0.05, 0.45, 13)
    ring = np.digitize(frequency, edges)
    rings = [n for n in range(1, len(edges)) if (ring == n).any()]  # small images lack some
    means = [power[ring == n].mean() for n in rings]
    centres = [np.sqrt(edges[n] * edges[n - 1]) for n in rings]
    slope = np.polyfit(np.log(centres), np.log(np.maximum(means, 1e-12)), 1)[0]
    return float(-slope), share


def count_letters(grey: np.ndarray) -> int:
    """How many marks near the borders look like letters: a heuristic, not a reader.

    Strokes are what a morphological top-hat of 1/24 of the shorter side leaves above 80 grey levels,
    in bright on dark. A mark is a connected set of strokes that is 1.2 to 10 % of the shorter side high,
    0.15 to 1.5 times as wide, covers 15 to 85 % of its box, and has its centre in the outer fifth. Ribs,
    lines and grain are too long, too large or too faint. Side markers of real films count, so compare
    with real images.

    >>> count_letters(np.zeros((256, 256)))
    0
    """
    side = min(grey.shape)
    strokes = ndimage.white_tophat(grey, size=max(3, side // 24)) > 80
    marks, _ = ndimage.label(strokes, structure=np.ones((3, 3)))
    found = 0
    for number, box in enumerate(ndimage.find_objects(marks), start=1):
        found += _is_letter(marks[box] == number, box, grey.shape)
    return found


def _is_letter(mark: np.ndarray, box: tuple[slice, slice], shape: tuple[int, ...]) -> bool:
    height, width = mark.shape
    rows, columns = box
    centre_y, centre_x = (rows.start + rows.stop) / 2, (columns.start + columns.stop) / 2
    to_border = min(
        centre_y / shape[0], 1 - centre_y / shape[0], centre_x / shape[1], 1 - centre_x / shape[1]
    )
    side = min(shape)
    return bool(
        max(4, 0.012 * side) <= height <= 0.1 * side
        and 0.15 <= width / height <= 1.5
        and 0.15 <= mark.mean() <= 0.85
        and to_border < 0.2
    )
