"""The settings of a fine-tuning: plain values, importable without torch."""

from dataclasses import dataclass, field
from enum import Enum
from typing import Annotated

from xraysynth.options import (
    NOT_EMPTY,
    Count,
    Fraction,
    NonNegative,
    Positive,
    at_least,
    between,
    one_of,
    require_valid,
)


class LoraOptimizer(Enum):
    """AdamW with states of 32 bits, or of 8 (needs bitsandbytes and a GPU)."""

    adamw = "adamw"
    adamw8bit = "adamw8bit"


@dataclass(frozen=True)
class LoraRecipe:
    """Low-rank adaptation of Stable Diffusion (Hu et al., arXiv:2106.09685) on real images.

    What is adapted: the UNet's modules whose names end in one of `targets` (attention by default;
    convolutions and feed-forward layers can be added), at `rank`, scaled by `alpha` / `rank`, with
    `dropout`; with `text_encoder` also the attention of the text encoder. `per_class` trains one
    LoRA a class instead of one for all by prompt. `captions` is `prompts` for the prompt bank, or a
    column of the manifest; `captions_per_image` are drawn from the bank for every image.

    How: AdamW (or its 8-bit form from bitsandbytes, Dettmers et al., arXiv:2110.02861), linear
    warmup, cosine to zero; `batch_size` images a step over all processes; the gradient's norm is
    clipped to `gradient_clip` (0: never); the mean of the weights with `ema_decay` is kept in place
    of the last (0: the last). `caption_dropout` is the share of empty captions, which guidance
    needs (Ho & Salimans, arXiv:2207.12598).

    The loss: `min_snr_gamma` weighs timesteps (Hang et al., arXiv:2303.09556; 0: equally);
    `noise_offset` shifts the noise's mean (Guttenberg, 2023); `zero_terminal_snr` rescales the noise
    schedule (Lin et al., arXiv:2305.08891) and needs a model that predicts velocity;
    `prior_images` > 0 adds as many images of the untuned model for `prior_prompt`, weighted by
    `prior_weight`, so that it does not forget (Ruiz et al., arXiv:2208.12242).

    `variants` > 1 keeps that many versions of every image, turned, scaled and shifted a little.
    Every `val_every_steps` steps the loss is measured on the real validation split with fixed noise
    and timesteps; after `patience` such losses without improvement training stops (0: never), and
    `samples_per_class` images are made for the tracker. `compile` has torch.compile work on the
    UNet for a minute before the first step, which pays in long trainings.
    """

    targets: Annotated[list[str], NOT_EMPTY] = field(
        default_factory=lambda: ["to_q", "to_k", "to_v", "to_out.0"]
    )
    rank: Count = 16
    alpha: Positive = 16.0
    dropout: Annotated[float, between(0, 0.99)] = 0.0
    text_encoder: bool = False
    per_class: bool = False
    captions: str = "prompts"
    captions_per_image: Count = 8
    steps: Count = 1000
    batch_size: Count = 8
    learning_rate: Positive = 1e-4
    warmup_fraction: Fraction = 0.05
    weight_decay: NonNegative = 0.01
    gradient_clip: NonNegative = 1.0
    optimizer: LoraOptimizer = LoraOptimizer.adamw
    ema_decay: Annotated[float, between(0, 0.99999)] = 0.0
    caption_dropout: Fraction = 0.1
    min_snr_gamma: NonNegative = 5.0
    noise_offset: NonNegative = 0.0
    zero_terminal_snr: bool = False
    prior_images: Annotated[int, at_least(0)] = 0
    prior_weight: NonNegative = 1.0
    prior_prompt: str = "chest x-ray"
    variants: Count = 1
    val_every_steps: Count = 100
    patience: Annotated[int, at_least(0)] = 0
    samples_per_class: Annotated[int, at_least(0)] = 1
    checkpoint_every_steps: Count = 100
    precision: Annotated[str, one_of(("auto", "no", "bf16", "fp16"))] = "auto"
    compile: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        require_valid(self, "lora")
