"""Builds the noise schedulers of diffusion pipelines so that no option of theirs gets lost.

The `from_config` of diffusers silently ignores options that a scheduler class does not know. A model
that predicts velocity could then be sampled as if it predicted noise.
"""

import inspect
from typing import Any

from xraysynth.errors import ConfigError
from xraysynth.records import JsonObject

ZERO_SNR_ALPHA = 2.0**-24
"""Largest last value of `alphas_cumprod` that counts as zero terminal SNR.

Some schedulers put this number in the place of 0, since they divide by it.
"""

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
"""Options of a published scheduler that describe how the model was trained.

A sampler must take over every one of them that is set.
"""

ZERO_TERMINAL_SNR = {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
"""Options with which sampling starts from pure noise (Lin et al., arXiv:2305.08891)."""


def accepts_options(scheduler_class: type, *options: str) -> bool:
    """Return whether the constructor of a scheduler class has all of these parameters."""
    parameters = inspect.signature(scheduler_class.__init__).parameters  # type: ignore[misc]
    return parameters.keys() >= set(options)


def build_scheduler(
    scheduler_class: Any, config: JsonObject, *, option: str, remedy: str, **options: Any
) -> Any:
    """Build a scheduler from another one's config, and check that every setting took effect.

    Args:
        scheduler_class: Scheduler class of diffusers to build.
        config: Config of the scheduler that the model was published with.
        option: Setting of the user that an error names, such as `generator.x.scheduler=ddim`.
        remedy: What the error tells the user to do.
        **options: Settings that replace those of `config`.

    Returns:
        An instance of `scheduler_class`.

    Raises:
        ConfigError: If the class would ignore one of `options` or a setting in `TRAINING_OPTIONS`, or
            if signal remains at its last timestep although zero terminal SNR is required.
    """
    required: dict[str, object] = {}
    for name in TRAINING_OPTIONS:
        if config.get(name):
            required[name] = config[name]
    required.update(options)
    _require_accepted(scheduler_class, required, option=option, remedy=remedy)
    scheduler = scheduler_class.from_config(config, **options)
    if required.get("rescale_betas_zero_snr") and not has_zero_terminal_snr(scheduler):
        signal = float(scheduler.alphas_cumprod[-1])
        raise ConfigError(
            f"{option}: {scheduler_class.__name__} keeps a signal of {signal:.2g} at its last timestep, "
            f"but this model was trained without signal there; {remedy}"
        )
    return scheduler


def _require_accepted(
    scheduler_class: type, required: JsonObject, *, option: str, remedy: str
) -> None:
    ignored = []
    for name, value in required.items():
        if not accepts_options(scheduler_class, name):
            ignored.append(f"{name}={value}")
    if ignored:
        raise ConfigError(
            f"{option}: {scheduler_class.__name__} does not know {', '.join(ignored)}, which this "
            f"model needs; {remedy}"
        )


def has_zero_terminal_snr(scheduler: Any) -> bool:
    """Return whether no signal is left at the scheduler's last timestep."""
    return float(scheduler.alphas_cumprod[-1]) <= ZERO_SNR_ALPHA


def rescale_to_zero_terminal_snr(scheduler: Any) -> Any:
    """Build the scheduler for a model trained with zero terminal SNR: sampling starts from pure noise.

    Args:
        scheduler: Scheduler that the base model was published with.

    Returns:
        A scheduler of the same class if that class supports zero terminal SNR, else a
        `DDIMScheduler`, whose first step is exact without any signal.

    Raises:
        ConfigError: If the new scheduler would ignore a setting that the model was trained with.
    """
    from diffusers import DDIMScheduler

    scheduler_class = type(scheduler)
    options = dict(ZERO_TERMINAL_SNR)
    if not accepts_options(scheduler_class, *ZERO_TERMINAL_SNR):
        scheduler_class = DDIMScheduler
        # Latents leave [-1, 1], and DDIM clips its predictions to that range by default.
        options["clip_sample"] = bool(scheduler.config.get("clip_sample", False))
    return build_scheduler(
        scheduler_class,
        scheduler.config,
        option="lora.zero_terminal_snr",
        remedy="set lora.zero_terminal_snr=false",
        **options,
    )
