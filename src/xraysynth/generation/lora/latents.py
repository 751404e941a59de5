"""Encodes training images into latents of Stable Diffusion, once, into a cache.

Cache files are named by a digest of all that their content depends on, the weights of the encoder
included; they are written atomically, and a damaged one is computed again.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from xraysynth.generation.lora.acceleration import on_device
from xraysynth.generation.lora.embeddings import text_encoders
from xraysynth.generation.lora.recipe import LoraRecipe
from xraysynth.generation.lora.tensor_files import (
    CACHE_FORMAT,
    images_digest,
    load_or_compute,
    tensors_digest,
)
from xraysynth.progress import progress_bar
from xraysynth.seeds import derive_seed, short_digest

ENCODE_BATCH_SIZE = 8
PRIOR_STEPS = 20
"""Denoising steps of an image for prior preservation."""


@dataclass(frozen=True)
class Latents:
    """Posterior of the autoencoder for V variants of N images, scaled as the UNet takes it.

    Attributes:
        mean: Means, `(N, V, c, h, w)` float32.
        std: Standard deviations, `(N, V, c, h, w)` float32.
    """

    mean: Tensor
    std: Tensor


def random_affine_maps(n: int, variant: int) -> Tensor:
    """Draw n random affine maps, with which variants of images are made.

    Args:
        n: Number of maps.
        variant: Number of the variant; equal numbers give equal maps.

    Returns:
        Maps `(n, 2, 3)` for `torch.nn.functional.affine_grid`: a rotation of at most 6°, a scale in
        [0.9, 1.1] and a shift of at most 5 % of the image size.
    """
    generator = torch.Generator().manual_seed(derive_seed(0, "variant", variant))
    uniform = torch.rand((n, 4), generator=generator) * 2 - 1
    angle, scale, x, y = uniform.T
    angle = angle * torch.pi / 30
    scale = 1 + scale * 0.1
    cos = torch.cos(angle) * scale
    sin = torch.sin(angle) * scale
    # Coordinates span [-1, 1], so that a shift of 5 % of the image size is 0.1.
    return torch.stack([cos, -sin, x * 0.1, sin, cos, y * 0.1], 1).view(n, 2, 3)


def apply_affine(images: Tensor, maps: Tensor) -> Tensor:
    """Resample images `(B, c, H, W)` by maps `(B, 2, 3)`; border pixels fill what lies outside."""
    grid = F.affine_grid(maps, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False)


def encode_images(
    pipeline: Any, images: np.ndarray, *, variants: int, device: torch.device, cache: Path
) -> Latents:
    """Encode images with the pipeline's autoencoder, or read their latents from the cache.

    Args:
        pipeline: Stable Diffusion pipeline on the CPU.
        images: Grey images `(N, H, W)` uint8.
        variants: V, the number of versions of every image; the first is the image itself, the others
            are rotated, scaled and shifted a little.
        device: Device to compute on.
        cache: Folder of cache files.

    Returns:
        Latents of all images in all variants, on the CPU.
    """
    vae = pipeline.vae
    weights = tensors_digest(vae.state_dict())
    key = short_digest([CACHE_FORMAT, images_digest(images), weights, variants])

    def compute() -> dict[str, Tensor]:
        with on_device([vae], device):
            return _encode_variants(vae, images, variants, device)

    tensors = load_or_compute(cache / f"latents-{key}.safetensors", compute)
    return _scale_latents(vae.config, tensors["mean"], tensors["std"])


@torch.no_grad()
def _encode_variants(
    vae: Any, images: np.ndarray, variants: int, device: torch.device
) -> dict[str, Tensor]:
    """Return the posterior's `mean` and `std`, `(N, V, c, h, w)` each, before scaling."""
    means, stds = [], []
    with progress_bar("encode", len(images) * variants) as bar:
        for batch in _augmented_batches(images, variants):
            pixels = batch.to(device).expand(-1, vae.config.in_channels, -1, -1)
            posterior = vae.encode(pixels).latent_dist
            means.append(posterior.mean.cpu())
            stds.append(posterior.std.cpu())
            bar.update(len(batch))
    return {
        "mean": _group_by_image(torch.cat(means), variants),
        "std": _group_by_image(torch.cat(stds), variants),
    }


