"""The classifier of the study as an encoder, for machines without downloaded weights."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import save

from xraysynth.errors import ConfigError
from xraysynth.evaluation.encoders.base import Encoder, encode_in_batches
from xraysynth.evaluation.encoders.identity import Identity, Preprocessing


@dataclass(frozen=True, eq=False)
class ClassifierEncoder:
    """Penultimate features of a classifier; images are squared and keep their size.

    Features of two classifiers are not comparable; the weights are part of the identity.

    Attributes:
        module: The classifier, whose `forward_features` maps `(B, 1, H, W)` in [0, 1] to `(B, d)`.
    """

    module: torch.nn.Module
    name = "classifier"
    preprocessing = Preprocessing()

    @property
    def identity(self) -> Identity:
        """SHA-256 of the module's parameters and buffers, and the preprocessing."""
        state = {name: value.cpu().numpy() for name, value in self.module.state_dict().items()}
        weights = hashlib.sha256(save(state)).hexdigest()
        return Identity(self.name, weights, self.preprocessing)

    def features(self, images: np.ndarray) -> np.ndarray:
        """Compute features `(N, d)` float64 of images `(N, H, W)` uint8; see `Encoder`."""
        forward: Any = self.module.forward_features
        was_training = self.module.training
        try:
            return encode_in_batches(self.name, self.module, forward, self.preprocessing, images)
        finally:
            self.module.train(was_training)


def build(*, weights: Path | None, classifier: Any, device: str) -> Encoder:
    """Build the encoder of a loaded `XrayClassifier`.

    Raises:
        ConfigError: If there is no classifier, or if a path of weights is given.
    """
    if classifier is None or weights is not None:
        raise ConfigError(
            "encoder classifier takes a classifier that is loaded already, and no path of weights; "
            "train a classifier, or leave the encoder out of evaluate.encoders"
        )
    return ClassifierEncoder(classifier.to(device))
