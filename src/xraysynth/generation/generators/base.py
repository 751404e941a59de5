"""Protocols of generators: what every generator, a fine-tunable one and a paid one must provide."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self, runtime_checkable

from xraysynth.generation.ledger import Ledger
from xraysynth.records import CaptionedImages, GenerationResult, JsonObject, LearningRecord, Request

if TYPE_CHECKING:  # help pages are made without numpy
    import numpy as np


SERVICES = ("API", "local server")
"""Values of `GeneratorCard.access` for generators that compute elsewhere, with unknown memory and energy."""

ARCHIVE = "archive"
"""Value of `GeneratorCard.access` for images that exist already, at unknown cost."""


@dataclass(frozen=True, kw_only=True)
class GeneratorCard:
    """How a generator can be obtained and controlled; the report shows it with the results.

    Attributes:
        title: Name of the model.
        access: One of `SERVICES`, `ARCHIVE`, or any other text for a generator on this machine.
        licence: Licence of the weights or images.
        offline: True if images can be generated without a network.
        seeds_reproducible: True if equal seeds give equal images.
        prompt_control: What steers the image, such as "prompt, negative prompt, guidance".
        fine_tunable: "no", or "yes" with the generator that does it.
        hardware: Least hardware needed.
        set_up: What has to be done once.
        price: What an image costs, or why it costs nothing.
    """

    title: str
    access: str
    licence: str
    offline: bool
    seeds_reproducible: bool
    prompt_control: str
    fine_tunable: str
    hardware: str
    set_up: str
    price: str


class Generator(Protocol):
    """A generator turns requests into images. It is a frozen dataclass of plain values.

    The fields are its options and its record. Those that decide pixels are the identity of its pools;
    the others opt out with `metadata={"identity": False}` (`seeds.identity`).
    """

    @property
    def name(self) -> str:
        """Name in folders and reports: letters, digits, dashes and underscores."""

    @property
    def card(self) -> GeneratorCard:
        """How this generator can be obtained and controlled."""

    @property
    def block_size(self) -> int | None:
        """Number of requests of a class that are passed to `generate` together.

        A block that was interrupted is generated again as a whole. None for a generator whose images
        cost money or do not depend on each other: it gets all missing requests at once, and no other.
        """

    def generate(self, requests: Sequence[Request]) -> Iterator[GenerationResult]:
        """Yield one result per request, whatever its outcome, as soon as it is available."""

    def learning_record(self) -> LearningRecord | None:
        """Return the record of the study's images that the model was trained on; None if there are none."""

    def model_ledger(self) -> Ledger:
        """Return the fields `ledger.MODEL_FIELDS` that apply.

        It is called before and after images are generated; what is unknown is None.
        """


@dataclass(frozen=True, kw_only=True)
class FineTuning:
    """Record of a fine-tuning; the generator and the stage fill in what they know.

    Attributes:
        weights: Name of the weights.
        images: Number of training images.
        patients: Number of patients of the training images.
        processes: Number of processes that trained together.
        steps: Number of optimiser steps.
        seconds: Duration of the training.
        trained_parameters: Number of parameters of the LoRA layers.
        ledger: Time, memory and energy of the whole job.
        history: One entry per step as in `LoraResult.history`, with the key `part`: the class whose
            LoRA was trained, or "" for one LoRA for all classes.
    """

    weights: str = ""
    images: int = 0
    patients: int = 0
    processes: int = 1
    steps: int | None = None
    seconds: float | None = None
    trained_parameters: int | None = None
    ledger: Ledger = field(default_factory=Ledger)
    history: Sequence[Mapping[str, float | str]] = ()


class FinetuneLogger(Protocol):
    """Receives losses and sample images during a fine-tuning."""

    def log(self, entry: Mapping[str, float], *, prefix: str) -> None:
        """Log the figures of a step; `prefix` names the class, if every class has its own LoRA."""

    def log_samples(
        self, images: "np.ndarray", captions: Sequence[str], *, step: int, prefix: str
    ) -> None:
        """Log images `(N, H, W)` in [0, 1] that were sampled after a step, with their captions."""


@runtime_checkable
class FinetunableGenerator(Generator, Protocol):
    """A generator that is fine-tuned on the train split before it generates images."""

    @property
    def needs_finetuning(self) -> bool:
        """True while the generator has no fine-tuned weights."""

    @property
    def caption_column(self) -> str | None:
        """Column of the manifest that holds captions; None for captions from the prompt bank."""

    @property
    def captions_per_image(self) -> int:
        """Number of captions that are drawn from the prompt bank for every image."""

    def finetune_identity(self) -> JsonObject:
        """Return what else decides the weights, apart from images and captions, as part of the job's key."""

    def finetune(
        self,
        examples: Callable[[int], tuple[CaptionedImages, CaptionedImages]],
        *,
        folder: Path,
        cache: Path,
        logger: FinetuneLogger,
    ) -> FineTuning:
        """Fine-tune the generator.

        Args:
            examples: Function from an image size in pixels to training and validation images of that
                size.
            folder: Folder of the weights. A training that was interrupted resumes there.
            cache: Folder of encoded images and captions.
            logger: Receives losses and sample images.

        Returns:
            The record of the fine-tuning, as far as the generator knows it.
        """

    def with_weights(self, job_key: str, folder: Path) -> Self:
        """Return this generator with the weights that the job `job_key` writes to `folder`."""


@runtime_checkable
class PaidGenerator(Generator, Protocol):
    """A generator behind an API: prompts leave this machine, and every image may cost money."""

    def check(self) -> None:
        """Raise an error, before any call, if calls would fail or cost without bounds."""

    def estimate(self, requests: Sequence[Request]) -> Any:
        """Estimate what requests would cost, without a key and without a call.

        Returns:
            An object whose text is for people and whose fields are for records.

        Raises:
            ConfigError: If `check` would refuse the options.
        """

    def with_spent_budget(
        self, spent_usd: float, *, folder: Path, limit_usd: float | None = None
    ) -> Self:
        """Return this generator with what its pool in `folder` has cost, or may have cost, so far.

        Args:
            spent_usd: Dollars that the pool has cost so far.
            folder: Folder of the pool.
            limit_usd: Dollars that the pool may cost in total, where that is less than the
                generator's own budget, or the generator has none. Only given if `generate.budget_usd`
                is.
        """
