"""Vision transformers from a folder in the layout of the transformers library."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from xraysynth.errors import DataNotFoundError
from xraysynth.evaluation.encoders.base import encode_in_batches
from xraysynth.evaluation.encoders.identity import Identity, Preprocessing
from xraysynth.evaluation.encoders.weights import (
    PublishedWeights,
    explain_load_errors,
    files_digest,
    find_files,
    find_weights,
)


@dataclass(frozen=True)
class VisionTransformer:
    """An encoder whose network is the class `architecture` of transformers.

    `output` takes the features `(B, d)` from what the network returns. Images are cropped to a
    square at the centre, as these models' own processors do, then resized as a whole to the crop
    size in the folder's `preprocessor_config.json` and normalised with its means and deviations.
    """

    published: PublishedWeights
    architecture: str
    select_features: Callable[[Any], torch.Tensor]
    weights: Path | None = None
    device: str = "cpu"

    @property
    def name(self) -> str:
        """See `Encoder`."""
        return self.published.encoder

    @cached_property
    def identity(self) -> Identity:
        """See `Encoder`; the preprocessor's file counts by what it says, not by its bytes."""
        decisive = find_files(self.published, self._folder)
        decisive.pop("preprocessor_config.json")
        digest = files_digest(decisive)
        return Identity(self.name, digest, self.preprocessing)

    @cached_property
    def preprocessing(self) -> Preprocessing:
        """See the class."""
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
        kind: Any = getattr(transformers, self.architecture)
        with explain_load_errors(self._folder, f"a {self.architecture}"):
            network, report = kind.from_pretrained(
                self._folder, local_files_only=True, weights_only=True, output_loading_info=True
            )
        if lost := sorted(report["missing_keys"]):  # would stay random
            raise DataNotFoundError(
                f"{self._folder} has no {lost[0]} and {len(lost) - 1} other weights of a "
                f"{self.architecture}; replace it by {self.published.description}"
            )
        return network.float().to(self.device)

    def features(self, images: np.ndarray) -> np.ndarray:
        """See `Encoder`."""
        network = self._network
        return encode_in_batches(
            self.name,
            network,
            lambda batch: self.select_features(network(pixel_values=batch)),
            self.preprocessing,
            images,
        )


def cls_token(output: Any) -> torch.Tensor:
    """The CLS token of the last layer, after its norm: `(B, d)`."""
    token: torch.Tensor = output.last_hidden_state[:, 0]
    return token
