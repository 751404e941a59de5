"""Progress on stderr: how much is done, at what rate, and the time left."""

import sys
from typing import Any

from tqdm import tqdm

DELAY_SECONDS = 3.0
"""Delay of bars for work that is mostly done at once."""


def progress_bar(description: str, total: int, unit: str = "image", *, delay: float = 0.0) -> Any:
    """A tqdm bar; where stderr is a file it prints a line every few seconds instead of redrawing.

    Nothing is shown before `delay` seconds have passed.
    """
    interactive = sys.stderr.isatty()
    return tqdm(
        desc=description,
        total=total,
        unit=f" {unit}s",
        file=sys.stderr,
        mininterval=0.2 if interactive else 10,
        dynamic_ncols=interactive,
        smoothing=0.1,
        delay=delay,
    )
