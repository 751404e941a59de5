"""The study that an inspection proposes: its sources, classes, and what its images need."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import median

import numpy as np
import pandas as pd

from xraysynth.composition import compose
from xraysynth.config import Config
from xraysynth.data.cohort import SourceCollection
from xraysynth.data.inspection.classes import ClassChoice, choose_classes, standard_class
from xraysynth.data.inspection.rehearsal import Need, Rehearsal, rehearse, screening_needs
from xraysynth.records import CLASSES
from xraysynth.report.inspection import Command, Entry
from xraysynth.stages._inspect.choices import (
    Choice,
    SourceChoice,
    format_command,
    select_sources,
    words_of,
)
from xraysynth.stages._inspect.gathering import Gathered

EXPERIMENT = Choice("experiment", "first_look")

LARGER_CHOICES = (Choice("classifier", "resnet18"), Choice("trainer.max_steps", 5000))
"""What a larger study than the first look changes, besides the size of the images."""

LARGER_SIZES_PX = (224, 128, 64)

NO_LABEL = "no label"
"""What the page calls images that nothing gives a label."""

MAX_NULL_LABELS = 12
"""More labels that become no class are left out by naming those that do."""


@dataclass(frozen=True)
class StudyPlan:
    """The proposed study.

    Attributes:
        name: Name of the study.
        sources: The sources.
        overrides: Options that the user has given; they replace proposed ones.
        classes: The classes; empty as long as they are not chosen.
        findings: Class that the prompt bank has no phrases for -> phrases.
        needs: Options that the images need, and why.
        side_px: Shorter side of the images, of most of them at least.
    """

    name: str
    sources: Sequence[SourceChoice]
    overrides: Sequence[str] = ()
    classes: Sequence[str] = ()
    findings: Mapping[str, list[str]] = field(default_factory=dict)
    needs: Sequence[Need] = ()
    side_px: int = LARGER_SIZES_PX[0]

    @property
    def choices(self) -> list[Choice]:
        """The options of the study."""
        choices = select_sources(self.sources)
        if self.classes:
            choices.append(Choice("classes", list(self.classes)))
        if self.findings:
            choices.append(Choice("prompts.findings", dict(self.findings), self._findings_reason))
        choices += [Choice(need.option, need.value, need.reason) for need in self.needs]
        return choices

    @property
    def _findings_reason(self) -> str:
        names = ", ".join(self.findings)
        return (
            f"the prompt bank has no phrases for {names}, so the label itself is the phrase; better ones "
            "describe what a radiologist sees"
        )

    def compose(self) -> Config:
        """Compose the configuration of the study."""
        return compose(words_of(self.choices, self.overrides))

    def commands(self) -> list[Command]:
        """Write the commands: a first look on this machine, and a larger study for a GPU."""
        name = Choice("study.name", self.name)
        first = [EXPERIMENT, *self.choices, name]
        size_px = next((size for size in LARGER_SIZES_PX if size <= self.side_px), 64)
        name_of_larger = Choice("study.name", f"{self.name}_{size_px}")
        larger = [*self.choices, Choice("size_px", size_px), *LARGER_CHOICES, name_of_larger]
        reasons = [Entry(choice.name, choice.reason) for choice in self.choices if choice.reason]
        return [
            Command(
                "A first look, in minutes on this machine, without network, key or GPU",
                format_command("study", first, self.overrides),
                reasons,
            ),
            Command(
                "A larger study, for a machine with a GPU",
                format_command("study", larger, self.overrides),
            ),
        ]


def median_side(gathered: Gathered) -> int:
    """Return the median of the images' shorter sides in pixels; 0 if no header can be read."""
    readable = [header for header in gathered.headers.values() if not header.error]
    return int(median(min(header.width, header.height) for header in readable)) if readable else 0


def choose_study_classes(gathered: Gathered, config: Config, *, is_given: bool) -> ClassChoice:
    """Choose the classes from the labels of the images that can be used."""
    used = gathered.used_rows()
    used = used[used["label"] != ""]
    known: dict[str, str | None] = {}
    for source in gathered.sources:
        known |= {str(label): name for label, name in source.labels.items()}
    return choose_classes(
        used["label"].tolist(),
        known,
        minimum=config.splits.minimum_per_class,
        wanted=config.classes if is_given else (),
    )


