"""Cards: a header that the Hub reads, and a text for people."""

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from xraysynth import __version__
from xraysynth.generation.generators.base import FineTuning
from xraysynth.generation.pool import Refusals
from xraysynth.records import JsonObject, from_json
from xraysynth.release.inputs import Background, Made, licence_of
from xraysynth.release.licences import OTHER, Licence
from xraysynth.release.origin import Origin, TrainSplit, origin

CARD = "README.md"
TAGS = ["synthetic", "chest-x-ray", "radiology", "medical", "not-for-diagnosis", "xraysynth"]
NOT_MEASURED = "not measured"
_COPYING = ("memor", "auth", "c_t", "copying", "mif")
_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))


@dataclass(frozen=True)
class Figure:
    """A measure of copies as an evaluation's run.json has it; `floor` is that of real images."""

    metric: str
    encoder: str = ""
    label: str = ""
    value: float | None = None
    low: float | None = None
    high: float | None = None
    n: int | None = None
    floor: float | None = None


@dataclass(frozen=True)
class Privacy:
    """What an evaluation says of copies: `reason` why there are no figures, or `rows` of them."""

    reason: str
    rows: Sequence[Figure] = ()


@dataclass(frozen=True)
class Refusal:
    """How often a prompt was refused, of how often it was answered at all."""

    prompt: str
    refused: int
    asked: int


@dataclass(frozen=True)
class Subject:
    """What the cards of a model and of a data set have in common."""

    study: str
    origin: Origin
    simulated: Sequence[str]
    privacy: Privacy
    notes: Sequence[str]
    bound: Sequence[str]
    licence: Licence

    @classmethod
    def of(cls, about: Background, made: Made) -> "Subject":
        """The generator of `made`, in the study that `about` describes."""
        return cls(
            study=about.study,
            origin=origin(made.generator),
            simulated=about.simulated,
            privacy=privacy(made.evaluated),
            notes=about.notes,
            bound=about.bound if made.derived else (),
            licence=licence_of(about, [made]),
        )


@dataclass(frozen=True)
class WeightFile:
    """A LoRA in a release, and the file of its adapters' settings."""

    name: str
    settings: str
    sha256: str


@dataclass(frozen=True, kw_only=True)
class ModelCard:
    """What the card of a model says; `recipe` has the options that it was fine-tuned with.

    `seen` is the digest of the images it has seen; `with_zero_terminal_snr` that it was fine-tuned to
    start from pure noise.
    """

    subject: Subject
    key: str
    embedded: bool
    files: Sequence[WeightFile]
    prompt: str
    scale: float
    steps: int
    guidance: float
    scheduler: str
    scheduler_options: Mapping[str, str]
    with_zero_terminal_snr: bool
    recipe: JsonObject
    finetuning: FineTuning
    seen: str
    trained: TrainSplit


@dataclass(frozen=True, kw_only=True)
class DataCard:
    """What the card of a data set says; `trained` only where its generator saw the train split."""

    subject: Subject
    images: int
    counts: Mapping[str, int]
    pool: str
    has_originals: bool
    outcomes: Mapping[str, Mapping[str, int]]
    refusals: Sequence[Refusal]
    uses: Sequence[str]
    limits: Sequence[str]
    learned_from: str
    trained: TrainSplit | None

    @property
    def outcome_names(self) -> list[str]:
        """The columns of the table of outcomes."""
        return sorted({name for numbers in self.outcomes.values() for name in numbers})


@dataclass(frozen=True, kw_only=True)
class StudyCard:
    """What the card of a study says; `real_pictures` are kept, removed, or with all others, none."""

    about: Background
    generators: Sequence[str]
    has_measures: bool
    real_pictures: str
    command: str
    licence: Licence


def write_card(folder: Path, header: JsonObject, card: ModelCard | DataCard | StudyCard) -> None:
    """Write README.md: the header as YAML, then the text of the card."""
    kind = type(card).__name__.removesuffix("Card").lower()
    top = yaml.safe_dump(dict(header), sort_keys=False, allow_unicode=True)
    body = _environment().get_template(f"{kind}.md.j2").render(version=__version__, card=card)
    (folder / CARD).write_text(f"---\n{top}---\n{body}", encoding="utf-8")


@functools.cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"cell": cell, "figure": figure, "known": known}
    return environment


def cell(value: Any) -> str:
    """A value that cannot break out of a table."""
    return " ".join(str(value).replace("|", "\\|").split())


def known(value: int | None, otherwise: str = "?") -> str:
    """A count, or what stands for one that is not recorded."""
    return otherwise if value is None else str(value)


def figure(value: float | None) -> str:
    """Four significant digits; a dash for what is not known."""
    return "–" if value is None or not math.isfinite(value) else f"{value:.4g}"


def licence_header(licence: Licence) -> dict[str, str]:
    """The Hub's fields for a licence: one it knows, or "other" with a name."""
    if licence.identifier != OTHER:
        return {"license": licence.identifier}
    name = licence.name if licence.given else "see-below"
    return {"license": OTHER, "license_name": "-".join(name.lower().split())}


def size_category(images: int) -> str:
    """The Hub's name for the size of a data set."""
    return next((name for limit, name in _SIZES if images < limit), "1M<n<10M")


def privacy(evaluated: JsonObject) -> Privacy:
    """The figures of copies in an evaluation's result, or why there are none."""
    if not evaluated:
        return Privacy(NOT_MEASURED)
    if evaluated.get("assessable"):
        return Privacy(str(evaluated["assessable"]))
    figures = [from_json(Figure, row) for row in evaluated.get("measures", [])]
    rows = [row for row in figures if _is_of_copies(row)]
    return Privacy("" if rows else NOT_MEASURED, rows)


def _is_of_copies(row: Figure) -> bool:
    return not row.label and any(word in row.metric.lower() for word in _COPYING)


def most_refused(refusals: Refusals, most: int = 20) -> list[Refusal]:
    """Refusals by prompt, most first."""
    rows = [Refusal(prompt, *counts) for prompt, counts in refusals.prompt.items()]
    return rows[:most]
