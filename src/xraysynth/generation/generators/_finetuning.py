"""Trains the LoRAs of the generator `SdLora`: one for all classes, or one per class."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from xraysynth.class_names import class_file_name
from xraysynth.errors import XraysynthError
from xraysynth.generation.generators.base import FinetuneLogger, FineTuning
from xraysynth.generation.lora.recipe import LoraRecipe
from xraysynth.records import CaptionedImages

if TYPE_CHECKING:  # torch takes seconds to import
    from xraysynth.generation.lora.training_loop import LoraResult

ALL_CLASSES = ""
"""Name in place of a class, for a LoRA that is trained on all classes."""


@contextmanager
def full_option_names(generator: str) -> Iterator[None]:
    """Name the options of a recipe in error messages as the command line does.

    >>> with full_option_names("generator.sd_lora"):
    ...     raise XraysynthError("set lora.patience=0")
    Traceback (most recent call last):
    xraysynth.errors.XraysynthError: set generator.sd_lora.lora.patience=0

    Args:
        generator: Name of the generator's section.
    """
    try:
        yield
    except XraysynthError as error:
        messages = map(str, error.args)
        error.args = tuple(
            re.sub(r"(?<![\w.])lora\.(?=[a-z])", f"{generator}.lora.", message)
            for message in messages
        )
        raise


@dataclass(frozen=True)
class LoraTrainer:
    """Trains the LoRAs of a generator.

    Attributes:
        recipe: Settings of the training.
        steps: Number of denoising steps of sample images.
        guidance: Scale of classifier-free guidance of sample images.
        folder: Folder of the weights, with one subfolder per class if there is one LoRA per class.
        cache: Folder of encoded images and captions.
        logger: Receives losses and sample images.
    """

    recipe: LoraRecipe
    steps: int
    guidance: float
    folder: Path
    cache: Path
    logger: FinetuneLogger

    def train(
        self, pipeline: Any, training: CaptionedImages, validation: CaptionedImages, *, label: str
    ) -> "LoraResult":
        """Train one LoRA; an interrupted training resumes from its checkpoint.

        Args:
            pipeline: Pipeline in float32 on the CPU; the LoRA is added to it in place.
            training: Training images of all classes.
            validation: Validation images of all classes.
            label: Class on whose images the LoRA is trained, or `ALL_CLASSES`.
        """
        from xraysynth.generation.lora.training import train

        if label != ALL_CLASSES:
            training = training.select_class(label)
            validation = validation.select_class(label)
        prefix = f"{label}/" if label != ALL_CLASSES else ""
        folder = self.folder / class_file_name(label) if label != ALL_CLASSES else self.folder

        def log(entry: Mapping[str, float]) -> None:
            self.logger.log(entry, prefix=prefix)

        def log_samples(adapted: Any, step: int) -> None:
            captions = self._sample_captions(training)
            images = self._sample_images(adapted, captions)
            self.logger.log_samples(images, captions, step=step, prefix=prefix)

        return train(
            pipeline,
            training,
            validation,
            self.recipe,
            folder=folder,
            cache=self.cache,
            on_log=log,
            on_validation=log_samples if self.recipe.samples_per_class else None,
        )

    def _sample_captions(self, training: CaptionedImages) -> list[str]:
        """Return, for each class, the first captions of its first image."""
        captions: list[str] = []
        for label in sorted(set(training.labels)):
            first_image_captions = training.select_class(label).captions[0]
            captions.extend(first_image_captions[: self.recipe.samples_per_class])
        return captions

    def _sample_images(self, pipeline: Any, captions: list[str]) -> np.ndarray:
        """Sample one grey image per caption, `(N, H, W)` in [0, 1]; the noise is the same at every call."""
        import torch

        images = pipeline(
            captions,
            num_inference_steps=self.steps,
            guidance_scale=self.guidance,
            generator=[torch.Generator("cpu").manual_seed(n) for n in range(len(captions))],
            output_type="np",
        ).images
        grey: np.ndarray = np.asarray(images).mean(axis=-1)
        return grey


def combine_results(results: "Mapping[str, LoraResult]") -> FineTuning:
    """Add up steps, seconds and parameters of one or several LoRAs, and join their histories.

    Args:
        results: Result of each LoRA, by class or `ALL_CLASSES`.
    """
    history: list[Mapping[str, float | str]] = []
    steps, seconds, trained_parameters = 0, 0.0, 0
    for label, result in results.items():
        steps += result.steps
        seconds += result.seconds
        trained_parameters += result.trained_parameters
        for entry in result.history:
            history.append({"part": label, **entry})
    return FineTuning(
        steps=steps, seconds=seconds, trained_parameters=trained_parameters, history=history
    )
