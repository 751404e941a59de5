"""Whether images show the class that was asked for, and how real-only classifiers do on them."""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from xraysynth.evaluation.results import LabelFidelity
from xraysynth.report import arm_groups
from xraysynth.report.content import Arm, PoolResults
from xraysynth.report.formatting import (
    UNKNOWN_TEXT,
    add_word_breaks,
    format_number,
    format_percent,
    is_finite,
)
from xraysynth.report.views.cells import (
    Cell,
    Heading,
    Matrix,
    build_headings,
    build_matrix,
    format_percent_bounds,
    score_cell,
)

REAL_CLASSIFIER_METRICS = {"macro_f1": "macro-F1", "accuracy": "accuracy", "macro_auroc": "AUROC"}


@dataclass(frozen=True)
class FidelityCell:
    """The share of images of one class in which that class is seen, beside that of real images."""

    raw: str
    text: str
    interval: str
    n: str
    real: str
    real_n: str


@dataclass(frozen=True)
class FidelityRow:
    """One generator, class by class; no cells where it was not measured."""

    generator: Markup
    fidelity_classifier: str
    cells: Sequence[FidelityCell | None]


@dataclass(frozen=True)
class LabelConfusion:
    """A generator's images by intended class and by the class that is seen."""

    generator: str
    matrix: Matrix


@dataclass(frozen=True)
class RealClassifierRow:
    """Scores on one generator's images; no cells where they were not measured."""

    generator: Markup
    n: str
    cells: Sequence[Cell]


@dataclass(frozen=True)
class RealClassifierReference:
    """Scores on the real test images."""

    n: int
    cells: Sequence[Cell]


@dataclass(frozen=True)
class RealClassifierTable:
    """Real-only classifiers on real test images and on each generator's."""

    headings: Sequence[Heading]
    reference: RealClassifierReference | None
    rows: Sequence[RealClassifierRow]

    @property
    def columns(self) -> int:
        """Columns right of the name."""
        return len(self.headings) - 1


@dataclass(frozen=True)
class LabelsSection:
    """Label faithfulness of every generator."""

    headings: Sequence[Heading]
    rows: Sequence[FidelityRow]
    label_confusion: Sequence[LabelConfusion]
    real_classifiers: RealClassifierTable

    @property
    def columns(self) -> int:
        """Columns right of the generator's name."""
        return len(self.headings) - 1


def labels_section(
    pools: Sequence[PoolResults], arms: Sequence[Arm], classes: Sequence[str], real: str
) -> LabelsSection:
    """Labels of these pools; the first of the `arms` is the reference, and `real` what it is of."""
    return LabelsSection(
        headings=build_headings("images of", "all classes", *classes),
        rows=[_fidelity_row(pool, classes) for pool in pools],
        label_confusion=[
            LabelConfusion(pool.generator, build_matrix(classes, pool.confusion_matrix))
            for pool in pools
            if pool.confusion_matrix is not None and len(pool.confusion_matrix)
        ],
        real_classifiers=RealClassifierTable(
            build_headings("tested on", "N", *REAL_CLASSIFIER_METRICS.values()),
            _real_classifier_reference(arms[0]) if arms else None,
            [_real_classifier_row(pool, real) for pool in pools],
        ),
    )


def _fidelity_row(pool: PoolResults, classes: Sequence[str]) -> FidelityRow:
    by_label = {row.label: row for row in pool.label_fidelity}
    labels = ["", *classes] if by_label else []
    cells = [_fidelity_cell(by_label.get(label)) for label in labels]
    return FidelityRow(add_word_breaks(pool.generator), pool.fidelity_classifier, cells)


def _fidelity_cell(row: LabelFidelity | None) -> FidelityCell | None:
    if row is None:
        return None
    real_bounds = format_percent_bounds(row.real_low, row.real_high)
    return FidelityCell(
        raw=str(row.value),
        text=format_percent(row.value),
        interval=format_percent_bounds(row.low, row.high),
        n=format_number(row.n, 0),
        real=" ".join(filter(None, [format_percent(row.real), real_bounds]))
        if is_finite(row.real)
        else "",
        real_n=format_number(row.real_n, 0) if is_finite(row.real_n) else "",
    )


def _real_classifier_reference(arm: Arm) -> RealClassifierReference:
    cells = [score_cell(arm.scores.get(metric)) for metric in REAL_CLASSIFIER_METRICS]
    return RealClassifierReference(arm_groups.count_test_images(arm), cells)


def _real_classifier_row(pool: PoolResults, real: str) -> RealClassifierRow:
    accuracy = pool.real_classifier_scores.get("accuracy")
    cells = (
        [_real_classifier_cell(pool, metric, real) for metric in REAL_CLASSIFIER_METRICS]
        if pool.real_classifier_scores
        else []
    )
    return RealClassifierRow(
        add_word_breaks(pool.generator), str(accuracy.n) if accuracy else UNKNOWN_TEXT, cells
    )


def _real_classifier_cell(pool: PoolResults, metric: str, real: str) -> Cell:
    beside = pool.real_classifier_scores.get(f"{metric} of real images")
    is_known = beside is not None and is_finite(beside.value)
    return score_cell(
        pool.real_classifier_scores.get(metric),
        note=f"{real} {format_number(beside.value)}" if beside is not None and is_known else "",
    )
