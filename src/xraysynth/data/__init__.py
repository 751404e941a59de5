"""Real images: where they come from, which may be used, and how they are split.

`recipe` has the options, `sources` read collections, and `cohort` makes one of what they list.
`duplicates` finds images that are alike and `assign_persons` who is one person by them, `splits` keeps a
person in one split, `leakage` refuses what must not be seen twice, `audit` says what gives a class
away, and `pixels` decodes once.

    >>> from xraysynth.data.splits import assign_splits
    >>> assign_splits(["a"] * 4, ["1", "1", "2", "3"], fractions={"test": 0.5}, seed=0).tolist()
    ['test', 'test', 'train', 'train']
"""

__all__ = [
    "assign_persons",
    "audit",
    "cohort",
    "duplicates",
    "leakage",
    "pixels",
    "recipe",
    "sources",
    "splits",
]
