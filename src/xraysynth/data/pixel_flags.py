"""Flags of radiographs that a reader should look at: told by the pixels alone, they stop nothing.

The rates in the docstrings were measured on 5,734 published frontal radiographs of eight collections
(children and adults, 128 to 512 px); most of the flagged ones were looked at.
"""

import numpy as np
from PIL import Image

from xraysynth.data.burnt_in_text import has_burnt_in_text

INVERTED, BLANK, LATERAL = "inverted", "blank", "lateral view"
SEVERAL_FILMS, BURNT_IN_TEXT, TINY = "several films", "text burnt in", "tiny"

FLAGS = (BLANK, INVERTED, LATERAL, SEVERAL_FILMS, BURNT_IN_TEXT, TINY)
"""The flags of `flag_pixels`."""

TINY_SIDE_PX = 64
"""An image whose shorter side is below this is flagged as tiny."""

BLANK_LEVELS = 16
"""An image is flagged as blank if 96 % of its thumbnail lies within fewer grey levels."""

_THUMBNAIL_PX = 64
_LUNG_ROWS, _LEFT, _RIGHT, _MIDDLE = slice(16, 40), slice(13, 24), slice(40, 51), slice(29, 36)
_MIDDLE_ROWS, _PROFILE_ROWS, _PROFILE_COLUMNS = slice(16, 44), slice(14, 44), range(24, 41)


def flag_pixels(pixels: np.ndarray) -> tuple[str, ...]:
    """Return what a reader should look at in a radiograph of the chest, out of `FLAGS`.

    Args:
        pixels: `(H, W)` uint8, bones white.
    """
    thumbnail = _make_thumbnail(pixels)
    is_tiny = min(pixels.shape) < TINY_SIDE_PX  # which a thumbnail enlarges, so that its edges blur
    flags = []
    if _is_blank(thumbnail):
        flags.append(BLANK)
    elif not is_tiny and _shows_several_films(thumbnail, pixels.shape):
        flags.append(SEVERAL_FILMS)
    elif _is_inverted(thumbnail):
        flags.append(INVERTED)
    elif not is_tiny and _is_lateral(thumbnail):
        flags.append(LATERAL)
    if has_burnt_in_text(pixels):
        flags.append(BURNT_IN_TEXT)
    if is_tiny:
        flags.append(TINY)
    return tuple(flags)


def looks_blank(grey: np.ndarray) -> bool:
    """Return whether an image has hardly any contrast, as a failed export has: `BLANK_LEVELS`.

    No published radiograph is flagged; noise without a picture is.

    Args:
        grey: `(H, W)` uint8.
    """
    return _is_blank(_make_thumbnail(grey))


def looks_inverted(grey: np.ndarray) -> bool:
    """Return whether a frontal chest radiograph shows bones black and air white.

    Two signs must agree: the mediastinum is darker than the lungs, and the top and side edges are
    brighter than the mean. Of the published radiographs none is taken for inverted, and 98.5 % (94 %
    in the worst collection) are recognised when inverted: some inverted images are missed.

    Args:
        grey: `(H, W)` uint8.
    """
    return _is_inverted(_make_thumbnail(grey))


def looks_lateral(grey: np.ndarray) -> bool:
    """Return whether a radiograph of the chest seems to be a lateral view.

    A frontal one has a bright column between two darker ones, a lateral one does not; its edges are
    dark. Of the published frontal radiographs 6 (0.1 %) are flagged: collapsed lungs and children who
    lie crooked. 94 % of 88 lateral projections of a chest CT in various bodies and poses are
    recognised; the rate on real lateral films is not known.

    Args:
        grey: `(H, W)` uint8, bones white.
    """
    return _is_lateral(_make_thumbnail(grey))


