"""What a diffusion model learns to predict from noisy latents, and how much an error counts."""

from dataclasses import dataclass
from typing import Any

import torch
from diffusers import DDPMScheduler
from torch import Tensor

from xraysynth.errors import ConfigError
from xraysynth.generation.lora.recipe import LoraRecipe
from xraysynth.records import JsonObject


@dataclass(frozen=True)
class NoiseSchedule:
    """How noise grows, `x_t = a_t x_0 + s_t n`, what is predicted, and the weight of a timestep.

    `signal` a, `noise` s and `weight` are `(T,)`.
    """

    signal: Tensor
    noise: Tensor
    weight: Tensor
    velocity: bool

    def noisy(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """Latents `(B, c, h, w)` as they are at timesteps `(B,)`."""
        a, s = _per_image(self.signal, timesteps), _per_image(self.noise, timesteps)
        return a * latents + s * noise

    def target(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """The noise, or the velocity `a n - s x_0` (Salimans & Ho, arXiv:2202.00512)."""
        if not self.velocity:
            return noise
        a, s = _per_image(self.signal, timesteps), _per_image(self.noise, timesteps)
        return a * noise - s * latents

    def losses(self, prediction: Tensor, target: Tensor, timesteps: Tensor) -> Tensor:
        """Weighted squared error of each image, `(B,)`."""
        errors = (prediction.float() - target).square().flatten(1).mean(1)
        return errors * self.weight[timesteps]

    def to(self, device: torch.device) -> "NoiseSchedule":
        """The same on another device."""
        signal, noise, weight = (t.to(device) for t in (self.signal, self.noise, self.weight))
        return NoiseSchedule(signal, noise, weight, self.velocity)


def _per_image(table: Tensor, timesteps: Tensor) -> Tensor:
    return table[timesteps].view(-1, 1, 1, 1)


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
    scheduler: Any = DDPMScheduler
    kept = scheduler.from_config(dict(config), rescale_betas_zero_snr=terminal)
    kept = kept.alphas_cumprod.float()
    velocity = kind == "v_prediction"
    weight = _weights(kept / (1 - kept), recipe.min_snr_gamma, velocity, terminal)
    return NoiseSchedule(kept.sqrt(), (1 - kept).sqrt(), weight, velocity)


def _weights(snr: Tensor, gamma: float, velocity: bool, terminal: bool) -> Tensor:
    if not gamma:
        return torch.ones_like(snr)
    if not velocity:
        return snr.clamp(max=gamma) / snr
    numerator = snr + 1 if terminal else snr
    return numerator.clamp(max=gamma) / (snr + 1)
