import os

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from tiny_sd import save_tiny_sd

from xraysynth.errors import XraysynthError
from xraysynth.generation.lora import tensor_files
from xraysynth.generation.lora.embeddings import encode_captions
from xraysynth.generation.lora.latents import (
    apply_affine,
    encode_images,
    prior_latents,
    random_affine_maps,
)
from xraysynth.generation.lora.recipe import LoraRecipe

torch.set_num_threads(1)
CPU = torch.device("cpu")
IMAGES = np.random.default_rng(0).integers(0, 255, (10, 32, 32)).astype(np.uint8)


@pytest.fixture
def pipeline(tiny_sd):
    found = StableDiffusionPipeline.from_pretrained(tiny_sd)
    found.set_progress_bar_config(disable=True)
    return found


@pytest.fixture
def encoded(pipeline, tmp_path):
    def encode(images=IMAGES, variants=1):
        return encode_images(pipeline, images, variants=variants, device=CPU, cache=tmp_path)

    return encode


def count_calls(monkeypatch, owner, name):
    calls = []
    real = getattr(owner, name)
    monkeypatch.setattr(owner, name, lambda *a, **k: calls.append(1) or real(*a, **k))
    return calls


def test_latents_are_the_scaled_posterior_of_the_autoencoder(encoded, pipeline):
    found = encoded()
    pixels = torch.from_numpy(IMAGES)[:, None].float() / 127.5 - 1
    with torch.no_grad():
        posterior = pipeline.vae.encode(pixels).latent_dist
    factor = pipeline.vae.config.scaling_factor
    torch.testing.assert_close(found.mean[:, 0], posterior.mean * factor)
    torch.testing.assert_close(found.std[:, 0], posterior.std * factor)


def test_latents_follow_the_mean_and_deviation_that_a_model_gives(encoded, pipeline):
    plain = encoded()
    pipeline.vae.register_to_config(latents_mean=[1.0, 0, 0, 0], latents_std=[2.0, 2, 2, 2])
    factor = pipeline.vae.config.scaling_factor
    expected = (plain.mean[:, :, 0] / factor - 1) * factor / 2
    torch.testing.assert_close(encoded().mean[:, :, 0], expected)


def test_grey_images_become_what_a_colour_model_takes(tmp_path):
    folder = save_tiny_sd(tmp_path / "colour", channels=3)
    pipeline = StableDiffusionPipeline.from_pretrained(folder)
    found = encode_images(pipeline, IMAGES, variants=1, device=CPU, cache=tmp_path)
    assert found.mean.shape == (10, 1, 4, 16, 16)


def test_the_second_time_no_encoder_runs(encoded, pipeline, tmp_path, monkeypatch):
    recipe = LoraRecipe(prior_images=3)

    def everything():
        prior = prior_latents(pipeline, recipe, side_px=32, device=CPU, cache=tmp_path)
        texts = encode_captions(pipeline, ["", "lung"], device=CPU, cache=tmp_path)
        return encoded().mean, texts.hidden_states, prior.mean

    first = everything()
    calls = count_calls(monkeypatch, pipeline.vae, "encode")
    calls += count_calls(monkeypatch, pipeline.text_encoder, "forward")
    for one, other in zip(first, everything(), strict=True):
        assert torch.equal(one, other)
    assert not calls


def test_a_cache_serves_only_what_it_was_made_from(encoded, pipeline, tmp_path):
    def files():
        return len(list(tmp_path.glob("latents-*.safetensors")))

    encoded()
    encoded(IMAGES[::-1])
    encoded(variants=2)
    assert files() == 3
    with torch.no_grad():
        pipeline.vae.encoder.conv_in.weight[0, 0, 0, 0] += 1e-6
    encoded()
    assert files() == 4


@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty"])
def test_a_damaged_cache_file_is_made_again(encoded, tmp_path, damage):
    mean = encoded().mean
    path = next(tmp_path.glob("latents-*"))
    whole = path.read_bytes()
    flipped = whole[:-5] + bytes([whole[-5] ^ 1]) + whole[-4:]
    path.write_bytes({"truncated": whole[:-5], "flipped": flipped, "empty": b""}[damage])
    assert torch.equal(encoded().mean, mean)
    assert path.read_bytes() == whole


def test_variants_move_a_little_and_the_first_not_at_all(encoded):
    one, three = encoded(), encoded(variants=3)
    assert three.mean.shape[1] == 3
    assert torch.equal(three.mean[:, 0], one.mean[:, 0])
    assert not torch.allclose(three.mean[:, 1], three.mean[:, 2])
    maps = random_affine_maps(1000, 1)
    scale = torch.linalg.det(maps[:, :, :2]).sqrt()
    angle = torch.rad2deg(torch.atan2(maps[:, 1, 0], maps[:, 0, 0]))
    assert 0.9 <= scale.min() < 0.91 < 1.09 < scale.max() <= 1.1
    assert 5.8 < angle.abs().max() <= 6
    assert 0.09 < maps[:, :, 2].abs().max() <= 0.1


def test_a_moved_image_is_filled_with_its_border():
    white = torch.ones(4, 1, 32, 32)
    torch.testing.assert_close(apply_affine(white, random_affine_maps(4, 1)), white)


def test_embeddings_are_those_of_the_pipeline(pipeline, tmp_path):
    found = encode_captions(pipeline, ["", "lung opacity"], device=CPU, cache=tmp_path)
    expected, _ = pipeline.encode_prompt("lung opacity", CPU, 1, False)
    torch.testing.assert_close(found[torch.tensor([1])].hidden_states, expected)
    assert found.pooled is None


def test_prior_latents_depend_on_the_model_and_the_prompt(pipeline, tmp_path):
    def prior(**options):
        recipe = LoraRecipe(prior_images=2, **options)
        return prior_latents(pipeline, recipe, side_px=32, device=CPU, cache=tmp_path).mean

    assert prior().shape == (2, 1, 4, 16, 16)
    assert not torch.equal(prior(), prior(prior_prompt="a cat"))
    before = prior()
    with torch.no_grad():
        pipeline.unet.conv_in.weight += 0.1
    assert not torch.equal(before, prior())


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "a.safetensors"
    tensor_files.write_tensors(path, {"x": torch.zeros(3)}, {"step": 1})

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="No space left"):
        tensor_files.write_tensors(path, {"x": torch.ones(3)}, {"step": 2})
    tensors, facts = tensor_files.read_tensors(path)
    assert facts == {"step": 1}
    assert tensors["x"].sum() == 0
    assert [p.name for p in tmp_path.iterdir()] == ["a.safetensors"]


def test_a_file_of_another_origin_is_not_taken(tmp_path):
    from safetensors.torch import save_file

    save_file({"x": torch.zeros(3)}, tmp_path / "a.safetensors")
    with pytest.raises(XraysynthError, match="differs from its digest"):
        tensor_files.read_tensors(tmp_path / "a.safetensors")
