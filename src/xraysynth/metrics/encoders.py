"""Encoders: radiographs to feature vectors, each with its own preprocessing and identity.

No weights are downloaded. A file that is not there raises `DataNotFoundError` saying what to put
where. What decides the features (weights and preprocessing) is in `identity`, by which features are
cached and which keeps features of different preprocessing from being compared.
"""

import hashlib
import io
import json
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from safetensors.numpy import save
from safetensors.torch import load_file

from xraysynth.errors import DataNotFoundError, ImageError, XraysynthError
from xraysynth.images import study_format

BATCH = 32


class Encoder(Protocol):
    """Maps radiographs to features; a frozen dataclass that reads its weights when first used."""

    @property
    def name(self) -> str:
        """Short name that appears in the metric's name."""

    @property
    def identity(self) -> Mapping[str, Any]:
        """What decides the features, as JSON values: `encoder`, `weights` and `preprocessing`."""

    def features(self, images: np.ndarray) -> np.ndarray:
        """`(N, H, W)` uint8 grey -> `(N, d)` float64."""


@dataclass(frozen=True)
class Preprocessing:
    """From 8-bit grey to what a network takes: squared, resized, x / 255 * scale + shift, repeated.

    Squared by padding with black or by a centre crop; resized with antialiased bicubic (Parmar et
    al., arXiv:2104.11222), not at all where `size_px` is None.
    """

    size_px: int | None = None
    crop: bool = False
    channels: int = 1
    scale: float = 1.0
    shift: float = 0.0

    def __call__(self, images: np.ndarray) -> torch.Tensor:
        """`(N, H, W)` uint8 -> `(N, channels, H', W')` float32."""
        if self.crop:
            images = _centre_square(images)
        if self.size_px is not None:
            images = np.stack([study_format(image, self.size_px) for image in images])
        batch = torch.from_numpy(images.astype(np.float32)) / 255 * self.scale + self.shift
        return batch[:, None].expand(-1, self.channels, -1, -1).contiguous()


@dataclass(frozen=True, eq=False)
class ClassifierEncoder:
    """Penultimate features of a classifier of the study itself, for machines without weights.

    `module.forward_features` maps `(B, 1, H, W)` in [0, 1] to `(B, d)`. Features of two classifiers
    are not comparable; the weights are part of the identity.
    """

    module: torch.nn.Module
    name = "classifier"
    preprocessing = Preprocessing()

    @property
    def identity(self) -> Mapping[str, Any]:
        """The digest is over the module's parameters and buffers."""
        state = {name: value.cpu().numpy() for name, value in self.module.state_dict().items()}
        weights = hashlib.sha256(save(state)).hexdigest()
        return _identity(self.name, weights, asdict(self.preprocessing))

    def features(self, images: np.ndarray) -> np.ndarray:
        """See `Encoder`."""
        function: Any = self.module.forward_features
        training = self.module.training
        try:
            return _run(self.module, function, self.preprocessing, images)
        finally:
            self.module.train(training)


@dataclass(frozen=True)
class Inception:
    """FID's Inception-v3, pool3 features (d = 2048), through torch-fidelity.

    `weights` is torch-fidelity's `weights-inception-2015-12-05-6726825d.pth` or the same state dict
    as safetensors. Images are resized to 299 px with antialiasing as clean-fid does, but kept at 8
    bits; the network's own TensorFlow-style resize then leaves them as they are.
    """

    weights: Path
    device: str = "cpu"
    name = "inception"
    preprocessing = Preprocessing(size_px=299, channels=3, scale=255.0)

    @cached_property
    def identity(self) -> Mapping[str, Any]:
        """See `Encoder`."""
        return _identity(self.name, _file_digest(self._file), asdict(self.preprocessing))

    @property
    def _file(self) -> Path:
        return _require(self.weights, "weights-inception-2015-12-05-6726825d.pth of torch-fidelity")

    @cached_property
    def _network(self) -> Any:
        with _optional_package("torch-fidelity"):
            from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
        state = io.BytesIO()
        torch.save(_state_dict(self._file), state)  # torch-fidelity unpickles: give it tensors only
        state.seek(0)
        with torch.random.fork_rng(devices=[]):  # its initial weights are thrown away
            network = FeatureExtractorInceptionV3(
                "inception-v3-compat", ["2048"], feature_extractor_weights_path=state
            )
        return network.to(self.device)

    def features(self, images: np.ndarray) -> np.ndarray:
        """See `Encoder`."""
        network = self._network
        return _run(
            network, lambda x: network(x.round().to(torch.uint8))[0], self.preprocessing, images
        )


@dataclass(frozen=True)
class XrvDenseNet:
    """torchxrayvision's DenseNet-121 (Cohen et al., arXiv:2111.00595), pooled features (d = 1024).

    `weights` is the state dict of `densenet121-res224-all` as safetensors, since the published file
    is a pickle: on a machine with network, `safetensors.torch.save_file(torchxrayvision.models
    .DenseNet(weights="densenet121-res224-all").state_dict(), path)`. The network takes one channel
    of (2 img - 1) * 1024.
    """

    weights: Path
    device: str = "cpu"
    name = "xrv-densenet"
    preprocessing = Preprocessing(size_px=224, crop=True, scale=2048.0, shift=-1024.0)

    @cached_property
    def identity(self) -> Mapping[str, Any]:
        """See `Encoder`."""
        return _identity(self.name, _file_digest(self._file), asdict(self.preprocessing))

    @property
    def _file(self) -> Path:
        return _require(
            self.weights,
            "the state dict of torchxrayvision's densenet121-res224-all as safetensors, made with "
            'save_file(torchxrayvision.models.DenseNet(weights="densenet121-res224-all")'
            ".state_dict(), path)",
        )

    @cached_property
    def _network(self) -> Any:
        with _optional_package("torchxrayvision"):
            from torchxrayvision.models import DenseNet
        state = _state_dict(self._file)
        state.pop("op_threshs", None)  # operating points of the predictions, not used here
        with torch.random.fork_rng(devices=[]):  # its initial weights are thrown away
            network = DenseNet()
        network.load_state_dict(state)
        return network.to(self.device)

    def features(self, images: np.ndarray) -> np.ndarray:
        """See `Encoder`."""
        network = self._network
        return _run(
            network, lambda x: network.features2(require_xrv_range(x)), self.preprocessing, images
        )


