"""Real images: where they come from, which may be used, and how they are split.

`recipe` holds the options, `fetching` downloads and unpacks public collections, `reading` reads people's
folders and tables, `dicom` reads hospitals' exports, `sources` read image collections, `screening` says
which images are not used and why (`unusable` limits how many, `two_labels` finds one picture under two
labels, `source_images` holds the result), and `cohort` turns the rows into patients and splits. `duplicates`
finds near-duplicate images, `persons` treats patients who share them as one person, `splits` keeps each
patient in one split, `leakage` checks that no held-out patient or image reaches training, `audit` measures
source confounding, and `pixels` caches decoded images.

    >>> from xraysynth.data.splits import assign_splits
    >>> assign_splits(["a"] * 4, ["1", "1", "2", "3"], fractions={"test": 0.5}, seed=0).tolist()
    ['test', 'test', 'train', 'train']
"""

__all__ = [
    "audit",
    "cohort",
    "dicom",
    "duplicates",
    "fetching",
    "leakage",
    "persons",
    "pixels",
    "reading",
    "recipe",
    "screening",
    "source_images",
    "sources",
    "splits",
    "two_labels",
    "unusable",
]
