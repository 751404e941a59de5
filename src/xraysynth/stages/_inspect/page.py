"""The page of an inspection, and the short summary on the terminal."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from itertools import groupby
from pathlib import Path

import pandas as pd

from xraysynth.data.inspection.classes import ClassChoice
from xraysynth.data.inspection.looking import Eyes, picture_of
from xraysynth.data.inspection.rehearsal import Rehearsal
from xraysynth.manifest import patient_keys
from xraysynth.records import SPLITS
from xraysynth.report import inspection
from xraysynth.report.inspection import (
    ClassRow,
    Command,
    Entry,
    Inspection,
    Picture,
    Problem,
    PropertyTable,
)
from xraysynth.stages._inspect.file_properties import count_properties
from xraysynth.stages._inspect.gathering import Gathered
from xraysynth.stages._inspect.problems import (
    CONSEQUENCES,
    MAX_PICTURES,
    SERIOUS,
    ProblemGroup,
    file_of,
)

PICTURE_PX = 112
MAX_FILES = 30
MAX_VALUES = 8


@dataclass(frozen=True)
class Findings:
    """What an inspection has found.

    Attributes:
        name: Name of what was inspected.
        contents: What is there, one sentence per path.
        gathered: The images and what was seen of them.
        choice: The classes.
        rehearsal: What would become of the images.
        groups: What is not simply used.
        commands: The commands.
        obstacles: Why no study can run; empty if one can.
        notes: Further sentences.
        patients: How patients are told, in words.
    """

    name: str
    contents: Sequence[str]
    gathered: Gathered
    choice: ClassChoice
    rehearsal: Rehearsal
    groups: Sequence[ProblemGroup]
    commands: Sequence[Command]
    obstacles: Sequence[str]
    notes: Sequence[str]
    patients: str

    @property
    def verdict(self) -> str:
        """Whether a study can run, as a sentence."""
        if self.obstacles:
            return "No study can run on this alone"
        n_classes = len(self.choice.classes)
        return f"A study of {n_classes} classes can run on {len(self.rehearsal.table):,} images"


def build_page(findings: Findings, eyes: Eyes, problem_table: str) -> Inspection:
    """Put the findings into the form of the page, with contact sheets."""
    pictures = _draw(findings, eyes)
    splits = _splits_of(findings.rehearsal.table)
    return Inspection(
        name=findings.name,
        created=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        verdict=findings.verdict,
        obstacles=findings.obstacles,
        facts=[Entry(name, text) for name, text in list_facts(findings).items()],
        commands=findings.commands,
        class_columns=["images", "patients", *splits],
        classes=_class_rows(findings, pictures, splits),
        problems=_problem_groups(findings, pictures),
        problem_table=problem_table,
        contents=[*findings.contents, *findings.notes],
        properties=_property_tables(findings.gathered),
    )


def _splits_of(table: pd.DataFrame) -> list[str]:
    """The splits in which there are images."""
    if "split" not in table:
        return []
    held = set(table["split"].astype(str))
    return [split for split in SPLITS if split in held]


def _property_tables(gathered: Gathered) -> list[PropertyTable]:
    tables = []
    for name, counts in count_properties(gathered).items():
        rows = [Entry(value, f"{count:,}") for value, count in counts.items()]
        tables.append(PropertyTable(name, rows))
    return tables


def list_facts(findings: Findings) -> dict[str, str]:
    """Return the short facts: name -> text."""
    gathered = findings.gathered
    unusable, left_out = len(gathered.unusable), len(gathered.left_out)
    n_used = 0 if findings.obstacles else len(findings.rehearsal.table)
    images = f"{len(gathered.rows):,} listed, {n_used:,} in the study"
    others = [
        f"{unusable:,} unusable" if unusable else "",
        f"{left_out:,} left out" if left_out else "",
    ]
    facts = {"Contents": "; ".join(findings.contents)}
    facts["Images"] = ", ".join(filter(None, [images, *others]))
    sources = Counter(gathered.rows["source"].astype(str))
    if len(sources) > 1:
        named = [f"{name} {count:,}" for name, count in sources.most_common(MAX_VALUES)]
        more = len(sources) - MAX_VALUES
        facts["Collections"] = ", ".join(named) + (f" and {more} more" if more > 0 else "")
    facts["Classes"] = describe_classes(findings.choice)
    facts["Patients"] = findings.patients
    splits = Counter(findings.rehearsal.table.get("official_split", pd.Series(dtype=str)))
    splits.pop("", None)
    facts["Splits"] = (
        "given: " + ", ".join(f"{name} {count:,}" for name, count in splits.items())
        if splits
        else "none given: the study splits by patient"
    )
    facts["Looked at"] = describe_coverage(gathered)
    return facts


def describe_classes(choice: ClassChoice) -> str:
    """Write the classes with their numbers of images, and what is left out."""
    used = [f"{name} {choice.counts.get(name, 0):,}" for name in choice.classes]
    text = ", ".join(used) or "none"
    if choice.too_rare:
        rare = [f"{name} {count:,}" for name, count in list(choice.too_rare.items())[:MAX_VALUES]]
        more = len(choice.too_rare) - MAX_VALUES
        text += f" (left out: {', '.join(rare)}{f' and {more} more' if more > 0 else ''})"
    return text


def describe_coverage(gathered: Gathered) -> str:
    """Write how many images were decoded."""
    readable = len(gathered.headers)
    if not gathered.is_sample:
        return f"headers and pixels of all {readable:,} images"
    return (
        f"headers of all {readable:,} images; pixels of {len(gathered.looks):,} of them, a random sample: "
        "what is said of pixels (damage, flags, near-duplicates) is known of these alone"
    )


def _draw(findings: Findings, eyes: Eyes) -> dict[int, Picture]:
    """The pictures of all contact sheets, by number of the image."""
    numbers: list[int] = []
    for members in _numbers_of_classes(findings).values():
        numbers += members
    for group in findings.groups:
        numbers += group.numbers[:MAX_PICTURES]
    numbers = list(dict.fromkeys(numbers))
    items = [findings.gathered.items[number] for number in numbers]
    jpegs = eyes.map(partial(picture_of, PICTURE_PX), items, "draw contact sheets")
    pictures = {}
    for number, jpeg in zip(numbers, jpegs, strict=True):
        pictures[number] = Picture(jpeg, file_of(findings.gathered, number))
    return pictures


def _numbers_of_classes(findings: Findings) -> dict[str, list[int]]:
    """Class -> the numbers of a few of its images, spread over all of them."""
    table, chosen = findings.rehearsal.table, {}
    for label, numbers in table.groupby("label", sort=False)["number"]:
        step = max(len(numbers) // MAX_PICTURES, 1)
        chosen[str(label)] = [int(number) for number in numbers.iloc[::step][:MAX_PICTURES]]
    return chosen


def _class_rows(
    findings: Findings, pictures: Mapping[int, Picture], splits: Sequence[str]
) -> list[ClassRow]:
    """One row per class of the study, and one per class that is left out, without patients and splits."""
    table, examples = findings.rehearsal.table, _numbers_of_classes(findings)
    counts = dict(findings.choice.counts)
    for label in table["label"].unique():
        counts.setdefault(label, 0)  # "no label"
    class_rows = []
    for name, count in counts.items():
        rows = table[table["label"] == name]
        is_used = name in findings.choice.classes and not findings.obstacles
        total = len(rows) if is_used else count or len(rows)
        cells = [f"{total:,}", *["–"] * (1 + len(splits))]
        if is_used:
            cells = _count_cells(rows, splits)
        shown = [pictures[number] for number in examples.get(name, [])]
        class_rows.append(ClassRow(name, cells, is_used, f"{len(shown)} of {total:,}", shown))
    return class_rows


def _count_cells(rows: pd.DataFrame, splits: Sequence[str]) -> list[str]:
    """Numbers of images, of patients, and of images of each split."""
    by_split = rows["split"].value_counts() if "split" in rows else {}
    counts = [len(rows), patient_keys(rows).nunique(), *(by_split.get(name, 0) for name in splits)]
    return [f"{count:,}" for count in counts]


def _problem_groups(
    findings: Findings, pictures: Mapping[int, Picture]
) -> list[inspection.ProblemGroup]:
    """The problems by status, the most serious first."""
    groups = []
    for status, members in groupby(findings.groups, key=lambda group: group.status):
        problems = [_problem(findings.gathered, group, pictures) for group in members]
        is_serious = status in SERIOUS
        groups.append(inspection.ProblemGroup(status, is_serious, CONSEQUENCES[status], problems))
    return groups


def _problem(gathered: Gathered, group: ProblemGroup, pictures: Mapping[int, Picture]) -> Problem:
    count, more = len(group.numbers), len(group.numbers) - MAX_FILES
    shown = [pictures[number] for number in group.numbers[:MAX_PICTURES]]
    if group.status == "conflict":
        labels = gathered.labels
        numbers = group.numbers[:MAX_PICTURES]
        shown = [replace(pictures[number], note=labels[number]) for number in numbers]
    return Problem(
        f"{group.title}: {count:,} {'image' if count == 1 else 'images'}",
        shown,
        [file_of(gathered, number) for number in group.numbers[:MAX_FILES]],
        f"and {more:,} more" if more > 0 else "",
    )


def problem_rows(gathered: Gathered, groups: Sequence[ProblemGroup]) -> pd.DataFrame:
    """Return one row per image and reason: file, label, status and reason."""
    rows = []
    for group in groups:
        for number, reason in zip(group.numbers, group.reasons, strict=True):
            label = gathered.labels[number]
            rows.append((file_of(gathered, number), label, group.status, reason))
    return pd.DataFrame(rows, columns=["file", "label", "status", "reason"])


def format_summary(findings: Findings, page: Path) -> str:
    """Write the summary for the terminal."""
    facts = list_facts(findings)
    width = max(map(len, facts))
    lines = [findings.name, *(f"  {name:{width}}  {text}" for name, text in facts.items())]
    for group in findings.groups:
        lines.append(f"  {group.status + ':':{width + 1}} {len(group.numbers):,} × {group.title}")
    for note in findings.notes:
        lines.append(f"  note: {note}")
    lines += ["", f"{findings.verdict}."]
    lines += [f"  {obstacle}" for obstacle in findings.obstacles]
    for command in findings.commands:
        lines += [f"  {reason.name}: {reason.text}" for reason in command.reasons]
        lines += ["", f"{command.title}:", f"  {command.text}"]
    return "\n".join([*lines, "", f"page: {page}", ""])