@dataclass(frozen=True)
class RadDino:
    """RAD-DINO (Perez-Garcia et al., arXiv:2401.10815): the CLS token of a local model folder.

    `folder` holds config.json, model.safetensors and preprocessor_config.json of
    `microsoft/rad-dino`; images go through the folder's own image processor (518 px) as they are.
    """

    folder: Path
    device: str = "cpu"
    name = "rad-dino"

    @cached_property
    def identity(self) -> Mapping[str, Any]:
        """See `Encoder`."""
        weights = _file_digest(self._file("model.safetensors")) + _file_digest(
            self._file("config.json")
        )
        settings = json.loads(self._file("preprocessor_config.json").read_text())
        return _identity(self.name, weights, settings)

    def _file(self, name: str) -> Path:
        return _require(Path(self.folder) / name, f"{name} of microsoft/rad-dino")

    @cached_property
    def _network(self) -> Any:
        from transformers import AutoModel

        for file in ("config.json", "model.safetensors"):
            self._file(file)
        network = AutoModel.from_pretrained(
            self.folder, local_files_only=True, use_safetensors=True
        )
        return network.to(self.device)

    @cached_property
    def _preprocess(self) -> Callable[[np.ndarray], torch.Tensor]:
        from transformers import AutoImageProcessor

        self._file("preprocessor_config.json")
        load: Any = AutoImageProcessor.from_pretrained
        processor = load(self.folder, local_files_only=True)
        return lambda images: processor(
            images=list(np.repeat(images[..., None], 3, -1)), return_tensors="pt"
        )["pixel_values"]

    def features(self, images: np.ndarray) -> np.ndarray:
        """See `Encoder`."""
        network = self._network
        return _run(network, lambda x: network(x).last_hidden_state[:, 0], self._preprocess, images)


def require_xrv_range(batch: torch.Tensor) -> torch.Tensor:
    """The batch, if it spans torchxrayvision's [-1024, 1024] rather than [0, 1] or [-1, 1]."""
    low, high = float(batch.min()), float(batch.max())
    if low < -1024.5 or high > 1024.5 or max(-low, high) <= 1:
        raise ImageError(
            f"torchxrayvision takes (2 img - 1) * 1024, got values from {low:g} to {high:g}, which "
            "look like another scale; pass 8-bit images through the encoder's preprocessing"
        )
    return batch


def _identity(name: str, weights: str, preprocessing: Mapping[str, Any]) -> dict[str, Any]:
    return {"encoder": name, "weights": weights, "preprocessing": dict(preprocessing)}


def _run(
    network: torch.nn.Module,
    function: Callable[[torch.Tensor], torch.Tensor],
    preprocess: Callable[[np.ndarray], torch.Tensor],
    images: np.ndarray,
) -> np.ndarray:
    _check_images(images)
    network.eval()
    device = next((value.device for value in network.state_dict().values()), torch.device("cpu"))
    with torch.inference_mode():
        parts = [
            function(preprocess(images[start : start + BATCH]).to(device)).double().cpu().numpy()
            for start in range(0, len(images), BATCH)
        ]
    values = np.concatenate(parts)
    if values.ndim != 2 or not np.isfinite(values).all():
        raise XraysynthError(
            f"the encoder gave features of shape {values.shape} or not finite ones; "
            "(N, d) and finite values are needed, check its weights"
        )
    return values


def _check_images(images: np.ndarray) -> None:
    if images.dtype != np.uint8 or images.ndim != 3 or not len(images):
        raise ImageError(
            f"images of shape {images.shape} and type {images.dtype}: an encoder takes (N, H, W) "
            "uint8 grey with N > 0 and scales them itself"
        )
    if images.max() <= 1:
        raise ImageError(
            f"all {len(images)} images have values of at most 1, as if they had been scaled "
            "to [0, 1] before they were made 8-bit; pass grey values from 0 to 255"
        )


def _centre_square(images: np.ndarray) -> np.ndarray:
    height, width = images.shape[1:]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return images[:, top : top + side, left : left + side]


def _file_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _require(path: Path, what: str) -> Path:
    if not Path(path).is_file():
        raise DataNotFoundError(f"{path} is not there; put {what} at this path")
    return Path(path)


@contextmanager
def _optional_package(name: str) -> Iterator[None]:
    try:
        with warnings.catch_warnings():  # torchxrayvision silences all warnings when imported
            yield
    except ImportError as error:
        raise DataNotFoundError(
            f"this encoder needs the package {name} ({error}); install it"
        ) from error


def _state_dict(path: Path) -> dict[str, torch.Tensor]:
    if path.suffix == ".safetensors":
        return load_file(path)
    state: dict[str, torch.Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    return state
