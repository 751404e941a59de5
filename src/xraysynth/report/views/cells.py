"""What every table of a page is made of: headings, cells and matrices, ready to be written down."""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from xraysynth.evaluation.metrics.statistics import Interval
from xraysynth.report.content import Arm
from xraysynth.report.formatting import UNKNOWN, breakable, known, number, percent, signed


@dataclass(frozen=True)
class Heading:
    """The head of a column; those of words stand left, those of numbers right."""

    name: str
    is_text: bool = False


def headings(*names: str, words: int = 1) -> list[Heading]:
    """Heads of columns, of which the first `words` hold words."""
    return [Heading(name, place < words) for place, name in enumerate(names)]


@dataclass(frozen=True)
class Cell:
    """A number as `text`, with its `interval` and a `note` below; `raw` is the number for machines.

    Without `raw` there is no number, and only `text` is shown.
    """

    text: str = UNKNOWN
    raw: str = ""
    interval: str = ""
    note: str = ""


def score(interval: Interval | None, *, plus: bool = False, note: str = "") -> Cell:
    """A score, or a difference, which has a sign; a dash where it is not known."""
    return (
        Cell() if interval is None or not known(interval.value) else raw_score(interval, plus, note)
    )


def raw_score(interval: Interval, plus: bool = False, note: str = "") -> Cell:
    """The same, with the number for machines also where that is no number."""
    text = signed(interval.value) if plus else number(interval.value)
    return Cell(text, str(interval.value), bounds(interval.low, interval.high), note)


def bounds(low: float | None, high: float | None) -> str:
    """An interval in brackets; empty where it is not known."""
    return f"[{number(low)}, {number(high)}]" if known(low) else ""


def percent_bounds(low: float | None, high: float | None) -> str:
    """An interval of a share in brackets; empty where it is not known."""
    return f"[{percent(low)}, {percent(high)}]" if known(low) else ""


@dataclass(frozen=True)
class ArmLabel:
    """The name of an arm, as it is and as it may wrap."""

    name: str
    wrapped: Markup
    is_control: bool


def arm_label(arm: Arm) -> ArmLabel:
    """The label of an arm."""
    return ArmLabel(arm.name, breakable(arm.name), bool(arm.control))


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


def matrix(labels: Sequence[str], counts: Sequence[Sequence[int]]) -> Matrix:
    """Counts `(C, C)` with their shares of each row; a row of zeros has shares of 0."""
    rows = []
    for label, row in zip(labels, counts, strict=True):
        rows.append(MatrixRow(label, [_matrix_cell(count, sum(row)) for count in row]))
    return Matrix(labels, rows)


def _matrix_cell(count: int, of: int) -> MatrixCell:
    share = count / of if of else 0.0
    return MatrixCell(count, str(round(share, 3)), percent(share))
