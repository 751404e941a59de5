import numpy as np
import pytest

from xraysynth.errors import ConfigError, DataNotFoundError
from xraysynth.generation.generators._outcomes import outcome_from_image
from xraysynth.generation.generators.stable_diffusion import SCHEDULERS, StableDiffusion
from xraysynth.records import Request
from xraysynth.seeds import identity

REQUEST = Request("normal", 0, "chest x-ray", "", 7)


def pixels(tiny_sd, request=REQUEST, **options):
    generator = StableDiffusion(model=str(tiny_sd), **{"steps": 2} | options)
    (result,) = generator.generate([request])
    assert result.outcome == "image", result.reason
    return result.pixels


def test_seed_prompt_steps_and_guidance_matter(tiny_sd):
    base = pixels(tiny_sd)
    others = [
        pixels(tiny_sd, Request("normal", 0, "chest x-ray", "", 8)),
        pixels(tiny_sd, Request("normal", 0, "covid-19", "", 7)),
        pixels(tiny_sd, Request("normal", 0, "chest x-ray", "text", 7)),
        pixels(tiny_sd, steps=3),
        pixels(tiny_sd, guidance=7.0),
    ]
    assert all((other != base).any() for other in others)
    assert (pixels(tiny_sd) == base).all()


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_every_scheduler_draws(tiny_sd, scheduler):
    assert pixels(tiny_sd, scheduler=scheduler).shape == (32, 32)


def test_the_size_can_be_chosen(tiny_sd):
    assert pixels(tiny_sd, size_px=48).shape == (48, 48)


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        (np.zeros((8, 8, 1), np.float32), "black"),
        (np.full((8, 8, 3), np.nan, np.float32), "NaN"),
        (np.full((8, 8, 3), np.inf, np.float32), "NaN or infinity"),
    ],
)
def test_black_and_non_finite_images_are_failures(image, reason):
    result = outcome_from_image(REQUEST, image, seconds=1.0)
    assert result.outcome == "failed"
    assert reason in result.reason


def test_colour_becomes_luma():
    image = np.zeros((2, 2, 3), np.float32)
    image[..., 1] = 1
    assert outcome_from_image(REQUEST, image, seconds=0.0).pixels[0, 0] == round(0.587 * 255)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scheduler": "dppm"}, "scheduler must be one of"),
        ({"dtype": "int8"}, "dtype must be"),
        ({"steps": 0}, "steps must be at least 1"),
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"size_px": 500}, "size_px must be a multiple of 8"),
        ({"engine": "onnx"}, "engine must be one of torch, compile, openvino"),
        ({"memory": "some"}, "memory must be one of"),
    ],
)
def test_bad_options_are_refused_before_anything_is_loaded(options, message):
    with pytest.raises(ConfigError, match=message):
        StableDiffusion(**options)


def test_a_hub_model_must_be_pinned():
    with pytest.raises(ConfigError, match="revision must be the 40-digit commit"):
        identity(StableDiffusion(model="owner/model"))
    pinned = identity(StableDiffusion(model="owner/model", revision="a" * 40))
    assert pinned["content"] == "a" * 40


def test_a_hub_model_that_cannot_be_reached_names_what_was_tried():
    generator = StableDiffusion(
        model="owner/model", revision="a" * 40, mirrors=("mirror/model",), steps=1
    )
    with pytest.raises(DataNotFoundError, match=r"owner/model.*mirror/model"):
        list(generator.generate([REQUEST]))


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(DataNotFoundError, match="no folder"):
        identity(StableDiffusion(model=str(tmp_path / "nothing")))


def test_other_weights_are_another_identity(tiny_sd, tmp_path):
    from tiny_sd import save_tiny_sd

    other = save_tiny_sd(tmp_path / "other", seed=1)
    one = StableDiffusion(model=str(tiny_sd)).content_digest()
    assert one != StableDiffusion(model=str(other)).content_digest()
