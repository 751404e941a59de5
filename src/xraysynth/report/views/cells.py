"""The parts of every table of a page: headings, cells and matrices."""

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

HEADING_TERMS = {
    "arm": "arm",
    "macro-F1": "macro-F1",
    "gain in macro-F1": "macro-F1",
    "balanced accuracy": "balanced accuracy",
    "AUROC": "AUROC and AUPRC",
    "AUPRC": "AUROC and AUPRC",
    "ECE": "calibration error (ECE)",
    "Δ duplicates": "duplicate control",
    "Δ permuted": "permuted control",
    "p (Holm)": "Holm adjustment",
    "real-vs-synthetic AUROC": "real-vs-synthetic probe",
    "pointing game, hit rate": "pointing game",
    "real-data equivalent": "real-data equivalent",
    "left out": "leave-one-source-out",
    "size-matched": "size-matched control",
    "encoder": "encoder",
    "d′": "d′",
    "refused": "refusal",
    "job": "job",
    "jobs": "job",
}
"""The glossary's term behind a column heading."""


@dataclass(frozen=True)
class Heading:
    """The heading of a column.

    Attributes:
        name: Its text.
        is_text: Whether the column holds text, which is aligned left, and not numbers.
        term: The glossary's term that it explains; empty for none.
    """

    name: str
    is_text: bool = False
    term: str = ""


def build_headings(*names: str, text_columns: int = 1) -> list[Heading]:
    """Returns the headings of columns, of which the first `text_columns` hold text."""
    headings = []
    for position, name in enumerate(names):
        headings.append(Heading(name, position < text_columns, HEADING_TERMS.get(name, "")))
    return headings


@dataclass(frozen=True)
class Cell:
    """One cell of a table.

    Attributes:
        text: The number as text, or the words in its place.
        raw: The number for machines; empty where there is none, and then only `text` is shown.
        interval: The interval below the number.
        note: A note below the interval.
    """

    text: str = UNKNOWN_TEXT
    raw: str = ""
    interval: str = ""
    note: str = ""


def score_cell(interval: Interval | None, *, with_sign: bool = False, note: str = "") -> Cell:
    """Returns the cell of a score or, `with_sign`, of a difference; a dash where it is not known.

    Args:
        interval: The score with its interval; None where it is not known.
        with_sign: Whether it is a difference, which has a sign.
        note: A note below the interval.
    """
    if interval is None or not is_finite(interval.value):
        return Cell()
    return raw_score_cell(interval, with_sign, note)


def raw_score_cell(interval: Interval, with_sign: bool = False, note: str = "") -> Cell:
    """Returns the cell of a score; `raw` is filled even where the score is NaN."""
    text = format_signed(interval.value) if with_sign else format_number(interval.value)
    return Cell(text, str(interval.value), format_bounds(interval.low, interval.high), note)


def format_bounds(low: float | None, high: float | None) -> str:
    """Returns an interval in brackets; empty where it is not known."""
    return f"[{format_number(low)}, {format_number(high)}]" if is_finite(low) else ""


def format_percent_bounds(low: float | None, high: float | None) -> str:
    """Returns an interval of a fraction in brackets, in percent; empty where it is not known."""
    return f"[{format_percent(low)}, {format_percent(high)}]" if is_finite(low) else ""


@dataclass(frozen=True)
class ArmLabel:
    """The name of an arm, as plain text and with places where a line may break.

    Attributes:
        name: The name as plain text.
        breakable_name: The name as HTML with places where a line may break.
        is_control: Whether the arm is a control.
    """

    name: str
    breakable_name: Markup
    is_control: bool


def arm_label(arm: Arm) -> ArmLabel:
    """Returns the label of an arm."""
    return ArmLabel(arm.name, add_word_breaks(arm.name), bool(arm.control))


@dataclass(frozen=True)
class MatrixCell:
    """A number of images and its fraction of the row, for the style sheet and as a percentage.

    Attributes:
        count: Number of images.
        share: Fraction of the row, for the style sheet.
        percent: The same fraction as a percentage.
    """

    count: int
    share: str
    percent: str


@dataclass(frozen=True)
class MatrixRow:
    """The images of one class, by the class that was predicted."""

    label: str
    cells: Sequence[MatrixCell]


@dataclass(frozen=True)
class Matrix:
    """Counts of images by true or intended class (rows) and predicted class (columns)."""

    labels: Sequence[str]
    rows: Sequence[MatrixRow]


def build_matrix(labels: Sequence[str], counts: Sequence[Sequence[int]]) -> Matrix:
    """Returns counts `(C, C)` with their fractions of the row; those of an empty row are 0.

    Args:
        labels: The classes in order.
        counts: Number of images, `(C, C)`, by row and column.
    """
    rows = []
    for label, row in zip(labels, counts, strict=True):
        row_total = sum(row)
        rows.append(MatrixRow(label, [_matrix_cell(count, row_total) for count in row]))
    return Matrix(labels, rows)


def _matrix_cell(count: int, row_total: int) -> MatrixCell:
    """Returns a count with its fraction of the row."""
    share = count / row_total if row_total else 0.0
    return MatrixCell(count, str(round(share, 3)), format_percent(share))
