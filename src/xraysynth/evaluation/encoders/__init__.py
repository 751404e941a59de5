"""Encoders map radiographs to feature vectors, each with its own preprocessing and identity.

An encoder is a module of this package with a function `build`; it is listed nowhere else. Its
`identity` holds everything that determines the features, which are the weights and the preprocessing.
Features are cached by it, and features of different identities are not compared.

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


def _list_encoders() -> tuple[str, ...]:
    names = []
    for module in iter_modules(__path__):
        if not module.name.startswith("_") and module.name not in _HELPER_MODULES:
            names.append(module.name)
    return tuple(sorted(names))


NAMES = _list_encoders()
"""Names of all encoders, which are also the names of their modules and options, and stand in metric names."""


def build(
    name: str,
    *,
    weights: Path | None = None,
    classifier: "XrayClassifier | None" = None,
    device: str = "cpu",
) -> "Encoder":
    """Build an encoder, which reads or downloads nothing before it is first used.

    Args:
        name: One of `NAMES`.
        weights: Local file or folder of the weights; without it they are looked for in the places that
            `encoders.weights` lists.
        classifier: The trained classifier, for the encoder "classifier" alone.
        device: Device of the network, such as "cuda".

    Raises:
        ConfigError: If there is no encoder of this name.
    """
    if name not in NAMES:
        raise ConfigError(f"there is no encoder {name!r}; choose one of {', '.join(NAMES)}")
    build_encoder = import_module(f"{__name__}.{name}").build
    encoder: Encoder = build_encoder(weights=weights, classifier=classifier, device=device)
    return encoder
