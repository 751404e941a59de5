"""The DenseNet of torchxrayvision, trained on chest radiographs."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from xraysynth.errors import ImageError
from xraysynth.evaluation.encoders.base import Encoder, encode_in_batches, optional_package
from xraysynth.evaluation.encoders.identity import Identity, Preprocessing
from xraysynth.evaluation.encoders.weights import (
    PublishedWeights,
    file_sha256,
    find_weights,
    load_state_dict,
)
from xraysynth.whole_weights import load_whole

# The published file is a pickled module, in torchxrayvision's releases as on the Hub: reading it runs
# code, so it is neither downloaded nor read here.
PUBLISHED = PublishedWeights(
    encoder="xrv",
    files={"densenet121-res224-all.safetensors": ""},
    manual_instructions=(
        "the state dict of torchxrayvision's densenet121-res224-all as safetensors, made with "
        'save_file(torchxrayvision.models.DenseNet(weights="densenet121-res224-all")'
        '.state_dict(), "densenet121-res224-all.safetensors") of safetensors.torch,'
    ),
)


@dataclass(frozen=True)
class XrvDenseNet:
    """torchxrayvision's DenseNet-121 (Cohen et al., arXiv:2111.00595), pooled features (d = 1024).

    The network takes one channel of (2 img - 1) * 1024, centre-cropped to a square.

    Attributes:
        weights: State dict of `densenet121-res224-all` as safetensors; None looks for it in the
            places that `encoders.weights` lists.
        device: Device of the network.
    """

    weights: Path | None = None
    device: str = "cpu"
    name = "xrv"
    preprocessing = Preprocessing(size_px=224, crop=True, scale=(2048.0,), shift=(-1024.0,))

    @cached_property
    def identity(self) -> Identity:
        """SHA-256 of the weights, and the preprocessing."""
        return Identity(self.name, file_sha256(self._file), self.preprocessing)

    @cached_property
    def _file(self) -> Path:
        return find_weights(PUBLISHED, self.weights)

    @cached_property
    def _network(self) -> Any:
        with optional_package("torchxrayvision"):
            from torchxrayvision.models import DenseNet
        state = load_state_dict(self._file)
        state.pop("op_threshs", None)  # operating points of the predictions, not used here
        with torch.random.fork_rng(devices=[]):  # its initial weights are thrown away
            network = DenseNet()
        expected = PUBLISHED.manual_instructions.rstrip(",")
        load_whole(network, state, self._file, expected=expected, remedy="replace it")
        return network.to(self.device)

    def features(self, images: np.ndarray) -> np.ndarray:
        """Compute features `(N, 1024)` float64 of images `(N, H, W)` uint8; see `Encoder`."""
        return encode_in_batches(
            self.name, self._network, self._forward, self.preprocessing, images
        )

    def _forward(self, batch: torch.Tensor) -> torch.Tensor:
        return torch.as_tensor(self._network.features2(require_xrv_range(batch)))


def require_xrv_range(batch: torch.Tensor) -> torch.Tensor:
    """Return a batch that spans torchxrayvision's [-1024, 1024].

    Raises:
        ImageError: If its values are outside of this range, or within [-1, 1].
    """
    low, high = float(batch.min()), float(batch.max())
    if low < -1024.5 or high > 1024.5 or max(-low, high) <= 1:
        raise ImageError(
            f"torchxrayvision takes (2 img - 1) * 1024, got values from {low:g} to {high:g}, which "
            "look like another scale; pass 8-bit images through the encoder's preprocessing"
        )
    return batch


def build(*, weights: Path | None, classifier: Any, device: str) -> Encoder:
    """Build the encoder of torchxrayvision's DenseNet; see `encoders.build`."""
    return XrvDenseNet(weights, device)
