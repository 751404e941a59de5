"""The interface of encoders, and the loop that encodes images batch by batch."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

import numpy as np
import torch

from xraysynth.errors import DataNotFoundError, ImageError, XraysynthError
from xraysynth.evaluation.encoders.identity import Identity, Preprocessing
from xraysynth.progress import DELAY_SECONDS, progress_bar
from xraysynth.threads import LARGE_FLOPS, choose_threads, count_flops, torch_threads

BATCH_SIZE = 32


class Encoder(Protocol):
    """An encoder maps radiographs to features.

    Encoders are frozen dataclasses that read their weights when they are first used.
    """

    @property
    def name(self) -> str:
        """Name of the encoder, as in `encoders.NAMES` and in the names of metrics."""

    @property
    def identity(self) -> Identity:
        """The weights and the preprocessing, which together determine the features."""

    def features(self, images: np.ndarray) -> np.ndarray:
        """Compute the features of images.

        Args:
            images: Grey images `(N, H, W)` uint8 from 0 to 255, which may be memory-mapped.

        Returns:
            Features `(N, d)` float64.

        Raises:
            ImageError: If the images have another shape, type or scale.
            DataNotFoundError: If the weights are not on this machine and cannot be downloaded.
        """


def encode_in_batches(
    name: str,
    network: torch.nn.Module,
    forward: Callable[[torch.Tensor], torch.Tensor],
    preprocessing: Preprocessing,
    images: np.ndarray,
) -> np.ndarray:
    """Encode images batch by batch, on the network's device.

    Only one batch of the images is read at a time, so they may lie in a memory-mapped file.

    Args:
        name: Name of the encoder, for errors and the progress bar.
        network: The network, which is put into evaluation mode.
        forward: Maps a preprocessed batch to features `(B, d)`.
        preprocessing: Maps `(B, H, W)` uint8 to the network's input.
        images: Images `(N, H, W)` uint8.

    Returns:
        Features `(N, d)` float64.

    Raises:
        ImageError: If the images have another shape, type or scale.
        XraysynthError: If the features are not finite, or not one vector per image.
    """
    require_grey_images(images)
    network.eval()
    device = _device_of(network)
    features: list[np.ndarray] = []
    with torch.inference_mode(), torch_threads(torch.get_num_threads()):
        for batch in _batches(name, images):
            pixels = preprocessing(batch).to(device)
            if not features:
                torch.set_num_threads(_threads_for(forward, pixels))
            output = forward(pixels)
            features.append(output.double().cpu().numpy())
    values = np.concatenate(features)
    if values.ndim != 2 or not np.isfinite(values).all():
        raise XraysynthError(
            f"encoder {name} gave features of shape {values.shape}, or values that are not finite; "
            "features must be (N, d) and finite, so check its weights"
        )
    return values


def _threads_for(forward: Callable[[torch.Tensor], torch.Tensor], pixels: torch.Tensor) -> int:
    """Return in how many threads batches like `pixels` are encoded."""
    if pixels.device.type != "cpu":
        return choose_threads(is_large=True)
    return choose_threads(is_large=count_flops(forward, pixels[:1]) * len(pixels) > LARGE_FLOPS)


def _device_of(network: torch.nn.Module) -> torch.device:
    """Return the device of the network; the CPU for a network without parameters and buffers."""
    for tensor in network.state_dict().values():
        return torch.device(tensor.device)
    return torch.device("cpu")


def _batches(name: str, images: np.ndarray) -> Iterator[np.ndarray]:
    """Yield batches of images, with a progress bar where encoding them takes long."""
    with progress_bar(f"features of {name}", len(images), delay=DELAY_SECONDS) as bar:
        for start in range(0, len(images), BATCH_SIZE):
            batch = np.asarray(images[start : start + BATCH_SIZE])
            yield batch
            bar.update(len(batch))


def require_grey_images(images: np.ndarray) -> None:
    """Check that images are `(N, H, W)` uint8 grey from 0 to 255.

    Raises:
        ImageError: If there are none, if shape or type differ, or if they seem to be scaled to [0, 1].
    """
    if images.dtype != np.uint8 or images.ndim != 3 or not len(images):
        raise ImageError(
            f"images of shape {images.shape} and type {images.dtype}: an encoder takes (N, H, W) "
            "uint8 grey with N > 0 and scales them itself"
        )
    if _is_scaled_to_one(images):
        raise ImageError(
            f"all {len(images)} images have values of at most 1, as if they had been scaled "
            "to [0, 1] before they were made 8-bit; pass grey values from 0 to 255"
        )


def _is_scaled_to_one(images: np.ndarray) -> bool:
    """Return whether no value exceeds 1; images are read one by one, up to the first that does."""
    return all(images[index].max() <= 1 for index in range(len(images)))


@contextmanager
def optional_package(name: str) -> Iterator[None]:
    """Guard the import of a package that may not be installed, and restore the warning filters.

    Raises:
        DataNotFoundError: If the package `name` is missing.
    """
    try:
        with warnings.catch_warnings():  # torchxrayvision silences all warnings when imported
            yield
    except ImportError as error:
        raise DataNotFoundError(
            f"this encoder needs the package {name} ({error}); install xraysynth[encoders]"
        ) from error
