"""Stable Diffusion through diffusers: the embedded model, a local folder, or a pinned hub id."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from time import perf_counter
from typing import Annotated, Any

import numpy as np

from xraysynth.generation.generators._engines import (
    DTYPES,
    ENGINES,
    MEMORY_MODES,
    SMALL_UNET_PARAMETERS,
    configure_pipeline,
    count_parameters,
    resolve_device,
    resolve_dtype,
)
from xraysynth.generation.generators._loading import (
    WeightsLocation,
    fetch_pipeline,
    fuse_adapter,
    pipeline_files,
    read_pipeline,
    use_tiny_vae,
)
from xraysynth.generation.generators._sampling import Sampler
from xraysynth.generation.generators.base import GeneratorCard
from xraysynth.generation.ledger import Ledger
from xraysynth.generation.schedulers import ZERO_TERMINAL_SNR, accepts_options, build_scheduler
from xraysynth.options import Count, Rule, one_of, require_valid
from xraysynth.records import GenerationResult, JsonObject, LearningRecord, Request
from xraysynth.seeds import digest

EMBEDDED = "embedded"
SCHEDULERS = {
    "dpm-solver++": ("DPMSolverMultistepScheduler", {"algorithm_type": "dpmsolver++"}),
    "unipc": ("UniPCMultistepScheduler", {}),
    "ddim": ("DDIMScheduler", {}),
    "euler": ("EulerDiscreteScheduler", {}),
    "lcm": ("LCMScheduler", {}),
}
_NOT_IN_IDENTITY = {"identity": False}


@dataclass(frozen=True)
class StableDiffusion:
    """Text to image with a latent diffusion model (Rombach et al., arXiv:2112.10752): SD 1, 2, XL.

    `model` is "embedded" (a tiny model that ships with the package), a diffusers folder, or a hub id,
    for which `revision` must be the commit it is pinned to; `mirrors` are hub ids tried in turn when
    the first is gone. `adapter` is a LoRA for fewer steps (LCM-LoRA), fused into the model;
    `tiny_vae` a small decoder (TAESD); either a local path or a hub id with its own revision.
    `size_px` is the side the model draws at; None takes the model's own.

    `engine` is torch, compile (torch.compile) or openvino (CPU). `dtype` auto is half precision where
    the hardware has it, float32 for UNets below 100 M parameters. On a CPU larger ones draw image by
    image, whatever `batch_size` says, since a batch gains nothing there. `memory` is none, slicing,
    or on a GPU offload or sequential. A batch that does not fit is halved.

    The safety checker is not loaded: it was trained on photographs, takes radiographs for nudity and
    then returns black images. Images that are black or not finite are failures.
    """

    name: str = "stable_diffusion"
    model: str = EMBEDDED
    revision: str | None = None
    mirrors: tuple[str, ...] = field(default=(), metadata=_NOT_IN_IDENTITY)
    adapter: str | None = None
    adapter_revision: str | None = None
    tiny_vae: str | None = None
    tiny_vae_revision: str | None = None
    steps: Count = 20
    guidance: float = 2.0
    scheduler: Annotated[str, one_of(tuple(SCHEDULERS))] = "dpm-solver++"
    engine: Annotated[str, one_of(ENGINES)] = "torch"
    dtype: Annotated[str, one_of(DTYPES)] = "auto"
    size_px: (
        Annotated[int, Rule("be a multiple of 8", lambda px: px >= 8 and px % 8 == 0)] | None
    ) = None
    batch_size: Count = field(default=8, metadata=_NOT_IN_IDENTITY)
    memory: Annotated[str, one_of(MEMORY_MODES)] = field(default="none", metadata=_NOT_IN_IDENTITY)
    device: str = field(default="auto", metadata=_NOT_IN_IDENTITY)

    def __post_init__(self) -> None:
        object.__setattr__(self, "mirrors", tuple(self.mirrors))
        require_valid(self, self._option_prefix)

    @property
    def _option_prefix(self) -> str:
        return f"generator.{self.name}"

    @property
    def card(self) -> GeneratorCard:
        """How this generator can be had and steered."""
        title = "Stable Diffusion"
        if self.model == EMBEDDED:
            title += " (tiny, embedded, trained on simulated radiographs without disease labels)"
        licence = "CC BY 3.0" if self.model == EMBEDDED else "see the model's own card"
        return GeneratorCard(
            title=title,
            access="open weights",
            licence=licence,
            offline=True,
            seeds_reproducible=True,
            prompt_control="prompt, negative prompt, guidance",
            fine_tunable="yes (sd_lora)",
            hardware="two CPU cores" if self.model == EMBEDDED else "a GPU of 8 GB, or patience",
            set_up="none" if self.model == EMBEDDED else "download the weights once",
            price="one's own electricity",
        )

    @property
    def block_size(self) -> int:
        """A batch."""
        return self.batch_size

    @property
    def model_folder(self) -> Path | None:
        """The local folder of the weights; None for a hub id."""
        return self._base_weights.local_path

    @property
    def _base_weights(self) -> WeightsLocation:
        where = self.model
        if where == EMBEDDED:
            where = str(Path(__file__).parent.parent.parent / "assets" / "tiny-sd")
        return WeightsLocation(f"{self._option_prefix}.model", where, self.revision, self.mirrors)

    @property
    def _extra_weights(self) -> dict[str, WeightsLocation]:
        """The adapter and the small decoder, as far as they are asked for."""
        named = {
            "adapter": (self.adapter, self.adapter_revision),
            "tiny_vae": (self.tiny_vae, self.tiny_vae_revision),
        }
        return {
            option: WeightsLocation(f"{self._option_prefix}.{option}", where, revision)
            for option, (where, revision) in named.items()
            if where is not None
        }

    def content_digest(self) -> str:
        """SHA-256 of the local weights and settings, or the pinned hub revision."""
        own = self._base_weights.content_digest()
        extras = {
            option: weights.content_digest() for option, weights in self._extra_weights.items()
        }
        return digest([own, extras]) if extras else own

    def learning_record(self) -> LearningRecord | None:
        """Nothing of the study's own images."""
        return None

    @cached_property
    def _pipeline_folder(self) -> Path:
        return fetch_pipeline(self._base_weights)

    def load_pipeline(self, dtype: Any) -> Any:
        """The diffusers pipeline as it is published: on the CPU, without adapter and engine."""
        return read_pipeline(self._base_weights.option, self._pipeline_folder, dtype)

    def _adapt_pipeline(self, pipeline: Any) -> Any:
        """The pipeline as loaded, before it is moved and converted; for what learns from images."""
        return pipeline

    @cached_property
    def _loaded_pipeline(self) -> tuple[Any, Ledger]:
        """The pipeline, ready to draw, and what `measured` says of it."""
        import torch

        began = perf_counter()
        asked = {"engine": self.engine, "memory": self.memory}
        device = resolve_device(self._option_prefix, device=self.device, **asked)
        files = pipeline_files(self._base_weights.option, self._pipeline_folder)
        # In full precision until the LoRAs are fused.
        pipeline = self._load_extras(self.load_pipeline(torch.float32), files)
        pipeline = self._adapt_pipeline(pipeline)
        size = count_parameters(pipeline.unet)
        dtype = resolve_dtype(self.dtype, device=device, parameters=size)
        pipeline.scheduler = self._build_scheduler(pipeline.scheduler.config)
        configure_pipeline(pipeline, dtype=dtype, device=device, **asked)
        return pipeline, Ledger(
            load_seconds=perf_counter() - began,
            parameters=sum(count_parameters(part) for part in pipeline.components.values()),
            bytes_on_disk=sum(p.stat().st_size for group in files.values() for p in group),
            device=device,
            dtype=dtype,
            engine=self.engine,
            steps=self.steps,
        )

    def _build_scheduler(self, config: JsonObject) -> Any:
        """The scheduler that samples, by the option `scheduler`; `config` is that of the model's own."""
        import diffusers

        able = [
            name
            for name, (kind, _) in SCHEDULERS.items()
            if accepts_options(getattr(diffusers, kind), *ZERO_TERMINAL_SNR)
        ]
        class_name, options = SCHEDULERS[self.scheduler]
        return build_scheduler(
            getattr(diffusers, class_name),
            config,
            option=f"{self._option_prefix}.scheduler={self.scheduler}",
            remedy=f"set it to one of {', '.join(able)}",
            **options,
        )

    def _load_extras(self, pipeline: Any, files: dict[str, list[Path]]) -> Any:
        """With the adapter fused and the small decoder in place; `files` is brought up to date."""
        extras = self._extra_weights
        if "adapter" in extras:
            files["adapter"] = [fuse_adapter(pipeline, extras["adapter"])]
        if "tiny_vae" in extras:
            files["vae"] = [use_tiny_vae(pipeline, extras["tiny_vae"])]
        return pipeline

    @property
    def pipeline(self) -> Any:
        """The diffusers pipeline, loaded once, on its device, in its dtype, with its engine."""
        return self._loaded_pipeline[0]

    def _resolve_side_px(self, pipeline: Any) -> int:
        own = pipeline.unet.config.sample_size
        own = own if isinstance(own, int) else own[0]
        return self.size_px or own * pipeline.vae_scale_factor

    @cached_property
    def _sampler(self) -> Sampler:
        import torch

        pipeline, facts = self._loaded_pipeline
        on_cpu = facts.device == "cpu"
        small = count_parameters(pipeline.unet) < SMALL_UNET_PARAMETERS
        return Sampler(
            pipeline,
            steps=self.steps,
            guidance=self.guidance,
            side_px=self._resolve_side_px(pipeline),
            batch_size=self.batch_size if small or not on_cpu else 1,
            pad_batches=on_cpu or self.engine != "torch",
            serial_decoding=self.memory in ("offload", "sequential")
            or (on_cpu and torch.get_num_threads() > 1),  # they would wait for one another
            remedy=f"set {self._option_prefix}.memory, or a smaller {self._option_prefix}.size_px",
        )

    def model_ledger(self) -> Ledger:
        """What is known of the model once it is loaded; engine and steps before."""
        if "_loaded_pipeline" in vars(self):
            return self._loaded_pipeline[1]
        return Ledger(engine=self.engine, steps=self.steps, dtype=self.dtype)

    def generate(self, requests: Sequence[Request]) -> Iterator[GenerationResult]:
        """One result per request, in order; an image depends on nothing but its own request."""
        for batch in self._sampler.draw(requests):
            count = len(batch.requests)
            facts = {"seconds": batch.seconds / count, "batch": count}
            for request, image in zip(batch.requests, batch.values, strict=False):
                yield outcome_from_image(request, image, **facts)


def outcome_from_image(request: Request, image: np.ndarray, **facts: float) -> GenerationResult:
    """An image `(H, W, C)` in [0, 1] as grey pixels; black or non-finite output is a failure."""
    if not np.isfinite(image).all():
        return GenerationResult(
            request, "failed", reason="the model returned NaN or infinity", facts=facts
        )
    weights = [0.299, 0.587, 0.114] if image.shape[-1] == 3 else [1.0]
    grey = (image @ np.asarray(weights, np.float32)).clip(0, 1)
    pixels = np.rint(grey * 255).astype(np.uint8)
    if pixels.max() < 8:
        return GenerationResult(request, "failed", reason="the image is black", facts=facts)
    return GenerationResult(request, "image", pixels, facts=facts)
