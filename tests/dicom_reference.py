"""What a DICOM image should look like, computed value by value from a plain description of it.

It shares no code with the package but the sign of inverted pictures, and knows what a generator wrote.
"""

import math
from dataclasses import dataclass, field

import numpy as np

from xraysynth.data.pixel_flags import looks_inverted


@dataclass
class Table:
    """A lookup table: its first input, entries and bits."""

    first: int
    entries: list[int]
    bits: int


@dataclass
class Described:
    """An image as its maker knows it, in the meaning of the elements and not in their form.

    `stored` are the values `(H, W)`; `windows` those that are valid, and in `function` the VOI function.
    `shutters` are shapes: ("rectangle", left, right, upper, lower), ("circle", row, column, radius).
    """

    stored: np.ndarray
    bits: int = 12
    signed: bool = False
    photometric: str = "MONOCHROME2"
    rescale: tuple[float, float] | None = None
    modality_table: Table | None = None
    windows: list[tuple[float, float]] = field(default_factory=list)
    function: str = "LINEAR"
    voi_table: Table | None = None
    padding: tuple[int, int] | None = None
    shutters: list[tuple] = field(default_factory=list)
    shape: str = ""
    sign: int = 0
    is_8bit: bool = False


def look_up(table, value):
    position = math.floor(value + 0.5) if value % 1 != 0.5 else 2 * round(value / 2)
    return table.entries[min(max(int(position) - table.first, 0), len(table.entries) - 1)]


def windowed(value, image):
    center, width = image.windows[0]
    low, high = (
        (-(2 ** (image.bits - 1)), 2 ** (image.bits - 1) - 1)
        if image.signed
        else (
            0,
            2**image.bits - 1,
        )
    )
    if image.modality_table:
        low, high = 0, 2**image.modality_table.bits - 1
    elif image.rescale:
        slope, intercept = image.rescale
        ends = [low * slope + intercept, high * slope + intercept]
        low, high = min(ends), max(ends)
    if image.function == "SIGMOID":
        exponent = -4 * (value - center) / width
        return low + (high - low) / (1 + math.exp(min(exponent, 700)))
    if image.function == "LINEAR":  # PS3.3 C.11.2.1.2.1, in its own words
        if value <= center - 0.5 - (width - 1) / 2:
            return low
        if value > center - 0.5 + (width - 1) / 2:
            return high
        return ((value - (center - 0.5)) / (width - 1) + 0.5) * (high - low) + low
    if value <= center - width / 2:
        return low
    if value > center + width / 2:
        return high
    return ((value - center) / width + 0.5) * (high - low) + low


def percentile(ordered, percent):
    place = (len(ordered) - 1) * percent / 100
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)


def tissue_of(ordered):
    """Without one value at an end that covers 0.5 to 5 % and is far from all others."""
    for end in (ordered[-1], ordered[0]):
        rest = [value for value in ordered if value != end]
        share = 1 - len(rest) / len(ordered)
        if rest and 0.005 < share <= 0.05:
            gap = min(abs(rest[0] - end), abs(rest[-1] - end))
            if gap > 0.25 * (rest[-1] - rest[0]) > 0:
                ordered = rest
    return ordered


def find_hidden(image):
    """Which pixels are padding or lie behind a shutter, `(H, W)` bool."""
    height, width = image.stored.shape
    covered = np.zeros((height, width), bool)
    for shape, *numbers in image.shutters:
        for row in range(1, height + 1):
            for column in range(1, width + 1):
                if shape == "rectangle":
                    left, right, upper, lower = numbers
                    inside = left <= column <= right and upper <= row <= lower
                else:
                    inside = math.hypot(row - numbers[0], column - numbers[1]) <= numbers[2]
                covered[row - 1, column - 1] |= not inside
    if covered.mean() > 0.9:
        covered[:] = False
    hidden = covered
    if image.padding:
        low, high = sorted(image.padding)
        hidden = hidden | ((image.stored >= low) & (image.stored <= high))
    return hidden


def scaled(values, limits):
    """Values between two limits as 0 to 255; None if the limits are no range."""
    low, high = limits
    if not low < high or not math.isfinite(high - low):
        return None
    clipped = np.minimum(np.maximum(values, low), high)
    return np.floor((clipped - low) / (high - low) * 255 + 0.5)


def render_reference(image):
    """Return the picture `(H, W)`, in which rounding may be off by one; None if there is nothing to show."""
    hidden = find_hidden(image)
    seen = ~hidden
    if not seen.any():
        return None
    mapping, shown_mapping = {}, {}
    for stored in np.unique(image.stored).tolist():
        value = stored
        if image.modality_table:
            value = look_up(image.modality_table, stored)
        elif image.rescale:
            value = stored * image.rescale[0] + image.rescale[1]
        mapping[stored] = value
        if image.voi_table:
            shown_mapping[stored] = look_up(image.voi_table, value)
        elif image.windows:
            shown_mapping[stored] = windowed(value, image)
    values = np.vectorize(mapping.get, otypes=[float])(image.stored)
    picture = None
    if shown_mapping:
        shown = np.vectorize(shown_mapping.get, otypes=[float])(image.stored)
        picture = scaled(shown, (shown[seen].min(), shown[seen].max()))
    bends = image.modality_table or (image.rescale and image.rescale[0] <= 0)
    if picture is None and image.is_8bit and not image.signed and not bends:
        picture = image.stored.astype(float)
    if picture is None:
        ordered = tissue_of(sorted(values[seen].tolist()))
        picture = scaled(values, (percentile(ordered, 0.5), percentile(ordered, 99.5)))
    if picture is None:
        return None
    inverted = image.photometric == "MONOCHROME1"
    if image.photometric == "MONOCHROME2" and image.shape == "INVERSE":
        inverted = True
    elif image.sign == (1 if image.photometric == "MONOCHROME2" else -1):
        upright = 255 - picture if inverted else picture
        inverted ^= looks_inverted(upright.astype(np.uint8))
    picture = 255 - picture if inverted else picture
    picture[hidden] = 0
    return picture.astype(int)
