"""Stable Diffusion through diffusers: the embedded model, a local folder, or a pinned hub id."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from time import perf_counter
from typing import Annotated, Any

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
from xraysynth.generation.generators._hub import WeightsLocation
from xraysynth.generation.generators._loading import (
    fetch_pipeline,
    fuse_adapter,
    read_pipeline,
    use_tiny_vae,
)
from xraysynth.generation.generators._outcomes import outcome_from_image
from xraysynth.generation.generators._sampling import Sampler
from xraysynth.generation.generators._weight_files import ComponentFiles, pipeline_files
from xraysynth.generation.generators.base import GeneratorCard
from xraysynth.generation.ledger import Ledger
from xraysynth.generation.schedulers import ZERO_TERMINAL_SNR, accepts_options, build_scheduler
from xraysynth.options import Count, FolderName, PathText, Rule, one_of, require_valid
from xraysynth.records import GenerationResult, JsonObject, LearningRecord, Request
from xraysynth.seeds import digest
from xraysynth.threads import choose_threads

EMBEDDED = "embedded"
"""Name of the tiny model that ships with the package."""

SCHEDULERS = {
    "dpm-solver++": ("DPMSolverMultistepScheduler", {"algorithm_type": "dpmsolver++"}),
    "unipc": ("UniPCMultistepScheduler", {}),
    "ddim": ("DDIMScheduler", {}),
    "euler": ("EulerDiscreteScheduler", {}),
    "lcm": ("LCMScheduler", {}),
}
"""Diffusers' class and its settings, by the value of the option `scheduler`."""

_NOT_IN_IDENTITY = {"identity": False}


