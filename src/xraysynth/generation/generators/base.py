"""What a generator promises."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self, runtime_checkable

from xraysynth.generation.ledger import Ledger
from xraysynth.records import CaptionedImages, GenerationResult, JsonObject, LearningRecord, Request

if TYPE_CHECKING:  # help pages are made without numpy
    import numpy as np


SERVICES = ("API", "local server")
"""`GeneratorCard.access` of generators that do not compute here: memory and energy of theirs are unknown."""

ARCHIVE = "archive"
"""`GeneratorCard.access` of images that were made before: what they cost is unknown."""


@dataclass(frozen=True, kw_only=True)
class GeneratorCard:
    """How a generator can be had and steered; shown beside its results.

    `access` is one of `SERVICES`, `ARCHIVE`, or anything else for what computes on this machine.
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
    """Requests to images. A frozen dataclass of plain values: the constructor is the record.

    Fields that do not decide pixels opt out of the identity (`seeds.identity`).
    """

    @property
    def name(self) -> str:
        """Name in folders and reports: letters, digits, dashes and underscores."""

    @property
    def card(self) -> GeneratorCard:
        """How this generator can be had and steered."""

    @property
    def block_size(self) -> int | None:
        """How many requests of a class are handed over together; a resumed block is made whole.

        None for a generator whose images cost money or have nothing to do with each other: all that
        is missing is handed over at once, and nothing else.
        """

    def generate(self, requests: Sequence[Request]) -> Iterator[GenerationResult]:
        """One result per request, whatever became of it, as soon as it is there."""

    def learning_record(self) -> LearningRecord | None:
        """The study's images that it has learned from (`leakage.learned_from`), if any."""

    def model_ledger(self) -> Ledger:
        """What the ledger says of the generator itself: those of `ledger.MODEL` that apply.

        Asked before and after images are made.
        """


@dataclass(frozen=True, kw_only=True)
class FineTuning:
    """How a fine-tuning went; `Learner.finetune` says what it knows, and the stage the rest.

    `history` has an entry for every step, as `LoraResult.history` has, with the `part` (a class) of
    it; `seconds` are of training, `ledger` is of the whole job. `images` and `patients` were learned
    from.
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
    """What wants to know how learning goes."""

    def log(self, entry: Mapping[str, float], *, prefix: str) -> None:
        """Losses and the like at a step."""

    def log_samples(
        self, images: "np.ndarray", captions: Sequence[str], *, step: int, prefix: str
    ) -> None:
        """Images `(N, H, W)` in [0, 1] made at a step."""


@runtime_checkable
class FinetunableGenerator(Generator, Protocol):
    """A generator that is fine-tuned on the train split before it makes images."""

    @property
    def needs_finetuning(self) -> bool:
        """True while it has no weights of its own."""

    @property
    def caption_column(self) -> str | None:
        """Column of the manifest with captions; None for the prompt bank."""

    @property
    def captions_per_image(self) -> int:
        """Captions from the prompt bank for every image."""

    def finetune_identity(self) -> JsonObject:
        """What decides its weights, besides images and captions: plain values, part of a job's key."""

    def finetune(
        self,
        examples: Callable[[int], tuple[CaptionedImages, CaptionedImages]],
        *,
        folder: Path,
        cache: Path,
        logger: FinetuneLogger,
    ) -> FineTuning:
        """Learn from the training and validation images at the side asked for; resumes in `folder`."""

    def with_weights(self, job_key: str, folder: Path) -> Self:
        """This generator with the weights that the job `by` leaves in `folder`."""


@runtime_checkable
class PaidGenerator(Generator, Protocol):
    """A generator behind an API: prompts leave this machine, and every image may cost money."""

    def check(self) -> None:
        """Raise before any call for whatever would make calls fail or cost without bounds."""

    def estimate(self, requests: Sequence[Request]) -> Any:
        """What these requests would cost, without a key and without a call.

        Its text is for people, its fields for records. Raises for what `check` would refuse.
        """

    def with_spent_budget(self, spent_usd: float, *, folder: Path) -> Self:
        """This generator, knowing what its pool in `folder` has cost or may have cost so far."""
