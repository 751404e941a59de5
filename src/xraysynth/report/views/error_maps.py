"""View of the errors that readers marked in the images, by kind, by class and by position."""

from collections.abc import Sequence
from dataclasses import dataclass

from xraysynth.evaluation.reader_study.reading import Reading
from xraysynth.evaluation.reader_study.results import REAL
from xraysynth.report import readers
from xraysynth.report.readers import ERROR_KINDS
from xraysynth.report.views.cells import build_headings
from xraysynth.report.views.reading import GroupRow, GroupTable, group_heading, value_cell

MAX_MARKS = 400
"""Number of marks that a map draws."""


@dataclass(frozen=True)
class Mark:
    """The position of a mark, in percent of the image's width and height."""

    x: float
    y: float


@dataclass(frozen=True)
class ErrorMap:
    """The marked errors of one kind in one group of images.

    Attributes:
        title: The kind of error.
        count: Number of all marks.
        marks: Positions of the marks that are drawn.
    """

    title: str
    count: int
    marks: Sequence[Mark]


@dataclass(frozen=True)
class ErrorMaps:
    """The maps of one group of images, one per kind of error."""

    group: str
    maps: Sequence[ErrorMap]


@dataclass(frozen=True)
class ErrorsSection:
    """The section on errors that readers marked.

    Attributes:
        by_kind: Errors per 100 images, by kind.
        by_class: Errors per 100 images, by class; None with a single class.
        maps: Positions of the marks, one group of images after the other.
    """

    by_kind: GroupTable
    by_class: GroupTable | None
    maps: Sequence[ErrorMaps]


def errors_section(reading: Reading) -> ErrorsSection:
    """Returns the marked errors of a reading."""
    return ErrorsSection(
        by_kind=_errors_by_kind(reading),
        by_class=_errors_by_class(reading) if len(reading.classes) > 1 else None,
        maps=[_error_maps(reading, group) for group in (REAL, *reading.generators)],
    )


def _errors_by_kind(reading: Reading) -> GroupTable:
    """Returns the marked errors per 100 images by group and kind."""
    rows = []
    for group in reading.groups:
        cells = [value_cell(reading.get(name, group), digits=1) for name in ERROR_KINDS]
        rows.append(GroupRow(group_heading(group), cells))
    return GroupTable(build_headings("", *ERROR_KINDS.values()), rows)


def _errors_by_class(reading: Reading) -> GroupTable:
    """Returns the marked errors of any kind per 100 images by group and class."""
    rows = []
    for group in reading.groups:
        cells = []
        for label in reading.classes:
            cells.append(value_cell(reading.get("errors", group, label), digits=1))
        rows.append(GroupRow(group_heading(group), cells))
    return GroupTable(build_headings("", *reading.classes), rows)


def _error_maps(reading: Reading, group: str) -> ErrorMaps:
    """Returns one map per kind of error; the first kind stands for all kinds and has none."""
    generator = "" if group == REAL else group
    marks_of_group = reading.marks[reading.marks["generator"] == generator]
    maps = []
    for name, title in list(ERROR_KINDS.items())[1:]:
        marks = marks_of_group[marks_of_group["code"] == name.removeprefix("errors_")]
        percent = marks.head(MAX_MARKS)[["x", "y"]].to_numpy(float) * 100
        points = [Mark(x, y) for x, y in percent.round(1).tolist()]
        maps.append(ErrorMap(title, len(marks), points))
    return ErrorMaps(readers.group_title(group), maps)
