"""Every encoder with random weights, made once."""

import numpy as np
import pytest
from tiny_encoders import arguments

from xraysynth.evaluation import encoders


@pytest.fixture(scope="session")
def images() -> np.ndarray:
    """Five small images, `(N, H, W)` uint8."""
    return np.random.default_rng(0).integers(0, 256, (5, 40, 40), np.uint8)


@pytest.fixture(scope="session")
def given(tmp_path_factory):
    """Encoder name -> the arguments of `build` that give it weights."""
    made = {}

    def of(name: str) -> dict:
        if name not in made:
            made[name] = arguments(name, tmp_path_factory.mktemp(name))
        return made[name]

    return of


@pytest.fixture(scope="session")
def built(given):
    """Encoder name -> the encoder, its network read once."""
    made = {}

    def of(name: str):
        if name not in made:
            made[name] = encoders.build(name, **given(name))
        return made[name]

    return of


@pytest.fixture(autouse=True)
def empty_machine(monkeypatch, tmp_path):
    """No weights lie in any of the usual places, and the network is out of reach."""
    from huggingface_hub import constants

    monkeypatch.delenv("XRAYSYNTH_WEIGHTS", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
