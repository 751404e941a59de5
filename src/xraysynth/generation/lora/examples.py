"""Images with captions as a diffusion model trains on them, and what each step draws from them."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from xraysynth.generation.lora.latents import (
    Embeddings,
    Latents,
    encode_captions,
    encode_images,
    images_digest,
    prior_latents,
)
from xraysynth.generation.lora.recipe import LoraRecipe
from xraysynth.records import CaptionedImages
from xraysynth.seeds import derive_seed, digest

MIN_VALIDATION_DRAWS, MAX_VALIDATION_DRAWS = 64, 256
"""Bounds on the (image, timestep) pairs of a validation loss."""


@dataclass(frozen=True)
class TrainingBatch:
    """What one step trains on: noise-free latents, noise, timesteps and the numbers of captions."""

    latents: Tensor
    noise: Tensor
    timesteps: Tensor
    caption_ids: Tensor

    def __getitem__(self, index: Any) -> "TrainingBatch":
        return TrainingBatch(*(getattr(self, f.name)[index] for f in fields(self)))

    def __len__(self) -> int:
        return len(self.caption_ids)

    def to(self, device: torch.device) -> "TrainingBatch":
        """The same on another device."""
        return TrainingBatch(*(getattr(self, f.name).to(device) for f in fields(self)))

    def __add__(self, other: "TrainingBatch") -> "TrainingBatch":
        pairs = ((getattr(self, f.name), getattr(other, f.name)) for f in fields(self))
        return TrainingBatch(*(torch.cat(pair) for pair in pairs))


@dataclass(frozen=True)
class Examples:
    """Latents and, for every image, the numbers of its captions; `empty` is that of no caption."""

    latents: Latents
    caption_ids: Sequence[Sequence[int]]
    empty_caption_id: int
    num_train_timesteps: int

    def __len__(self) -> int:
        return len(self.caption_ids)

    def draw(self, step: int, recipe: LoraRecipe) -> TrainingBatch:
        """The batch of a step over all processes; it depends on the seed and the step alone.

        Every image is drawn once before any is drawn again.
        """
        size = recipe.batch_size
        generator = torch.Generator().manual_seed(derive_seed(recipe.seed, "step", step))
        index = _epoch_indices(recipe.seed, step * size, size, len(self))
        variant = torch.randint(self.latents.mean.shape[1], (size,), generator=generator)
        which, dropped = torch.rand((2, size), generator=generator)
        captions = self._draw_caption_ids(index, which)
        captions[dropped < recipe.caption_dropout] = self.empty_caption_id
        return TrainingBatch(
            self._sample_latents(index, variant, generator),
            self._draw_noise(size, generator, recipe.noise_offset),
            torch.randint(self.num_train_timesteps, (size,), generator=generator),
            captions,
        )

    def draw_prior(self, step: int, recipe: LoraRecipe) -> TrainingBatch:
        """As many images of the untuned model; here the mean holds them, and nothing is dropped."""
        size = recipe.batch_size
        generator = torch.Generator().manual_seed(derive_seed(recipe.seed, "prior step", step))
        index = torch.randint(len(self), (size,), generator=generator)
        return TrainingBatch(
            self.latents.mean[index, 0],
            self._draw_noise(size, generator, recipe.noise_offset),
            torch.randint(self.num_train_timesteps, (size,), generator=generator),
            self._draw_caption_ids(index, torch.zeros(size)),
        )

    def draw_validation(self) -> TrainingBatch:
        """The same draws for every recipe: each stratum of timesteps once, over all images."""
        count = min(max(len(self), MIN_VALIDATION_DRAWS), MAX_VALIDATION_DRAWS)
        generator = torch.Generator().manual_seed(derive_seed(0, "validation"))
        index = torch.arange(count) * max(1, len(self) / count)
        strata = torch.randperm(count, generator=generator)
        return TrainingBatch(
            self._sample_latents(index.long() % len(self), torch.zeros(count).long(), generator),
            self._draw_noise(count, generator, 0.0),
            ((strata + 0.5) * self.num_train_timesteps / count).long(),
            self._draw_caption_ids(
                index.long() % len(self), torch.rand(count, generator=generator)
            ),
        )

    def _draw_caption_ids(self, index: Tensor, uniform: Tensor) -> Tensor:
        lists = (self.caption_ids[int(i)] for i in index)
        return torch.tensor([c[int(w * len(c))] for c, w in zip(lists, uniform, strict=True)])

    def _sample_latents(self, index: Tensor, variant: Tensor, generator: torch.Generator) -> Tensor:
        mean, std = self.latents.mean[index, variant], self.latents.std[index, variant]
        return mean + std * torch.randn(mean.shape, generator=generator)

    def _draw_noise(self, size: int, generator: torch.Generator, offset: float) -> Tensor:
        shape = (size, *self.latents.mean.shape[2:])
        shift = torch.randn((*shape[:2], 1, 1), generator=generator)
        return torch.randn(shape, generator=generator) + offset * shift


def _epoch_indices(seed: int, start: int, size: int, n: int) -> Tensor:
    """Image numbers at positions `start` to `start + size` of permutations of n, end to end."""
    positions = range(start, start + size)
    return torch.stack([_permutation(seed, p // n, n)[p % n] for p in positions])


@functools.lru_cache(maxsize=4)
def _permutation(seed: int, epoch: int, n: int) -> Tensor:
    generator = torch.Generator().manual_seed(derive_seed(seed, "epoch", epoch))
    return torch.randperm(n, generator=generator)


@dataclass(frozen=True)
class TrainingData:
    """All that is trained on.

    Captions are numbers of `prompts`; `embeddings` is None where the text encoder is trained too.
    """

    training: Examples
    validation: Examples | None
    prior: Examples | None
    prompts: list[str]
    embeddings: Embeddings | None

    @property
    def latent_size(self) -> tuple[int, int]:
        """Height and width of the latents."""
        height, width = self.training.latents.mean.shape[-2:]
        return height, width


def prepare_training_data(
    pipeline: Any,
    training: CaptionedImages,
    validation: CaptionedImages | None,
    recipe: LoraRecipe,
    *,
    device: torch.device,
    cache: Path,
) -> TrainingData:
    """Encode images and captions, and draw what the recipe wants of the untuned model."""
    prompts = _distinct_prompts([training, validation], recipe)
    number = {text: index for index, text in enumerate(prompts)}
    timesteps = pipeline.scheduler.config.num_train_timesteps

    def build_examples(latents: Latents, captions: Sequence[Sequence[str]]) -> Examples:
        numbers = [[number[text] for text in texts] for texts in captions]
        return Examples(latents, numbers, number[""], timesteps)

    def encode_examples(part: CaptionedImages, variants: int) -> Examples:
        latents = encode_images(
            pipeline, part.images, variants=variants, device=device, cache=cache
        )
        return build_examples(latents, part.captions)

    prior = None
    if recipe.prior_images:
        side_px = training.images.shape[1]
        drawn = prior_latents(pipeline, recipe, side_px=side_px, device=device, cache=cache)
        prior = build_examples(drawn, [[recipe.prior_prompt]] * recipe.prior_images)
    embeddings = None
    if not recipe.text_encoder:
        embeddings = encode_captions(pipeline, prompts, device=device, cache=cache)
    return TrainingData(
        training=encode_examples(training, recipe.variants),
        validation=encode_examples(validation, 1) if validation else None,
        prior=prior,
        prompts=prompts,
        embeddings=embeddings,
    )


def _distinct_prompts(parts: Sequence[CaptionedImages | None], recipe: LoraRecipe) -> list[str]:
    texts = {text for part in parts if part for captions in part.captions for text in captions}
    return sorted(texts | {""} | ({recipe.prior_prompt} if recipe.prior_images else set()))


def training_data_digest(training: CaptionedImages, validation: CaptionedImages | None) -> str:
    """SHA-256 (hex) over images and captions."""
    parts = [part for part in (training, validation) if part]
    return digest([[images_digest(p.images), [list(c) for c in p.captions]] for p in parts])
