"""Fixtures shared by all tests: small real inputs made on the spot, nothing downloaded."""

import os
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # two threads on busy cores are many times slower
os.environ["HF_HUB_OFFLINE"] = "1"  # a missing file must fail at once, not after 46 s of retries
os.environ["WANDB_MODE"] = "offline"
os.environ["WANDB__SERVICE_WAIT"] = "900"  # seconds: its process starts slowly on busy cores

import pickle
import shutil
from collections.abc import Callable
from typing import Any

import pytest
from filelock import FileLock
from hypothesis import HealthCheck, settings
from small_study import overrides_for, write_cohort
from tiny_sd import save_tiny_lora, save_tiny_sd

from xraysynth import compose
from xraysynth.config import Config
from xraysynth.stages import Workspace, study

# No test depends on how fast the machine is.
settings.register_profile(
    "any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("any machine")

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real radiographs beside the checkout, where they are."""
    if not SHARED_DATA.is_dir():
        pytest.skip("the folder shared/data with real radiographs is not beside this checkout")
    return SHARED_DATA


@pytest.fixture(scope="session")
def once(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Callable[[Path], Any]], Any]:
    """What is expensive to make is made by the first of pytest's processes that asks for it."""
    place = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        place = place.parent

    def made(name: str, make: Callable[[Path], Any]) -> Any:
        folder, known = place / name, place / f"{name}.pickle"
        with FileLock(place / f"{name}.lock"):
            if not known.exists():
                shutil.rmtree(folder, ignore_errors=True)  # of one that failed
                folder.mkdir()
                known.write_bytes(pickle.dumps(make(folder)))
            return pickle.loads(known.read_bytes())

    return made


@pytest.fixture(scope="session")
def tiny_sd(once: Callable[..., Path]) -> Path:
    """A Stable Diffusion folder with random weights."""
    return once("tiny-sd", save_tiny_sd)


@pytest.fixture(scope="session")
def tiny_lora(tiny_sd: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a LoRA of `tiny_sd`, with random weights."""
    return save_tiny_lora(tiny_sd, tmp_path_factory.mktemp("tiny-lora"))


@pytest.fixture
def table_of_images(tmp_path: Path) -> Path:
    """A CSV of 96 easy images, 24 of each class, one patient each."""
    write_cohort(tmp_path / "cohort")
    return tmp_path / "cohort" / "manifest.csv"


@pytest.fixture(scope="session")
def finished(once, tiny_sd):
    """Folder, overrides and result of a finished study; tests must not change it."""

    def make(folder):
        write_cohort(folder / "cohort")
        overrides = overrides_for(folder, tiny_sd)
        return folder, overrides, study.run(Workspace(compose(overrides), overrides))

    return once("study", make)


@pytest.fixture
def copied(finished, tmp_path, tiny_sd):
    """A finished study in a folder of its own, to be changed at will."""
    folder, _, _ = finished
    shutil.copytree(folder, tmp_path / "study")

    def composed(*more: str) -> tuple[Config, list[str]]:
        overrides = overrides_for(tmp_path / "study", tiny_sd, *more)
        return compose(overrides), overrides

    return composed
