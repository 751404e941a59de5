"""Fetching public collections: downloads that go on where they stopped, and safe unpacking.

`recipe` holds the options, `collections` downloads a whole collection, `http` one file over https,
`checksums` checks it, `hub`, `kaggle` and `idc` ask the libraries of three archives, `hub_snapshots` keeps
data sets of the Hub, and `unpacking` unpacks archives of strangers.

    >>> from xraysynth.data.fetching.collections import describe_download
    >>> from xraysynth.data.fetching.recipe import Fetch
    >>> describe_download("tb", Fetch(folder="data/tb", kaggle="owner/tb", size_bytes=10**9))
    'Add source.tb.download=true to download it from Kaggle (owner/tb), about 1 GB.'
"""

__all__ = [
    "checksums",
    "collections",
    "http",
    "hub",
    "hub_snapshots",
    "idc",
    "kaggle",
    "recipe",
    "unpacking",
]
