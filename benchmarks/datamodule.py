"""Time of an epoch of training batches: XrayDataModule against torchvision's ImageFolder.

2,000 grey PNGs of 512 px become batches of 32 at 224 px with the same augmentations. Epochs of the
two sides alternate in one process; the ratio is theirs / ours from the second epoch on.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from itertools import islice
from pathlib import Path
from statistics import median
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import ImageFolder

from xraysynth.images import encode_png
from xraysynth.manifest import Manifest
from xraysynth.records import sha256_bytes
from xraysynth.training.datamodule import XrayDataModule
from xraysynth.training.recipe import DataRecipe

CLASSES = ("normal", "pneumonia")
BATCH, SIDE, SIZE = 32, 512, 224


def radiograph_like(rng: np.random.Generator) -> np.ndarray:
    """Smooth structures under fine noise, `(512, 512)` uint8; a PNG of about 110 kB."""
    coarse = Image.fromarray(rng.integers(30, 220, (12, 12)).astype(np.uint8))
    smooth = np.asarray(coarse.resize((SIDE, SIDE), Image.Resampling.BICUBIC), np.float32)
    return (smooth + rng.normal(0, 2, smooth.shape)).clip(0, 255).astype(np.uint8)


def write_images(folder: Path, n: int) -> Manifest:
    """`n` PNGs as `split/class/file`, where n of them are for training and two for val and test."""
    rng = np.random.default_rng(0)
    rows = []
    for split, count in {"train": n, "val": 2, "test": 2}.items():
        for number in range(count):
            label = CLASSES[number % 2]
            path = folder / split / label / f"{number:05d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(png := encode_png(radiograph_like(rng)))
            name = f"{split}-{number:05d}"
            row = {"image_id": name, "path": path.relative_to(folder).as_posix(), "label": label}
            rows.append(row | {"split": split, "patient_id": name, "sha256": sha256_bytes(png)})
    return Manifest(pd.DataFrame(rows), folder, CLASSES)


def theirs(folder: Path, recipe: DataRecipe) -> Iterable[Any]:
    """What a user would write: ImageFolder, torchvision transforms, a plain DataLoader."""
    shift = recipe.translation
    steps = [
        transforms.Grayscale(),
        transforms.Resize(SIZE),
        transforms.RandomAffine(
            recipe.rotation,
            translate=(shift, shift),
            scale=(1 - recipe.scale, 1 + recipe.scale),
            interpolation=transforms.InterpolationMode.BILINEAR,
        ),
        transforms.ColorJitter(recipe.brightness, recipe.contrast),
        transforms.ToTensor(),
        transforms.Lambda(lambda x: (x + recipe.noise * torch.randn_like(x)).clamp(0, 1)),
    ]
    images = ImageFolder(str(folder / "train"), transforms.Compose(steps))
    return DataLoader(images, batch_size=BATCH, shuffle=True)


def ours(manifest: Manifest, folder: Path, recipe: DataRecipe) -> XrayDataModule:
    """The data module in the state in which a trainer has it while fitting."""
    module = XrayDataModule(
        real=manifest, synthetic={}, recipe=recipe, size_px=SIZE, cache_folder=folder, seed=0
    )
    state = SimpleNamespace(training=True, global_step=0, global_rank=0, world_size=1)
    module.trainer = state  # type: ignore[assignment]
    return module


def timed(epoch: Callable[[], None]) -> float:
    """Seconds of one call."""
    begun = time.perf_counter()
    epoch()
    return time.perf_counter() - begun


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--epochs", type=int, default=3)
    options = parser.parse_args()
    recipe = DataRecipe(batch_size=BATCH)
    steps = -(-options.images // BATCH)
    with tempfile.TemporaryDirectory() as folder:
        print(f"writing {options.images} images", file=sys.stderr)
        manifest = write_images(Path(folder), options.images)
        module = ours(manifest, Path(folder) / "cache", recipe)
        loader = theirs(Path(folder), recipe)

        def our_epoch() -> None:
            for batch in islice(module.train_dataloader(), steps):
                module.on_after_batch_transfer(batch, 0)

        def their_epoch() -> None:
            for _ in loader:
                pass

        pairs = [(timed(our_epoch), timed(their_epoch)) for _ in range(options.epochs)]
    ours_s, theirs_s = (median(side) for side in zip(*pairs[1:], strict=True))
    result = {
        "name": "datamodule",
        "ratio": round(theirs_s / ours_s, 2),
        "first_epoch_ratio": round(pairs[0][0] / pairs[0][1], 3),
        "ours": round(options.images / ours_s, 1),
        "theirs": round(options.images / theirs_s, 1),
        "unit": "images/s",
        "device": f"cpu, {torch.get_num_threads()} threads",
        "n": options.images,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
