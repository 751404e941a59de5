"""Encoders: radiographs to feature vectors, each with its own preprocessing and identity.

An encoder is a module of this package with a function `build`; nothing else lists it. What decides
the features (weights and preprocessing) is in its `identity`, by which features are cached and which
keeps features of different preprocessing from being compared.

    >>> NAMES
    ('classifier', 'clip', 'dinov2', 'embedded', 'inception', 'rad_dino', 'xrv')
    >>> build("embedded").preprocessing.size_px
    64
"""

from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import TYPE_CHECKING

from xraysynth.errors import ConfigError

if TYPE_CHECKING:
    from xraysynth.evaluation.encoders.base import Encoder
    from xraysynth.training.classifier import XrayClassifier

__all__ = ["NAMES", "build"]

_HELPER_MODULES = {"base", "identity", "weights"}

NAMES = tuple(
    sorted(
        module.name
        for module in iter_modules(__path__)
        if not module.name.startswith("_") and module.name not in _HELPER_MODULES
    )
)
"""Every encoder; its name is also that of its module, of its option and in the metric's name."""


def build(
    name: str,
    *,
    weights: Path | None = None,
    classifier: "XrayClassifier | None" = None,
    device: str = "cpu",
) -> "Encoder":
    """The encoder of this name; nothing is read or downloaded before it is first used.

    `weights` is a local file or folder; without it they are looked for as `encoders.weights` says.
    `classifier` is needed by the encoder of that name alone.
    """
    if name not in NAMES:
        raise ConfigError(f"there is no encoder {name!r}; choose among {', '.join(NAMES)}")
    make = import_module(f"{__name__}.{name}").build
    encoder: Encoder = make(weights=weights, classifier=classifier, device=device)
    return encoder
