"""View of the readers' answers, for the page of the reading and for the page of the study."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import starmap

from markupsafe import Markup

from xraysynth.evaluation.reader_study.reading import Reading
from xraysynth.evaluation.reader_study.results import ReadingResult
from xraysynth.report import readers
from xraysynth.report.formatting import (
    UNKNOWN_TEXT,
    add_word_breaks,
    format_count,
    format_number,
    format_percent,
    format_signed,
    is_finite,
)
from xraysynth.report.readers import DETECTION_METRICS, SCORE_TITLES
from xraysynth.report.views.cells import Cell, Heading, build_headings, format_percent_bounds

SHARE_METRICS = ("accuracy", "sensitivity", "specificity")
"""The metrics of detection that are fractions and shown in percent."""


@dataclass(frozen=True)
class GroupRow:
    """The numbers of one group: real images, one generator's images, or all synthetic images.

    Attributes:
        group: Name of the group.
        cells: Its numbers.
        p: p-value of a difference; empty where there is none.
    """

    group: Markup
    cells: Sequence[Cell]
    p: str = ""


@dataclass(frozen=True)
class GroupTable:
    """Numbers of each group of images, one row per group."""

    headings: Sequence[Heading]
    rows: Sequence[GroupRow]


@dataclass(frozen=True)
class ShareTable:
    """Fractions of images by class, and their differences to those of real images.

    Attributes:
        headings: Headings of the columns.
        rows: The fractions, one row per group.
        differences: Differences to real images in percentage points, one row per synthetic group.
        is_called_real: Whether the fractions are of images called real.
    """

    headings: Sequence[Heading]
    rows: Sequence[GroupRow]
    differences: Sequence[GroupRow]
    is_called_real: bool

    @property
    def columns(self) -> int:
        """Number of columns."""
        return len(self.headings)


@dataclass(frozen=True)
class OriginView:
    """How well readers tell synthetic images from real ones, as a figure and two tables."""

    forest: Markup
    called_real: ShareTable
    detection: GroupTable


@dataclass(frozen=True)
class ScoreCells:
    """A mean score, its difference to real images, and the p-value of the difference."""

    mean: Cell
    difference: Cell
    p: str


@dataclass(frozen=True)
class ScoreRow:
    """The scores of one group of images."""

    group: Markup
    scores: Sequence[ScoreCells]


@dataclass(frozen=True)
class ScoresView:
    """The scores of image quality and realism.

    Attributes:
        names: Titles of the scores.
        p_title: Heading of the p-values.
        rows: One row per group of images.
    """

    names: Sequence[str]
    p_title: str
    rows: Sequence[ScoreRow]


@dataclass(frozen=True)
class AnswersView:
    """The answers to each question; a question that was not asked is None.

    Attributes:
        name: Name of the reading.
        origin: Answers to "real or synthetic".
        diagnosis: Images in which readers named the intended class.
        scores: Scores of image quality and realism.
    """

    name: str
    origin: OriginView | None
    diagnosis: ShareTable | None
    scores: ScoresView | None


@dataclass(frozen=True)
class ReadingHeadline:
    """The verdict on whether readers tell a generator's images, and the numbers behind it."""

    sentence: str
    numbers: str


@dataclass(frozen=True)
class StudyReading:
    """A reading on the page of a study.

    Attributes:
        answers: The answers to each question.
        simulated_readers: Whether the answers are computed.
        readers: Number of readers, in words.
        answer_count: Number of answers.
        headlines: One verdict per generator.
    """

    answers: AnswersView
    simulated_readers: bool
    readers: str
    answer_count: str
    headlines: Sequence[ReadingHeadline]


def study_reading(reading: Reading, generators: Sequence[str]) -> StudyReading:
    """Returns a reading for the page of a study, whose `generators` give the colours by their order."""
    return StudyReading(
        answers=answers_view(reading, generators),
        simulated_readers=reading.simulated_readers,
        readers=format_count(len(reading.readers), "reader"),
        answer_count=str(reading.readers["answers"].sum()),
        headlines=reading_headlines(reading),
    )


def reading_headlines(reading: Reading) -> list[ReadingHeadline]:
    """Returns one verdict per generator."""
    return list(starmap(ReadingHeadline, readers.summary_sentences(reading)))


def answers_view(reading: Reading, generators: Sequence[str] = ()) -> AnswersView:
    """Returns the answers to each question; the order of a page's `generators` gives the colours."""
    asked_diagnosis = reading.has_measure("diagnosis_agreement")
    asked_scores = any(map(reading.has_measure, SCORE_TITLES))
    return AnswersView(
        name=reading.name,
        origin=_origin_view(reading, generators) if reading.has_measure("called_real") else None,
        diagnosis=_share_table(reading, "diagnosis_agreement") if asked_diagnosis else None,
        scores=_scores_view(reading) if asked_scores else None,
    )


