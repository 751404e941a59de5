"""Three archives whose worth is known: other simulated patients, noise, and copies of training images.

python experiments/null_study/archives.py outputs/null_study
"""

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from xraysynth import compose
from xraysynth.data.sources.simulated import Simulated
from xraysynth.images import encode_png, read_image
from xraysynth.stages import Workspace

PER_CLASS = 40
SIZE_PX = 64

Image = tuple[str, np.ndarray]
"""Class and pixels `(H, W)` uint8."""


def other_patients() -> Iterator[Image]:
    """Patients whom the cohort does not have, from the same distribution."""
    rows = Simulated(patients_per_class=PER_CLASS, images_per_patient=1.0, seed=1)
    for row in rows.rows().itertuples():
        yield str(row.label), rows.load(str(row.locator), SIZE_PX).pixels


def noise() -> Iterator[Image]:
    """Grey noise under the names of the classes."""
    rng = np.random.default_rng(0)
    for label in Simulated().classes:
        for _ in range(PER_CLASS):
            yield label, rng.integers(0, 256, (SIZE_PX, SIZE_PX)).astype(np.uint8)


def copies() -> Iterator[Image]:
    """The first training images of each class."""
    overrides = ["experiment=null_study", "generator.archive.folder=none"]
    cohort = Workspace(compose(overrides), overrides).cohort
    train = cohort.split("train")
    for _, rows in train.table.groupby("label"):
        for row in rows.sort_values("image_id").head(PER_CLASS).itertuples():
            yield str(row.label), read_image(train.folder / str(row.path))


def write(folder: Path, images: Iterator[Image]) -> None:
    """PNGs and a manifest with path and label."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for number, (label, pixels) in enumerate(images):
        name = f"{label}-{number:04d}.png"
        (folder / name).write_bytes(encode_png(pixels))
        rows.append({"path": name, "label": label})
    pd.DataFrame(rows).to_csv(folder / "manifest.csv", index=False)


if __name__ == "__main__":
    (parent,) = map(Path, sys.argv[1:])
    for name, make in (("others", other_patients), ("noise", noise), ("copies", copies)):
        write(parent / name, make())
        print(parent / name)
