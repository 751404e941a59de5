"""A study small enough for tests: 96 easy images, a random Stable Diffusion, 12 steps."""

from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

CLASSES = ("normal", "pneumonia", "covid19", "tuberculosis")

HOLD_TIMES = ("run.json", "ledger.jsonl", "tradeoffs.csv", "report.html", "review.html")
"""Names of files that say how long something took or when it was written, whether or not two runs agree."""


def write_image(path: Path, *, label: str, seed: int, size_px: int = 48) -> None:
    """A grey picture in which the class is a bright bar at a place of its own."""
    rng = np.random.default_rng(seed)
    pixels = rng.integers(40, 120, (size_px, size_px)).astype(np.uint8)
    row = (CLASSES.index(label) * 2 + 1) * size_px // 8
    pixels[row - 3 : row + 3, 4:-4] = 230
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def overrides_for(folder: Path, model: Path, *more: str) -> list[str]:
    return [
        "source=table",
        f"source.table.path={folder / 'cohort' / 'manifest.csv'}",
        f"paths.output={folder / 'outputs'}",
        f"generator.stable_diffusion.model={model}",
        "generator.stable_diffusion.steps=1",
        "generator.stable_diffusion.batch_size=4",
        "size_px=32",
        "splits.val_fraction=0.2",
        "splits.test_fraction=0.3",
        "classifier.backbone=test_resnet",
        "trainer.max_steps=12",
        "trainer.val_every_steps=6",
        "data.batch_size=16",
        "evaluate.replicates=50",
        "study.seeds=[0,1]",
        "study.synthetic_fractions=[0,0.5]",
        "study.controls=[]",
        "evaluate.baseline_splits=3",
        *more,
    ]


def write_cohort(folder: Path, per_class: int = 24) -> None:
    rows = []
    for label in CLASSES:
        for number in range(per_class):
            name = f"{label}/{number:03d}.png"
            write_image(folder / name, label=label, seed=len(rows))
            rows.append({"path": name, "label": label, "patient_id": f"{label}{number}"})
    pd.DataFrame(rows).to_csv(folder / "manifest.csv", index=False)
