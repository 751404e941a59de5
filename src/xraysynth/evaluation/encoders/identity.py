"""What decides the features of an encoder: its weights and its preprocessing."""

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
    def from_mean_std(
        cls, *, mean: tuple[float, ...], std: tuple[float, ...], size_px: int, crop: bool
    ) -> "Preprocessing":
        """(x / 255 - mean) / deviation, channel by channel."""
        scale = tuple(1 / d for d in std)
        shift = tuple(-m / d for m, d in zip(mean, std, strict=True))
        return cls(size_px, crop, scale, shift)

    @property
    def digest(self) -> str:
        """SHA-256 of the fields."""
        return digest(to_json(self))

    def __call__(self, images: np.ndarray) -> "torch.Tensor":
        """`(N, H, W)` uint8 -> `(N, channels, side, side)` float32."""
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

    Features are cached by it, and those of different identities are not compared.

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
    height, width = images.shape[1:]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return images[:, top : top + side, left : left + side]
