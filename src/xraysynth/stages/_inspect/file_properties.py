"""Numbers of images by the properties of their files."""

from collections import Counter
from collections.abc import Sequence

import pandas as pd

from xraysynth.stages._inspect.gathering import Gathered

MAX_VALUES = 8
"""Number of values of a property that are counted apart."""


def count_properties(gathered: Gathered) -> dict[str, dict[str, int]]:
    """Count the files by size, bit depth, mode, format and view: property -> value -> images."""
    readable = [header for header in gathered.headers.values() if not header.error]
    views = gathered.rows["view"].astype(str) if "view" in gathered.rows else pd.Series(dtype=str)
    counters = {
        "size in pixels": Counter(f"{header.width} × {header.height}" for header in readable),
        "bits": Counter(str(header.bits) for header in readable),
        "mode": Counter(header.mode for header in readable),
        "format": Counter(header.format for header in readable),
        "view": Counter(view for view in views if view not in ("", "nan", "None")),
    }
    if len(counters["size in pixels"]) > MAX_VALUES:
        counters["size in pixels"] = _count_sides(
            [max(header.width, header.height) for header in readable]
        )
    return {name: _most_common(counter) for name, counter in counters.items() if counter}


def _count_sides(sides: Sequence[int]) -> Counter[str]:
    """The longer sides, as ranges of powers of two where there are many."""
    if len(set(sides)) <= MAX_VALUES:
        return Counter(f"{side} (longer side)" for side in sides)
    lows = [1 << max(side.bit_length() - 1, 0) for side in sides]
    return Counter(f"{low}–{2 * low - 1} (longer side)" for low in lows)


def _most_common(counter: Counter[str]) -> dict[str, int]:
    counts = dict(counter.most_common(MAX_VALUES))
    rest = sum(counter.values()) - sum(counts.values())
    return {**counts, f"{len(counter) - MAX_VALUES} others": rest} if rest else counts