def _group_by_image(latents: Tensor, variants: int) -> Tensor:
    """Reorder latents `(V * N, c, h, w)`, variant after variant, to `(N, V, c, h, w)`."""
    by_variant = latents.view(variants, -1, *latents.shape[1:])
    return by_variant.transpose(0, 1).contiguous()


def _augmented_batches(images: np.ndarray, variants: int) -> Iterator[Tensor]:
    """Yield batches `(B, 1, H, W)` in [-1, 1]: all images unchanged, then all of variant 1, 2, …"""
    for variant in range(variants):
        maps = random_affine_maps(len(images), variant)
        for start in range(0, len(images), ENCODE_BATCH_SIZE):
            rows = slice(start, start + ENCODE_BATCH_SIZE)
            batch = torch.from_numpy(images[rows].copy())[:, None].float() / 127.5 - 1
            yield apply_affine(batch, maps[rows]) if variant else batch


def _scale_latents(config: Any, mean: Tensor, std: Tensor) -> Latents:
    """Scale a posterior as the UNet takes it, by the settings of the autoencoder."""
    factor = torch.tensor(config.scaling_factor)
    if getattr(config, "latents_mean", None) is not None:  # as StableDiffusionXLPipeline undoes it
        shape = (1, 1, -1, 1, 1)
        mean = mean - torch.tensor(config.latents_mean).view(shape)
        factor = factor / torch.tensor(config.latents_std).view(shape)
    return Latents(mean * factor, std * factor)


def prior_latents(
    pipeline: Any, recipe: LoraRecipe, *, side_px: int, device: torch.device, cache: Path
) -> Latents:
    """Sample images of the untuned pipeline for prior preservation, or read them from the cache.

    Prior preservation (Ruiz et al., arXiv:2208.12242) trains on images that the model itself generated
    before fine-tuning. They are sampled without guidance, since unguided samples follow the model's
    own distribution, so that training on them changes nothing.

    Args:
        pipeline: Stable Diffusion pipeline on the CPU, before fine-tuning.
        recipe: Its `prior_prompt`, `prior_images` and `seed` are used.
        side_px: Width and height of the images.
        device: Device to compute on.
        cache: Folder of cache files.

    Returns:
        One variant per image, on the CPU; the samples are in `mean`, and `std` is 0.
    """
    modules = {"unet": pipeline.unet, **text_encoders(pipeline)}
    weights = [tensors_digest(module.state_dict()) for module in modules.values()]
    settings = [recipe.prior_prompt, recipe.prior_images, recipe.seed, side_px, PRIOR_STEPS]
    key = short_digest([CACHE_FORMAT, settings, dict(pipeline.scheduler.config), weights])

    def compute() -> dict[str, Tensor]:
        with on_device([*modules.values(), pipeline.vae], device):
            return {"latents": _sample_prior(pipeline, recipe, side_px)}

    tensors = load_or_compute(cache / f"prior-{key}.safetensors", compute)
    mean = tensors["latents"][:, None]
    return Latents(mean, torch.zeros_like(mean))


@torch.no_grad()
def _sample_prior(pipeline: Any, recipe: LoraRecipe, side_px: int) -> Tensor:
    """Return latents `(N, c, h, w)` float32 of the recipe's prior images."""
    seeds = [derive_seed(recipe.seed, "prior", index) for index in range(recipe.prior_images)]
    latents = []
    with progress_bar("prior", len(seeds)) as bar:
        for start in range(0, len(seeds), ENCODE_BATCH_SIZE):
            batch = seeds[start : start + ENCODE_BATCH_SIZE]
            samples = _sample_latents(pipeline, recipe.prior_prompt, batch, side_px)
            latents.append(samples.float().cpu())
            bar.update(len(batch))
    return torch.cat(latents)


def _sample_latents(pipeline: Any, prompt: str, seeds: Sequence[int], side_px: int) -> Tensor:
    latents: Tensor = pipeline(
        prompt=[prompt] * len(seeds),
        height=side_px,
        width=side_px,
        num_inference_steps=PRIOR_STEPS,
        guidance_scale=1.0,
        generator=[torch.Generator().manual_seed(seed) for seed in seeds],
        output_type="latent",
    ).images
    return latents
