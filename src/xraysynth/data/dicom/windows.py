"""Windows: the part of the grey levels that a viewer shows (PS3.3 C.11.2.1)."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from pydicom import Dataset

EMPTY_WINDOW = "empty window ignored"
INVALID_WINDOW = "invalid window ignored"
SEVERAL_WINDOWS = "first of several windows used"
UNKNOWN_FUNCTION = "unknown VOI function read as linear"

_KEYWORDS = ("WindowCenter", "WindowWidth")
_FUNCTIONS = ("LINEAR", "LINEAR_EXACT", "SIGMOID")


@dataclass(frozen=True)
class Window:
    """A window on the values after the modality transformation.

    Attributes:
        center: Its center.
        width: Its width, at least 1 for "LINEAR" and above 0 for the others.
        function: "LINEAR", "LINEAR_EXACT" or "SIGMOID".
    """

    center: float
    width: float
    function: str = "LINEAR"

    @property
    def is_valid(self) -> bool:
        """Whether its numbers make a window."""
        is_wide = self.width >= 1 if self.function == "LINEAR" else self.width > 0
        return is_wide and math.isfinite(self.center) and math.isfinite(self.width)


def read_window(dataset: "Dataset") -> tuple[Window | None, tuple[str, ...]]:
    """Return the first window of a data set that can be used, and notes on what was ignored."""
    if not any(keyword in dataset for keyword in _KEYWORDS):
        return None, ()
    centers, widths = (read_numbers(dataset, keyword) for keyword in _KEYWORDS)
    if not centers and not widths:
        is_filled = any(_is_filled(dataset, keyword) for keyword in _KEYWORDS)
        return None, (INVALID_WINDOW if is_filled else EMPTY_WINDOW,)
    function = str(dataset.get("VOILUTFunction") or "LINEAR").strip().upper()
    is_known = function in _FUNCTIONS
    notes: tuple[str, ...] = () if is_known else (UNKNOWN_FUNCTION,)
    function = function if is_known else "LINEAR"
    windows = [Window(*pair, function) for pair in zip(centers, widths, strict=False)]
    valid = [window for window in windows if window.is_valid]
    if not valid:
        return None, (INVALID_WINDOW,)
    if valid[0] is not windows[0]:
        notes += (INVALID_WINDOW,)
    return valid[0], (*notes, SEVERAL_WINDOWS) if len(valid) > 1 else notes


def _is_filled(dataset: "Dataset", keyword: str) -> bool:
    """Whether an element has a value, even one that cannot be read."""
    try:
        value = dataset.get(keyword)
    except Exception:  # pydicom converts a value when it is looked at, and raises nearly any type
        return True
    return value is not None and bool(str(value).strip())


def read_numbers(dataset: "Dataset", keyword: str) -> list[float]:
    """Return the numbers of an element, none if it is missing, empty or holds anything else."""
    try:
        value = dataset.get(keyword)
        if value is None or value == "":
            return []
        if isinstance(value, str | bytes) or not hasattr(value, "__iter__"):
            value = [value]
        return [float(number) for number in value]
    except Exception:  # pydicom converts a value when it is looked at, and raises nearly any type
        return []


def apply_window(
    values: np.ndarray, window: Window, output_range: tuple[float, float]
) -> np.ndarray:
    """Apply a window by the formulas of PS3.3 C.11.2.1.2 and C.11.2.1.3.

    pydicom's own function fails on empty and invalid windows, and a negative rescale slope turns its
    result around.

    Args:
        values: Values of any number type.
        window: The window.
        output_range: Lowest and highest result.

    >>> apply_window(np.array([0, 50, 100]), Window(50, 100, "LINEAR_EXACT"), (0, 255))
    array([  0. , 127.5, 255. ])
    """
    low, high = output_range
    center, width = window.center, window.width
    values = values.astype(np.float64)
    if window.function == "SIGMOID":
        exponents = np.clip(-4 * (values - center) / width, -700, 700)  # exp overflows above
        return np.asarray((high - low) / (1 + np.exp(exponents)) + low)
    if window.function == "LINEAR":
        center, width = center - 0.5, width - 1
    is_below = values <= center - width / 2
    is_above = values > center + width / 2
    is_between = ~(is_below | is_above)
    values[is_below] = low
    values[is_above] = high
    values[is_between] = ((values[is_between] - center) / width + 0.5) * (high - low) + low
    return values
