"""Cards: the README of each released part, with a header that the Hub reads and a text for people."""

import functools
import html
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

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
"""Parts of the names of metrics that are about memorisation."""

_SIZE_CATEGORIES = (
    (1_000, "n<1K"),
    (10_000, "1K<n<10K"),
    (100_000, "10K<n<100K"),
    (1_000_000, "100K<n<1M"),
)
_LARGEST_SIZE_CATEGORY = "1M<n<10M"

RealPictures = Literal["kept", "removed", "none"]
"""Pictures of real images in a released report: all kept, all removed, or no picture kept at all."""


@formerly(baseline_value="floor")
@dataclass(frozen=True)
class MemorisationMetric:
    """A metric of memorisation, as an evaluation measured it.

    Attributes:
        metric: Name of the metric.
        encoder: Encoder of the images, or "".
        label: Class of the images; "" for all classes.
        value: The value, or None if it was not measured.
        low: Lower end of the 95% interval.
        high: Upper end of the 95% interval.
        n: Number of images.
        baseline_value: Value of held-out real images.
    """

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
    """What an evaluation says about memorisation.

    Attributes:
        reason: Why there are no values, or "".
        rows: The values.
    """

    reason: str
    rows: Sequence[MemorisationMetric] = ()


@dataclass(frozen=True)
class RefusedPrompt:
    """A prompt, and how many of its requests were refused and answered (refusals included)."""

    prompt: str
    refused: int
    answered: int


@dataclass(frozen=True)
class GeneratorSummary:
    """Facts about a generator that its model card and its data card share.

    Attributes:
        study: Name of the study.
        origin: The generator.
        simulated: Names of the sources if all real images are simulated, else empty.
        memorisation: What the evaluation says about memorisation.
        notes: Sentences about limits of the study.
        credentialed_sources: Sources under a data use agreement that the generator may have seen.
        licence: Licence of its weights and images.
    """

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
        """Summarises a generator of the study that `study_info` describes."""
        credentialed_sources: Sequence[str] = ()
        if released.may_have_seen_real:
            credentialed_sources = study_info.credentialed_sources
        return cls(
            study=study_info.study,
            origin=describe_origin(released.generator),
            simulated=study_info.simulated,
            memorisation=summarize_memorisation(released.evaluation),
            notes=study_info.notes,
            credentialed_sources=credentialed_sources,
            licence=resolve_release_licence(study_info, [released]),
        )


@dataclass(frozen=True)
class WeightFile:
    """A LoRA in a release.

    Attributes:
        name: Path of its file below the part.
        config_file: Path of the file with its adapter's settings.
        sha256: Hash of its file.
    """

    name: str
    config_file: str
    sha256: str


