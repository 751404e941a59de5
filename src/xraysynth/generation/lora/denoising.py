"""Defines what a diffusion model is trained to predict from noisy latents, and how errors are weighted."""

from dataclasses import dataclass, replace
from typing import Any

import torch
from diffusers import DDPMScheduler
from torch import Tensor

from xraysynth.errors import ConfigError
from xraysynth.generation.lora.recipe import LoraRecipe
from xraysynth.records import JsonObject


@dataclass(frozen=True)
class NoiseSchedule:
    """Noise levels of training over T timesteps, with the weight of each timestep in the loss.

    Attributes:
        scheduler: `DDPMScheduler` of diffusers, which adds the noise.
        timestep_weights: Weights `(T,)` of the squared errors, at least 0.
    """

    scheduler: Any
    timestep_weights: Tensor

    def add_noise(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """Add noise to latents by the schedule.

        Args:
            latents: Latents without noise, `(B, c, h, w)`.
            noise: Standard normal noise, `(B, c, h, w)`.
            timesteps: Timestep of each image, `(B,)` int64 in [0, T).

        Returns:
            Noisy latents `(B, c, h, w)`.
        """
        noisy: Tensor = self.scheduler.add_noise(latents, noise, timesteps)
        return noisy

    def target(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """Return what the model has to predict, `(B, c, h, w)`.

        That is the noise, or for `v_prediction` the velocity (Salimans & Ho, arXiv:2202.00512,
        appendix D). Arguments are as in `add_noise`.
        """
        if self.scheduler.config.prediction_type == "epsilon":
            return noise
        velocity: Tensor = self.scheduler.get_velocity(latents, noise, timesteps)
        return velocity

    def losses(self, prediction: Tensor, target: Tensor, timesteps: Tensor) -> Tensor:
        """Return the weighted mean squared error of each image, `(B,)` float32.

        Args:
            prediction: Output of the UNet, `(B, c, h, w)`, in any number format.
            target: Value of `target`, `(B, c, h, w)`.
            timesteps: Timestep of each image, `(B,)` int64.
        """
        errors = (prediction.float() - target).square().flatten(1).mean(1)
        return errors * self.timestep_weights[timesteps]

    def to(self, device: torch.device) -> "NoiseSchedule":
        """Return the schedule with its weights on a device; diffusers moves its scheduler by itself."""
        return replace(self, timestep_weights=self.timestep_weights.to(device))


def noise_schedule(config: JsonObject, recipe: LoraRecipe) -> NoiseSchedule:
    """Build the noise schedule of a training.

    The loss is weighted by min-SNR-γ (Hang et al., arXiv:2303.09556), where SNR is the ratio
    of signal to noise at a timestep:

    - min(SNR, γ) / SNR for models that predict noise,
    - min(SNR, γ) / (SNR + 1) for models that predict velocity,
    - min(SNR + 1, γ) / (SNR + 1) with zero terminal SNR. The weight of the last timestep would
      otherwise be 0, and the very timestep that zero terminal SNR adds would not be trained.

    Args:
        config: Config of the scheduler that the model was published with.
        recipe: Its `zero_terminal_snr` and `min_snr_gamma` are used; γ = 0 means equal weights.

    Returns:
        The schedule, on the CPU; with zero terminal SNR if the recipe or `config` sets it.

    Raises:
        ConfigError: If the model predicts neither noise nor velocity, or predicts noise although zero
            terminal SNR is set.
    """
    prediction_type = config.get("prediction_type", "epsilon")
    if prediction_type not in ("epsilon", "v_prediction"):
        raise ConfigError(
            f"the model predicts {prediction_type!r}; LoRA training needs a model that predicts epsilon "
            "or v_prediction"
        )
    zero_terminal_snr = recipe.zero_terminal_snr or bool(config.get("rescale_betas_zero_snr"))
    if zero_terminal_snr and prediction_type == "epsilon":
        raise ConfigError(
            "lora.zero_terminal_snr needs a model that predicts velocity (v_prediction); this model "
            "predicts noise, which says nothing about the image where there is no signal. "
            "Set lora.zero_terminal_snr=false"
        )
    ddpm: Any = DDPMScheduler
    scheduler = ddpm.from_config(dict(config), rescale_betas_zero_snr=zero_terminal_snr)
    weights = _min_snr_weights(scheduler, recipe.min_snr_gamma, zero_terminal_snr=zero_terminal_snr)
    return NoiseSchedule(scheduler, weights)


def _min_snr_weights(scheduler: Any, gamma: float, *, zero_terminal_snr: bool) -> Tensor:
    # Diffusers' compute_snr rounds in another way: weights would differ in the last bits.
    snr: Tensor = scheduler.alphas_cumprod / (1 - scheduler.alphas_cumprod)
    if not gamma:
        return torch.ones_like(snr)
    if scheduler.config.prediction_type == "epsilon":
        return snr.clamp(max=gamma) / snr
    numerator = snr + 1 if zero_terminal_snr else snr
    return numerator.clamp(max=gamma) / (snr + 1)
