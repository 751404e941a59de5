"""Scores of the arms: on the study's test images, on external ones, and class by class."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

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
"""Metrics of single classes."""


@dataclass(frozen=True)
class ScoreRow:
    """One arm's scores."""

    arm: ArmLabel
    cells: Sequence[Cell]


@dataclass(frozen=True)
class ScoreGroup:
    """Arms under one title."""

    title: str
    rows: Sequence[ScoreRow]


@dataclass(frozen=True)
class ScoreTable:
    """Scores of the arms on the study's test images."""

    headings: Sequence[Heading]
    groups: Sequence[ScoreGroup]

    @property
    def columns(self) -> int:
        """All columns."""
        return len(self.headings)


@dataclass(frozen=True)
class ExternalSource:
    """An external test set and its images."""

    name: str
    n: int


@dataclass(frozen=True)
class ExternalTable:
    """The primary score on external test sets."""

    sources: Sequence[ExternalSource]
    groups: Sequence[ScoreGroup]

    @property
    def columns(self) -> int:
        """All columns."""
        return 1 + len(self.sources)


@dataclass(frozen=True)
class ClassScoreRow:
    """One arm's scores on one class, with the test images of that class."""

    arm: ArmLabel
    class_name: str
    n: str
    cells: Sequence[Cell]


@dataclass(frozen=True)
class ClassScoreTable:
    """Scores class by class."""

    headings: Sequence[Heading]
    rows: Sequence[ClassScoreRow]


def score_table(arms: Sequence[Arm]) -> ScoreTable:
    """All scores."""
    groups = _score_groups(
        arms, lambda arm: [score_cell(arm.scores.get(metric)) for metric in SUMMARY_METRICS]
    )
    return ScoreTable(build_headings("arm", *SUMMARY_METRICS.values()), groups)


def external_table(arms: Sequence[Arm]) -> ExternalTable | None:
    """Scores on external test sets, None where there are none."""
    sizes: dict[str, int] = {}
    for arm in arms:
        for name, scores in arm.external.items():
            sizes[name] = max((interval.n for interval in scores.values()), default=0)
    if not sizes:
        return None

    def cells(arm: Arm) -> list[Cell]:
        return [score_cell(arm.external.get(name, {}).get(PRIMARY_METRIC)) for name in sizes]

    sources = [ExternalSource(name, n) for name, n in sizes.items()]
    return ExternalTable(sources, _score_groups(arms, cells))


def class_score_table(arms: Sequence[Arm], classes: Sequence[str]) -> ClassScoreTable:
    """Precision, recall and the like of each class."""
    names = ("arm", "class", "n", "precision", "recall", "F1", "AUPRC")
    rows = [_class_score_row(arm, label) for arm in arms for label in classes]
    return ClassScoreTable(build_headings(*names, text_columns=2), rows)


def _score_groups(arms: Sequence[Arm], cells: Callable[[Arm], list[Cell]]) -> list[ScoreGroup]:
    groups = []
    for title, group in arm_groups.group_arms(arms):
        rows = [ScoreRow(arm_label(arm), cells(arm)) for arm in group]
        groups.append(ScoreGroup(title, rows))
    return groups


def _class_score_row(arm: Arm, label: str) -> ClassScoreRow:
    f1 = arm.scores.get(f"f1/{label}")
    cells = [score_cell(arm.scores.get(f"{metric}/{label}")) for metric in CLASS_METRICS]
    return ClassScoreRow(arm_label(arm), label, UNKNOWN_TEXT if f1 is None else str(f1.n), cells)
