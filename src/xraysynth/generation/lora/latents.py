"""What Stable Diffusion trains on, computed once: latents of images and embeddings of captions.

Cache files are named by a digest of all that decides their content, the encoder's weights
included; they are written atomically, and a damaged one is made again.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor
from torch.nn import functional as F

from xraysynth.errors import XraysynthError
from xraysynth.files import write_atomically
from xraysynth.generation.lora.recipe import LoraRecipe
from xraysynth.progress import progress_bar
from xraysynth.seeds import derive_seed, short_digest

CACHE_FORMAT = 1
"""Raised whenever the same inputs would give other tensors."""

ENCODE_BATCH_SIZE = 8
PRIOR_STEPS = 20


@dataclass(frozen=True)
class Latents:
    """The autoencoder's posterior, scaled as the UNet takes it: mean and deviation.

    Both are `(N, V, c, h, w)` float32, V variants of every image.
    """

    mean: Tensor
    std: Tensor


@dataclass(frozen=True)
class Embeddings:
    """Captions as the UNet takes them: states `(C, T, d)`, and pooled `(C, p)` for XL."""

    hidden_states: Tensor
    pooled: Tensor | None

    def __getitem__(self, index: Any) -> "Embeddings":
        return Embeddings(
            self.hidden_states[index], None if self.pooled is None else self.pooled[index]
        )


def tensors_digest(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 (hex) over names, types, shapes and bytes."""
    found = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        found.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()


def images_digest(images: np.ndarray) -> str:
    """SHA-256 (hex) over shape and pixels."""
    found = hashlib.sha256(f"{images.dtype} {images.shape}".encode())
    found.update(np.ascontiguousarray(images).data)
    return found.hexdigest()


def write_tensors(path: Path, tensors: Mapping[str, Tensor], facts: Any = None) -> None:
    """One safetensors file, seen whole or not at all; `facts` is any JSON value beside them."""
    plain = {name: t.detach().cpu().contiguous() for name, t in tensors.items()}
    # One key alone: safetensors writes several in an order of chance.
    metadata = {"xraysynth": json.dumps({"digest": tensors_digest(plain), "facts": facts})}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, safetensors.torch.save(plain, metadata))


