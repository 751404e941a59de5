"""The identity of an encoder: its weights and its preprocessing, which determine its features."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from xraysynth.errors import ConfigError
from xraysynth.images import pad_and_resize
from xraysynth.records import to_json
from xraysynth.seeds import digest

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Preprocessing:
    """The way from 8-bit grey images to a network's input: squared, resized, x / 255 * scale + shift.

    Attributes:
        size_px: Side to which images are resized with antialiased bicubic (Parmar et al.,
            arXiv:2104.11222); None keeps their size.
        crop: Images are squared by a centre crop, otherwise by padding with black.
        scale: Factor of each channel of the network's input.
        shift: Offset of each channel.

    Raises:
        ConfigError: If `scale` is empty, or `shift` has another number of channels.
    """

    size_px: int | None = None
    crop: bool = False
    scale: tuple[float, ...] = (1.0,)
    shift: tuple[float, ...] = (0.0,)

    def __post_init__(self) -> None:
        if not self.scale or len(self.scale) != len(self.shift):
            raise ConfigError(
                f"preprocessing needs one scale and one shift per channel, got {len(self.scale)} and "
                f"{len(self.shift)}"
            )

    @classmethod
    def from_mean_std(
        cls, *, mean: tuple[float, ...], std: tuple[float, ...], size_px: int, crop: bool
    ) -> "Preprocessing":
        """Build the preprocessing (x / 255 - mean) / std, with one mean and std per channel."""
        scale = [1 / deviation for deviation in std]
        shift = [-centre / deviation for centre, deviation in zip(mean, std, strict=True)]
        return cls(size_px, crop, tuple(scale), tuple(shift))

    @property
    def digest(self) -> str:
        """SHA-256 of the fields."""
        return digest(to_json(self))

    def __call__(self, images: np.ndarray) -> "torch.Tensor":
        """Convert images `(N, H, W)` uint8 to a network's input `(N, channels, side, side)` float32."""
        import torch

        square = _centre_crop(images) if self.crop else images
        size = self.size_px or max(square.shape[1:])
        resized = np.stack([pad_and_resize(image, size) for image in square])
        batch = torch.from_numpy(resized.astype(np.float32))[:, None] / 255
        scale, shift = torch.tensor(self.scale), torch.tensor(self.shift)
        return batch * scale[:, None, None] + shift[:, None, None]


@dataclass(frozen=True)
class Identity:
    """An encoder's name, the SHA-256 of its weights, and its preprocessing.

    Features are cached by their encoder's identity, and features of different identities are not
    compared.

    >>> Identity("embedded", "0" * 64, Preprocessing(size_px=64)).preprocessing.size_px
    64
    """

    encoder: str
    weights: str
    preprocessing: Preprocessing

    @property
    def digest(self) -> str:
        """SHA-256 of the fields."""
        return digest(to_json(self))


def _centre_crop(images: np.ndarray) -> np.ndarray:
    """Crop images `(N, H, W)` to their central square."""
    height, width = images.shape[1:]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return images[:, top : top + side, left : left + side]
