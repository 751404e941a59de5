"""Schedulers keep every option that they are given, or are refused."""

import diffusers
import pytest
import torch

from xraysynth.errors import ConfigError
from xraysynth.generation.generators.stable_diffusion import SCHEDULERS
from xraysynth.generation.schedulers import (
    ZERO_SNR_ALPHA,
    build_scheduler,
    has_zero_terminal_snr,
    rescale_to_zero_terminal_snr,
)

CONFIG = {
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "prediction_type": "v_prediction",
}
BASES = ("PNDMScheduler", "LMSDiscreteScheduler", "DDIMScheduler", "EulerDiscreteScheduler")


def built(kind, config, **options):
    kind = getattr(diffusers, kind)
    return build_scheduler(kind, config, option="scheduler=x", remedy="set it to ddim", **options)


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_every_sampler_starts_from_pure_noise_whatever_the_base_has(base, scheduler):
    own = rescale_to_zero_terminal_snr(getattr(diffusers, base).from_config(CONFIG))
    assert has_zero_terminal_snr(own)
    kind, options = SCHEDULERS[scheduler]
    sampler = built(kind, own.config, **options)
    assert float(sampler.alphas_cumprod[-1]) <= ZERO_SNR_ALPHA
    sampler.set_timesteps(4)
    assert float(sampler.timesteps[0]) == 999
    assert sampler.config.prediction_type == "v_prediction"


def test_a_sampler_without_the_option_is_replaced_by_ddim_which_clips_no_latents():
    own = rescale_to_zero_terminal_snr(diffusers.PNDMScheduler.from_config(CONFIG))
    assert type(own) is diffusers.DDIMScheduler
    assert not own.config.clip_sample
    own.set_timesteps(4)
    latents = 3 * torch.ones(1, 4, 2, 2)
    moved = own.step(torch.zeros_like(latents) - 3, 999, latents).pred_original_sample
    assert float(moved.max()) == pytest.approx(3, rel=1e-3)


@pytest.mark.parametrize(
    ("kind", "config", "options", "named"),
    [
        ("PNDMScheduler", CONFIG, {"rescale_betas_zero_snr": True}, "rescale_betas_zero_snr=True"),
        ("LMSDiscreteScheduler", CONFIG | {"rescale_betas_zero_snr": True}, {}, "zero_snr=True"),
        ("DPMSolverSinglestepScheduler", CONFIG | {"timestep_spacing": "trailing"}, {}, "trailing"),
        ("RePaintScheduler", CONFIG, {}, "prediction_type=v_prediction"),
        ("DDIMScheduler", CONFIG, {"algorithm_type": "dpmsolver++"}, "algorithm_type=dpmsolver"),
    ],
)
def test_an_option_that_would_not_arrive_is_refused(kind, config, options, named):
    with pytest.raises(ConfigError, match=rf"scheduler=x: {kind} does not know .*{named}.*ddim"):
        built(kind, config, **options)


def test_an_option_that_arrives_without_effect_is_refused(monkeypatch):
    trained = {**CONFIG, "rescale_betas_zero_snr": True}

    class Deaf(diffusers.DDIMScheduler):
        def __init__(self, rescale_betas_zero_snr=False, **options):
            super().__init__(**options)

    monkeypatch.setattr("xraysynth.generation.schedulers.accepts_options", lambda *_: True)
    with pytest.raises(ConfigError, match="Deaf keeps a signal of"):
        build_scheduler(Deaf, trained, option="scheduler=x", remedy="set it to ddim")
