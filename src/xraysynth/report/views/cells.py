"""What every table of a page is made of: headings, cells and matrices, ready to be written down."""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from xraysynth.evaluation.metrics.statistics import Interval
from xraysynth.report.content import Arm
from xraysynth.report.formatting import (
    UNKNOWN_TEXT,
    add_word_breaks,
    format_number,
    format_percent,
    format_signed,
    is_finite,
)


@dataclass(frozen=True)
class Heading:
    """The head of a column; those of words stand left, those of numbers right."""

    name: str
    is_text: bool = False


def build_headings(*names: str, text_columns: int = 1) -> list[Heading]:
    """Heads of columns, of which the first `words` hold words."""
    return [Heading(name, place < text_columns) for place, name in enumerate(names)]


@dataclass(frozen=True)
class Cell:
    """A number as `text`, with its `interval` and a `note` below; `raw` is the number for machines.

    Without `raw` there is no number, and only `text` is shown.
    """

    text: str = UNKNOWN_TEXT
    raw: str = ""
    interval: str = ""
    note: str = ""


def score_cell(interval: Interval | None, *, with_sign: bool = False, note: str = "") -> Cell:
    """A score, or a difference, which has a sign; a dash where it is not known."""
    return (
        Cell()
        if interval is None or not is_finite(interval.value)
        else raw_score_cell(interval, with_sign, note)
    )


def raw_score_cell(interval: Interval, with_sign: bool = False, note: str = "") -> Cell:
    """The same, with the number for machines also where that is no number."""
    text = format_signed(interval.value) if with_sign else format_number(interval.value)
    return Cell(text, str(interval.value), format_bounds(interval.low, interval.high), note)


def format_bounds(low: float | None, high: float | None) -> str:
    """An interval in brackets; empty where it is not known."""
    return f"[{format_number(low)}, {format_number(high)}]" if is_finite(low) else ""


def format_percent_bounds(low: float | None, high: float | None) -> str:
    """An interval of a share in brackets; empty where it is not known."""
    return f"[{format_percent(low)}, {format_percent(high)}]" if is_finite(low) else ""


@dataclass(frozen=True)
class ArmLabel:
    """The name of an arm, as it is and as it may wrap."""

    name: str
    breakable_name: Markup
    is_control: bool


def arm_label(arm: Arm) -> ArmLabel:
    """The label of an arm."""
    return ArmLabel(arm.name, add_word_breaks(arm.name), bool(arm.control))


@dataclass(frozen=True)
class MatrixCell:
    """A number of images, and its share of the row: as a number for the style, and in words."""

    count: int
    share: str
    percent: str


@dataclass(frozen=True)
class MatrixRow:
    """The images of one class, by what was seen in them."""

    label: str
    cells: Sequence[MatrixCell]


@dataclass(frozen=True)
class Matrix:
    """Counts by class (row) and class that was seen (column)."""

    labels: Sequence[str]
    rows: Sequence[MatrixRow]


def build_matrix(labels: Sequence[str], counts: Sequence[Sequence[int]]) -> Matrix:
    """Counts `(C, C)` with their shares of each row; a row of zeros has shares of 0."""
    rows = []
    for label, row in zip(labels, counts, strict=True):
        rows.append(MatrixRow(label, [_matrix_cell(count, sum(row)) for count in row]))
    return Matrix(labels, rows)


def _matrix_cell(count: int, row_total: int) -> MatrixCell:
    share = count / row_total if row_total else 0.0
    return MatrixCell(count, str(round(share, 3)), format_percent(share))
