"""Progress bars on stderr, with the rate and the remaining time."""

import sys
from typing import Any

from tqdm import tqdm

DELAY_SECONDS = 3.0
"""Delay of a progress bar for work that usually takes less time than this."""


def progress_bar(
    description: str, total: int | None, unit: str = "image", *, delay: float = 0.0
) -> Any:
    """Create a tqdm progress bar; if stderr is a file, it prints a line every 10 seconds.

    Args:
        description: Text in front of the bar.
        total: Number of items, None if it is not known.
        unit: Name of an item, in the singular; "byte" for numbers such as 617MB.
        delay: Seconds before the bar appears.
    """
    interactive = sys.stderr.isatty()
    return tqdm(
        desc=description,
        total=total,
        unit="B" if unit == "byte" else f" {unit}s",
        unit_scale=unit == "byte",
        file=sys.stderr,
        mininterval=0.2 if interactive else 10,
        dynamic_ncols=interactive,
        smoothing=0.1,
        delay=delay,
    )
