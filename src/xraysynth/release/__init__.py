"""Releases: weights, images and a study with their cards, for the Hugging Face Hub.

`recipe` has the options of a release and `inputs` what is released. `model`, `dataset` and `study`
write one part each, and `folder` writes all parts together or none. `origin` describes generators and
their training data, `licences` derives the licence of a release from the licences of its components,
and `cards` writes the README of each part. `croissant` describes images for machines, `images` states
in every PNG that it is synthetic, and `hub` uploads the parts.

    >>> from xraysynth.release.licences import resolve_licence
    >>> resolve_licence({"model": "MIT", "data set": "CC BY 4.0"}).identifier
    'cc-by-4.0'
"""

__all__ = [
    "cards",
    "croissant",
    "dataset",
    "folder",
    "hub",
    "images",
    "inputs",
    "licences",
    "model",
    "origin",
    "recipe",
    "study",
]
