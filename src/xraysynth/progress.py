"""Progress on stderr: how much is done, at what rate, and the time left."""

import sys
from typing import Any

from tqdm import tqdm


def progress(what: str, total: int, unit: str = "image") -> Any:
    """A tqdm bar; where stderr is a file it prints a line every few seconds instead of redrawing."""
    interactive = sys.stderr.isatty()
    return tqdm(
        desc=what,
        total=total,
        unit=f" {unit}s",
        file=sys.stderr,
        mininterval=0.2 if interactive else 10,
        dynamic_ncols=interactive,
        smoothing=0.1,
    )
