"""Prepares images with captions for the training of a diffusion model, and draws the batch of each step."""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from xraysynth.generation.lora.embeddings import Embeddings, encode_captions
from xraysynth.generation.lora.latents import Latents, encode_images, prior_latents
from xraysynth.generation.lora.recipe import LoraRecipe
from xraysynth.generation.lora.tensor_files import images_digest
from xraysynth.records import CaptionedImages
from xraysynth.seeds import derive_seed, digest

MIN_VALIDATION_DRAWS, MAX_VALIDATION_DRAWS = 64, 256
"""Bounds on the number of (image, timestep) pairs of a validation loss."""


@dataclass(frozen=True)
class TrainingBatch:
    """Inputs of one training step for B images.

    Attributes:
        latents: Latents without noise, `(B, c, h, w)` float32.
        noise: Noise that is added to them, `(B, c, h, w)` float32.
        timesteps: Timestep of each image, `(B,)` int64.
        caption_ids: Position of each image's caption in `TrainingData.prompts`, `(B,)` int64.
    """

    latents: Tensor
    noise: Tensor
    timesteps: Tensor
    caption_ids: Tensor

    def __getitem__(self, index: Any) -> "TrainingBatch":
        return self._map_tensors(lambda tensor: tensor[index])

    def __len__(self) -> int:
        return len(self.caption_ids)

    def to(self, device: torch.device) -> "TrainingBatch":
        """Return a copy of the batch on a device."""
        return self._map_tensors(lambda tensor: tensor.to(device))

    def _map_tensors(self, function: Callable[[Tensor], Tensor]) -> "TrainingBatch":
        """Return the batch with a function applied to each of its tensors."""
        tensors = (self.latents, self.noise, self.timesteps, self.caption_ids)
        return TrainingBatch(*map(function, tensors))

    def __add__(self, other: "TrainingBatch") -> "TrainingBatch":
        return TrainingBatch(
            latents=torch.cat((self.latents, other.latents)),
            noise=torch.cat((self.noise, other.noise)),
            timesteps=torch.cat((self.timesteps, other.timesteps)),
            caption_ids=torch.cat((self.caption_ids, other.caption_ids)),
        )


@dataclass(frozen=True)
class Examples:
    """Encoded images with their captions, from which batches are drawn.

    Attributes:
        latents: Latents of N images in V variants.
        caption_ids: For every image, the positions of its captions in `TrainingData.prompts`.
        empty_caption_id: Position of the empty caption.
        num_train_timesteps: Number of timesteps of the noise schedule.
    """

    latents: Latents
    caption_ids: Sequence[Sequence[int]]
    empty_caption_id: int
    num_train_timesteps: int

    def __len__(self) -> int:
        return len(self.caption_ids)

    def draw(self, step: int, recipe: LoraRecipe) -> TrainingBatch:
        """Draw the batch of a step, for all processes together.

        Every image is drawn once before any image is drawn again. Each draw takes a random variant, a
        random caption and a sample of the posterior.

        Args:
            step: Number of the step, from 0. With the recipe's seed it decides the batch.
            recipe: Its `batch_size`, `caption_dropout`, `noise_offset` and `seed` are used.

        Returns:
            A batch of `batch_size` images on the CPU.
        """
        size = recipe.batch_size
        generator = torch.Generator().manual_seed(derive_seed(recipe.seed, "step", step))
        image_ids = _epoch_indices(recipe.seed, step * size, size, len(self))
        variants = torch.randint(self.latents.mean.shape[1], (size,), generator=generator)
        caption_choices, dropout = torch.rand((2, size), generator=generator)
        caption_ids = self._draw_caption_ids(image_ids, caption_choices)
        caption_ids[dropout < recipe.caption_dropout] = self.empty_caption_id
        return TrainingBatch(
            latents=self._sample_latents(image_ids, variants, generator),
            noise=self._draw_noise(size, generator, recipe.noise_offset),
            timesteps=torch.randint(self.num_train_timesteps, (size,), generator=generator),
            caption_ids=caption_ids,
        )

    def draw_prior(self, step: int, recipe: LoraRecipe) -> TrainingBatch:
        """Draw a batch of prior images, which the untuned model has generated.

        Their latents are in `latents.mean`. No caption is dropped.

        Args:
            step: Number of the step, from 0.
            recipe: Its `batch_size`, `noise_offset` and `seed` are used.

        Returns:
            A batch of `batch_size` images on the CPU.
        """
        size = recipe.batch_size
        generator = torch.Generator().manual_seed(derive_seed(recipe.seed, "prior step", step))
        image_ids = torch.randint(len(self), (size,), generator=generator)
        return TrainingBatch(
            latents=self.latents.mean[image_ids, 0],
            noise=self._draw_noise(size, generator, recipe.noise_offset),
            timesteps=torch.randint(self.num_train_timesteps, (size,), generator=generator),
            caption_ids=self._draw_caption_ids(image_ids, torch.zeros(size)),
        )

    def draw_validation(self) -> TrainingBatch:
        """Draw the batch of the validation loss, which is equal for every recipe and step.

        Timesteps are stratified: each of n equal intervals occurs once, where n is the number of
        images, but at least `MIN_VALIDATION_DRAWS` and at most `MAX_VALIDATION_DRAWS`. The images are
        spread evenly over the validation split.
        """
        size = min(max(len(self), MIN_VALIDATION_DRAWS), MAX_VALIDATION_DRAWS)
        generator = torch.Generator().manual_seed(derive_seed(0, "validation"))
        positions = torch.arange(size) * max(1, len(self) / size)
        image_ids = positions.long() % len(self)
        strata = torch.randperm(size, generator=generator)
        return TrainingBatch(
            latents=self._sample_latents(image_ids, torch.zeros(size).long(), generator),
            noise=self._draw_noise(size, generator, 0.0),
            timesteps=((strata + 0.5) * self.num_train_timesteps / size).long(),
            caption_ids=self._draw_caption_ids(image_ids, torch.rand(size, generator=generator)),
        )

    def _draw_caption_ids(self, image_ids: Tensor, uniform: Tensor) -> Tensor:
        """Choose a caption of each image by a number in [0, 1)."""
        chosen_ids = []
        for image_id, number in zip(image_ids.tolist(), uniform, strict=True):
            caption_ids = self.caption_ids[image_id]
            chosen_ids.append(caption_ids[int(number * len(caption_ids))])
        return torch.tensor(chosen_ids)

    def _sample_latents(
        self, image_ids: Tensor, variants: Tensor, generator: torch.Generator
    ) -> Tensor:
        """Sample latents `(B, c, h, w)` from the posterior of the autoencoder."""
        mean = self.latents.mean[image_ids, variants]
        std = self.latents.std[image_ids, variants]
        return mean + std * torch.randn(mean.shape, generator=generator)

    def _draw_noise(self, size: int, generator: torch.Generator, offset: float) -> Tensor:
        """Draw noise `(size, c, h, w)`, with an offset per channel of standard deviation `offset`."""
        shape = (size, *self.latents.mean.shape[2:])
        shift = torch.randn((*shape[:2], 1, 1), generator=generator)
        return torch.randn(shape, generator=generator) + offset * shift