def with_classes(
    plan: StudyPlan, gathered: Gathered, choice: ClassChoice, config: Config
) -> StudyPlan:
    """Add the classes to a plan, the labels of each source, and phrases for classes without any."""
    sources = []
    for named, source in zip(plan.sources, gathered.sources, strict=True):
        rows = gathered.rows[gathered.rows["from_source"] == source.name]
        used = set(rows[(rows["left_out"] == "") & (rows["label"] != "")]["label"])
        sources.append(_with_labels(named, source.labels, used, choice))
    unknown = [name for name in choice.classes if not config.prompts.findings.get(name)]
    findings = {name: [name] for name in unknown}
    side_px = median_side(gathered)
    return replace(
        plan, sources=sources, classes=choice.classes, findings=findings, side_px=side_px
    )


def _with_labels(
    named: SourceChoice, known: Mapping[str, str | None], used: set[str], choice: ClassChoice
) -> SourceChoice:
    """Leave out the labels of a source that mean no class, where neither it nor its table says so."""
    if choice.lists_findings or named.proposal.known_set:
        return named
    implied = {*known, *CLASSES}
    dropped = [label for label in choice.dropped_labels if label in used - implied]
    if named.proposal.preset == "table" and len(dropped) > MAX_NULL_LABELS:
        kept = sorted(used - set(choice.dropped_labels))
        labels: dict[str, str | None] = {label: standard_class(label) for label in kept}
        return replace(named, labels=labels, drop_unmapped=True)
    return replace(named, labels=dict.fromkeys(dropped))


def rehearse_study(plan: StudyPlan, gathered: Gathered, config: Config) -> Rehearsal:
    """Do on the images that were looked at what `prepare` would do, and collect what it would stop at."""
    table = used_table(gathered, config)
    rehearsal = rehearse(
        table,
        gathered.looks,
        classes=config.classes,
        splits=config.splits,
        screening=config.screening,
        is_sample=gathered.is_sample,
    )
    needs = [*rehearsal.needs]
    for source in gathered.sources:
        needs += _unusable_needs(gathered, source.name, config)
    given = {override.partition("=")[0] for override in plan.overrides}
    return replace(rehearsal, needs=[need for need in needs if need.option not in given])


def used_table(gathered: Gathered, config: Config) -> pd.DataFrame:
    """Return the rows that the study uses, their labels mapped to classes, with their `number`."""
    collection = SourceCollection.from_sources(config.sources(), config.classes)
    tables = []
    excluded = {*gathered.unusable, *gathered.left_out}
    for name, rows in collection.rows.items():
        known = gathered.rows[gathered.rows["from_source"] == name]
        number_of_id = dict(zip(known["image_id"], known["number"], strict=True))
        numbered = rows.assign(number=rows["image_id"].map(number_of_id))
        is_new = numbered["number"].isna()  # it came while the others were looked at
        tables.append(numbered[~is_new & ~numbered["number"].isin(list(excluded))])
    table = pd.concat(tables, ignore_index=True)
    table["number"] = table["number"].astype(int)
    return table.assign(sha256=table["number"].map(gathered.picture_digests()))


def _unusable_needs(gathered: Gathered, source_name: str, config: Config) -> list[Need]:
    """The option that leaves out more unusable images than allowed; of a sample, as many as expected."""
    rows = gathered.rows[gathered.rows["from_source"] == source_name]
    listed = rows[rows["left_out"] == ""]["number"].tolist()
    damaged = [
        number for number in listed if number in gathered.looks and gathered.looks[number].error
    ]
    known = sum(1 for number in listed if number in gathered.unusable) - len(damaged)
    seen = sum(1 for number in listed if number in gathered.looks)
    unseen_factor = (len(listed) - known) / seen if seen else 1
    unusable = known + round(len(damaged) * unseen_factor)
    return screening_needs(unusable, len(listed), config.screening, source=source_name)


def without_study(gathered: Gathered) -> Rehearsal:
    """Return the images under their own labels, where there is no study that they could be prepared for."""
    table = gathered.used_rows()
    labels = table["label"].map(standard_class).replace("", NO_LABEL)
    return Rehearsal(table.assign(label=labels).reset_index(drop=True), np.empty((0, 2), int))
