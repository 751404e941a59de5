"""Real images: where they come from, which may be used, and how they are split.

`recipe` has the options, `sources` read collections, `audit` finds near-duplicates and what gives a
class away, `splits` keeps a patient in one split, `leakage` refuses what must not be seen twice,
`pixels` decodes once.

    >>> from xraysynth.data.splits import assign_splits
    >>> assign_splits(["a"] * 4, ["1", "1", "2", "3"], fractions={"test": 0.5}, seed=0).tolist()
    ['test', 'test', 'train', 'train']
"""

__all__ = ["audit", "leakage", "pixels", "recipe", "sources", "splits"]
