"""View of the arms' scores: on the study's test images, on external test sets, and by class."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import starmap

from xraysynth.report import arm_groups
from xraysynth.report.arm_groups import PRIMARY_METRIC, SUMMARY_METRICS
from xraysynth.report.content import Arm
from xraysynth.report.formatting import UNKNOWN_TEXT
from xraysynth.report.views.cells import (
    ArmLabel,
    Cell,
    Heading,
    arm_label,
    build_headings,
    score_cell,
)

CLASS_METRICS = ("precision", "recall", "f1", "auprc")
"""Metrics of a single class, in the order of the columns."""


@dataclass(frozen=True)
class ScoreRow:
    """One arm's scores, one cell per metric or test set."""

    arm: ArmLabel
    cells: Sequence[Cell]


@dataclass(frozen=True)
class ScoreGroup:
    """Arms under one title."""

    title: str
    rows: Sequence[ScoreRow]


@dataclass(frozen=True)
class ScoreTable:
    """Scores of the arms on the study's test images, in groups."""

    headings: Sequence[Heading]
    groups: Sequence[ScoreGroup]

    @property
    def columns(self) -> int:
        """Number of columns."""
        return len(self.headings)


@dataclass(frozen=True)
class ExternalSource:
    """An external test set and its number of images."""

    name: str
    n: int


@dataclass(frozen=True)
class ExternalTable:
    """Macro-F1 of the arms on external test sets, in groups."""

    sources: Sequence[ExternalSource]
    groups: Sequence[ScoreGroup]

    @property
    def columns(self) -> int:
        """Number of columns."""
        return 1 + len(self.sources)


@dataclass(frozen=True)
class ClassScoreRow:
    """One arm's scores on one class.

    Attributes:
        arm: The arm.
        class_name: The class.
        n: Number of test images of the class.
        cells: The scores, in the order of `CLASS_METRICS`.
    """

    arm: ArmLabel
    class_name: str
    n: str
    cells: Sequence[Cell]


@dataclass(frozen=True)
class ClassScoreTable:
    """Scores of all arms by class."""

    headings: Sequence[Heading]
    rows: Sequence[ClassScoreRow]


def score_table(arms: Sequence[Arm]) -> ScoreTable:
    """Returns all scores of the arms on the study's test images."""

    def cells(arm: Arm) -> list[Cell]:
        return [score_cell(arm.scores.get(metric)) for metric in SUMMARY_METRICS]

    headings = build_headings("arm", *SUMMARY_METRICS.values())
    return ScoreTable(headings, _score_groups(arms, cells))


def external_table(arms: Sequence[Arm]) -> ExternalTable | None:
    """Returns macro-F1 on external test sets; None without such sets."""
    sizes: dict[str, int] = {}
    for arm in arms:
        for name, scores in arm.external.items():
            sizes[name] = max((interval.n for interval in scores.values()), default=0)
    if not sizes:
        return None

    def cells(arm: Arm) -> list[Cell]:
        return [score_cell(arm.external.get(name, {}).get(PRIMARY_METRIC)) for name in sizes]

    sources = list(starmap(ExternalSource, sizes.items()))
    return ExternalTable(sources, _score_groups(arms, cells))


def class_score_table(arms: Sequence[Arm], classes: Sequence[str]) -> ClassScoreTable:
    """Returns precision, recall, F1 and AUPRC of each arm by class."""
    rows = []
    for arm in arms:
        for label in classes:
            rows.append(_class_score_row(arm, label))
    names = ("arm", "class", "n", "precision", "recall", "F1", "AUPRC")
    return ClassScoreTable(build_headings(*names, text_columns=2), rows)


def _score_groups(arms: Sequence[Arm], cells: Callable[[Arm], list[Cell]]) -> list[ScoreGroup]:
    """Returns the arms in groups, each with its label and `cells`."""
    groups = []
    for title, members in arm_groups.group_arms(arms):
        rows = [ScoreRow(arm_label(arm), cells(arm)) for arm in members]
        groups.append(ScoreGroup(title, rows))
    return groups


def _class_score_row(arm: Arm, label: str) -> ClassScoreRow:
    """Returns one arm's scores on one class."""
    f1 = arm.scores.get(f"f1/{label}")
    cells = [score_cell(arm.scores.get(f"{metric}/{label}")) for metric in CLASS_METRICS]
    return ClassScoreRow(arm_label(arm), label, UNKNOWN_TEXT if f1 is None else str(f1.n), cells)
