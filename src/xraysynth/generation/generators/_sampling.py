"""From requests to images: embed, denoise, decode, in batches that overlap."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass, replace
from functools import lru_cache
from threading import Event, Lock
from time import perf_counter
from typing import Any

import numpy as np

from xraysynth.generation.generators._batches import Halving, Stopped, ahead
from xraysynth.records import Request


@dataclass(frozen=True)
class Batch:
    """Requests and their latents `(B, 4, h, w)` or, once decoded, images `(B, H, W, C)` in [0, 1].

    There may be more rows than requests: copies of the last that fill up the batch.
    """

    requests: Sequence[Request]
    values: Any
    seconds: float


class Sampler:
    """Draws images with a diffusers pipeline of Stable Diffusion 1, 2 or XL.

    Noise is drawn on the CPU by one generator an image. Kernels sum in another order when the shape
    changes, so with `filled` every batch has the full size: then an image depends on nothing but its
    own request, bit by bit. With `in_turn` decoding waits for denoising instead of running beside it.
    """

    def __init__(
        self,
        pipeline: Any,
        *,
        steps: int,
        guidance: float,
        side_px: int,
        batch_size: int,
        filled: bool,
        in_turn: bool,
        remedy: str,
    ) -> None:
        import torch

        self.pipeline, self.steps, self.guidance = pipeline, steps, guidance
        self.side_px, self.filled, self.in_turn = side_px, filled, in_turn
        self.denoising = Halving(batch_size, remedy=remedy)
        self.decoding = Halving(batch_size, remedy=remedy)
        self.guided = guidance > 1 and pipeline.unet.config.time_cond_proj_dim is None
        self._embedded = lru_cache(maxsize=256)(self._embed)
        self._turn = Lock()  # the scheduler's state belongs to one batch at a time
        stream: Any = torch.cuda.Stream
        self._side = stream() if torch.cuda.is_available() else None

    def draw(self, requests: Sequence[Request]) -> Iterator[Batch]:
        """Decoded batches in order; while one is decoded and saved, the next is being denoised."""
        stop = Event()
        made: Iterator[Batch] = self.denoising.run(
            lambda part: self._denoised(part, stop), requests
        )
        if self.in_turn:
            made = map(self._decoded, made)
        with closing(ahead(made, stop)) as ready:  # type: ignore[type-var]
            for batch in ready:
                yield batch if self.in_turn else self._decoded(batch)

    def _denoised(self, requests: Sequence[Request], stop: Event) -> Batch:
        import torch

        began = perf_counter()
        missing = self.denoising.size - len(requests) if self.filled else 0
        drawn = [*requests, *[requests[-1]] * missing]
        generators = [torch.Generator("cpu").manual_seed(request.seed) for request in drawn]
        with self._turn:
            latents = self.pipeline(
                **self._conditions(drawn),
                latents=self._noise(generators),
                generator=generators,
                num_inference_steps=self.steps,
                guidance_scale=self.guidance,
                height=self.side_px,
                width=self.side_px,
                output_type="latent",
                callback_on_step_end=_until(stop),
            ).images
        if latents.is_cuda:
            torch.cuda.current_stream().synchronize()
        return Batch(requests, latents, perf_counter() - began)

    def _noise(self, generators: Sequence[Any]) -> Any:
        import torch

        unet, side = self.pipeline.unet, self.side_px // self.pipeline.vae_scale_factor
        shape = (1, unet.config.in_channels, side, side)
        noise = torch.cat([torch.randn(shape, generator=generator) for generator in generators])
        return noise.to(self.pipeline._execution_device, unet.dtype)

    def _conditions(self, requests: Sequence[Request]) -> dict[str, object]:
        """The arguments of the pipeline that replace prompts."""
        import torch

        found: dict[str, object] = {}
        kinds = {"": [self._embedded(request.prompt) for request in requests]}
        if self.guided:
            kinds["negative_"] = [self._embedded(r.negative_prompt, True) for r in requests]
        for kind, embedded in kinds.items():
            tokens, *pooled = (torch.cat(parts) for parts in zip(*embedded, strict=True))
            found[f"{kind}prompt_embeds"] = tokens
            if pooled:
                found[f"{kind}pooled_prompt_embeds"] = pooled[0]
        return found

    def _embed(self, text: str, negative: bool = False) -> tuple[Any, ...]:
        """`(1, 77, d)` of a text and, for XL, its pooled embedding `(1, d)`."""
        import torch

        with torch.no_grad():
            outputs = self.pipeline.encode_prompt(
                prompt=text,
                device=self.pipeline._execution_device,
                num_images_per_prompt=1,
                do_classifier_free_guidance=False,
            )
        embedded = outputs[:1] if len(outputs) == 2 else (outputs[0], outputs[2])
        if negative and not text and self.pipeline.config.get("force_zeros_for_empty_prompt"):
            return tuple(torch.zeros_like(tensor) for tensor in embedded)  # as XL was trained
        return tuple(embedded)

    def _decoded(self, batch: Batch) -> Batch:
        began = perf_counter()
        images = np.concatenate(list(self.decoding.run(self._decode, batch.values)))
        seconds = batch.seconds + perf_counter() - began
        return replace(batch, values=images, seconds=seconds)

    def _decode(self, latents: Any) -> np.ndarray:
        """Latents `(B, 4, h, w)` to `(B, H, W, C)` float32 in [0, 1]."""
        import torch

        # Beside the stream that denoises the next batch.
        stream = torch.cuda.stream(self._side) if latents.is_cuda else nullcontext()
        vae = self.pipeline.vae
        with torch.no_grad(), stream:
            scaled = _unscaled(latents.to(vae.dtype), vae.config)
            image = vae.decode(scaled, return_dict=False)[0].float()
            grey = (image / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1)
            return np.asarray(grey.cpu().numpy(), np.float32)


def _unscaled(latents: Any, config: Any) -> Any:
    """Latents as the autoencoder made them."""
    import torch

    mean, std = config.get("latents_mean"), config.get("latents_std")
    if mean is not None and std is not None:
        spread, centre = (torch.tensor(v).view(1, -1, 1, 1).to(latents) for v in (std, mean))
        return latents * spread / config.scaling_factor + centre
    return latents / config.scaling_factor + (config.get("shift_factor") or 0)


def _until(stop: Event) -> Callable[..., dict[str, object]]:
    """A callback of diffusers that ends the denoising when nobody waits for it."""

    def check(*_: Any) -> dict[str, object]:
        if stop.is_set():
            raise Stopped
        return {}

    return check
