"""Stable Diffusion with low-rank adaptation to the study's own training images."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from xraysynth.errors import ConfigError
from xraysynth.files import write_atomically
from xraysynth.generation.generators._loading import count_stored_parameters, tensor_shapes
from xraysynth.generation.generators.base import FinetuneLogger, FineTuning, GeneratorCard
from xraysynth.generation.generators.stable_diffusion import StableDiffusion
from xraysynth.generation.ledger import Ledger
from xraysynth.generation.lora.folder import FINETUNE_IDENTITY_FILE, LoraFolder
from xraysynth.generation.lora.recipe import LoraRecipe
from xraysynth.generation.schedulers import (
    ZERO_TERMINAL_SNR,
    accepts_options,
    rescale_to_zero_terminal_snr,
)
from xraysynth.records import (
    LEARNING_RECORD_FILE,
    CaptionedImages,
    GenerationResult,
    JsonObject,
    LearningRecord,
    Request,
    sha256_bytes,
    to_json,
)
from xraysynth.seeds import digest

if TYPE_CHECKING:  # torch takes seconds to import
    from xraysynth.generation.lora.training_loop import LoraResult


@dataclass(frozen=True)
class SdLora(StableDiffusion):
    """Stable Diffusion whose UNet carries a LoRA (Hu et al., arXiv:2106.09685).

    Without `weights` it learns from the train split by the recipe `lora` (`xraysynth finetune`);
    `weights` names the folder of one that exists: of an earlier run, or any that diffusers reads.
    `scale` is the strength of the adaptation. `taught_by` is the key of the job that made the
    weights, set by the stages: it stands for them before they exist.
    """

    name: str = "sd_lora"
    weights: str | None = field(default=None, metadata={"identity": False})
    scale: float = 1.0
    lora: LoraRecipe = field(default_factory=LoraRecipe, metadata={"identity": False})
    taught_by: str | None = None

    @property
    def card(self) -> GeneratorCard:
        """How this generator can be had and steered."""
        return replace(
            super().card,
            title=f"{super().card.title} with LoRA",
            set_up="fine-tune once on the train split",
            hardware="two CPU cores" if self.model_folder else "a GPU of 12 GB",
        )

    def content_digest(self) -> str:
        """Of the base model, and of the weights or of the job that makes them."""
        by: Any = self.taught_by
        if by is None:
            by = [sha256_bytes(path.read_bytes()) for path in self._lora_folder.weight_files]
        # Earlier versions drew these images from a schedule that ended with signal left.
        redrawn = ["zero terminal SNR"] if self._replaces_scheduler else []
        return digest([super().content_digest(), by, *redrawn])

    @property
    def _uses_zero_terminal_snr(self) -> bool:
        """Whether the LoRA was trained, or will be, with zero terminal SNR."""
        if self.taught_by is not None:
            return self.lora.zero_terminal_snr
        return bool(self._lora_folder.finetune_identity.get("recipe", {}).get("zero_terminal_snr"))

    @property
    def _replaces_scheduler(self) -> bool:
        """Whether zero terminal SNR is set, and the model's own scheduler cannot be given it."""
        if not self._uses_zero_terminal_snr:
            return False
        if self.model_folder is None:  # on a hub: unknown before it is downloaded
            return True
        import diffusers

        _, kind = json.loads((self.model_folder / "model_index.json").read_text())["scheduler"]
        return not accepts_options(getattr(diffusers, kind), *ZERO_TERMINAL_SNR)

    def finetune_identity(self) -> JsonObject:
        """What decides the weights, besides the images and captions."""
        return {"base": super().content_digest(), "recipe": to_json(self.lora)}

    def with_weights(self, job_key: str, folder: Path) -> "SdLora":
        """This generator with the weights that job `by` leaves in `folder`."""
        return replace(self, weights=str(folder), taught_by=job_key)

    @property
    def needs_finetuning(self) -> bool:
        """True while nobody has said where the weights are."""
        return self.weights is None

    @property
    def caption_column(self) -> str | None:
        """Column of the manifest with captions; None for the prompt bank."""
        return None if self.lora.captions == "prompts" else self.lora.captions

    @property
    def captions_per_image(self) -> int:
        """Captions from the prompt bank for every image."""
        return self.lora.captions_per_image

    @property
    def _lora_folder(self) -> LoraFolder:
        return LoraFolder(self.name, self.weights)

    def learning_record(self) -> LearningRecord | None:
        """The record of what it has seen; None for a LoRA that came without."""
        path = self._lora_folder.find_file(LEARNING_RECORD_FILE)
        return None if path is None else LearningRecord.read(path)

    def model_ledger(self) -> Ledger:
        """As for the base, and how many parameters were trained."""
        model = super().model_ledger()
        trained_parameters = sum(map(count_stored_parameters, self._lora_folder.weight_files))
        parts = [StableDiffusion.model_ledger(part) for part in self._class_generators.values()]
        loaded = [part for part in parts if part.load_seconds is not None]
        if loaded:  # each class loads a pipeline of its own
            load_seconds = sum(part.load_seconds or 0.0 for part in loaded)
            model = replace(loaded[-1], load_seconds=load_seconds)
        return replace(model, trained_parameters=trained_parameters)

    def generate(self, requests: Sequence[Request]) -> Iterator[GenerationResult]:
        """One result per request, in order; with one LoRA a class, each class by its own."""
        if not self._class_generators:
            yield from super().generate(requests)
            return
        for label, group in groupby(requests, key=lambda r: r.label):
            if label not in self._class_generators:
                raise ConfigError(
                    f"generator.{self.name}.weights: {self._lora_folder.path} has a LoRA for "
                    f"{', '.join(self._class_generators)}, but none for class {label}; fine-tune again"
                )
            yield from self._class_generators[label].generate(list(group))

    @cached_property
    def _class_generators(self) -> "dict[str, SdLora]":
        """One generator per class if every class has a LoRA of its own, else none."""
        files = self._lora_folder.weight_files
        if files[0].parent == self._lora_folder.path:
            return {}
        return {path.parent.name: replace(self, weights=str(path)) for path in files}

    def finetune(
        self,
        examples: Callable[[int], tuple[CaptionedImages, CaptionedImages]],
        *,
        folder: Path,
        cache: Path,
        logger: FinetuneLogger,
    ) -> FineTuning:
        """Fine-tune on `examples(side_px)`, a training and a validation set; weights go to `folder`.

        Killed and started again with the same folder, it goes on from its last checkpoint.
        """
        import torch

        pipeline = self.load_pipeline(torch.float32)
        training, validation = examples(self._resolve_side_px(pipeline))
        results = {}
        for part in sorted(set(training.labels)) if self.lora.per_class else [""]:
            pair = (
                (training.select_class(part), validation.select_class(part))
                if part
                else (training, validation)
            )
            fresh = pipeline or self.load_pipeline(torch.float32)
            results[part] = self._finetune_one(fresh, pair, folder / part, cache, logger)
            pipeline = None  # it is adapted now
        write_atomically(
            folder / FINETUNE_IDENTITY_FILE, json.dumps(self.finetune_identity()).encode()
        )
        return _combine_results(results)

    def _finetune_one(
        self,
        pipeline: Any,
        examples: tuple[CaptionedImages, CaptionedImages],
        folder: Path,
        cache: Path,
        logger: FinetuneLogger,
    ) -> "LoraResult":
        from xraysynth.generation.lora.training import train

        training, validation = examples
        prefix = f"{folder.name}/" if self.lora.per_class else ""

        def log_samples(tuned: Any, step: int) -> None:
            logger.log_samples(*self._draw_samples(tuned, training), step=step, prefix=prefix)

        return train(
            pipeline,
            training,
            validation,
            self.lora,
            folder=folder,
            cache=cache,
            on_log=lambda entry: logger.log(entry, prefix=prefix),
            on_validation=log_samples if self.lora.samples_per_class else None,
        )

    def _draw_samples(
        self, pipeline: Any, training: CaptionedImages
    ) -> tuple[np.ndarray, list[str]]:
        """A few images of every class by the weights so far, always from the same noise."""
        import torch

        captions = [
            caption
            for label in sorted(set(training.labels))
            for caption in training.select_class(label).captions[0][: self.lora.samples_per_class]
        ]
        images = pipeline(
            captions,
            num_inference_steps=self.steps,
            guidance_scale=self.guidance,
            generator=[torch.Generator("cpu").manual_seed(n) for n in range(len(captions))],
            output_type="np",
        ).images
        return np.asarray(images).mean(axis=-1), captions

    def _adapt_pipeline(self, pipeline: Any) -> Any:
        """The pipeline with the LoRA fused into its weights, so that it costs no time."""
        self._require_same_base()
        (path,) = self._lora_folder.weight_files
        try:
            pipeline.load_lora_weights(str(path.parent), weight_name=path.name)
        except Exception as error:  # safetensors and torch raise different kinds
            raise ConfigError(
                f"generator.{self.name}.weights: {path} cannot be put on {self.model}: "
                f"{str(error).splitlines()[0]}. The file is damaged, or the LoRA of another model; "
                "fine-tune again or name its own base in "
                f"generator.{self.name}.model"
            ) from error
        self._require_all_weights_loaded(pipeline, path)
        pipeline.fuse_lora(lora_scale=self.scale)
        pipeline.unload_lora_weights()
        if self._uses_zero_terminal_snr:
            # The scheduler that samples is built from this one's config.
            pipeline.scheduler = rescale_to_zero_terminal_snr(pipeline.scheduler)
        return pipeline

    def _require_all_weights_loaded(self, pipeline: Any, path: Path) -> None:
        """Diffusers passes over weights whose names it cannot place, and says nothing."""
        modules = [part for part in pipeline.components.values() if hasattr(part, "parameters")]
        placed = sum("lora_" in name for part in modules for name, _ in part.named_parameters())
        weights = sum(not name.endswith("alpha") for name in tensor_shapes(path))
        if placed != weights:
            raise ConfigError(
                f"generator.{self.name}.weights: of {weights} weights in {path} diffusers has put {placed} "
                "on the model, and passed over the others; save the LoRA in peft's names "
                "(lora_A, lora_B) throughout"
            )

    def _require_same_base(self) -> None:
        own = StableDiffusion.content_digest(self)
        base = self._lora_folder.finetune_identity.get(
            "base", own
        )  # else the shapes are checked when it is loaded
        if base != own:
            raise ConfigError(
                f"generator.{self.name}.weights: the LoRA in {self._lora_folder.path} adapts "
                "another model than "
                f"generator.{self.name}.model={self.model} (weights {base[:12]}, not {own[:12]}); name "
                "its base, or fine-tune again"
            )


def _combine_results(results: "Mapping[str, LoraResult]") -> FineTuning:
    """One LoRA's figures, or those of one a class together."""
    history: list[Mapping[str, float | str]] = []
    for part, result in results.items():
        history += [{"part": part, **entry} for entry in result.history]
    return FineTuning(
        steps=sum(result.steps for result in results.values()),
        seconds=sum(result.seconds for result in results.values()),
        trained_parameters=sum(result.trained_parameters for result in results.values()),
        history=history,
    )
