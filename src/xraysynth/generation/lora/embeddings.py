"""Encodes captions with the text encoders of Stable Diffusion, once, into a cache."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from xraysynth.generation.lora.acceleration import on_device
from xraysynth.generation.lora.tensor_files import CACHE_FORMAT, load_or_compute, tensors_digest
from xraysynth.seeds import short_digest

CAPTION_BATCH_SIZE = 32


@dataclass(frozen=True)
class Embeddings:
    """Captions as the UNet is conditioned on them.

    Attributes:
        hidden_states: Outputs of the text encoders for every token, `(C, T, d)`.
        pooled: Pooled output of the second text encoder, `(C, p)`; None without one (only XL has it).
    """

    hidden_states: Tensor
    pooled: Tensor | None

    def __getitem__(self, index: Any) -> "Embeddings":
        pooled = None if self.pooled is None else self.pooled[index]
        return Embeddings(self.hidden_states[index], pooled)


def text_encoders(pipeline: Any) -> dict[str, torch.nn.Module]:
    """Return the text encoders by their name in the pipeline: one, or two for XL."""
    encoders = {}
    for name in ("text_encoder", "text_encoder_2"):
        if hasattr(pipeline, name):
            encoders[name] = getattr(pipeline, name)
    return encoders


def encode_prompts(pipeline: Any, prompts: Sequence[str], device: torch.device) -> Embeddings:
    """Encode prompts exactly as the pipeline does when it samples.

    Args:
        pipeline: Stable Diffusion pipeline whose text encoders are on `device`.
        prompts: C texts.
        device: Device to compute on.

    Returns:
        The embeddings of the C texts, on `device`.
    """
    outputs = pipeline.encode_prompt(
        prompt=list(prompts),
        device=device,
        num_images_per_prompt=1,
        do_classifier_free_guidance=False,
    )
    pooled = outputs[2] if hasattr(pipeline, "text_encoder_2") else None
    return Embeddings(outputs[0], pooled)


def encode_captions(
    pipeline: Any, captions: Sequence[str], *, device: torch.device, cache: Path
) -> Embeddings:
    """Encode distinct captions, or read their embeddings from the cache.

    Args:
        pipeline: Stable Diffusion pipeline on the CPU.
        captions: C distinct texts.
        device: Device to compute on.
        cache: Folder of cache files.

    Returns:
        The embeddings in the order of `captions`, on the CPU.
    """
    encoders = text_encoders(pipeline)
    weights = [tensors_digest(encoder.state_dict()) for encoder in encoders.values()]
    token_ids = [pipeline.tokenizer(list(captions), padding=True, truncation=True).input_ids]
    key = short_digest([CACHE_FORMAT, list(captions), token_ids, weights])

    def compute() -> dict[str, Tensor]:
        with on_device(list(encoders.values()), device):
            return _encode_in_batches(pipeline, captions, device)

    tensors = load_or_compute(cache / f"text-{key}.safetensors", compute)
    return Embeddings(tensors["states"], tensors.get("pooled"))


@torch.no_grad()
def _encode_in_batches(
    pipeline: Any, captions: Sequence[str], device: torch.device
) -> dict[str, Tensor]:
    hidden_states, pooled = [], []
    for start in range(0, len(captions), CAPTION_BATCH_SIZE):
        batch = encode_prompts(pipeline, captions[start : start + CAPTION_BATCH_SIZE], device)
        hidden_states.append(batch.hidden_states.cpu())
        if batch.pooled is not None:
            pooled.append(batch.pooled.cpu())
    tensors = {"states": torch.cat(hidden_states)}
    if pooled:
        tensors["pooled"] = torch.cat(pooled)
    return tensors