def _epoch_indices(seed: int, start: int, size: int, n: int) -> Tensor:
    """Return positions `start` to `start + size` of an endless row of permutations of n images."""
    positions = range(start, start + size)
    return torch.stack([_permutation(seed, p // n, n)[p % n] for p in positions])


@functools.lru_cache(maxsize=4)
def _permutation(seed: int, epoch: int, n: int) -> Tensor:
    generator = torch.Generator().manual_seed(derive_seed(seed, "epoch", epoch))
    return torch.randperm(n, generator=generator)


@dataclass(frozen=True)
class TrainingData:
    """All data of a fine-tuning, encoded.

    Attributes:
        training: Images of the train split.
        validation: Images of the validation split; None if there are none.
        prior: Images of the untuned model; None without prior preservation.
        prompts: Distinct captions, sorted, to which caption ids refer.
        embeddings: Embeddings of `prompts`; None if the text encoder is trained too.
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
    """Encode images and captions, and sample the prior images of the untuned model.

    Args:
        pipeline: Stable Diffusion pipeline on the CPU, before fine-tuning.
        training: Images of the train split.
        validation: Images of the validation split, if any.
        recipe: Its `variants`, `text_encoder` and prior settings are used.
        device: Device to compute on.
        cache: Folder of cache files.

    Returns:
        The encoded data, on the CPU.
    """
    prompts = _distinct_prompts(training, validation, recipe)
    prompt_ids = {prompt: index for index, prompt in enumerate(prompts)}
    timesteps = pipeline.scheduler.config.num_train_timesteps

    def build_examples(latents: Latents, captions: Sequence[Sequence[str]]) -> Examples:
        caption_ids = [list(map(prompt_ids.__getitem__, texts)) for texts in captions]
        return Examples(latents, caption_ids, prompt_ids[""], timesteps)

    def encode_examples(split: CaptionedImages, variants: int) -> Examples:
        latents = encode_images(
            pipeline, split.images, variants=variants, device=device, cache=cache
        )
        return build_examples(latents, split.captions)

    prior = None
    if recipe.prior_images:
        side_px = training.images.shape[1]
        latents = prior_latents(pipeline, recipe, side_px=side_px, device=device, cache=cache)
        prior = build_examples(latents, [[recipe.prior_prompt]] * recipe.prior_images)
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


def _distinct_prompts(
    training: CaptionedImages, validation: CaptionedImages | None, recipe: LoraRecipe
) -> list[str]:
    """Return all captions, the empty caption and the prior prompt, sorted."""
    prompts = {""}
    prompts.update(*training.captions)
    if validation:
        prompts.update(*validation.captions)
    if recipe.prior_images:
        prompts.add(recipe.prior_prompt)
    return sorted(prompts)


def training_data_digest(training: CaptionedImages, validation: CaptionedImages | None) -> str:
    """Return the SHA-256 (hex) of the images and captions of both splits."""
    values = []
    for split in (training, validation):
        if split:
            values.append([images_digest(split.images), list(map(list, split.captions))])
    return digest(values)