@dataclass(frozen=True, kw_only=True)
class ModelCard:
    """Content of the card of a model.

    Attributes:
        summary: Facts that the data card shares.
        key: Key of the generator in the configuration.
        embedded: Whether the base model is part of this package.
        files: The LoRA, or one LoRA per class.
        prompt: Example of a prompt.
        scale: Scale of the LoRA.
        steps: Denoising steps.
        guidance: Scale of classifier-free guidance.
        scheduler: Class of diffusers' scheduler.
        scheduler_options: Its options.
        with_zero_terminal_snr: Whether the model was fine-tuned to start from pure noise.
        recipe: Options of the fine-tuning.
        finetuning: How it went.
        training_digest: `compute_training_digest` of the images that it was fine-tuned on.
        train_split: The real train split in numbers.
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
    """Content of the card of a data set.

    Attributes:
        summary: Facts that the model card shares.
        images: Number of images.
        counts: Class -> images.
        pool: Key of the pool.
        has_originals: Whether the images are added as the generator returned them.
        outcomes: Class -> outcome -> requests.
        refusals: The prompts that were refused.
        intended_uses: Sentences.
        limitations: Sentences.
        training_data: What the generator has learned from, in words.
        train_split: The real train split, if the generator has learned from exactly that; else None.
    """

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
        """The columns of the table of outcomes, sorted."""
        return sorted(set().union(*self.outcomes.values()))


@dataclass(frozen=True, kw_only=True)
class StudyCard:
    """Content of the card of a study.

    Attributes:
        study_info: Facts about the study.
        generators: Names of the generators.
        has_measures: Whether there is a table of measures of images.
        real_pictures: What became of the report's pictures of real images.
        command: The command that repeats the study.
        licence: Licence of the results.
    """

    study_info: StudyInfo
    generators: Sequence[str]
    has_measures: bool
    real_pictures: RealPictures
    command: str
    licence: Licence


def write_card(folder: Path, header: JsonObject, card: ModelCard | DataCard | StudyCard) -> None:
    """Writes README.md: the header as YAML, then the text.

    Args:
        folder: Folder of the part.
        header: Fields that the Hub reads.
        card: Content of the text. Its class names the template: model, data or study.
    """
    kind = type(card).__name__.removesuffix("Card").lower()
    template = _template_environment().get_template(f"{kind}.md.j2")
    front_matter = yaml.safe_dump(dict(header), sort_keys=False, allow_unicode=True)
    body = template.render(version=__version__, card=card)
    (folder / CARD_FILE).write_text(f"---\n{front_matter}---\n{body}", encoding="utf-8")


@functools.cache
def _template_environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        undefined=StrictUndefined,
        autoescape=True,
        finalize=escape_markdown,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    for template_filter in (escape_cell, format_count, format_number, shell_code):
        environment.filters[template_filter.__name__] = template_filter
    return environment


def escape_markdown(value: Any) -> Markup:
    """Returns a value as one line of Markdown that holds neither HTML nor a link or picture.

    >>> print(escape_markdown("<script> [see](http://example.org)"))
    &lt;script&gt; &#91;see](http://example.org)
    """
    if isinstance(value, Markup):
        return value
    line = " ".join(str(value).split())
    return Markup(html.escape(line, quote=False).replace("[", "&#91;"))


def escape_cell(value: Any) -> Markup:
    """Returns a value as text that cannot break out of a cell of a Markdown table."""
    return Markup(escape_markdown(value).replace("|", "\\|"))


def shell_code(command: str) -> Markup:
    """Returns a command as it is but for line ends, so that it cannot break out of a block of code."""
    return Markup(" ".join(command.splitlines()))


def format_count(value: int | None, missing: str = "?") -> str:
    """Returns a count as text, or `missing` if it is not recorded."""
    return missing if value is None else str(value)


def format_number(value: float | None) -> str:
    """Returns four significant digits, or a dash if the value is not known."""
    return "–" if value is None or not math.isfinite(value) else f"{value:.4g}"


def licence_header(licence: Licence) -> dict[str, str]:
    """Returns the Hub's fields for a licence: one that it knows, or "other" with a name."""
    if licence.identifier != OTHER:
        return {"license": licence.identifier}
    name = licence.name if licence.is_stated else "see-below"
    return {"license": OTHER, "license_name": "-".join(name.lower().split())}


def size_category(images: int) -> str:
    """Returns the Hub's name for the size of a data set."""
    for limit, name in _SIZE_CATEGORIES:
        if images < limit:
            return name
    return _LARGEST_SIZE_CATEGORY


def summarize_memorisation(evaluation: JsonObject) -> MemorisationSummary:
    """Selects the metrics of memorisation over all classes from an evaluation's result.

    Args:
        evaluation: The result as its run.json has it, or empty if there is none.
    """
    if not evaluation:
        return MemorisationSummary(NOT_MEASURED)
    not_assessable_reason = evaluation.get("not_assessable_reason", evaluation.get("assessable"))
    if not_assessable_reason:
        return MemorisationSummary(str(not_assessable_reason))
    metrics = [from_json(MemorisationMetric, row) for row in evaluation.get("measures", [])]
    rows = list(filter(_is_about_memorisation, metrics))
    return MemorisationSummary("" if rows else NOT_MEASURED, rows)


def _is_about_memorisation(row: MemorisationMetric) -> bool:
    name = row.metric.lower()
    return not row.label and any(word in name for word in _MEMORISATION_METRICS)


def top_refused_prompts(refusals: Refusals, limit: int = 20) -> list[RefusedPrompt]:
    """Returns the prompts that were refused most often, most refused first."""
    prompts = []
    for prompt, (refused, answered) in refusals.prompt.items():
        prompts.append(RefusedPrompt(prompt, refused, answered))
    return prompts[:limit]
