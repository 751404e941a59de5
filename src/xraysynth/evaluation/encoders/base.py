"""What every encoder shares: its interface, and running a network in batches."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

import numpy as np
import torch

from xraysynth.errors import DataNotFoundError, ImageError, XraysynthError
from xraysynth.evaluation.encoders.identity import Identity, Preprocessing
from xraysynth.progress import DELAY_SECONDS, progress_bar

BATCH_SIZE = 32


class Encoder(Protocol):
    """Maps radiographs to features; a frozen dataclass that reads its weights when first used."""

    @property
    def name(self) -> str:
        """Its name in `encoders.NAMES`, which is also that in the metric's name."""

    @property
    def identity(self) -> Identity:
        """What decides the features."""

    def features(self, images: np.ndarray) -> np.ndarray:
        """`(N, H, W)` uint8 grey, also memory-mapped -> `(N, d)` float64."""


def encode_in_batches(
    name: str,
    network: torch.nn.Module,
    forward: Callable[[torch.Tensor], torch.Tensor],
    preprocessing: Preprocessing,
    images: np.ndarray,
) -> np.ndarray:
    """`function` of `(N, H, W)` uint8 images as `(N, d)` float64, on the network's device.

    Only one batch of the images is read at a time, so they may lie in a memory-mapped file.
    """
    require_grey_images(images)
    network.eval()
    device = next((value.device for value in network.state_dict().values()), torch.device("cpu"))
    with torch.inference_mode():
        parts = [
            forward(preprocessing(batch).to(device)).double().cpu().numpy()
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
    with progress_bar(f"features of {name}", len(images), delay=DELAY_SECONDS) as bar:
        for start in range(0, len(images), BATCH_SIZE):
            batch = np.asarray(images[start : start + BATCH_SIZE])
            yield batch
            bar.update(len(batch))


def require_grey_images(images: np.ndarray) -> None:
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
