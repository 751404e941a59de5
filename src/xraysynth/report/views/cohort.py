"""The cohort: its images by class, split and source, what its audit found, and shortcuts in it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from xraysynth.evaluation.metrics.probes import Shortcut
from xraysynth.report.audit import CohortAudit, SourceConfounding
from xraysynth.report.content import Content, LeftOutSource
from xraysynth.report.formatting import format_number
from xraysynth.report.views.cells import Cell, Heading, build_headings, score_cell
from xraysynth.report.views.run import Fact

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class CountCell:
    """Images, and their patients where these were counted."""

    images: int = 0
    patients: str = ""


@dataclass(frozen=True)
class CountRow:
    """The images of one class or source, column by column."""

    name: str
    cells: Sequence[CountCell]


@dataclass(frozen=True)
class CountTable:
    """Images by two things."""

    headings: Sequence[Heading]
    rows: Sequence[CountRow]


@dataclass(frozen=True)
class SourceConfoundingRow:
    """How well the source alone tells one class."""

    class_name: str
    accuracy: str
    balanced_accuracy: str
    chance_threshold: str


@dataclass(frozen=True)
class SourceConfoundingTable:
    """How well the source alone tells each class."""

    headings: Sequence[Heading]
    rows: Sequence[SourceConfoundingRow]


@dataclass(frozen=True)
class ShortcutRow:
    """What one view of the images tells."""

    target: str
    view: str
    note: str
    score: Cell
    chance: str
    n: str


@dataclass(frozen=True)
class ShortcutTable:
    """Shortcuts in the cohort."""

    headings: Sequence[Heading]
    rows: Sequence[ShortcutRow]


@dataclass(frozen=True)
class LeftOutRow:
    """Scores on one data set of training without it, on as many of all, and on all."""

    source: str
    n: str
    cells: Sequence[Cell]


@dataclass(frozen=True)
class LeftOutTable:
    """Training without one data set."""

    headings: Sequence[Heading]
    rows: Sequence[LeftOutRow]


@dataclass(frozen=True)
class CohortSection:
    """Data and audit; tables of what the audit does not have are None."""

    has_audit: bool
    by_split: CountTable | None
    by_source: CountTable | None
    cramers_v: str
    source_confounding: SourceConfoundingTable | None
    duplicates: Sequence[Fact]
    notes: Sequence[str]
    shortcuts: ShortcutTable
    left_out_sources: LeftOutTable | None


def cohort_section(content: Content) -> CohortSection:
    """Data and audit of a study."""
    audit = content.audit or CohortAudit()
    by_split = {
        (row.label, row.split): CountCell(
            row.images, "" if row.patients is None else str(row.patients)
        )
        for row in audit.by_split
    }
    by_source = {(row.source, row.label): CountCell(row.images) for row in audit.by_source}
    return CohortSection(
        has_audit=content.audit is not None,
        by_split=_count_table("class", by_split, SPLITS) if by_split else None,
        by_source=_count_table("source", by_source, content.classes) if by_source else None,
        cramers_v=format_number(audit.cramers_v, 2),
        source_confounding=_source_confounding_table(audit.source_confounding)
        if audit.source_confounding
        else None,
        duplicates=_duplicate_facts(content.audit) if content.audit else [],
        notes=audit.notes,
        shortcuts=ShortcutTable(
            build_headings("target", "view", "balanced accuracy", "chance", "N", text_columns=2),
            [_shortcut_row(row) for row in content.shortcuts],
        ),
        left_out_sources=_left_out_table(content.left_out_sources)
        if content.left_out_sources
        else None,
    )


def _duplicate_facts(audit: CohortAudit) -> list[Fact]:
    return [
        Fact("Exact duplicates", str(audit.exact_duplicates)),
        Fact("Near-duplicates", str(audit.near_duplicates), term="near-duplicates"),
        Fact("Near-duplicates across sources", str(audit.near_duplicates_across_sources)),
    ]


def _count_table(
    title: str, cells: Mapping[tuple[str, str], CountCell], order: Sequence[str]
) -> CountTable:
    """Counts by row and column, the columns in the `order` of those that it names."""
    columns = list(dict.fromkeys(column for _, column in cells))
    columns.sort(key=lambda name: order.index(name) if name in order else len(order))
    names = dict.fromkeys(name for name, _ in cells)
    rows = []
    for name in names:
        row = [cells.get((name, column), CountCell()) for column in columns]
        rows.append(CountRow(name, row))
    return CountTable(build_headings(title, *columns), rows)


def _source_confounding_table(rows: Sequence[SourceConfounding]) -> SourceConfoundingTable:
    return SourceConfoundingTable(
        build_headings("class", "accuracy", "balanced accuracy", "chance"),
        [
            SourceConfoundingRow(
                row.label,
                format_number(row.accuracy),
                format_number(row.balanced_accuracy),
                format_number(row.chance_threshold),
            )
            for row in rows
        ],
    )


def _shortcut_row(row: Shortcut) -> ShortcutRow:
    return ShortcutRow(
        target=row.target,
        view=row.view,
        note=row.note,
        score=score_cell(row, note=row.measure),
        chance=format_number(row.chance),
        n=format_number(row.n, 0),
    )


def _left_out_table(rows: Sequence[LeftOutSource]) -> LeftOutTable:
    names = ("source", "N", "left out", "size-matched", "left out − size-matched")
    return LeftOutTable(
        build_headings(*names, "all images", "left out − all images"),
        [LeftOutRow(row.source, format_number(row.n, 0), _left_out_cells(row)) for row in rows],
    )


def _left_out_cells(row: LeftOutSource) -> list[Cell]:
    return [
        score_cell(row.outside),
        score_cell(row.matched),
        score_cell(row.drop, with_sign=True),
        score_cell(row.inside),
        score_cell(row.drop_from_all, with_sign=True),
    ]
