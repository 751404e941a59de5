"""A study small enough for tests: 96 easy images, a random Stable Diffusion, 12 steps."""

from pathlib import Path

import pandas as pd
from conftest import CLASSES, write_image


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
        "study.shares=[0,0.5]",
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
