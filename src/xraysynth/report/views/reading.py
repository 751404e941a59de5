"""What readers answered of a study's images, on the reading's own page and on that of the study."""

from collections.abc import Sequence
from dataclasses import dataclass

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
"""The measures of detection that are shares."""


@dataclass(frozen=True)
class GroupRow:
    """Real images, one generator's, or all together; `p` of a difference, where it is known."""

    group: Markup
    cells: Sequence[Cell]
    p: str = ""


@dataclass(frozen=True)
class GroupTable:
    """Numbers of each group of images."""

    headings: Sequence[Heading]
    rows: Sequence[GroupRow]


@dataclass(frozen=True)
class ShareTable:
    """Shares of images class by class, and their differences to those of real images."""

    headings: Sequence[Heading]
    rows: Sequence[GroupRow]
    differences: Sequence[GroupRow]
    is_called_real: bool

    @property
    def columns(self) -> int:
        """All columns."""
        return len(self.headings)


@dataclass(frozen=True)
class OriginView:
    """Whether readers tell synthetic images from real ones."""

    forest: Markup
    called_real: ShareTable
    detection: GroupTable


@dataclass(frozen=True)
class ScoreCells:
    """A mean score, its difference to real images, and the p-value of that."""

    mean: Cell
    difference: Cell
    p: str


@dataclass(frozen=True)
class ScoreRow:
    """One group's scores."""

    group: Markup
    scores: Sequence[ScoreCells]


@dataclass(frozen=True)
class ScoresView:
    """How the images look."""

    names: Sequence[str]
    p_title: str
    rows: Sequence[ScoreRow]


@dataclass(frozen=True)
class AnswersView:
    """The answers to each question; None where it was not asked. `name` is that of the reading."""

    name: str
    origin: OriginView | None
    diagnosis: ShareTable | None
    scores: ScoresView | None


@dataclass(frozen=True)
class ReadingHeadline:
    """What readers took a generator's images for, and the numbers behind it."""

    sentence: str
    numbers: str


@dataclass(frozen=True)
class StudyReading:
    """A reading on the page of a study."""

    answers: AnswersView
    simulated_readers: bool
    readers: str
    answer_count: str
    headlines: Sequence[ReadingHeadline]


def study_reading(reading: Reading, generators: Sequence[str]) -> StudyReading:
    """A reading in short; colours are those of a page with these `generators`."""
    return StudyReading(
        answers=answers_view(reading, generators),
        simulated_readers=reading.simulated_readers,
        readers=format_count(len(reading.readers), "reader"),
        answer_count=str(reading.readers["answers"].sum()),
        headlines=reading_headlines(reading),
    )


def reading_headlines(reading: Reading) -> list[ReadingHeadline]:
    """One for each generator."""
    return [ReadingHeadline(*sentence) for sentence in readers.summary_sentences(reading)]


def answers_view(reading: Reading, generators: Sequence[str] = ()) -> AnswersView:
    """The answers; colours are those of a page with these `generators`."""
    asked_diagnosis = reading.has_measure("diagnosis_agreement")
    asked_scores = any(reading.has_measure(name) for name in SCORE_TITLES)
    return AnswersView(
        name=reading.name,
        origin=_origin_view(reading, generators) if reading.has_measure("called_real") else None,
        diagnosis=_share_table(reading, "diagnosis_agreement") if asked_diagnosis else None,
        scores=_scores_view(reading) if asked_scores else None,
    )


def group_heading(group: str) -> Markup:
    """What a row of images is called."""
    return add_word_breaks(readers.group_title(group))


def value_cell(result: ReadingResult | None, *, digits: int = 2, with_sign: bool = False) -> Cell:
    """A number with its interval."""
    if result is None or not is_finite(result.value):
        return Cell()
    low, high = format_number(result.low, digits), format_number(result.high, digits)
    return Cell(
        format_signed(result.value, digits) if with_sign else format_number(result.value, digits),
        str(result.value),
        f"[{low}, {high}]" if is_finite(result.low) else "",
    )


def share_cell(result: ReadingResult | None) -> Cell:
    """A share with its interval, in percent."""
    if result is None or not is_finite(result.value):
        return Cell()
    bounds = format_percent_bounds(result.low, result.high)
    return Cell(format_percent(result.value), str(result.value), bounds)


def _percentage_points_cell(result: ReadingResult | None) -> Cell:
    """A difference of shares with its interval, in percentage points."""
    if result is None or not is_finite(result.value):
        return Cell()
    interval = readers.format_percentage_points(result).partition("points ")[2]
    return Cell(readers.format_points(result.value), str(result.value), interval)


def _origin_view(reading: Reading, generators: Sequence[str]) -> OriginView:
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
    result = reading.get(name, group)
    return (
        share_cell(result)
        if name in SHARE_METRICS
        else value_cell(result, with_sign=name == "criterion")
    )


def _share_table(reading: Reading, name: str) -> ShareTable:
    labels = ["", *(reading.classes if len(reading.classes) > 1 else ())]
    return ShareTable(
        headings=build_headings("", "all classes", *labels[1:]),
        rows=[_share_row(reading, name, group, labels) for group in reading.groups],
        differences=[
            _difference_row(reading, f"{name}_difference", group, labels)
            for group in reading.groups[1:]
        ],
        is_called_real=name == "called_real",
    )


def _share_row(reading: Reading, name: str, group: str, labels: Sequence[str]) -> GroupRow:
    cells = [share_cell(reading.get(name, group, label)) for label in labels]
    return GroupRow(group_heading(group), cells)


def _difference_row(reading: Reading, name: str, group: str, labels: Sequence[str]) -> GroupRow:
    cells = [_percentage_points_cell(reading.get(name, group, label)) for label in labels]
    return GroupRow(group_heading(group), cells, _format_group_p(reading, reading.get(name, group)))


def _format_group_p(reading: Reading, difference: ReadingResult | None) -> str:
    if difference is None or not is_finite(difference.p_holm):
        return ""
    return readers.format_p_value(difference.p_holm) + (
        " (Holm)" if len(reading.generators) > 1 else ""
    )


def _scores_view(reading: Reading) -> ScoresView:
    measured = set(reading.results["name"])
    names = [name for name in SCORE_TITLES if name in measured]
    rows = []
    for group in reading.groups:
        scores = [_score_cells(reading, name, group) for name in names]
        rows.append(ScoreRow(group_heading(group), scores))
    p_title = "p (Holm)" if len(reading.generators) > 1 else "p"
    return ScoresView([SCORE_TITLES[name] for name in names], p_title, rows)


def _score_cells(reading: Reading, name: str, group: str) -> ScoreCells:
    apart = reading.get(f"{name}_difference", group)
    p = (
        readers.format_p_value(apart.p_holm).removeprefix("p = ").removeprefix("p ")
        if apart
        else UNKNOWN_TEXT
    )
    mean = value_cell(reading.get(name, group), with_sign=True)
    return ScoreCells(mean, value_cell(apart, with_sign=True), p)
