"""A pool of noise, a LoRA of a random model, and what a study would say of them."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from tiny_sd import save_tiny_lora

from xraysynth.generation.generators.base import FineTuning
from xraysynth.generation.generators.sd_lora import SdLora
from xraysynth.generation.lora.folder import FINETUNE_IDENTITY_FILE
from xraysynth.generation.pool import Refusals
from xraysynth.images import encode_png
from xraysynth.manifest import Manifest
from xraysynth.records import LearningRecord, sha256_bytes
from xraysynth.release.inputs import ReleasedGenerator, StudyInfo
from xraysynth.release.origin import GroupCounts, TrainSplitSummary, compute_training_digest

CLASSES = ("normal", "covid19")


def save_pool(folder: Path, per_class: int = 3) -> Manifest:
    rows = []
    for label in CLASSES:
        for index in range(per_class):
            rng = np.random.default_rng(len(rows))
            png = encode_png(rng.integers(0, 255, (16, 16)).astype(np.uint8))
            name = f"{label}-{index:06d}"
            (folder / "images").mkdir(parents=True, exist_ok=True)
            (folder / "images" / f"{name}.png").write_bytes(png)
            rows.append(
                {
                    "image_id": name,
                    "path": f"images/{name}.png",
                    "label": label,
                    "split": "train",
                    "is_synthetic": True,
                    "prompt": f'PA view, "{label}" | é {index}',
                    "seed": 2**62 + index,
                    "pool": "0123456789ab",
                    "sha256": sha256_bytes(png),
                }
            )
    return Manifest(pd.DataFrame(rows), folder, CLASSES)


@pytest.fixture
def images(tmp_path):
    return save_pool(tmp_path / "pool")


@pytest.fixture
def weights(tiny_sd, tmp_path) -> Path:
    """The folder of a finished fine-tuning job."""
    folder = save_tiny_lora(tiny_sd, tmp_path / "finetune" / "abc")
    (folder / FINETUNE_IDENTITY_FILE).write_text(
        json.dumps({"base": "00", "recipe": {"rank": 2, "seed": 0}})
    )
    LEARNED.write(folder / "learned.json")
    (folder / "checkpoint.safetensors").write_bytes(b"not to be released")
    return folder


LEARNED = LearningRecord(patients=["clinic/MRN-00417"], sha256=["ab" * 32])
MEASURES = [
    {"encoder": "embedded", "metric": "memorised share", "label": "", "value": 0.0123, "low": 0.01}
    | {"high": 0.02, "n": 6, "floor": 0.011},
    {"encoder": "embedded", "metric": "FD(embedded)", "label": "", "value": 77.7},
    {"encoder": "embedded", "metric": "AuthPct", "label": "covid19", "value": 66.6},
]


@pytest.fixture
def about():
    return StudyInfo(
        study="mine",
        classes=CLASSES,
        simulated=(),
        train_split=TrainSplitSummary(
            images=9,
            patients=7,
            digest=compute_training_digest(LEARNED.sha256),
            classes=[GroupCounts("normal", images=5, patients=4)],
            sources=[GroupCounts("clinic", images=9, patients=7, licence="CC BY 4.0")],
        ),
        notes=("Confounded: normal comes from one source.",),
    )


@pytest.fixture
def made(tiny_sd, weights, images):
    return ReleasedGenerator(
        key="sd_lora",
        generator=SdLora(model=str(tiny_sd), weights=str(weights), taught_by="abc", steps=2),
        images=images,
        outcomes={"normal": {"image": 3, "refused": 2}, "covid19": {"image": 3}},
        refusals=Refusals({"normal": (2, 5)}, {"a rude prompt": (2, 5)}),
        learning_record=LEARNED,
        evaluation={"assessable": "", "measures": MEASURES},
        weights=weights,
        finetuning=FineTuning(steps=12, trained_parameters=345, seconds=1.5),
    )
