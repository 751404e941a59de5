"""Vision transformers from a folder in the layout of the transformers library."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from xraysynth.evaluation.encoders.base import encode_in_batches
from xraysynth.evaluation.encoders.identity import Identity, Preprocessing
from xraysynth.evaluation.encoders.weights import (
    PublishedWeights,
    explain_load_errors,
    files_digest,
    find_files,
    find_weights,
)
from xraysynth.whole_weights import require_whole


@dataclass(frozen=True)
class VisionTransformer:
    """An encoder whose network is a class of the transformers library.

    Images are cropped to a square at the centre, as the image processors of these models do, then
    resized as a whole to the crop size in the folder's `preprocessor_config.json` and normalised with
    its means and standard deviations.

    Attributes:
        published: The published files of the model.
        architecture: Name of the class.
        select_features: Selects the features `(B, d)` from the output of the network.
        weights: Local folder of the model; None for the published files.
        device: Device of the network.
    """

    published: PublishedWeights
    architecture: str
    select_features: Callable[[Any], torch.Tensor]
    weights: Path | None = None
    device: str = "cpu"

    @property
    def name(self) -> str:
        """Name of the encoder in `encoders.NAMES` and in metric names."""
        return self.published.encoder

    @cached_property
    def identity(self) -> Identity:
        """SHA-256 of the weights and of the model's configuration, and the preprocessing.

        The preprocessor's file counts by its settings, not by its bytes.
        """
        files = find_files(self.published, self._folder)
        files.pop("preprocessor_config.json")
        return Identity(self.name, files_digest(files), self.preprocessing)

    @cached_property
    def preprocessing(self) -> Preprocessing:
        """The preprocessing that the folder's `preprocessor_config.json` describes."""
        path = self._folder / "preprocessor_config.json"
        with explain_load_errors(path, "crop_size, image_mean and image_std of an image processor"):
            settings = json.loads(path.read_text())
            crop = settings["crop_size"]
            return Preprocessing.from_mean_std(
                mean=tuple(settings["image_mean"]),
                std=tuple(settings["image_std"]),
                size_px=int(crop["height"] if isinstance(crop, dict) else crop),
                crop=True,
            )

    @cached_property
    def _folder(self) -> Path:
        return find_weights(self.published, self.weights)

    @cached_property
    def _network(self) -> Any:
        import transformers

        log: Any = transformers.logging
        log.set_verbosity_error()  # it would list every weight of CLIP's text side
        log.disable_progress_bar()
        model_class: Any = getattr(transformers, self.architecture)
        with explain_load_errors(self._folder, f"a {self.architecture}"):
            network, report = model_class.from_pretrained(
                self._folder, local_files_only=True, weights_only=True, output_loading_info=True
            )
        require_whole(
            self._folder,
            {"missing_keys": report["missing_keys"]},  # CLIP's text side is not used
            expected=f"a {self.architecture}",
            remedy=f"replace it by {self.published.description}",
        )
        return network.float().to(self.device)

    def features(self, images: np.ndarray) -> np.ndarray:
        """Compute features `(N, d)` float64 of images `(N, H, W)` uint8; see `Encoder`."""
        return encode_in_batches(
            self.name, self._network, self._forward, self.preprocessing, images
        )

    def _forward(self, batch: torch.Tensor) -> torch.Tensor:
        return self.select_features(self._network(pixel_values=batch))


def cls_token(output: Any) -> torch.Tensor:
    """Return the CLS token of the last layer, after its norm: `(B, d)`."""
    token: torch.Tensor = output.last_hidden_state[:, 0]
    return token
