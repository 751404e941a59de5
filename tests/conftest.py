"""Fixtures shared by all tests: small real inputs made on the spot, nothing downloaded."""

import os
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # two threads on busy cores are many times slower
os.environ["HF_HUB_OFFLINE"] = "1"  # a missing file must fail at once, not after 46 s of retries
os.environ["WANDB_MODE"] = "offline"

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from tiny_sd import save_tiny_sd

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
CLASSES = ("normal", "pneumonia", "covid19", "tuberculosis")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real radiographs beside the checkout, where they are."""
    if not SHARED_DATA.is_dir():
        pytest.skip("the folder shared/data with real radiographs is not beside this checkout")
    return SHARED_DATA


@pytest.fixture(scope="session")
def tiny_sd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Stable Diffusion folder with random weights."""
    return save_tiny_sd(tmp_path_factory.mktemp("tiny-sd"))


def write_image(path: Path, *, label: str, seed: int, size_px: int = 48) -> None:
    """A grey picture in which the class is a bright bar at a place of its own."""
    rng = np.random.default_rng(seed)
    pixels = rng.integers(40, 120, (size_px, size_px)).astype(np.uint8)
    row = (CLASSES.index(label) * 2 + 1) * size_px // 8
    pixels[row - 3 : row + 3, 4:-4] = 230
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def table_of_images(tmp_path: Path) -> Path:
    """A CSV of 96 easy images, 24 of each class, one patient each."""
    rows = []
    for label in CLASSES:
        for number in range(24):
            name = f"{label}/{number:03d}.png"
            write_image(tmp_path / "cohort" / name, label=label, seed=len(rows))
            rows.append({"path": name, "label": label, "patient_id": f"{label}{number}"})
    pd.DataFrame(rows).to_csv(tmp_path / "cohort" / "manifest.csv", index=False)
    return tmp_path / "cohort" / "manifest.csv"