@dataclass(frozen=True)
class StableDiffusion:
    """Text to image with a latent diffusion model (Rombach et al., arXiv:2112.10752): SD 1, 2, XL.

    `model` is "embedded" (a tiny model that ships with the package), a diffusers folder, or a hub id.
    A hub id needs `revision`, the commit that it is pinned to; `mirrors` are hub ids that are tried in
    turn when the first fails. `adapter` is a LoRA for fewer steps (LCM-LoRA), which is fused into the
    model, and `tiny_vae` a tiny VAE (TAESD) in the place of the model's own; both are a local path, or
    a hub id with `adapter_revision` and `tiny_vae_revision`.

    `steps` is the number of denoising steps by `scheduler`, `guidance` the scale of classifier-free
    guidance, and `size_px` the width and height of the images; null takes the model's own size.

    `engine` is torch, compile (torch.compile) or openvino (CPU). `dtype` auto is half precision where
    the hardware has it, and float32 for UNets below 100 M parameters. `batch_size` images are sampled
    together; a batch that does not fit into memory is halved. On a CPU, larger UNets sample one image at
    a time, since they gain nothing from batches there. `memory` is none or slicing, and on a GPU also
    offload or sequential. `device` is auto, cpu or a GPU such as cuda:1.

    The safety checker is not loaded: it was trained on photographs, takes radiographs for nudity and
    then returns black images. Images that are black or not finite are failures.
    """

    name: FolderName = "stable_diffusion"
    model: PathText = EMBEDDED
    revision: str | None = None
    mirrors: tuple[str, ...] = field(default=(), metadata=_NOT_IN_IDENTITY)
    adapter: PathText | None = None
    adapter_revision: str | None = None
    tiny_vae: PathText | None = None
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
        """How this generator can be obtained and controlled."""
        is_embedded = self.model == EMBEDDED
        title = "Stable Diffusion"
        if is_embedded:
            title += " (tiny, embedded, trained on simulated radiographs without disease labels)"
        return GeneratorCard(
            title=title,
            access="open weights",
            licence="CC BY 3.0" if is_embedded else "see the model's own card",
            offline=True,
            seeds_reproducible=True,
            prompt_control="prompt, negative prompt, guidance",
            fine_tunable="yes (sd_lora)",
            hardware="two CPU cores" if is_embedded else "a GPU of 8 GB, or patience",
            set_up="none" if is_embedded else "download the weights once",
            price="one's own electricity",
        )

    @property
    def block_size(self) -> int:
        """Number of requests that are passed to `generate` together: one batch."""
        return self.batch_size

    def generate(self, requests: Sequence[Request]) -> Iterator[GenerationResult]:
        """Yield one result per request, in order; each image depends on its own request alone."""
        for batch in self._sampler.sample(requests):
            count = len(batch.requests)
            facts = {"seconds": batch.seconds / count, "batch": count}
            for request, image in zip(batch.requests, batch.values, strict=False):
                yield outcome_from_image(request, image, **facts)

    def content_digest(self) -> str:
        """Return the SHA-256 (hex) of local weights and settings, or the pinned hub revision."""
        base_digest = self._base_weights.content_digest()
        extra_digests = {}
        for option, weights in self._extra_weights.items():
            extra_digests[option] = weights.content_digest()
        return digest([base_digest, extra_digests]) if extra_digests else base_digest

    def learning_record(self) -> LearningRecord | None:
        """Return None, since the model was trained on no image of the study."""
        return None

    def model_ledger(self) -> Ledger:
        """Return size, device and load time of the loaded pipeline; before, engine, steps and dtype."""
        is_loaded = "_loaded_pipeline" in vars(self)
        if is_loaded:
            return self._loaded_pipeline[1]
        return Ledger(engine=self.engine, steps=self.steps, dtype=self.dtype)

    # Weights

    @property
    def model_folder(self) -> Path | None:
        """Local folder of the weights; None for a hub id."""
        return self._base_weights.local_path

    @property
    def _base_weights(self) -> WeightsLocation:
        name_or_path = self.model
        if name_or_path == EMBEDDED:
            name_or_path = str(Path(__file__).parent.parent.parent / "assets" / "tiny-sd")
        option = f"{self._option_prefix}.model"
        return WeightsLocation(option, name_or_path, self.revision, self.mirrors)

    @property
    def _extra_weights(self) -> dict[str, WeightsLocation]:
        """Locations of the adapter and the tiny VAE, by option, if they are set."""
        settings = {
            "adapter": (self.adapter, self.adapter_revision),
            "tiny_vae": (self.tiny_vae, self.tiny_vae_revision),
        }
        locations = {}
        for name, (name_or_path, revision) in settings.items():
            if name_or_path is not None:
                option = f"{self._option_prefix}.{name}"
                locations[name] = WeightsLocation(option, name_or_path, revision)
        return locations

    # The pipeline

    @property
    def pipeline(self) -> Any:
        """Diffusers pipeline, loaded once, on its device, in its dtype, with its engine."""
        return self._loaded_pipeline[0]

    @cached_property
    def _loaded_pipeline(self) -> tuple[Any, Ledger]:
        """Pipeline that is ready to sample, and its entries in the ledger."""
        import torch

        started = perf_counter()
        engine_options = {"engine": self.engine, "memory": self.memory}
        device = resolve_device(self._option_prefix, device=self.device, **engine_options)
        files = pipeline_files(self._base_weights.option, self._pipeline_folder)
        pipeline = self.load_pipeline(torch.float32)  # full precision until the LoRAs are fused
        variants = sorted({found.variant for found in files.values() if found.variant})
        files.update(self._load_extras(pipeline))
        pipeline = self._adapt_pipeline(pipeline)
        unet_parameters = count_parameters(pipeline.unet)
        dtype = resolve_dtype(self.dtype, device=device, parameters=unet_parameters)
        pipeline.scheduler = self._build_scheduler(pipeline.scheduler.config)
        configure_pipeline(pipeline, dtype=dtype, device=device, **engine_options)
        ledger = Ledger(
            load_seconds=perf_counter() - started,
            parameters=sum(map(count_parameters, pipeline.components.values())),
            bytes_on_disk=_total_bytes(files),
            device=device,
            dtype=dtype,
            variant=", ".join(variants) or None,
            engine=self.engine,
            steps=self.steps,
        )
        return pipeline, ledger

    @cached_property
    def _pipeline_folder(self) -> Path:
        return fetch_pipeline(self._base_weights)

    def load_pipeline(self, dtype: Any) -> Any:
        """Load the diffusers pipeline as it is published: on the CPU, without adapter and engine.

        Args:
            dtype: Torch dtype of the weights.
        """
        return read_pipeline(self._base_weights.option, self._pipeline_folder, dtype)

    def _load_extras(self, pipeline: Any) -> dict[str, ComponentFiles]:
        """Fuse the adapter and install the tiny VAE; return their files by component."""
        files = {}
        if "adapter" in self._extra_weights:
            adapter = fuse_adapter(pipeline, self._extra_weights["adapter"])
            files["adapter"] = ComponentFiles([adapter])
        if "tiny_vae" in self._extra_weights:
            files["vae"] = ComponentFiles([use_tiny_vae(pipeline, self._extra_weights["tiny_vae"])])
        return files

    def _adapt_pipeline(self, pipeline: Any) -> Any:
        """Return the pipeline unchanged; `SdLora` fuses its LoRA here, before any conversion."""
        return pipeline

    def _build_scheduler(self, config: JsonObject) -> Any:
        """Build the scheduler to sample by, from the config of the model's own scheduler."""
        import diffusers

        class_name, options = SCHEDULERS[self.scheduler]
        return build_scheduler(
            getattr(diffusers, class_name),
            config,
            option=f"{self._option_prefix}.scheduler={self.scheduler}",
            remedy=f"set it to one of {', '.join(_schedulers_with_zero_terminal_snr())}",
            **options,
        )

    def _resolve_side_px(self, pipeline: Any) -> int:
        """Return width and height of the images: `size_px`, or the size the model was trained at."""
        native_size = pipeline.unet.config.sample_size
        if not isinstance(native_size, int):
            native_size = native_size[0]
        return self.size_px or native_size * pipeline.vae_scale_factor

    @cached_property
    def _sampler(self) -> Sampler:
        pipeline, ledger = self._loaded_pipeline
        on_cpu = ledger.device == "cpu"
        is_small = count_parameters(pipeline.unet) < SMALL_UNET_PARAMETERS
        is_offloaded = self.memory in ("offload", "sequential")
        threads = choose_threads(is_large=not (on_cpu and is_small))
        # Two threads of several kernels each would only wait for one another on a CPU.
        shares_cores = on_cpu and threads > 1
        return Sampler(
            pipeline,
            steps=self.steps,
            guidance=self.guidance,
            side_px=self._resolve_side_px(pipeline),
            batch_size=self.batch_size if is_small or not on_cpu else 1,
            pad_batches=on_cpu or self.engine != "torch",
            serial_decoding=is_offloaded or shares_cores,
            threads=threads,
            remedy=f"set {self._option_prefix}.memory, or a smaller {self._option_prefix}.size_px",
        )


def _schedulers_with_zero_terminal_snr() -> list[str]:
    """Return the schedulers whose class supports zero terminal SNR."""
    import diffusers

    names = []
    for name, (class_name, _) in SCHEDULERS.items():
        if accepts_options(getattr(diffusers, class_name), *ZERO_TERMINAL_SNR):
            names.append(name)
    return names


def _total_bytes(files: dict[str, ComponentFiles]) -> int:
    """Return the size of all files on disk."""
    total = 0
    for component_files in files.values():
        total += sum(file.stat().st_size for file in component_files.files)
    return total
