"""Fetching public collections: downloads that go on where they stopped, and safe unpacking.

`unpacking` unpacks archives of strangers.

    >>> from xraysynth.data.fetching.unpacking import is_archive
    >>> from pathlib import Path
    >>> is_archive(Path("no such file.zip"))
    False
"""

__all__ = ["unpacking"]
