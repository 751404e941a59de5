"""FID's own Inception-v3, the encoder of FID and KID."""

import io
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from xraysynth.evaluation.encoders.base import Encoder, encode_in_batches, optional_package
from xraysynth.evaluation.encoders.identity import Identity, Preprocessing
from xraysynth.evaluation.encoders.weights import (
    PublishedWeights,
    explain_load_errors,
    file_sha256,
    find_weights,
    load_state_dict,
)

PUBLISHED = PublishedWeights(
    encoder="inception",
    files={
        "weights-inception-2015-12-05-6726825d.pth": (
            "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"
        )
    },
    release_url="https://github.com/toshas/torch-fidelity/releases/download/v0.2.0",
)


@dataclass(frozen=True)
class Inception:
    """FID's Inception-v3 (TensorFlow's weights), pool3 features (d = 2048), by torch-fidelity.

    Images are resized to 299 px with antialiasing as clean-fid does, but kept at 8 bits; the network's
    own TensorFlow-style resize then changes nothing.

    Attributes:
        weights: `weights-inception-2015-12-05-6726825d.pth` of torch-fidelity, or the same state dict
            as safetensors; None for the published file.
        device: Device of the network.
    """

    weights: Path | None = None
    device: str = "cpu"
    name = "inception"
    preprocessing = Preprocessing(size_px=299, scale=(255.0,) * 3, shift=(0.0,) * 3)

    @cached_property
    def identity(self) -> Identity:
        """SHA-256 of the weights, and the preprocessing."""
        return Identity(self.name, file_sha256(self._file), self.preprocessing)

    @cached_property
    def _file(self) -> Path:
        return find_weights(PUBLISHED, self.weights)

    @cached_property
    def _network(self) -> Any:
        with optional_package("torch-fidelity"):
            from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
        state = io.BytesIO()
        # torch-fidelity unpickles the file that it is given, so it is given one of tensors only.
        torch.save(load_state_dict(self._file), state)
        state.seek(0)
        # Its initial weights are thrown away, so they must not cost the caller random numbers.
        with torch.random.fork_rng(devices=[]), explain_load_errors(self._file, "FID's Inception"):
            network = FeatureExtractorInceptionV3(
                "inception-v3-compat", ["2048"], feature_extractor_weights_path=state
            )
        return network.to(self.device)

    def features(self, images: np.ndarray) -> np.ndarray:
        """Compute features `(N, 2048)` float64 of images `(N, H, W)` uint8; see `Encoder`."""
        return encode_in_batches(
            self.name, self._network, self._forward, self.preprocessing, images
        )

    def _forward(self, batch: torch.Tensor) -> torch.Tensor:
        (features,) = self._network(batch.round().to(torch.uint8))
        return torch.as_tensor(features)


def build(*, weights: Path | None, classifier: Any, device: str) -> Encoder:
    """Build the encoder of FID's Inception; see `encoders.build`."""
    return Inception(weights, device)
