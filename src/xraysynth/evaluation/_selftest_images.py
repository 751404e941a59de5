"""Simulates the images of the self-test, and trains a small classifier on them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from xraysynth.data.sources.simulated import Simulated
from xraysynth.evaluation.encoders.base import Encoder

SIZE_PX = 64


@dataclass(frozen=True)
class SimulatedImages:
    """Simulated radiographs, equally many of each class.

    Attributes:
        pixels: The images, `(N, 64, 64)` uint8.
        labels: The class name of each image, `(N,)`.
    """

    pixels: np.ndarray
    labels: np.ndarray

    @property
    def patients(self) -> np.ndarray:
        """A different patient for each image, `(N,)` str."""
        return np.arange(len(self.pixels)).astype(str)


def simulate_images(
    seed: int, per_class: int, with_progress: Callable[[Sequence[str]], Sequence[str]]
) -> SimulatedImages:
    """Renders `per_class` images of each class.

    Args:
        seed: The seed of the patients; two seeds have no patient in common.
        per_class: The number of images of each class.
        with_progress: Wraps the sequence of images to render in a progress bar.
    """
    source = Simulated(patients_per_class=per_class, images_per_patient=1.0, seed=seed)
    rows = source.rows()
    pixels = []
    for locator in with_progress(list(rows["locator"])):
        pixels.append(source.load(locator, SIZE_PX).pixels)
    return SimulatedImages(np.stack(pixels), rows["label"].to_numpy(str))


def train_classifier(train: SimulatedImages, *, steps: int = 250) -> Encoder:
    """Trains a small classifier, and returns it as an encoder that knows the classes."""
    import torch

    from xraysynth.evaluation.encoders import build
    from xraysynth.training.classifier import XrayClassifier

    classes = list(dict.fromkeys(train.labels))
    recipe = {"backbone": "test_resnet"}
    module = XrayClassifier(classes=classes, recipe=recipe, max_steps=steps)
    pixels = torch.from_numpy(train.pixels)[:, None].float() / 255
    targets = torch.tensor(list(map(classes.index, train.labels)))
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-3, weight_decay=0.05)
    rng = np.random.default_rng(0)
    module.train()
    for _ in range(steps):
        rows = torch.from_numpy(rng.integers(len(targets), size=32))
        optimizer.zero_grad()
        loss: Any = torch.nn.functional.cross_entropy(module(pixels[rows]), targets[rows])
        loss.backward()
        optimizer.step()
    return build("classifier", classifier=module.eval())
