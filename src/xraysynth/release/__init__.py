"""What is sent out: weights, images and a study with their cards, for the Hugging Face Hub.

`recipe` has the options. `made` says what a release is about, `model`, `dataset` and `study` write its
parts, and `folder` all of them or none. `origin` names where images come from, `licences` reads the
terms of the whole off those of its parts, `cards` writes what people and the Hub read, `croissant` what
machines do, `images` puts into every PNG what it is, and `hub` sends it.

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
    "licences",
    "made",
    "model",
    "origin",
    "recipe",
    "study",
]
