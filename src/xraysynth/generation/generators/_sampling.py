"""From requests to images: embed, denoise, decode, in batches that overlap."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass, replace
from functools import lru_cache
from threading import Event, Lock
from time import perf_counter
from typing import Any

import numpy as np

from xraysynth.generation.generators._batches import AdaptiveBatches, CancelledSampling, prefetch
from xraysynth.records import Request


@dataclass(frozen=True)
class SampleBatch:
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
    own request, bit by bit. With `serial_decoding` decoding waits for denoising instead of running beside it.
    """

    def __init__(
        self,
        pipeline: Any,
        *,
        steps: int,
        guidance: float,
        side_px: int,
        batch_size: int,
        pad_batches: bool,
        serial_decoding: bool,
        remedy: str,
    ) -> None:
        import torch

        self.pipeline, self.steps, self.guidance = pipeline, steps, guidance
        self.side_px, self.pad_batches, self.serial_decoding = side_px, pad_batches, serial_decoding
        self.denoise_batches = AdaptiveBatches(batch_size, remedy=remedy)
        self.decode_batches = AdaptiveBatches(batch_size, remedy=remedy)
        self.uses_guidance = guidance > 1 and pipeline.unet.config.time_cond_proj_dim is None
        self._encode_cached = lru_cache(maxsize=256)(self._encode_prompt)
        self._scheduler_lock = Lock()  # the scheduler's state belongs to one batch at a time
        stream: Any = torch.cuda.Stream
        self._decode_stream = stream() if torch.cuda.is_available() else None

    def draw(self, requests: Sequence[Request]) -> Iterator[SampleBatch]:
        """Decoded batches in order; while one is decoded and saved, the next is being denoised."""
        stop = Event()
        made: Iterator[SampleBatch] = self.denoise_batches.run(
            lambda part: self._denoise(part, stop), requests
        )
        if self.serial_decoding:
            made = map(self._decode_batch, made)
        with closing(prefetch(made, stop)) as ready:  # type: ignore[type-var]
            for batch in ready:
                yield batch if self.serial_decoding else self._decode_batch(batch)

    def _denoise(self, requests: Sequence[Request], stop: Event) -> SampleBatch:
        import torch

        began = perf_counter()
        missing = self.denoise_batches.size - len(requests) if self.pad_batches else 0
        drawn = [*requests, *[requests[-1]] * missing]
        generators = [torch.Generator("cpu").manual_seed(request.seed) for request in drawn]
        with self._scheduler_lock:
            latents = self.pipeline(
                **self._prompt_arguments(drawn),
                latents=self._draw_noise(generators),
                generator=generators,
                num_inference_steps=self.steps,
                guidance_scale=self.guidance,
                height=self.side_px,
                width=self.side_px,
                output_type="latent",
                callback_on_step_end=_stop_callback(stop),
            ).images
        if latents.is_cuda:
            torch.cuda.current_stream().synchronize()
        return SampleBatch(requests, latents, perf_counter() - began)

    def _draw_noise(self, generators: Sequence[Any]) -> Any:
        import torch

        unet, side = self.pipeline.unet, self.side_px // self.pipeline.vae_scale_factor
        shape = (1, unet.config.in_channels, side, side)
        noise = torch.cat([torch.randn(shape, generator=generator) for generator in generators])
        return noise.to(self.pipeline._execution_device, unet.dtype)

    def _prompt_arguments(self, requests: Sequence[Request]) -> dict[str, object]:
        """The arguments of the pipeline that replace prompts."""
        import torch

        found: dict[str, object] = {}
        kinds = {"": [self._encode_cached(request.prompt) for request in requests]}
        if self.uses_guidance:
            kinds["negative_"] = [self._encode_cached(r.negative_prompt, True) for r in requests]
        for kind, embedded in kinds.items():
            tokens, *pooled = (torch.cat(parts) for parts in zip(*embedded, strict=True))
            found[f"{kind}prompt_embeds"] = tokens
            if pooled:
                found[f"{kind}pooled_prompt_embeds"] = pooled[0]
        return found

    def _encode_prompt(self, text: str, negative: bool = False) -> tuple[Any, ...]:
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

    def _decode_batch(self, batch: SampleBatch) -> SampleBatch:
        began = perf_counter()
        images = np.concatenate(list(self.decode_batches.run(self._decode_latents, batch.values)))
        seconds = batch.seconds + perf_counter() - began
        return replace(batch, values=images, seconds=seconds)

    def _decode_latents(self, latents: Any) -> np.ndarray:
        """Latents `(B, 4, h, w)` to `(B, H, W, C)` float32 in [0, 1]."""
        import torch

        # Beside the stream that denoises the next batch.
        stream = torch.cuda.stream(self._decode_stream) if latents.is_cuda else nullcontext()
        vae = self.pipeline.vae
        with torch.no_grad(), stream:
            scaled = _unscale_latents(latents.to(vae.dtype), vae.config)
            image = vae.decode(scaled, return_dict=False)[0].float()
            grey = (image / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1)
            return np.asarray(grey.cpu().numpy(), np.float32)


def _unscale_latents(latents: Any, config: Any) -> Any:
    """Latents as the autoencoder made them."""
    import torch

    mean, std = config.get("latents_mean"), config.get("latents_std")
    if mean is not None and std is not None:
        spread, centre = (torch.tensor(v).view(1, -1, 1, 1).to(latents) for v in (std, mean))
        return latents * spread / config.scaling_factor + centre
    return latents / config.scaling_factor + (config.get("shift_factor") or 0)


def _stop_callback(stop: Event) -> Callable[..., dict[str, object]]:
    """A callback of diffusers that ends the denoising when nobody waits for it."""

    def check(*_: Any) -> dict[str, object]:
        if stop.is_set():
            raise CancelledSampling
        return {}

    return check
