"""What a diffusion model learns to predict from noisy latents, and how much an error counts."""

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
    """The scheduler by which noise grows with the timestep, and the weight of each, `(T,)`."""

    scheduler: Any
    timestep_weights: Tensor

    def add_noise(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """Latents `(B, c, h, w)` as they are at timesteps `(B,)`."""
        noisy: Tensor = self.scheduler.add_noise(latents, noise, timesteps)
        return noisy

    def target(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """What is predicted: the noise, or the velocity (Salimans & Ho, arXiv:2202.00512)."""
        if self.scheduler.config.prediction_type == "epsilon":
            return noise
        velocity: Tensor = self.scheduler.get_velocity(latents, noise, timesteps)
        return velocity

    def losses(self, prediction: Tensor, target: Tensor, timesteps: Tensor) -> Tensor:
        """Weighted squared error of each image, `(B,)`."""
        errors = (prediction.float() - target).square().flatten(1).mean(1)
        return errors * self.timestep_weights[timesteps]

    def to(self, device: torch.device) -> "NoiseSchedule":
        """The same on another device; the scheduler follows what it is given."""
        return replace(self, timestep_weights=self.timestep_weights.to(device))


def noise_schedule(config: JsonObject, recipe: LoraRecipe) -> NoiseSchedule:
    """The schedule of a pipeline's scheduler; zero terminal SNR where it or the recipe asks for it.

    Weights are those of min-SNR-γ: min(SNR, γ) / SNR for noise, min(SNR, γ) / (SNR + 1) for
    velocity. There the last would be 0 where the SNR is, so that nothing learned the very timestep
    which zero terminal SNR adds; min(SNR + 1, γ) / (SNR + 1) is taken then.
    """
    kind = config.get("prediction_type", "epsilon")
    if kind not in ("epsilon", "v_prediction"):
        raise ConfigError(
            f"the model predicts {kind!r}; LoRA training needs one that predicts epsilon "
            "or v_prediction"
        )
    terminal = recipe.zero_terminal_snr or bool(config.get("rescale_betas_zero_snr"))
    if terminal and kind == "epsilon":
        raise ConfigError(
            "lora.zero_terminal_snr needs a model that predicts velocity (v_prediction); this one "
            "predicts noise, which tells nothing about the image where there is no signal. "
            "Set lora.zero_terminal_snr=false"
        )
    ddpm: Any = DDPMScheduler
    scheduler = ddpm.from_config(dict(config), rescale_betas_zero_snr=terminal)
    weight = _min_snr_weights(scheduler, recipe.min_snr_gamma, terminal=terminal)
    return NoiseSchedule(scheduler, weight)


def _min_snr_weights(scheduler: Any, gamma: float, *, terminal: bool) -> Tensor:
    # Not by diffusers' compute_snr, which rounds otherwise: weights would differ in the last bits.
    snr: Tensor = scheduler.alphas_cumprod / (1 - scheduler.alphas_cumprod)
    if not gamma:
        return torch.ones_like(snr)
    if scheduler.config.prediction_type == "epsilon":
        return snr.clamp(max=gamma) / snr
    numerator = snr + 1 if terminal else snr
    return numerator.clamp(max=gamma) / (snr + 1)