def read_tensors(path: Path) -> tuple[dict[str, Tensor], Any]:
    """Tensors and facts of `write_tensors`; raises `XraysynthError` where they are damaged."""
    try:
        with safe_open(path, "pt") as file:
            record = json.loads((file.metadata() or {}).get("xraysynth", "{}"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise XraysynthError(f"{path} is damaged ({error})") from error
    if record.get("digest") != tensors_digest(tensors):
        raise XraysynthError(f"{path} is damaged: its content differs from its digest")
    return tensors, record["facts"]


def load_or_compute(path: Path, compute: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
    """The tensors of a cache file; made and written where it is missing or damaged."""
    if path.exists():
        try:
            return read_tensors(path)[0]
        except XraysynthError:
            pass  # whatever broke it, it can be made again
    tensors = compute()
    write_tensors(path, tensors)
    return tensors


@contextmanager
def on_device(modules: Sequence[torch.nn.Module], device: torch.device) -> Iterator[None]:
    """Have modules on a device, then back on the CPU: a GPU's memory is for the UNet."""
    for module in modules:
        module.to(device)
    try:
        yield
    finally:
        for module in modules:
            module.to("cpu")


def random_affine_maps(n: int, variant: int) -> Tensor:
    """Affine maps `(n, 2, 3)`: 6° of turning, 10 % of scale and 5 % of shift at most."""
    generator = torch.Generator().manual_seed(derive_seed(0, "variant", variant))
    angle, scale, x, y = (torch.rand((n, 4), generator=generator) * 2 - 1).T
    angle, scale = angle * torch.pi / 30, 1 + scale * 0.1
    cos, sin = torch.cos(angle) * scale, torch.sin(angle) * scale
    # A shift of 5 % of the side is 0.1 in coordinates of [-1, 1].
    return torch.stack([cos, -sin, x * 0.1, sin, cos, y * 0.1], 1).view(n, 2, 3)


def apply_affine(images: Tensor, maps: Tensor) -> Tensor:
    """Images `(B, c, H, W)` seen through maps; their border fills what they do not cover."""
    grid = F.affine_grid(maps, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False)


def encode_images(
    pipeline: Any, images: np.ndarray, *, variants: int, device: torch.device, cache: Path
) -> Latents:
    """Latents of grey images `(N, H, W)` uint8, each in `variants` versions."""
    vae = pipeline.vae
    made_from = [CACHE_FORMAT, images_digest(images), tensors_digest(vae.state_dict()), variants]
    name = f"latents-{short_digest(made_from)}.safetensors"

    @torch.no_grad()
    def make() -> dict[str, Tensor]:
        found = []
        with on_device([vae], device), progress_bar("encode", len(images) * variants) as bar:
            for batch in _augmented_batches(images, variants):
                pixels = batch.to(device).expand(-1, vae.config.in_channels, -1, -1)
                posterior = vae.encode(pixels).latent_dist
                found.append(torch.stack([posterior.mean, posterior.std]).cpu())
                bar.update(len(batch))
        both = torch.cat(found, 1)  # (2, V * N, c, h, w), as mean and deviation
        mean, std = both.view(2, variants, len(images), *both.shape[2:]).transpose(1, 2)
        return {"mean": mean.contiguous(), "std": std.contiguous()}

    tensors = load_or_compute(cache / name, make)
    return _scale_latents(vae.config, tensors["mean"], tensors["std"])


def _augmented_batches(images: np.ndarray, variants: int) -> Iterator[Tensor]:
    """Batches `(B, 1, H, W)` in [-1, 1]: all images as they are, then all of the next variant."""
    for variant in range(variants):
        maps = random_affine_maps(len(images), variant)
        for start in range(0, len(images), ENCODE_BATCH_SIZE):
            part = slice(start, start + ENCODE_BATCH_SIZE)
            batch = torch.from_numpy(images[part].copy())[:, None].float() / 127.5 - 1
            yield apply_affine(batch, maps[part]) if variant else batch


def _scale_latents(config: Any, mean: Tensor, std: Tensor) -> Latents:
    factor = torch.tensor(config.scaling_factor)
    if getattr(config, "latents_mean", None) is not None:  # as StableDiffusionXLPipeline undoes it
        shape = (1, 1, -1, 1, 1)
        mean = mean - torch.tensor(config.latents_mean).view(shape)
        factor = factor / torch.tensor(config.latents_std).view(shape)
    return Latents(mean * factor, std * factor)


def text_encoders(pipeline: Any) -> dict[str, torch.nn.Module]:
    """The text encoders by their name in the pipeline: one, or two for XL."""
    names = ("text_encoder", "text_encoder_2")
    return {name: getattr(pipeline, name) for name in names if hasattr(pipeline, name)}


def encode_prompts(pipeline: Any, prompts: Sequence[str], device: torch.device) -> Embeddings:
    """Embeddings just as the pipeline makes them when it draws."""
    result = pipeline.encode_prompt(
        prompt=list(prompts),
        device=device,
        num_images_per_prompt=1,
        do_classifier_free_guidance=False,
    )
    return Embeddings(result[0], result[2] if hasattr(pipeline, "text_encoder_2") else None)


def encode_captions(
    pipeline: Any, captions: Sequence[str], *, device: torch.device, cache: Path
) -> Embeddings:
    """Embeddings of distinct captions, in their order."""
    encoders = text_encoders(pipeline)
    weights = [tensors_digest(encoder.state_dict()) for encoder in encoders.values()]
    words = [pipeline.tokenizer(list(captions), padding=True, truncation=True).input_ids]
    name = f"text-{short_digest([CACHE_FORMAT, list(captions), words, weights])}.safetensors"

    @torch.no_grad()
    def make() -> dict[str, Tensor]:
        with on_device(list(encoders.values()), device):
            parts = [
                encode_prompts(pipeline, captions[start : start + 32], device)
                for start in range(0, len(captions), 32)
            ]
        found = {"states": torch.cat([part.hidden_states.cpu() for part in parts])}
        pooled = [part.pooled.cpu() for part in parts if part.pooled is not None]
        return found | ({"pooled": torch.cat(pooled)} if pooled else {})

    tensors = load_or_compute(cache / name, make)
    return Embeddings(tensors["states"], tensors.get("pooled"))


def prior_latents(
    pipeline: Any, recipe: LoraRecipe, *, side_px: int, device: torch.device, cache: Path
) -> Latents:
    """What the untuned pipeline draws for the recipe's prior prompt, without guidance.

    Unguided samples follow what the model has learned, so that learning from them changes nothing.
    """
    modules = {"unet": pipeline.unet, **text_encoders(pipeline)}
    weights = [tensors_digest(module.state_dict()) for module in modules.values()]
    asked = [recipe.prior_prompt, recipe.prior_images, recipe.seed, side_px, PRIOR_STEPS]
    key = short_digest([CACHE_FORMAT, asked, dict(pipeline.scheduler.config), weights])
    name = f"prior-{key}.safetensors"
    seeds = [derive_seed(recipe.seed, "prior", index) for index in range(recipe.prior_images)]

    @torch.no_grad()
    def make() -> dict[str, Tensor]:
        found = []
        with (
            on_device([*modules.values(), pipeline.vae], device),
            progress_bar("prior", len(seeds)) as bar,
        ):
            for start in range(0, len(seeds), ENCODE_BATCH_SIZE):
                batch = seeds[start : start + ENCODE_BATCH_SIZE]
                found.append(
                    _draw_latents(pipeline, recipe.prior_prompt, batch, side_px).float().cpu()
                )
                bar.update(len(batch))
        return {"latents": torch.cat(found)}

    mean = load_or_compute(cache / name, make)["latents"][:, None]
    return Latents(mean, torch.zeros_like(mean))


def _draw_latents(pipeline: Any, prompt: str, seeds: Sequence[int], side_px: int) -> Tensor:
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
