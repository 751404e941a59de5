"""Samples images with a diffusers pipeline: embed prompts, denoise, decode, in overlapping batches."""

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
from xraysynth.threads import torch_threads


@dataclass(frozen=True)
class SampleBatch:
    """Batch of requests with what was computed for them.

    Attributes:
        requests: Requests of the batch.
        values: Latents `(B, c, h, w)` or, once decoded, images `(B, H, W, C)` float32 in [0, 1]. B may
            exceed the number of requests: the last request is repeated to fill the batch.
        seconds: Duration of the computation so far.
    """

    requests: Sequence[Request]
    values: Any
    seconds: float


class Sampler:
    """Sampler around a diffusers pipeline of Stable Diffusion 1, 2 or XL.

    The noise of every image comes from a random generator of its own, on the CPU. Kernels sum in
    another order when the batch size changes; with `pad_batches` every batch has the full size, so that
    an image depends, bit by bit, on nothing but its own request.
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
        threads: int,
        remedy: str,
    ) -> None:
        """Set the sampler up.

        Args:
            pipeline: Pipeline on its device, with the scheduler to sample by.
            steps: Number of denoising steps.
            guidance: Scale of classifier-free guidance; at most 1 switches it off.
            side_px: Width and height of the images.
            batch_size: Number of images per batch; halved when memory runs out.
            pad_batches: Repeat the last request of a batch until the batch is full.
            serial_decoding: Decode a batch before the next is denoised, instead of at the same time.
            threads: Number of threads of torch while images are sampled.
            remedy: What an error tells the user to do if a single image does not fit into memory.
        """
        import torch

        self.pipeline = pipeline
        self.steps = steps
        self.guidance = guidance
        self.side_px = side_px
        self.pad_batches = pad_batches
        self.serial_decoding = serial_decoding
        self.threads = threads
        self.denoise_batches = AdaptiveBatches(batch_size, remedy=remedy)
        self.decode_batches = AdaptiveBatches(batch_size, remedy=remedy)
        self.uses_guidance = guidance > 1 and pipeline.unet.config.time_cond_proj_dim is None
        self._encode_cached = lru_cache(maxsize=256)(self._encode_prompt)
        self._scheduler_lock = Lock()  # the scheduler's state belongs to one batch at a time
        stream: Any = torch.cuda.Stream
        self._decode_stream = stream() if torch.cuda.is_available() else None

    def sample(self, requests: Sequence[Request]) -> Iterator[SampleBatch]:
        """Sample an image for every request.

        While a batch is decoded and saved, the next one is being denoised.

        Args:
            requests: Requests with prompts and seeds.

        Yields:
            Decoded batches, in the order of the requests.
        """
        stop = Event()

        def denoise(batch: Sequence[Request]) -> SampleBatch:
            return self._denoise(batch, stop)

        batches: Iterator[SampleBatch] = self.denoise_batches.run(denoise, requests)
        if self.serial_decoding:
            batches = map(self._decode_batch, batches)
        with (
            torch_threads(self.threads),
            closing(prefetch(batches, stop)) as ready_batches,  # type: ignore[type-var]
        ):
            for batch in ready_batches:
                yield batch if self.serial_decoding else self._decode_batch(batch)

    def _denoise(self, requests: Sequence[Request], stop: Event) -> SampleBatch:
        """Compute the latents of a batch; `CancelledSampling` when `stop` is set."""
        import torch

        started = perf_counter()
        missing = self.denoise_batches.size - len(requests) if self.pad_batches else 0
        padded = [*requests, *[requests[-1]] * missing]
        generators = [torch.Generator("cpu").manual_seed(request.seed) for request in padded]
        with self._scheduler_lock:
            latents = self.pipeline(
                **self._prompt_arguments(padded),
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
        return SampleBatch(requests, latents, perf_counter() - started)

    def _draw_noise(self, generators: Sequence[Any]) -> Any:
        """Draw initial noise `(B, c, h, w)`, one image per generator."""
        import torch

        unet = self.pipeline.unet
        side = self.side_px // self.pipeline.vae_scale_factor
        shape = (1, unet.config.in_channels, side, side)
        noise = torch.cat([torch.randn(shape, generator=generator) for generator in generators])
        return noise.to(self.pipeline._execution_device, unet.dtype)

    def _prompt_arguments(self, requests: Sequence[Request]) -> dict[str, object]:
        """Return the pipeline's arguments that take embeddings in the place of prompts."""
        positive = [self._encode_cached(request.prompt) for request in requests]
        arguments = _embedding_arguments("", positive)
        if self.uses_guidance:
            negative = [self._encode_cached(request.negative_prompt, True) for request in requests]
            arguments.update(_embedding_arguments("negative_", negative))
        return arguments

    def _encode_prompt(self, text: str, negative: bool = False) -> tuple[Any, ...]:
        """Return token embeddings `(1, 77, d)` of a text and, for XL, its pooled embedding `(1, d)`."""
        import torch

        with torch.no_grad():
            outputs = self.pipeline.encode_prompt(
                prompt=text,
                device=self.pipeline._execution_device,
                num_images_per_prompt=1,
                do_classifier_free_guidance=False,
            )
        embeddings = outputs[:1] if len(outputs) == 2 else (outputs[0], outputs[2])
        if negative and not text and self.pipeline.config.get("force_zeros_for_empty_prompt"):
            return tuple(map(torch.zeros_like, embeddings))  # as XL was trained
        return tuple(embeddings)

    def _decode_batch(self, batch: SampleBatch) -> SampleBatch:
        """Return the batch with images in the place of latents."""
        started = perf_counter()
        images = np.concatenate(list(self.decode_batches.run(self._decode_latents, batch.values)))
        seconds = batch.seconds + perf_counter() - started
        return replace(batch, values=images, seconds=seconds)

    def _decode_latents(self, latents: Any) -> np.ndarray:
        """Decode latents `(B, c, h, w)` to images `(B, H, W, C)` float32 in [0, 1]."""
        import torch

        # Decoding has its own CUDA stream, so that it overlaps with denoising the next batch.
        stream = torch.cuda.stream(self._decode_stream) if latents.is_cuda else nullcontext()
        vae = self.pipeline.vae
        with torch.no_grad(), stream:
            scaled = _unscale_latents(latents.to(vae.dtype), vae.config)
            image = vae.decode(scaled, return_dict=False)[0].float()
            scaled_image = (image / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1)
            return np.asarray(scaled_image.cpu().numpy(), np.float32)


