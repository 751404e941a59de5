"""What readers marked as wrong in the images, and where."""

from collections.abc import Sequence
from dataclasses import dataclass

from xraysynth.evaluation.reader_study.reading import Reading
from xraysynth.evaluation.reader_study.results import REAL
from xraysynth.report import readers
from xraysynth.report.readers import ERROR_KINDS
from xraysynth.report.views.cells import Cell, build_headings
from xraysynth.report.views.reading import GroupRow, GroupTable, group_heading, value_cell

MAX_MARKS = 400
"""Marks that a map draws."""


@dataclass(frozen=True)
class Mark:
    """A place in percent of the image."""

    x: float
    y: float


@dataclass(frozen=True)
class ErrorMap:
    """Where errors of a kind were marked: all of them, and those that are drawn."""

    title: str
    count: int
    marks: Sequence[Mark]


@dataclass(frozen=True)
class ErrorMaps:
    """The maps of one group of images, kind by kind."""

    group: str
    maps: Sequence[ErrorMap]


@dataclass(frozen=True)
class ErrorsSection:
    """Marked errors by kind, by class where there are several, and where they are."""

    by_kind: GroupTable
    by_class: GroupTable | None
    maps: Sequence[ErrorMaps]


def errors_section(reading: Reading) -> ErrorsSection:
    """Marked errors of a reading."""
    return ErrorsSection(
        by_kind=_errors_by_kind(reading),
        by_class=_errors_by_class(reading) if len(reading.classes) > 1 else None,
        maps=[_error_maps(reading, group) for group in (REAL, *reading.generators)],
    )


def _errors_by_kind(reading: Reading) -> GroupTable:
    rows = []
    for group in reading.groups:
        results = [reading.get(name, group) for name in ERROR_KINDS]
        rows.append(_group_row(group, [value_cell(result, digits=1) for result in results]))
    return GroupTable(build_headings("", *ERROR_KINDS.values()), rows)


def _errors_by_class(reading: Reading) -> GroupTable:
    rows = []
    for group in reading.groups:
        results = [reading.get("errors", group, label) for label in reading.classes]
        rows.append(_group_row(group, [value_cell(result, digits=1) for result in results]))
    return GroupTable(build_headings("", *reading.classes), rows)


def _group_row(group: str, cells: Sequence[Cell]) -> GroupRow:
    return GroupRow(group_heading(group), cells)


def _error_maps(reading: Reading, group: str) -> ErrorMaps:
    marks = reading.marks[reading.marks["generator"] == ("" if group == REAL else group)]
    maps = []
    for name, title in list(ERROR_KINDS.items())[1:]:
        places = marks[marks["code"] == name.removeprefix("errors_")]
        drawn = places.head(MAX_MARKS)[["x", "y"]].to_numpy(float) * 100
        points = [Mark(x, y) for x, y in drawn.round(1).tolist()]
        maps.append(ErrorMap(title, len(places), points))
    return ErrorMaps(readers.group_title(group), maps)
