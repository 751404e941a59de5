"""What a generator promises."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self, runtime_checkable

from xraysynth.generation.ledger import Ledger
from xraysynth.records import Captioned, Generated, JsonObject, LearningRecord, Request

if TYPE_CHECKING:  # help pages are made without numpy
    import numpy as np


SERVICES = ("API", "local server")
"""`Card.access` of generators that do not compute here: memory and energy of theirs are unknown."""

ARCHIVE = "archive"
"""`Card.access` of images that were made before: what they cost is unknown."""


@dataclass(frozen=True, kw_only=True)
class Card:
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
    def card(self) -> Card:
        """How this generator can be had and steered."""

    @property
    def block(self) -> int | None:
        """How many requests of a class are handed over together; a resumed block is made whole.

        None for a generator whose images cost money or have nothing to do with each other: all that
        is missing is handed over at once, and nothing else.
        """

    def generate(self, requests: Sequence[Request]) -> Iterator[Generated]:
        """One result per request, whatever became of it, as soon as it is there."""

    def learned(self) -> LearningRecord | None:
        """The study's images that it has learned from (`leakage.learned_from`), if any."""

    def measured(self) -> Ledger:
        """What the ledger says of the generator itself: those of `ledger.MODEL` that apply.

        Asked before and after images are made.
        """


@dataclass(frozen=True, kw_only=True)
class FineTuning:
    """How a fine-tuning went; `Learner.teach` says what it knows, and the stage the rest.

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


class Listener(Protocol):
    """What wants to know how learning goes."""

    def log(self, entry: Mapping[str, float], *, prefix: str) -> None:
        """Losses and the like at a step."""

    def samples(
        self, images: "np.ndarray", captions: Sequence[str], *, step: int, prefix: str
    ) -> None:
        """Images `(N, H, W)` in [0, 1] made at a step."""


@runtime_checkable
class Learner(Generator, Protocol):
    """A generator that is fine-tuned on the train split before it makes images."""

    @property
    def untaught(self) -> bool:
        """True while it has no weights of its own."""

    @property
    def caption_column(self) -> str | None:
        """Column of the manifest with captions; None for the prompt bank."""

    @property
    def captions_per_image(self) -> int:
        """Captions from the prompt bank for every image."""

    def lesson(self) -> JsonObject:
        """What decides its weights, besides images and captions: plain values, part of a job's key."""

    def teach(
        self,
        examples: Callable[[int], tuple[Captioned, Captioned]],
        *,
        folder: Path,
        cache: Path,
        listener: Listener,
    ) -> FineTuning:
        """Learn from the training and validation images at the side asked for; resumes in `folder`."""

    def taught(self, by: str, folder: Path) -> Self:
        """This generator with the weights that the job `by` leaves in `folder`."""


@runtime_checkable
class Paid(Generator, Protocol):
    """A generator behind an API: prompts leave this machine, and every image may cost money."""

    def check(self) -> None:
        """Raise before any call for whatever would make calls fail or cost without bounds."""

    def estimate(self, requests: Sequence[Request]) -> Any:
        """What these requests would cost, without a key and without a call.

        Its text is for people, its fields for records. Raises for what `check` would refuse.
        """

    def continued(self, spent_usd: float, *, folder: Path) -> Self:
        """This generator, knowing what its pool in `folder` has cost or may have cost so far."""
