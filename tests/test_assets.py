"""The embedded Stable Diffusion is whole, small, free of pickles, and draws."""

from pathlib import Path

import numpy as np
import pytest
import torch

import xraysynth

FOLDER = Path(xraysynth.__file__).parent / "assets" / "tiny-sd"
PARTS = {"model_index.json", "scheduler", "text_encoder", "tokenizer", "unet", "vae", "README.md"}


def files():
    return [path for path in FOLDER.rglob("*") if path.is_file()]


def test_the_folder_is_whole_and_at_most_12_megabytes():
    assert {path.name for path in FOLDER.iterdir()} == PARTS
    assert sum(path.stat().st_size for path in files()) <= 12e6


def test_weights_are_safetensors_only():
    assert {path.suffix for path in files()} == {".json", ".md", ".safetensors"}
    assert sum(path.suffix == ".safetensors" for path in files()) == 3


@pytest.fixture(scope="module")
def images():
    """Grey images `(4, 64, 64)` in 0..1: one prompt with two seeds, then two other prompts."""
    from diffusers import StableDiffusionPipeline

    torch.set_num_threads(1)
    pipeline = StableDiffusionPipeline.from_pretrained(FOLDER)
    pipeline.set_progress_bar_config(disable=True)
    findings = ["lungs clear", "lungs clear", "pneumonia", "tuberculosis with a cavity"]
    prompts = [f"PA chest radiograph of a 45 year old woman, {finding}" for finding in findings]
    seeds = [torch.Generator().manual_seed(seed) for seed in (0, 1, 2, 3)]
    output = pipeline(prompts, generator=seeds, num_inference_steps=12, guidance_scale=2.0)
    return np.stack([np.asarray(image) for image in output.images]).astype(float) / 255


def test_images_are_grey_pictures(images):
    assert images.shape == (4, 64, 64)
    assert np.isfinite(images).all()
    assert (images.std(axis=(1, 2)) > 0.1).all()


def test_seeds_differ(images):
    assert np.abs(images[0] - images[1]).mean() > 0.01


def test_images_are_chests(images):
    """Dark lungs on both sides of a bright spine, above a bright belly."""
    spine = images[:, 20:40, 29:36].mean((1, 2))
    right, left = images[:, 18:32, 14:22].mean((1, 2)), images[:, 14:24, 42:50].mean((1, 2))
    belly = images[:, 54:, 16:48].mean((1, 2))
    assert (spine > right + 0.15).all()
    assert (spine > left + 0.15).all()
    assert (belly > right + 0.15).all()