def group_heading(group: str) -> Markup:
    """Returns the name of a group of images, with places where a line may break."""
    return add_word_breaks(readers.group_title(group))


def value_cell(result: ReadingResult | None, *, digits: int = 2, with_sign: bool = False) -> Cell:
    """Returns a number with its interval; a dash where it is not known.

    Args:
        result: The result; None where it was not measured.
        digits: Number of decimals.
        with_sign: Whether a number above 0 has a plus sign.
    """
    if result is None or not is_finite(result.value):
        return Cell()
    format_value = format_signed if with_sign else format_number
    low, high = format_number(result.low, digits), format_number(result.high, digits)
    interval = f"[{low}, {high}]" if is_finite(result.low) else ""
    return Cell(format_value(result.value, digits), str(result.value), interval)


def share_cell(result: ReadingResult | None) -> Cell:
    """Returns a fraction with its interval, in percent; a dash where it is not known."""
    if result is None or not is_finite(result.value):
        return Cell()
    bounds = format_percent_bounds(result.low, result.high)
    return Cell(format_percent(result.value), str(result.value), bounds)


def _percentage_points_cell(result: ReadingResult | None) -> Cell:
    """Returns a difference of fractions with its interval, in percentage points."""
    if result is None or not is_finite(result.value):
        return Cell()
    interval = readers.format_percentage_points(result).partition("points ")[2]
    return Cell(readers.format_points(result.value), str(result.value), interval)


def _origin_view(reading: Reading, generators: Sequence[str]) -> OriginView:
    """Returns the answers to "real or synthetic"; detection compares synthetic with real images."""
    rows = []
    for group in reading.groups[1:]:
        cells = [_detection_cell(reading, name, group) for name in DETECTION_METRICS]
        rows.append(GroupRow(group_heading(group), cells))
    return OriginView(
        forest=Markup(readers.draw_forest_plot(reading, generators)),
        called_real=_share_table(reading, "called_real"),
        detection=GroupTable(build_headings("", *DETECTION_METRICS.values()), rows),
    )


def _detection_cell(reading: Reading, name: str, group: str) -> Cell:
    """Returns one metric of detection, fractions in percent."""
    result = reading.get(name, group)
    if name in SHARE_METRICS:
        return share_cell(result)
    return value_cell(result, with_sign=name == "criterion")


def _share_table(reading: Reading, name: str) -> ShareTable:
    """Returns a fraction by group and class, and its differences to real images, the first group."""
    classes = list(reading.classes) if len(reading.classes) > 1 else []
    labels = ["", *classes]
    rows = [_share_row(reading, name, group, labels) for group in reading.groups]
    differences = []
    for group in reading.groups[1:]:
        differences.append(_difference_row(reading, f"{name}_difference", group, labels))
    headings = build_headings("", "all classes", *classes)
    return ShareTable(headings, rows, differences, is_called_real=name == "called_real")


def _share_row(reading: Reading, name: str, group: str, labels: Sequence[str]) -> GroupRow:
    cells = [share_cell(reading.get(name, group, label)) for label in labels]
    return GroupRow(group_heading(group), cells)


def _difference_row(reading: Reading, name: str, group: str, labels: Sequence[str]) -> GroupRow:
    cells = [_percentage_points_cell(reading.get(name, group, label)) for label in labels]
    return GroupRow(group_heading(group), cells, _format_group_p(reading, reading.get(name, group)))


def _format_group_p(reading: Reading, difference: ReadingResult | None) -> str:
    """Returns the adjusted p-value of a difference; empty where there is none."""
    if difference is None or not is_finite(difference.p_holm):
        return ""
    p_value = readers.format_p_value(difference.p_holm)
    return f"{p_value} (Holm)" if len(reading.generators) > 1 else p_value


def _scores_view(reading: Reading) -> ScoresView:
    """Returns the scores that readers were asked for, by group."""
    measured = set(reading.results["name"])
    names = [name for name in SCORE_TITLES if name in measured]
    rows = []
    for group in reading.groups:
        scores = [_score_cells(reading, name, group) for name in names]
        rows.append(ScoreRow(group_heading(group), scores))
    p_title = "p (Holm)" if len(reading.generators) > 1 else "p"
    return ScoresView([SCORE_TITLES[name] for name in names], p_title, rows)


def _score_cells(reading: Reading, name: str, group: str) -> ScoreCells:
    """Returns a group's mean score and its difference to real images."""
    difference = reading.get(f"{name}_difference", group)
    p_value = UNKNOWN_TEXT
    if difference:
        text = readers.format_p_value(difference.p_holm)
        p_value = text.removeprefix("p = ").removeprefix("p ")
    mean = value_cell(reading.get(name, group), with_sign=True)
    return ScoreCells(mean, value_cell(difference, with_sign=True), p_value)
