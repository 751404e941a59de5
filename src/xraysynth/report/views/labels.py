"""Whether images show the class that was asked for, and how real-only classifiers do on them."""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from xraysynth.evaluation.results import LabelFidelity
from xraysynth.report import arm_groups
from xraysynth.report.content import Arm, PoolView
from xraysynth.report.formatting import UNKNOWN, breakable, known, number, percent
from xraysynth.report.views.cells import (
    Cell,
    Heading,
    Matrix,
    headings,
    matrix,
    percent_bounds,
    score,
)

TESTED_ON = {"macro_f1": "macro-F1", "accuracy": "accuracy", "macro_auroc": "AUROC"}


@dataclass(frozen=True)
class FaithfulnessCell:
    """The share of images of one class in which that class is seen, beside that of real images."""

    raw: str
    text: str
    interval: str
    n: str
    real: str
    real_n: str


@dataclass(frozen=True)
class FaithfulnessRow:
    """One generator, class by class; no cells where it was not measured."""

    generator: Markup
    judge: str
    cells: Sequence[FaithfulnessCell | None]


@dataclass(frozen=True)
class SeenClasses:
    """A generator's images by intended class and by the class that is seen."""

    generator: str
    matrix: Matrix


@dataclass(frozen=True)
class TestedRow:
    """Scores on one generator's images; no cells where they were not measured."""

    generator: Markup
    n: str
    cells: Sequence[Cell]


@dataclass(frozen=True)
class TestedReference:
    """Scores on the real test images."""

    n: int
    cells: Sequence[Cell]


@dataclass(frozen=True)
class TestedTable:
    """Real-only classifiers on real test images and on each generator's."""

    headings: Sequence[Heading]
    reference: TestedReference | None
    rows: Sequence[TestedRow]

    @property
    def columns(self) -> int:
        """Columns right of the name."""
        return len(self.headings) - 1


@dataclass(frozen=True)
class LabelsSection:
    """Label faithfulness of every generator."""

    headings: Sequence[Heading]
    rows: Sequence[FaithfulnessRow]
    seen: Sequence[SeenClasses]
    tested_on: TestedTable

    @property
    def columns(self) -> int:
        """Columns right of the generator's name."""
        return len(self.headings) - 1


def labels_section(
    pools: Sequence[PoolView], arms: Sequence[Arm], classes: Sequence[str], real: str
) -> LabelsSection:
    """Labels of these pools; the first of the `arms` is the reference, and `real` what it is of."""
    return LabelsSection(
        headings=headings("images of", "all classes", *classes),
        rows=[_faithfulness(pool, classes) for pool in pools],
        seen=[
            SeenClasses(pool.generator, matrix(classes, pool.seen))
            for pool in pools
            if pool.seen is not None and len(pool.seen)
        ],
        tested_on=TestedTable(
            headings("tested on", "N", *TESTED_ON.values()),
            _reference(arms[0]) if arms else None,
            [_tested_row(pool, real) for pool in pools],
        ),
    )


def _faithfulness(pool: PoolView, classes: Sequence[str]) -> FaithfulnessRow:
    by_label = {row.label: row for row in pool.faithfulness}
    labels = ["", *classes] if by_label else []
    cells = [_faithfulness_cell(by_label.get(label)) for label in labels]
    return FaithfulnessRow(breakable(pool.generator), pool.judge, cells)


def _faithfulness_cell(row: LabelFidelity | None) -> FaithfulnessCell | None:
    if row is None:
        return None
    real_bounds = percent_bounds(row.real_low, row.real_high)
    return FaithfulnessCell(
        raw=str(row.value),
        text=percent(row.value),
        interval=percent_bounds(row.low, row.high),
        n=number(row.n, 0),
        real=" ".join(filter(None, [percent(row.real), real_bounds])) if known(row.real) else "",
        real_n=number(row.real_n, 0) if known(row.real_n) else "",
    )


def _reference(arm: Arm) -> TestedReference:
    cells = [score(arm.scores.get(metric)) for metric in TESTED_ON]
    return TestedReference(arm_groups.test_images(arm), cells)


def _tested_row(pool: PoolView, real: str) -> TestedRow:
    accuracy = pool.tested_on.get("accuracy")
    cells = [_tested_cell(pool, metric, real) for metric in TESTED_ON] if pool.tested_on else []
    return TestedRow(breakable(pool.generator), str(accuracy.n) if accuracy else UNKNOWN, cells)


def _tested_cell(pool: PoolView, metric: str, real: str) -> Cell:
    beside = pool.tested_on.get(f"{metric} of real images")
    is_known = beside is not None and known(beside.value)
    return score(
        pool.tested_on.get(metric),
        note=f"{real} {number(beside.value)}" if beside is not None and is_known else "",
    )