def _embedding_arguments(prefix: str, embeddings: Sequence[tuple[Any, ...]]) -> dict[str, object]:
    """Return `<prefix>prompt_embeds` `(B, 77, d)` and, for XL, `<prefix>pooled_prompt_embeds`."""
    import torch

    arguments: dict[str, object] = {}
    names = ("prompt_embeds", "pooled_prompt_embeds")
    for name, tensors in zip(names, zip(*embeddings, strict=True), strict=False):
        arguments[f"{prefix}{name}"] = torch.cat(tensors)
    return arguments


def _unscale_latents(latents: Any, config: Any) -> Any:
    """Undo the scaling of latents for the UNet, by the settings of the autoencoder."""
    import torch

    mean, std = config.get("latents_mean"), config.get("latents_std")
    if mean is None or std is None:
        return latents / config.scaling_factor + (config.get("shift_factor") or 0)
    channel_mean = torch.tensor(mean).view(1, -1, 1, 1).to(latents)
    channel_std = torch.tensor(std).view(1, -1, 1, 1).to(latents)
    return latents * channel_std / config.scaling_factor + channel_mean


def _stop_callback(stop: Event) -> Callable[..., dict[str, object]]:
    """Return a callback for diffusers that cancels the denoising once `stop` is set."""

    def check(*_: Any) -> dict[str, object]:
        if stop.is_set():
            raise CancelledSampling
        return {}

    return check
