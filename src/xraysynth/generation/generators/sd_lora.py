"""Stable Diffusion with low-rank adaptation to the study's own training images."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import Any

from xraysynth.class_names import class_file_name
from xraysynth.errors import ConfigError
from xraysynth.files import write_atomically
from xraysynth.generation.generators._finetuning import (
    ALL_CLASSES,
    LoraTrainer,
    combine_results,
    full_option_names,
)
from xraysynth.generation.generators._loading import fuse_finetuned_lora
from xraysynth.generation.generators._weight_files import count_stored_parameters
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
from xraysynth.options import FolderName, PathText
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


@dataclass(frozen=True)
class SdLora(StableDiffusion):
    """Stable Diffusion whose UNet carries a LoRA (Hu et al., arXiv:2106.09685).

    Without `weights` it is fine-tuned on the train split by the recipe `lora` (`xraysynth finetune`);
    `weights` names the folder or file of a LoRA that exists: of an earlier run, or any that diffusers
    reads. `scale` is the strength of the adaptation. `taught_by` is the key of the job that makes the
    weights; the stages set it, and it identifies the weights before they exist.
    """

    name: FolderName = "sd_lora"
    weights: PathText | None = field(default=None, metadata={"identity": False})
    scale: float = 1.0
    lora: LoraRecipe = field(default_factory=LoraRecipe, metadata={"identity": False})
    taught_by: str | None = None

    @property
    def card(self) -> GeneratorCard:
        """How this generator can be obtained and controlled."""
        base_card = super().card
        return replace(
            base_card,
            title=f"{base_card.title} with LoRA",
            set_up="fine-tune once on the train split",
            hardware="two CPU cores" if self.model_folder else "a GPU of 12 GB",
        )

    # Fine-tuning

    @property
    def needs_finetuning(self) -> bool:
        """True while `weights` is not set."""
        return self.weights is None

    @property
    def caption_column(self) -> str | None:
        """Column of the manifest that holds captions; None for captions from the prompt bank."""
        return None if self.lora.captions == "prompts" else self.lora.captions

    @property
    def captions_per_image(self) -> int:
        """Number of captions that are drawn from the prompt bank for every image."""
        return self.lora.captions_per_image

    def finetune_identity(self) -> JsonObject:
        """Return base model and recipe, which decide the weights together with images and captions."""
        return {"base": super().content_digest(), "recipe": to_json(self.lora)}

    def finetune(
        self,
        examples: Callable[[int], tuple[CaptionedImages, CaptionedImages]],
        *,
        folder: Path,
        cache: Path,
        logger: FinetuneLogger,
    ) -> FineTuning:
        """Fine-tune one LoRA for all classes, or one per class.

        Args:
            examples: Function from an image size in pixels to training and validation images of that
                size.
            folder: Folder of the weights. A training that was interrupted resumes there from its last
                checkpoint.
            cache: Folder of encoded images and captions.
            logger: Receives losses and sample images.

        Returns:
            Steps, seconds, number of parameters and history of the training.

        Raises:
            ConfigError: If images, model and recipe do not fit together.
            XraysynthError: If the loss is not finite, or the checkpoint in `folder` is damaged or
                belongs to another training.
        """
        import torch

        trainer = LoraTrainer(self.lora, self.steps, self.guidance, folder, cache, logger)
        pipeline = self.load_pipeline(torch.float32)
        training, validation = examples(self._resolve_side_px(pipeline))
        labels = sorted(set(training.labels)) if self.lora.per_class else [ALL_CLASSES]
        results = {}
        for label in labels:
            if pipeline is None:
                pipeline = self.load_pipeline(torch.float32)
            with full_option_names(self._option_prefix):
                results[label] = trainer.train(pipeline, training, validation, label=label)
            pipeline = None  # it is adapted to this class now
        finetune_identity = json.dumps(self.finetune_identity()).encode()
        write_atomically(folder / FINETUNE_IDENTITY_FILE, finetune_identity)
        return combine_results(results)

    def with_weights(self, job_key: str, folder: Path) -> "SdLora":
        """Return this generator with the weights that the job `job_key` writes to `folder`."""
        return replace(self, weights=str(folder), taught_by=job_key)

    # Generation

    def generate(self, requests: Sequence[Request]) -> Iterator[GenerationResult]:
        """Yield one result per request, in order; with one LoRA per class, each class by its own.

        Raises:
            ConfigError: If there is one LoRA per class, but none for the class of a request.
        """
        if not self._class_generators:
            yield from super().generate(requests)
            return
        for label, class_requests in groupby(requests, key=attrgetter("label")):
            name = class_file_name(label)
            if name not in self._class_generators:
                raise ConfigError(
                    f"generator.{self.name}.weights: {self._lora_folder.path} has a LoRA for "
                    f"{', '.join(self._class_generators)}, but none for class {label}; fine-tune again"
                )
            yield from self._class_generators[name].generate(list(class_requests))

    @cached_property
    def _class_generators(self) -> "dict[str, SdLora]":
        """One generator per folder of a class (`class_file_name`); empty for one LoRA for all."""
        files = self._lora_folder.weight_files
        if files[0].parent == self._lora_folder.path:
            return {}
        return {file.parent.name: replace(self, weights=str(file)) for file in files}

    def learning_record(self) -> LearningRecord | None:
        """Return the record of the training images; None for a LoRA without a record."""
        path = self._lora_folder.find_file(LEARNING_RECORD_FILE)
        return None if path is None else LearningRecord.read(path)

    def model_ledger(self) -> Ledger:
        """Return the ledger of `StableDiffusion.model_ledger`, with the number of LoRA parameters."""
        ledger = super().model_ledger()
        load_seconds = 0.0
        for generator in self._class_generators.values():  # each class loads a pipeline of its own
            class_ledger = StableDiffusion.model_ledger(generator)
            if class_ledger.load_seconds is not None:
                load_seconds += class_ledger.load_seconds
                ledger = replace(class_ledger, load_seconds=load_seconds)
        trained_parameters = sum(map(count_stored_parameters, self._lora_folder.weight_files))
        return replace(ledger, trained_parameters=trained_parameters)

    # Weights and scheduler

    @property
    def _lora_folder(self) -> LoraFolder:
        return LoraFolder(self.name, self.weights)

    def content_digest(self) -> str:
        """Return a digest of the base model, and of the LoRA's files or of the job that makes them."""
        weights_identity: Any = self.taught_by
        if weights_identity is None:
            files = self._lora_folder.weight_files
            weights_identity = [sha256_bytes(path.read_bytes()) for path in files]
        parts = [super().content_digest(), weights_identity]
        if self._replaces_scheduler:
            # Earlier versions sampled these images by a schedule that ended with signal left.
            parts.append("zero terminal SNR")
        return digest(parts)

    @property
    def _uses_zero_terminal_snr(self) -> bool:
        """Whether the LoRA was trained, or will be, with zero terminal SNR."""
        if self.taught_by is not None:
            return self.lora.zero_terminal_snr
        recipe = self._lora_folder.finetune_identity.get("recipe", {})
        return bool(recipe.get("zero_terminal_snr"))

    @property
    def _replaces_scheduler(self) -> bool:
        """Whether zero terminal SNR is set, but the model's own scheduler does not support it."""
        if not self._uses_zero_terminal_snr:
            return False
        if self.model_folder is None:  # on a hub: unknown before it is downloaded
            return True
        import diffusers

        model_index = json.loads((self.model_folder / "model_index.json").read_text())
        _, class_name = model_index["scheduler"]
        return not accepts_options(getattr(diffusers, class_name), *ZERO_TERMINAL_SNR)

    def _adapt_pipeline(self, pipeline: Any) -> Any:
        """Fuse the LoRA into the pipeline's weights, and install the scheduler it was trained with."""
        self._require_same_base()
        (file,) = self._lora_folder.weight_files
        fuse_finetuned_lora(
            pipeline, file, scale=self.scale, option_prefix=self._option_prefix, base=self.model
        )
        if self._uses_zero_terminal_snr:
            # The scheduler to sample by is built from the config of this one.
            pipeline.scheduler = rescale_to_zero_terminal_snr(pipeline.scheduler)
        return pipeline

    def _require_same_base(self) -> None:
        """Raise `ConfigError` if the record next to the LoRA names another base model."""
        model_digest = StableDiffusion.content_digest(self)
        base_digest = self._lora_folder.finetune_identity.get("base")
        if base_digest is None:  # shapes are compared when the LoRA is loaded
            return
        if base_digest != model_digest:
            raise ConfigError(
                f"generator.{self.name}.weights: the LoRA in {self._lora_folder.path} adapts another "
                f"model than generator.{self.name}.model={self.model} (weights {base_digest[:12]}, not "
                f"{model_digest[:12]}); name its base model, or fine-tune again"
            )
