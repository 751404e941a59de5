import pytest
import torch
from diffusers import DDPMScheduler
from diffusers.training_utils import compute_snr

from xraysynth.errors import ConfigError
from xraysynth.generation.lora.denoising import noise_schedule
from xraysynth.generation.lora.recipe import LoraRecipe

CONFIG = {
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "num_train_timesteps": 1000,
}
VELOCITY = CONFIG | {"prediction_type": "v_prediction"}
STEPS = torch.tensor([0, 10, 500, 999])


@pytest.fixture
def pairs():
    generator = torch.Generator().manual_seed(0)
    return torch.randn((2, 4, 4, 8, 8), generator=generator)


@pytest.mark.parametrize("config", [CONFIG, VELOCITY])
def test_noise_and_target_are_those_of_diffusers(config, pairs):
    latents, noise = pairs
    schedule, theirs = noise_schedule(config, LoraRecipe()), DDPMScheduler.from_config(config)
    torch.testing.assert_close(
        schedule.add_noise(latents, noise, STEPS), theirs.add_noise(latents, noise, STEPS)
    )
    expected = theirs.get_velocity(latents, noise, STEPS) if config is VELOCITY else noise
    torch.testing.assert_close(schedule.target(latents, noise, STEPS), expected)


@pytest.mark.parametrize(("config", "plus"), [(CONFIG, 0), (VELOCITY, 1)])
def test_timesteps_weigh_as_in_min_snr(config, plus):
    snr = compute_snr(DDPMScheduler.from_config(config), torch.arange(1000))
    found = noise_schedule(config, LoraRecipe(min_snr_gamma=5)).timestep_weights
    torch.testing.assert_close(found, snr.clamp(max=5) / (snr + plus), rtol=1e-4, atol=1e-6)
    equal = noise_schedule(config, LoraRecipe(min_snr_gamma=0)).timestep_weights
    assert equal.unique().tolist() == [1.0]


def test_losses_are_weighted_squared_errors_of_each_image(pairs):
    schedule = noise_schedule(CONFIG, LoraRecipe())
    expected = ((pairs[0] - pairs[1]) ** 2).mean((1, 2, 3)) * schedule.timestep_weights[STEPS]
    torch.testing.assert_close(schedule.losses(pairs[0], pairs[1], STEPS), expected)


def signal(schedule):
    """How much of an image is left at the last timestep."""
    one = torch.ones((1, 1, 1, 1))
    return float(schedule.add_noise(one, torch.zeros_like(one), torch.tensor([999])))


def test_zero_terminal_snr_leaves_no_signal_at_the_last_step_and_still_learns_it():
    assert signal(noise_schedule(VELOCITY, LoraRecipe())) > 0.05
    for config, asked in ((VELOCITY, True), (VELOCITY | {"rescale_betas_zero_snr": True}, False)):
        schedule = noise_schedule(config, LoraRecipe(zero_terminal_snr=asked))
        assert signal(schedule) < 1e-3
        assert schedule.timestep_weights[-1] == pytest.approx(1, abs=1e-3)


def test_zero_terminal_snr_needs_velocity():
    with pytest.raises(ConfigError, match=r"zero_terminal_snr.*v_prediction"):
        noise_schedule(CONFIG, LoraRecipe(zero_terminal_snr=True))


def test_a_model_that_predicts_something_else_is_refused():
    with pytest.raises(ConfigError, match="predicts 'sample'"):
        noise_schedule(CONFIG | {"prediction_type": "sample"}, LoraRecipe())
