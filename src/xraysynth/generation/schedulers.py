"""Noise schedulers of diffusion pipelines, built so that none of their options is lost on the way.

Diffusers' `from_config` passes over options that a scheduler does not know, and says nothing.
"""

import inspect
from typing import Any

from xraysynth.errors import ConfigError
from xraysynth.records import JsonObject

ZERO_SNR_ALPHA = 2.0**-24
"""The last value of `alphas_cumprod` with zero terminal SNR: some schedulers put this for 0, since
they divide by it."""

TRAINING_OPTIONS = (
    "num_train_timesteps",
    "beta_start",
    "beta_end",
    "beta_schedule",
    "trained_betas",
    "prediction_type",
    "rescale_betas_zero_snr",
    "timestep_spacing",
)
"""Options of a published scheduler that describe how the model was trained: a sampler must take
over every one of them that is set."""

ZERO_TERMINAL_SNR = {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
"""Options with which sampling starts from pure noise (Lin et al., arXiv:2305.08891)."""


def accepts_options(scheduler_class: type, *options: str) -> bool:
    """Whether a scheduler class knows all of these options."""
    known = inspect.signature(scheduler_class.__init__).parameters  # type: ignore[misc]
    return all(option in known for option in options)


def build_scheduler(
    scheduler_class: Any, config: JsonObject, *, option: str, remedy: str, **options: Any
) -> Any:
    """A scheduler of class `kind` from another's `config`, with `options` set on top.

    Raises `ConfigError`, which names the setting `option` and says `remedy`, where `kind` would
    drop an option or a decisive entry of the config, or keeps signal at the last timestep although
    it was asked for zero terminal SNR.
    """
    decisive = {name: config[name] for name in TRAINING_OPTIONS if config.get(name)}
    asked = decisive | options
    lost = [name for name in asked if not accepts_options(scheduler_class, name)]
    if lost:
        settings = ", ".join(f"{name}={asked[name]}" for name in lost)
        raise ConfigError(
            f"{option}: {scheduler_class.__name__} does not know {settings}, which this model needs; {remedy}"
        )
    scheduler = scheduler_class.from_config(config, **options)
    if asked.get("rescale_betas_zero_snr") and not has_zero_terminal_snr(scheduler):
        signal = float(scheduler.alphas_cumprod[-1])
        raise ConfigError(
            f"{option}: {scheduler_class.__name__} keeps a signal of {signal:.2g} at its last "
            "timestep, and this "
            f"model was trained for none there; {remedy}"
        )
    return scheduler


def has_zero_terminal_snr(scheduler: Any) -> bool:
    """Whether no signal is left at the last timestep."""
    return float(scheduler.alphas_cumprod[-1]) <= ZERO_SNR_ALPHA


def rescale_to_zero_terminal_snr(scheduler: Any) -> Any:
    """The scheduler for a model trained with zero terminal SNR: sampling starts from pure noise.

    Of the same class where that can, else DDIM: its first step is exact without any signal.
    """
    from diffusers import DDIMScheduler

    kind, options = type(scheduler), dict(ZERO_TERMINAL_SNR)
    if not accepts_options(kind, *ZERO_TERMINAL_SNR):
        # Latents leave [-1, 1], where DDIM would cut them off unless it is told not to.
        options["clip_sample"] = bool(scheduler.config.get("clip_sample", False))
        kind = DDIMScheduler
    remedy = "set lora.zero_terminal_snr=false"
    return build_scheduler(
        kind, scheduler.config, option="lora.zero_terminal_snr", remedy=remedy, **options
    )
