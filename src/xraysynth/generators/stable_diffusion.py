"""Stable Diffusion through diffusers: the embedded model, a local folder, or a pinned hub id."""

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from xraysynth.errors import ConfigError, DataNotFoundError
from xraysynth.generators.base import Card
from xraysynth.records import Generated, Request
from xraysynth.seeds import digest

EMBEDDED = "embedded"
SCHEDULERS = {
    "dpm-solver++": ("DPMSolverMultistepScheduler", {"algorithm_type": "dpmsolver++"}),
    "unipc": ("UniPCMultistepScheduler", {}),
    "ddim": ("DDIMScheduler", {}),
    "euler": ("EulerDiscreteScheduler", {}),
}


_DECISIVE = (".safetensors", ".json", ".txt")


@dataclass(frozen=True)
class StableDiffusion:
    """Text to image with a latent diffusion model (Rombach et al., arXiv:2112.10752).

    `model` is "embedded" (a tiny model that ships with the package), a diffusers folder, or a hub id,
    for which `revision` must be the commit it is pinned to; `mirrors` are hub ids tried in turn when
    the first is gone. `size_px` is the side the model draws at; None takes the model's own.
    The safety checker is not loaded: it was trained on photographs, takes radiographs for nudity and
    then returns black images. Images that are black or not finite are failures.
    """

    name: str = "stable_diffusion"
    model: str = EMBEDDED
    revision: str | None = None
    mirrors: tuple[str, ...] = field(default=(), metadata={"identity": False})
    steps: int = 20
    guidance: float = 2.0
    scheduler: str = "dpm-solver++"
    dtype: str = "float32"
    size_px: int | None = None
    batch_size: int = field(default=8, metadata={"identity": False})
    device: str = field(default="auto", metadata={"identity": False})

    def __post_init__(self) -> None:
        object.__setattr__(self, "mirrors", tuple(self.mirrors))
        rules = {
            f"generator.{self.name}.scheduler must be one of {', '.join(SCHEDULERS)}; "
            f"got {self.scheduler!r}": self.scheduler in SCHEDULERS,
            f"generator.{self.name}.dtype must be float32, bfloat16 or float16; "
            f"got {self.dtype!r}": self.dtype in ("float32", "bfloat16", "float16"),
            f"generator.{self.name}.steps must be at least 1; got {self.steps}": self.steps >= 1,
            f"generator.{self.name}.batch_size must be at least 1; "
            f"got {self.batch_size}": self.batch_size >= 1,
        }
        for message, holds in rules.items():
            if not holds:
                raise ConfigError(message)

    @property
    def card(self) -> Card:
        """How this generator can be had and steered."""
        title = "Stable Diffusion"
        if self.model == EMBEDDED:
            title += " (tiny, embedded, trained on simulated radiographs without disease labels)"
        licence = "CC BY 3.0" if self.model == EMBEDDED else "see the model's own card"
        return Card(
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
    def block(self) -> int:
        """A batch."""
        return self.batch_size

    @property
    def folder(self) -> Path | None:
        """The local folder of the weights; None for a hub id."""
        if self.model == EMBEDDED:
            return Path(__file__).parent.parent / "assets" / "tiny-sd"
        path = Path(self.model).expanduser()
        looks_local = self.model.startswith((".", "/", "~")) or self.model.count("/") != 1
        if looks_local and not path.is_dir():
            raise DataNotFoundError(
                f"generator.{self.name}.model: no folder {path}; give a diffusers folder, a hub id "
                f"such as owner/name with a revision, or {EMBEDDED!r}"
            )
        return path if path.is_dir() else None

    def content_digest(self) -> str:
        """SHA-256 of the local weights and settings, or the pinned hub revision."""
        if self.folder is None:
            return self._pinned_revision()
        found = [p for p in sorted(self.folder.rglob("*")) if p.suffix in _DECISIVE]
        stamps = tuple((p, p.stat().st_size, p.stat().st_mtime_ns) for p in found)
        return _files_digest(self.folder, stamps)

    def _pinned_revision(self) -> str:
        if self.revision is None or len(self.revision) != 40:
            raise ConfigError(
                f"generator.{self.name}.revision must be the 40-digit commit of hub model "
                f"{self.model!r}, so that the run can be repeated; got {self.revision!r}"
            )
        return self.revision

    @cached_property
    def pipeline(self) -> Any:
        """The diffusers pipeline, loaded once, on the device and in the dtype asked for."""
        import diffusers
        import torch
        import transformers

        for library in (diffusers, transformers):  # their bars would break ours
            library.logging.set_verbosity_error()
            library.logging.disable_progress_bar()
        pipeline = self._load(getattr(torch, self.dtype))
        class_name, options = SCHEDULERS[self.scheduler]
        scheduler = getattr(diffusers, class_name)
        pipeline.scheduler = scheduler.from_config(pipeline.scheduler.config, **options)
        pipeline.set_progress_bar_config(disable=True)
        device = self.device
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        return pipeline.to(device)

    def measured(self) -> dict[str, Any]:
        """Engine, dtype and steps."""
        return {"engine": "torch", "dtype": self.dtype, "steps": self.steps}

    def _load(self, dtype: Any) -> Any:
        import diffusers

        pipeline: Any = diffusers.DiffusionPipeline
        options = {"dtype": dtype, "safety_checker": None, "use_safetensors": True}
        if self.folder is not None:
            return pipeline.from_pretrained(self.folder, local_files_only=True, **options)
        tried = []
        for model in (self.model, *self.mirrors):
            try:
                return pipeline.from_pretrained(
                    model,
                    revision=self._pinned_revision(),
                    local_files_only=bool(os.environ.get("HF_HUB_OFFLINE")),
                    **options,
                )
            except OSError as error:
                tried.append(f"{model} ({str(error).splitlines()[0]})")
        raise DataNotFoundError(
            f"generator.{self.name}.model could not be loaded from {'; '.join(tried)}. Connect to the "
            f"hub, name a mirror, or download it and set generator.{self.name}.model to its folder"
        )

    def generate(self, requests: Sequence[Request]) -> Iterator[Generated]:
        """One result per request, in order; an image depends on nothing but its own request."""
        for start in range(0, len(requests), self.batch_size):
            batch = requests[start : start + self.batch_size]
            began = perf_counter()
            images = self._sample(batch)
            seconds = (perf_counter() - began) / len(batch)
            for request, image in zip(batch, images, strict=True):
                yield judge(request, image, seconds=seconds)

    def _sample(self, batch: Sequence[Request]) -> np.ndarray:
        """`(B, H, W, C)` float32 in [0, 1]; noise is drawn on the CPU, one generator an image."""
        import torch

        generators = [torch.Generator("cpu").manual_seed(request.seed) for request in batch]
        pipeline, unet = self.pipeline, self.pipeline.unet
        side = self.size_px or unet.config.sample_size * pipeline.vae_scale_factor
        latent_side = side // pipeline.vae_scale_factor
        shape = (1, unet.config.in_channels, latent_side, latent_side)
        noise = torch.cat([torch.randn(shape, generator=g) for g in generators])
        result = pipeline(
            prompt=[request.prompt for request in batch],
            negative_prompt=[request.negative_prompt for request in batch],
            num_inference_steps=self.steps,
            guidance_scale=self.guidance,
            height=side,
            width=side,
            latents=noise.to(pipeline.device, unet.dtype),
            generator=generators,
            output_type="np",
        )
        return np.asarray(result.images, dtype=np.float32)


@cache
def _files_digest(folder: Path, stamps: tuple[tuple[Path, int, int], ...]) -> str:
    """One digest over names and contents; the stamps keep gigabytes from being read again."""
    return digest([[str(path.relative_to(folder)), _sha256(path)] for path, _, _ in stamps])


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def judge(request: Request, image: np.ndarray, *, seconds: float) -> Generated:
    """An image `(H, W, C)` in [0, 1] as grey pixels; black or non-finite output is a failure."""
    facts = {"seconds": seconds}
    if not np.isfinite(image).all():
        return Generated(
            request, "failed", reason="the model returned NaN or infinity", facts=facts
        )
    weights = [0.299, 0.587, 0.114] if image.shape[-1] == 3 else [1.0]
    grey = (image @ np.asarray(weights, np.float32)).clip(0, 1)
    pixels = np.rint(grey * 255).astype(np.uint8)
    if pixels.max() < 8:
        return Generated(request, "failed", reason="the image is black", facts=facts)
    return Generated(request, "image", pixels, facts=facts)
