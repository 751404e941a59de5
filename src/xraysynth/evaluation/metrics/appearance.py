"""Features by which generated images are recognised at a glance: colour, shape, letters, symmetry, grain.

Only the colour cast is good or bad by itself; the other measures are compared with those of real images.
Images are `(H, W)` or `(H, W, 3)` uint8, at the size that the generator gave them: resizing changes the
grain and may remove letters.
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
    "symmetry": "correlation with the mirror image; generated images are often too symmetric",
    "spectral_slope": "exponent of the fall of power with frequency; higher is smoother",
    "fine_grain": "fraction of power above 0.25 cycles/px; higher is more grain",
}
"""Every measure by name, and its meaning in words."""


def measure_appearance(image: np.ndarray) -> dict[str, float]:
    """Compute every measure of one image `(H, W)` or `(H, W, 3)` uint8, by name.

    Raises:
        ImageError: If the image has another shape or type, or a side below 32 px.
    """
    grey = luma(image)
    slope, fine_grain = fit_power_spectrum(grey)
    return {
        "colour_cast": colour_cast(image),
        "aspect": aspect_ratio(image),
        "letters": float(count_letters(grey)),
        "symmetry": mirror_symmetry(grey),
        "spectral_slope": slope,
        "fine_grain": fine_grain,
    }


def measure_images(images: Iterable[np.ndarray]) -> dict[str, np.ndarray]:
    """Compute every measure of every image of a pool: `(N,)` float64 by name."""
    rows = [list(measure_appearance(image).values()) for image in images]
    columns = np.array(rows, dtype=np.float64).reshape(-1, len(MEASURES)).T
    return dict(zip(MEASURES, columns, strict=True))


def luma(image: np.ndarray) -> np.ndarray:
    """Return the luma of ITU-R 601-2, `(H, W)` float64 in [0, 255]; a grey image keeps its values.

    Raises:
        ImageError: If the image is not `(H, W)` or `(H, W, 3)` uint8, or has a side below 32 px.
    """
    if image.dtype != np.uint8 or image.ndim not in (2, 3) or image.shape[2:] not in ((), (3,)):
        raise ImageError(
            f"appearance needs (H, W) or (H, W, 3) uint8, got {image.shape} {image.dtype}; flatten an "
            "alpha channel first"
        )
    if min(image.shape[:2]) < MIN_SIDE_PX:
        raise ImageError(
            f"appearance needs at least {MIN_SIDE_PX} px on each side, got {image.shape[:2]}"
        )
    return image.astype(np.float64) @ [0.299, 0.587, 0.114] if image.ndim == 3 else image * 1.0


def colour_cast(image: np.ndarray) -> float:
    """Compute the mean over pixels of (largest - smallest channel) / 255, in [0, 1]. Lower is better.

    >>> colour_cast(np.full((32, 32, 3), 90, np.uint8))
    0.0
    >>> colour_cast(np.full((32, 32, 3), [90, 90, 141], np.uint8))
    0.2
    """
    if image.ndim == 2:
        return 0.0
    return float((image.max(2).astype(np.int16) - image.min(2)).mean() / 255)


def aspect_ratio(image: np.ndarray) -> float:
    """Return width / height.

    >>> aspect_ratio(np.zeros((200, 300), np.uint8))
    1.5
    """
    return float(image.shape[1] / image.shape[0])


def mirror_symmetry(grey: np.ndarray) -> float:
    """Compute the Pearson correlation of a grey image with its left-right mirror, in [-1, 1].

    1 is perfect symmetry, which no chest has, because heart and stomach lie to one side. A constant
    image has 1.

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
    """Fit the power spectrum |F(f)|² of the Hann-windowed image.

    Args:
        grey: Image `(H, W)` float64.

    Returns:
        The slope a in |F(f)|² ~ f^-a, fitted to ring means between 0.05 and 0.45 cycles/px on log
        axes: about 2 to 4 for radiographs, 0 for white noise. Then the fraction of power above
        0.25 cycles/px, the constant left out, in [0, 1]. A constant image has (0, 0).

    >>> rng = np.random.default_rng(0)
    >>> slope, fine_grain = fit_power_spectrum(rng.normal(size=(128, 128)))
    >>> abs(slope) < 0.1, 0.7 < fine_grain < 0.9
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
    fine_grain = float(power[frequency > 0.25].sum() / power.sum())
    return _spectral_slope(power, frequency), fine_grain


def _spectral_slope(power: np.ndarray, frequency: np.ndarray) -> float:
    """Return a in power ~ frequency^-a, fitted to the mean power of rings of equal log width."""
    edges = np.geomspace(0.05, 0.45, 13)
    ring = np.digitize(frequency, edges)
    centres, means = [], []
    for number in range(1, len(edges)):
        in_ring = ring == number
        if in_ring.any():  # small images lack some
            centres.append(np.sqrt(edges[number] * edges[number - 1]))
            means.append(power[in_ring].mean())
    slope = np.polyfit(np.log(centres), np.log(np.maximum(means, 1e-12)), 1)[0]
    return float(-slope)


def count_letters(grey: np.ndarray) -> int:
    """Count the marks near the borders that look like letters, by a heuristic that reads no text.

    Strokes are the bright pixels that exceed 80 grey levels after a morphological top-hat of 1/24 of
    the shorter side. A mark is a connected set of strokes that is 1.2 to 10 % of the shorter side high,
    0.15 to 1.5 times as wide as high, covers 15 to 85 % of its box, and has its centre in the outer
    fifth of the image. Ribs, lines and grain are too long, too large or too faint. Side markers of real
    films count, so compare with real images.

    >>> count_letters(np.zeros((256, 256)))
    0
    """
    side = min(grey.shape)
    strokes = ndimage.white_tophat(grey, size=max(3, side // 24)) > 80
    marks, _ = ndimage.label(strokes, structure=np.ones((3, 3)))
    letters = 0
    for number, box in enumerate(ndimage.find_objects(marks), start=1):
        letters += _is_letter(marks[box] == number, box, grey.shape)
    return letters


def _is_letter(mark: np.ndarray, box: tuple[slice, slice], shape: tuple[int, ...]) -> bool:
    """Return whether a `mark` (bool) in the `box` of an image of this `shape` looks like a letter."""
    height, width = mark.shape
    side = min(shape)
    return bool(
        max(4, 0.012 * side) <= height <= 0.1 * side
        and 0.15 <= width / height <= 1.5
        and 0.15 <= mark.mean() <= 0.85
        and _distance_to_border(box, shape) < 0.2
    )


def _distance_to_border(box: tuple[slice, slice], shape: tuple[int, ...]) -> float:
    """Return how far the centre of a box lies from the nearest border, in fractions of the sides."""
    rows, columns = box
    y = (rows.start + rows.stop) / 2 / shape[0]
    x = (columns.start + columns.stop) / 2 / shape[1]
    return float(min(y, 1 - y, x, 1 - x))
