"""What readers answered of a study's images, on the reading's own page and on that of the study."""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from xraysynth.evaluation.reader_study.reading import Reading
from xraysynth.evaluation.reader_study.results import Result
from xraysynth.report import readers
from xraysynth.report.formatting import UNKNOWN, breakable, count, known, number, percent, signed
from xraysynth.report.readers import DETECTION, SCORES
from xraysynth.report.views.cells import Cell, Heading, headings, percent_bounds

SHARES = ("accuracy", "sensitivity", "specificity")
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
    is_of_origin: bool

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
        readers=count(len(reading.readers), "reader"),
        answer_count=str(reading.readers["answers"].sum()),
        headlines=reading_headlines(reading),
    )


def reading_headlines(reading: Reading) -> list[ReadingHeadline]:
    """One for each generator."""
    return [ReadingHeadline(*sentence) for sentence in readers.sentences(reading)]


def answers_view(reading: Reading, generators: Sequence[str] = ()) -> AnswersView:
    """The answers; colours are those of a page with these `generators`."""
    asked_diagnosis = reading.has("diagnosis_agreement")
    asked_scores = any(reading.has(name) for name in SCORES)
    return AnswersView(
        name=reading.name,
        origin=_origin(reading, generators) if reading.has("called_real") else None,
        diagnosis=_shares(reading, "diagnosis_agreement") if asked_diagnosis else None,
        scores=_scores(reading) if asked_scores else None,
    )


def group_name(group: str) -> Markup:
    """What a row of images is called."""
    return breakable(readers.called(group))


def value_cell(result: Result | None, *, digits: int = 2, plus: bool = False) -> Cell:
    """A number with its interval."""
    if result is None or not known(result.value):
        return Cell()
    low, high = number(result.low, digits), number(result.high, digits)
    return Cell(
        signed(result.value, digits) if plus else number(result.value, digits),
        str(result.value),
        f"[{low}, {high}]" if known(result.low) else "",
    )


def share_cell(result: Result | None) -> Cell:
    """A share with its interval, in percent."""
    if result is None or not known(result.value):
        return Cell()
    bounds = percent_bounds(result.low, result.high)
    return Cell(percent(result.value), str(result.value), bounds)


def _points_cell(result: Result | None) -> Cell:
    """A difference of shares with its interval, in percentage points."""
    if result is None or not known(result.value):
        return Cell()
    interval = readers.points(result).partition("points ")[2]
    return Cell(readers.hundredths(result.value), str(result.value), interval)


def _origin(reading: Reading, generators: Sequence[str]) -> OriginView:
    rows = []
    for group in reading.groups[1:]:
        cells = [_detection(reading, name, group) for name in DETECTION]
        rows.append(GroupRow(group_name(group), cells))
    return OriginView(
        forest=Markup(readers.forest(reading, generators)),
        called_real=_shares(reading, "called_real"),
        detection=GroupTable(headings("", *DETECTION.values()), rows),
    )


def _detection(reading: Reading, name: str, group: str) -> Cell:
    result = reading.get(name, group)
    return share_cell(result) if name in SHARES else value_cell(result, plus=name == "criterion")


def _shares(reading: Reading, name: str) -> ShareTable:
    labels = ["", *(reading.classes if len(reading.classes) > 1 else ())]
    return ShareTable(
        headings=headings("", "all classes", *labels[1:]),
        rows=[_share_row(reading, name, group, labels) for group in reading.groups],
        differences=[
            _difference_row(reading, f"{name}_difference", group, labels)
            for group in reading.groups[1:]
        ],
        is_of_origin=name == "called_real",
    )


def _share_row(reading: Reading, name: str, group: str, labels: Sequence[str]) -> GroupRow:
    cells = [share_cell(reading.get(name, group, label)) for label in labels]
    return GroupRow(group_name(group), cells)


def _difference_row(reading: Reading, name: str, group: str, labels: Sequence[str]) -> GroupRow:
    cells = [_points_cell(reading.get(name, group, label)) for label in labels]
    return GroupRow(group_name(group), cells, _p_under(reading, reading.get(name, group)))


def _p_under(reading: Reading, difference: Result | None) -> str:
    if difference is None or not known(difference.p_holm):
        return ""
    return readers.p_words(difference.p_holm) + (" (Holm)" if len(reading.generators) > 1 else "")


def _scores(reading: Reading) -> ScoresView:
    measured = set(reading.results["name"])
    names = [name for name in SCORES if name in measured]
    rows = []
    for group in reading.groups:
        scores = [_score(reading, name, group) for name in names]
        rows.append(ScoreRow(group_name(group), scores))
    p_title = "p (Holm)" if len(reading.generators) > 1 else "p"
    return ScoresView([SCORES[name] for name in names], p_title, rows)


def _score(reading: Reading, name: str, group: str) -> ScoreCells:
    apart = reading.get(f"{name}_difference", group)
    p = readers.p_words(apart.p_holm).removeprefix("p = ").removeprefix("p ") if apart else UNKNOWN
    mean = value_cell(reading.get(name, group), plus=True)
    return ScoreCells(mean, value_cell(apart, plus=True), p)