def shows_several_films(grey: np.ndarray) -> bool:
    """Return whether an image seems to be put together of two or four films of the chest.

    Two halves resemble each other more as they are than one mirrored, and meet at a seam. Of the
    published radiographs 2 (0.03 %) are flagged. Of pairs of them put together, with and without a
    gap, 76 % are recognised side by side, 73 % one above the other, and all of four.

    Args:
        grey: `(H, W)` uint8.
    """
    return _shows_several_films(_make_thumbnail(grey), grey.shape)


def _make_thumbnail(grey: np.ndarray) -> np.ndarray:
    """The means of 64 by 64 areas, `(64, 64)` float64."""
    size = (_THUMBNAIL_PX, _THUMBNAIL_PX)
    return np.asarray(Image.fromarray(grey).resize(size, Image.Resampling.BOX), np.float64)


def _is_blank(thumbnail: np.ndarray) -> bool:
    ordered = np.sort(thumbnail, axis=None)
    tail = len(ordered) // 50
    return bool(ordered[-1 - tail] - ordered[tail] < BLANK_LEVELS)


def _standardise(values: np.ndarray) -> np.ndarray:
    deviation: np.ndarray = (values - values.mean()) / max(float(values.std()), 1.0)
    return deviation


def _mediastinum_above_lungs(deviation: np.ndarray) -> float:
    """How much brighter the middle of a thumbnail is than its lungs, in standard deviations."""
    lungs = (deviation[_LUNG_ROWS, _LEFT].mean() + deviation[_LUNG_ROWS, _RIGHT].mean()) / 2
    return float(deviation[_MIDDLE_ROWS, _MIDDLE].mean() - lungs)


def _edge_mean(deviation: np.ndarray) -> float:
    """The mean of the upper and the side edges."""
    edges = [deviation[:2].ravel(), deviation[:, :2].ravel(), deviation[:, -2:].ravel()]
    return float(np.concatenate(edges).mean())


def _is_inverted(thumbnail: np.ndarray) -> bool:
    deviation = _standardise(thumbnail)
    return _mediastinum_above_lungs(deviation) < -0.2 and _edge_mean(deviation) > 0


def _is_lateral(thumbnail: np.ndarray) -> bool:
    deviation = _standardise(thumbnail)
    if _mediastinum_above_lungs(deviation) >= 0.1 or _edge_mean(deviation) >= 0:
        return False
    return _highest_ridge(deviation[_PROFILE_ROWS].mean(axis=0)) < 0.75


def _highest_ridge(profile: np.ndarray) -> float:
    """How far the brightest column near the middle rises above the darkest one on either side of it."""
    heights = []
    for column in _PROFILE_COLUMNS:
        darkest_left = profile[max(column - 20, 0) : column - 4].min()
        darkest_right = profile[column + 4 : column + 20].min()
        ridge = profile[column - 2 : column + 3].mean()
        heights.append(ridge - max(darkest_left, darkest_right))
    return float(max(heights))


def _shows_several_films(thumbnail: np.ndarray, shape: tuple[int, ...]) -> bool:
    is_wide = shape[1] > 1.6 * shape[0]
    left, right = np.hsplit(thumbnail, 2)
    are_two_chests = (
        _correlate(left, right) - _correlate(left, right[:, ::-1]) > -0.15
        and min(_correlate(half, half[:, ::-1]) for half in (left, right)) > 0
    )
    if are_two_chests and _seam(thumbnail) > (1.2 if is_wide else 2.0):
        return True
    upper, lower = np.vsplit(thumbnail, 2)
    return _correlate(upper, lower) > 0 and _seam(thumbnail.T) > 3.0


def _correlate(first: np.ndarray, second: np.ndarray) -> float:
    return float((_standardise(first) * _standardise(second)).mean())


def _seam(thumbnail: np.ndarray) -> float:
    """The jump between the columns in the middle, as a multiple of that between most neighbours."""
    jumps = np.abs(np.diff(thumbnail, axis=1)).mean(axis=0)
    middle = _THUMBNAIL_PX // 2
    return float(jumps[middle - 2 : middle + 1].max() / max(float(np.median(jumps)), 1e-6))
