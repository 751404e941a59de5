"""The autoencoder of the embedded tiny Stable Diffusion: part of the package, offline, and cheap."""

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from xraysynth.errors import DataNotFoundError
from xraysynth.evaluation.encoders.base import Encoder, encode_in_batches
from xraysynth.evaluation.encoders.identity import Identity, Preprocessing
from xraysynth.evaluation.encoders.weights import explain_load_errors, files_digest
from xraysynth.options import expand_path
from xraysynth.whole_weights import require_whole

DEFAULT_FOLDER = Path(__file__).parent.parent.parent / "assets" / "tiny-sd" / "vae"
CELLS_PER_SIDE = 4
"""Number of cells per side over which the latents are pooled.

A Frechet distance of the latents themselves falls when real radiographs are blurred; a distance of the
pooled features grows with blur, noise and contrast.
"""

_FILES = ("config.json", "diffusion_pytorch_model.safetensors")


@dataclass(frozen=True)
class EmbeddedAutoencoder:
    """Mean and standard deviation of the latent means, channel by channel in 4 x 4 cells.

    d = 128 for four latent channels. The autoencoder was trained on simulated chests at 64 px alone:
    its distances show coarse differences, and can be compared within one study, not with published
    values.

    Attributes:
        weights: Another folder in the layout of diffusers' AutoencoderKL, or of a pipeline that has
            one as `vae`; None for the embedded one.
        device: Device of the network.
    """

    weights: Path | None = None
    device: str = "cpu"
    name = "embedded"

    @cached_property
    def identity(self) -> Identity:
        """SHA-256 of the weights, and the preprocessing."""
        files = {name: self._folder / name for name in _FILES}
        return Identity(self.name, files_digest(files), self.preprocessing)

    @cached_property
    def preprocessing(self) -> Preprocessing:
        """x / 255 * 2 - 1 at the size and with the channels that the autoencoder was trained on."""
        path = self._folder / "config.json"
        with explain_load_errors(path, "the configuration of an AutoencoderKL"):
            config = json.loads(path.read_text())
            size_px, channels = int(config["sample_size"]), int(config["in_channels"])
        return Preprocessing(size_px, scale=(2.0,) * channels, shift=(-1.0,) * channels)

    @cached_property
    def _folder(self) -> Path:
        folder = DEFAULT_FOLDER if self.weights is None else expand_path(self.weights)
        if (folder / "vae").is_dir():
            folder = folder / "vae"
        missing = [name for name in _FILES if not (folder / name).is_file()]
        if missing:
            raise DataNotFoundError(
                f"encoder embedded: {folder} has no {', '.join(missing)}; set "
                "evaluate.weights.embedded to a folder of diffusers' AutoencoderKL, or leave it out"
            )
        return folder

    @cached_property
    def _network(self) -> Any:
        from diffusers import AutoencoderKL

        model_class: Any = AutoencoderKL
        with explain_load_errors(self._folder, "an AutoencoderKL"):
            network, report = model_class.from_pretrained(
                self._folder,
                local_files_only=True,
                use_safetensors=True,
                dtype=torch.float32,
                output_loading_info=True,
            )
        remedy = "set evaluate.weights.embedded to a folder of diffusers' AutoencoderKL"
        require_whole(self._folder, report, expected="an AutoencoderKL", remedy=remedy)
        return network.to(self.device)

    def _pool_latents(self, batch: torch.Tensor) -> torch.Tensor:
        """Return mean and standard deviation of the latents `(B, C, h, w)` in each cell, `(B, d)`."""
        latents = self._network.encode(batch).latent_dist.mean * self._network.config.scaling_factor
        mean = F.adaptive_avg_pool2d(latents, CELLS_PER_SIDE)
        variance = F.adaptive_avg_pool2d(latents**2, CELLS_PER_SIDE) - mean**2
        return torch.cat([mean, variance.clamp(min=0).sqrt()], 1).flatten(1)

    def features(self, images: np.ndarray) -> np.ndarray:
        """Compute features `(N, d)` float64 of images `(N, H, W)` uint8; see `Encoder`."""
        return encode_in_batches(
            self.name, self._network, self._pool_latents, self.preprocessing, images
        )


def build(*, weights: Path | None, classifier: Any, device: str) -> Encoder:
    """Build the encoder of the embedded autoencoder; see `encoders.build`."""
    return EmbeddedAutoencoder(weights, device)
