"""What every encoder shares: its interface, the preprocessing, and running a network in batches."""

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np
import torch

from xraysynth.errors import ConfigError, DataNotFoundError, ImageError, XraysynthError
from xraysynth.images import study_format
from xraysynth.progress import LATE_SECONDS, progress
from xraysynth.seeds import digest

BATCH = 32


class Encoder(Protocol):
    """Maps radiographs to features; a frozen dataclass that reads its weights when first used."""

    @property
    def name(self) -> str:
        """Its name in `encoders.NAMES`, which is also that in the metric's name."""

    @property
    def identity(self) -> Mapping[str, Any]:
        """What decides the features, as JSON values: `encoder`, `weights` and `preprocessing`."""

    def features(self, images: np.ndarray) -> np.ndarray:
        """`(N, H, W)` uint8 grey, also memory-mapped -> `(N, d)` float64."""


@dataclass(frozen=True)
class Preprocessing:
    """From 8-bit grey to what a network takes: squared, resized, x / 255 * scale + shift.

    Squared by padding with black or by a centre crop; resized with antialiased bicubic (Parmar et
    al., arXiv:2104.11222), not at all where `size_px` is None. One `scale` and `shift` a channel.
    """

    size_px: int | None = None
    crop: bool = False
    scale: tuple[float, ...] = (1.0,)
    shift: tuple[float, ...] = (0.0,)

    def __post_init__(self) -> None:
        if not self.scale or len(self.scale) != len(self.shift):
            raise ConfigError(
                f"preprocessing needs one scale and one shift a channel, got {len(self.scale)} and "
                f"{len(self.shift)}"
            )

    @classmethod
    def normalised(
        cls, *, mean: tuple[float, ...], deviation: tuple[float, ...], size_px: int, crop: bool
    ) -> "Preprocessing":
        """(x / 255 - mean) / deviation, channel by channel."""
        scale = tuple(1 / d for d in deviation)
        shift = tuple(-m / d for m, d in zip(mean, deviation, strict=True))
        return cls(size_px, crop, scale, shift)

    @property
    def settings(self) -> dict[str, Any]:
        """The fields as JSON values."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}

    @property
    def digest(self) -> str:
        """SHA-256 of the settings."""
        return digest(self.settings)

    def __call__(self, images: np.ndarray) -> torch.Tensor:
        """`(N, H, W)` uint8 -> `(N, channels, side, side)` float32."""
        square = _centre_square(images) if self.crop else images
        size = self.size_px or max(square.shape[1:])
        resized = np.stack([study_format(image, size) for image in square])
        batch = torch.from_numpy(resized.astype(np.float32))[:, None] / 255
        scale, shift = torch.tensor(self.scale), torch.tensor(self.shift)
        return batch * scale[:, None, None] + shift[:, None, None]


def identity(name: str, *, weights: str, preprocessing: Preprocessing) -> dict[str, Any]:
    """The identity of an encoder with these weights, by their SHA-256."""
    return {"encoder": name, "weights": weights, "preprocessing": preprocessing.settings}


def run(
    name: str,
    network: torch.nn.Module,
    function: Callable[[torch.Tensor], torch.Tensor],
    preprocessing: Preprocessing,
    images: np.ndarray,
) -> np.ndarray:
    """`function` of `(N, H, W)` uint8 images as `(N, d)` float64, on the network's device.

    Only one batch of the images is read at a time, so they may lie in a memory-mapped file.
    """
    check_images(images)
    network.eval()
    device = next((value.device for value in network.state_dict().values()), torch.device("cpu"))
    with torch.inference_mode():
        parts = [
            function(preprocessing(batch).to(device)).double().cpu().numpy()
            for batch in _batches(name, images)
        ]
    values = np.concatenate(parts)
    if values.ndim != 2 or not np.isfinite(values).all():
        raise XraysynthError(
            f"encoder {name} gave features of shape {values.shape} or not finite ones; "
            "(N, d) and finite values are needed, check its weights"
        )
    return values


def _batches(name: str, images: np.ndarray) -> Iterator[np.ndarray]:
    with progress(f"features of {name}", len(images), delay=LATE_SECONDS) as bar:
        for start in range(0, len(images), BATCH):
            batch = np.asarray(images[start : start + BATCH])
            yield batch
            bar.update(len(batch))


def check_images(images: np.ndarray) -> None:
    """Raise `ImageError` for what is not `(N, H, W)` uint8 grey from 0 to 255."""
    if images.dtype != np.uint8 or images.ndim != 3 or not len(images):
        raise ImageError(
            f"images of shape {images.shape} and type {images.dtype}: an encoder takes (N, H, W) "
            "uint8 grey with N > 0 and scales them itself"
        )
    if not any(images[index].max() > 1 for index in range(len(images))):
        raise ImageError(
            f"all {len(images)} images have values of at most 1, as if they had been scaled "
            "to [0, 1] before they were made 8-bit; pass grey values from 0 to 255"
        )


def _centre_square(images: np.ndarray) -> np.ndarray:
    height, width = images.shape[1:]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return images[:, top : top + side, left : left + side]


@contextmanager
def optional_package(name: str) -> Iterator[None]:
    """Where a package is imported that may not be installed; the warning filters stay as they are."""
    try:
        with warnings.catch_warnings():  # torchxrayvision silences all warnings when imported
            yield
    except ImportError as error:
        raise DataNotFoundError(
            f"this encoder needs the package {name} ({error}); install xraysynth[encoders]"
        ) from error
