"""View of the label fidelity, and of the scores of real-only classifiers on synthetic images."""

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
"""Titles of the scores of real-only classifiers."""


@dataclass(frozen=True)
class FidelityCell:
    """The fraction of images of one class in which the label-fidelity classifier sees that class.

    Attributes:
        raw: The fraction for machines.
        text: The fraction in percent.
        interval: Its 95 % interval.
        n: Number of images.
        real: The same fraction of real images, with its interval; empty where it is not known.
        real_n: Number of real images.
    """

    raw: str
    text: str
    interval: str
    n: str
    real: str
    real_n: str


@dataclass(frozen=True)
class FidelityRow:
    """The label fidelity of one generator.

    Attributes:
        generator: Name of the generator.
        fidelity_classifier: What the label-fidelity classifier was trained on.
        cells: All classes together and each class; empty where nothing was measured.
    """

    generator: Markup
    fidelity_classifier: str
    cells: Sequence[FidelityCell | None]


@dataclass(frozen=True)
class LabelConfusion:
    """A generator's images by intended class and by the class that the label-fidelity classifier sees."""

    generator: str
    matrix: Matrix


@dataclass(frozen=True)
class RealClassifierRow:
    """Scores of real-only classifiers on one generator's images; no cells where nothing was measured."""

    generator: Markup
    n: str
    cells: Sequence[Cell]


@dataclass(frozen=True)
class RealClassifierReference:
    """Scores of the same classifiers on the `n` real test images."""

    n: int
    cells: Sequence[Cell]


@dataclass(frozen=True)
class RealClassifierTable:
    """Scores of real-only classifiers on the real test images and on each generator's images."""

    headings: Sequence[Heading]
    reference: RealClassifierReference | None
    rows: Sequence[RealClassifierRow]

    @property
    def columns(self) -> int:
        """Number of columns right of the name."""
        return len(self.headings) - 1


@dataclass(frozen=True)
class LabelsSection:
    """The label fidelity of every generator.

    Attributes:
        headings: Headings of the table of fractions.
        rows: Fractions of images that show their intended class, by generator.
        label_confusion: Images by intended and seen class, by generator.
        real_classifiers: Scores of real-only classifiers.
    """

    headings: Sequence[Heading]
    rows: Sequence[FidelityRow]
    label_confusion: Sequence[LabelConfusion]
    real_classifiers: RealClassifierTable

    @property
    def columns(self) -> int:
        """Number of columns right of the generator's name."""
        return len(self.headings) - 1


def labels_section(
    pools: Sequence[PoolResults], arms: Sequence[Arm], classes: Sequence[str], real: str
) -> LabelsSection:
    """Returns the label fidelity of some pools.

    Args:
        pools: The generators' images.
        arms: The arms in the order of the page, of which the first is real only.
        classes: The classes in order.
        real: What real images are called.
    """
    return LabelsSection(
        headings=build_headings("images of", "all classes", *classes),
        rows=[_fidelity_row(pool, classes) for pool in pools],
        label_confusion=_label_confusion(pools, classes),
        real_classifiers=RealClassifierTable(
            build_headings("tested on", "N", *REAL_CLASSIFIER_METRICS.values()),
            _real_classifier_reference(arms[0]) if arms else None,
            [_real_classifier_row(pool, real) for pool in pools],
        ),
    )


def _label_confusion(pools: Sequence[PoolResults], classes: Sequence[str]) -> list[LabelConfusion]:
    """Returns the matrix of each pool that has one."""
    matrices = []
    for pool in pools:
        if pool.confusion_matrix is not None and len(pool.confusion_matrix):
            matrix = build_matrix(classes, pool.confusion_matrix)
            matrices.append(LabelConfusion(pool.generator, matrix))
    return matrices


def _fidelity_row(pool: PoolResults, classes: Sequence[str]) -> FidelityRow:
    """Returns the label fidelity of one generator, all classes together first."""
    by_label = {row.label: row for row in pool.label_fidelity}
    labels = ["", *classes] if by_label else []
    cells = [_fidelity_cell(by_label.get(label)) for label in labels]
    return FidelityRow(add_word_breaks(pool.generator), pool.fidelity_classifier, cells)


def _fidelity_cell(row: LabelFidelity | None) -> FidelityCell | None:
    """Returns the label fidelity of one class; None where it was not measured."""
    if row is None:
        return None
    real = ""
    if is_finite(row.real):
        real_bounds = format_percent_bounds(row.real_low, row.real_high)
        real = f"{format_percent(row.real)} {real_bounds}".rstrip()
    return FidelityCell(
        raw=str(row.value),
        text=format_percent(row.value),
        interval=format_percent_bounds(row.low, row.high),
        n=format_number(row.n, 0),
        real=real,
        real_n=format_number(row.real_n, 0) if is_finite(row.real_n) else "",
    )


def _real_classifier_reference(arm: Arm) -> RealClassifierReference:
    """Returns the scores of an arm on the real test images."""
    cells = [score_cell(arm.scores.get(metric)) for metric in REAL_CLASSIFIER_METRICS]
    return RealClassifierReference(arm_groups.count_test_images(arm), cells)


def _real_classifier_row(pool: PoolResults, real: str) -> RealClassifierRow:
    """Returns the scores of real-only classifiers on one generator's images."""
    accuracy = pool.real_classifier_scores.get("accuracy")
    n = str(accuracy.n) if accuracy else UNKNOWN_TEXT
    cells = []
    if pool.real_classifier_scores:
        cells = [_real_classifier_cell(pool, metric, real) for metric in REAL_CLASSIFIER_METRICS]
    return RealClassifierRow(add_word_breaks(pool.generator), n, cells)


def _real_classifier_cell(pool: PoolResults, metric: str, real: str) -> Cell:
    """Returns a score; images that lack a class have a note with the score of comparable real images."""
    note = ""
    real_score = pool.real_classifier_scores.get(f"{metric} of real images")
    if real_score is not None and is_finite(real_score.value):
        note = f"{real} {format_number(real_score.value)}"
    return score_cell(pool.real_classifier_scores.get(metric), note=note)
