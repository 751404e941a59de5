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
from xraysynth.records import JsonObject, formerly, from_json
from xraysynth.release.inputs import ReleasedGenerator, StudyInfo, resolve_release_licence
from xraysynth.release.licences import OTHER, Licence
from xraysynth.release.origin import Origin, TrainSplitSummary, describe_origin

CARD_FILE = "README.md"
TAGS = ["synthetic", "chest-x-ray", "radiology", "medical", "not-for-diagnosis", "xraysynth"]
NOT_MEASURED = "not measured"
_MEMORISATION_METRICS = ("memor", "auth", "c_t", "copying", "mif")
_SIZE_CATEGORIES = (
    (1_000, "n<1K"),
    (10_000, "1K<n<10K"),
    (100_000, "10K<n<100K"),
    (1_000_000, "100K<n<1M"),
)


@formerly(baseline_value="floor")
@dataclass(frozen=True)
class MemorisationMetric:
    """A memorisation measure of an evaluation; `baseline_value` is that of held-out real images."""

    metric: str
    encoder: str = ""
    label: str = ""
    value: float | None = None
    low: float | None = None
    high: float | None = None
    n: int | None = None
    baseline_value: float | None = None


@dataclass(frozen=True)
class MemorisationSummary:
    """What an evaluation says of copies: `reason` why there are no figures, or `rows` of them."""

    reason: str
    rows: Sequence[MemorisationMetric] = ()


@dataclass(frozen=True)
class RefusedPrompt:
    """How often a prompt was refused, of how often it was answered at all."""

    prompt: str
    refused: int
    answered: int


@dataclass(frozen=True)
class GeneratorSummary:
    """What the cards of a model and of a data set have in common."""

    study: str
    origin: Origin
    simulated: Sequence[str]
    memorisation: MemorisationSummary
    notes: Sequence[str]
    credentialed_sources: Sequence[str]
    licence: Licence

    @classmethod
    def from_generator(
        cls, study_info: StudyInfo, released: ReleasedGenerator
    ) -> "GeneratorSummary":
        """The generator of `made`, in the study that `study_info` describes."""
        return cls(
            study=study_info.study,
            origin=describe_origin(released.generator),
            simulated=study_info.simulated,
            memorisation=summarize_memorisation(released.evaluation),
            notes=study_info.notes,
            credentialed_sources=study_info.credentialed_sources
            if released.may_have_seen_real
            else (),
            licence=resolve_release_licence(study_info, [released]),
        )


@dataclass(frozen=True)
class WeightFile:
    """A LoRA in a release, and the file of its adapters' settings."""

    name: str
    config_file: str
    sha256: str


@dataclass(frozen=True, kw_only=True)
class ModelCard:
    """What the card of a model says; `recipe` has the options that it was fine-tuned with.

    `seen` is the digest of the images it has seen; `with_zero_terminal_snr` that it was fine-tuned to
    start from pure noise.
    """

    summary: GeneratorSummary
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
    training_digest: str
    train_split: TrainSplitSummary


@dataclass(frozen=True, kw_only=True)
class DataCard:
    """What the card of a data set says; `trained` only where its generator saw the train split."""

    summary: GeneratorSummary
    images: int
    counts: Mapping[str, int]
    pool: str
    has_originals: bool
    outcomes: Mapping[str, Mapping[str, int]]
    refusals: Sequence[RefusedPrompt]
    intended_uses: Sequence[str]
    limitations: Sequence[str]
    training_data: str
    train_split: TrainSplitSummary | None

    @property
    def outcome_names(self) -> list[str]:
        """The columns of the table of outcomes."""
        return sorted({name for numbers in self.outcomes.values() for name in numbers})


@dataclass(frozen=True, kw_only=True)
class StudyCard:
    """What the card of a study says; `real_pictures` are kept, removed, or with all others, none."""

    study_info: StudyInfo
    generators: Sequence[str]
    has_measures: bool
    real_pictures: str
    command: str
    licence: Licence


def write_card(folder: Path, header: JsonObject, card: ModelCard | DataCard | StudyCard) -> None:
    """Write README.md: the header as YAML, then the text of the card."""
    kind = type(card).__name__.removesuffix("Card").lower()
    top = yaml.safe_dump(dict(header), sort_keys=False, allow_unicode=True)
    body = (
        _template_environment().get_template(f"{kind}.md.j2").render(version=__version__, card=card)
    )
    (folder / CARD_FILE).write_text(f"---\n{top}---\n{body}", encoding="utf-8")


@functools.cache
def _template_environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"cell": escape_cell, "figure": format_number, "known": format_count}
    return environment


def escape_cell(value: Any) -> str:
    """A value that cannot break out of a table."""
    return " ".join(str(value).replace("|", "\\|").split())


def format_count(value: int | None, missing: str = "?") -> str:
    """A count, or what stands for one that is not recorded."""
    return missing if value is None else str(value)


def format_number(value: float | None) -> str:
    """Four significant digits; a dash for what is not known."""
    return "–" if value is None or not math.isfinite(value) else f"{value:.4g}"


def licence_header(licence: Licence) -> dict[str, str]:
    """The Hub's fields for a licence: one it knows, or "other" with a name."""
    if licence.identifier != OTHER:
        return {"license": licence.identifier}
    name = licence.name if licence.is_stated else "see-below"
    return {"license": OTHER, "license_name": "-".join(name.lower().split())}


def size_category(images: int) -> str:
    """The Hub's name for the size of a data set."""
    return next((name for limit, name in _SIZE_CATEGORIES if images < limit), "1M<n<10M")


def summarize_memorisation(evaluation: JsonObject) -> MemorisationSummary:
    """The figures of copies in an evaluation's result, or why there are none."""
    if not evaluation:
        return MemorisationSummary(NOT_MEASURED)
    not_assessable_reason = evaluation.get("not_assessable_reason", evaluation.get("assessable"))
    if not_assessable_reason:
        return MemorisationSummary(str(not_assessable_reason))
    figures = [from_json(MemorisationMetric, row) for row in evaluation.get("measures", [])]
    rows = [row for row in figures if _is_memorisation_metric(row)]
    return MemorisationSummary("" if rows else NOT_MEASURED, rows)


def _is_memorisation_metric(row: MemorisationMetric) -> bool:
    return not row.label and any(word in row.metric.lower() for word in _MEMORISATION_METRICS)


def top_refused_prompts(refusals: Refusals, limit: int = 20) -> list[RefusedPrompt]:
    """Refusals by prompt, most first."""
    rows = [RefusedPrompt(prompt, *counts) for prompt, counts in refusals.prompt.items()]
    return rows[:limit]
