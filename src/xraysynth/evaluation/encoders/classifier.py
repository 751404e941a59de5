"""The classifier of the study itself, for machines without any weights."""

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

    `module.forward_features` maps `(B, 1, H, W)` in [0, 1] to `(B, d)`. Features of two classifiers
    are not comparable; the weights are part of the identity.
    """

    module: torch.nn.Module
    name = "classifier"
    preprocessing = Preprocessing()

    @property
    def identity(self) -> Identity:
        """The digest is over the module's parameters and buffers."""
        state = {name: value.cpu().numpy() for name, value in self.module.state_dict().items()}
        weights = hashlib.sha256(save(state)).hexdigest()
        return Identity(self.name, weights, self.preprocessing)

    def features(self, images: np.ndarray) -> np.ndarray:
        """See `Encoder`."""
        function: Any = self.module.forward_features
        training = self.module.training
        try:
            return encode_in_batches(self.name, self.module, function, self.preprocessing, images)
        finally:
            self.module.train(training)


def build(*, weights: Path | None, classifier: Any, device: str) -> Encoder:
    """The encoder of a loaded `XrayClassifier`."""
    if classifier is None or weights is not None:
        raise ConfigError(
            "encoder classifier takes a classifier that is loaded already, and no weights; train one, "
            "or leave it out of evaluate.encoders"
        )
    return ClassifierEncoder(classifier.to(device))
