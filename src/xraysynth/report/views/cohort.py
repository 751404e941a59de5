"""The cohort: its images by class, split and source, what its audit found, and shortcuts in it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from xraysynth.evaluation.metrics.probes import Shortcut
from xraysynth.report.audit import CohortAudit, SourceTells
from xraysynth.report.content import Content, LeftOutSource
from xraysynth.report.formatting import number
from xraysynth.report.views.cells import Cell, Heading, headings, score
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
class SourceTellsRow:
    """How well the source alone tells one class."""

    class_name: str
    accuracy: str
    balanced_accuracy: str
    by_chance: str


@dataclass(frozen=True)
class SourceTellsTable:
    """How well the source alone tells each class."""

    headings: Sequence[Heading]
    rows: Sequence[SourceTellsRow]


@dataclass(frozen=True)
class ShortcutRow:
    """What one view of the images tells."""

    question: str
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
    source_tells: SourceTellsTable | None
    duplicates: Sequence[Fact]
    notes: Sequence[str]
    shortcuts: ShortcutTable
    left_out: LeftOutTable | None


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
        by_split=_counts("class", by_split, SPLITS) if by_split else None,
        by_source=_counts("source", by_source, content.classes) if by_source else None,
        cramers_v=number(audit.cramers_v, 2),
        source_tells=_source_tells(audit.source_tells) if audit.source_tells else None,
        duplicates=_duplicates(content.audit) if content.audit else [],
        notes=audit.notes,
        shortcuts=ShortcutTable(
            headings("told", "from", "balanced accuracy", "chance", "N", words=2),
            [_shortcut(row) for row in content.shortcuts],
        ),
        left_out=_left_out(content.left_out) if content.left_out else None,
    )


def _duplicates(audit: CohortAudit) -> list[Fact]:
    return [
        Fact("Exact duplicates", str(audit.exact_duplicates)),
        Fact("Near-duplicates", str(audit.near_duplicates)),
        Fact("… across sources", str(audit.near_duplicates_across_sources)),
    ]


def _counts(
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
    return CountTable(headings(title, *columns), rows)


def _source_tells(rows: Sequence[SourceTells]) -> SourceTellsTable:
    return SourceTellsTable(
        headings("class", "accuracy", "balanced accuracy", "1 % by chance"),
        [
            SourceTellsRow(
                row.label,
                number(row.accuracy),
                number(row.balanced_accuracy),
                number(row.by_chance),
            )
            for row in rows
        ],
    )


def _shortcut(row: Shortcut) -> ShortcutRow:
    return ShortcutRow(
        question=row.question,
        view=row.view,
        note=row.note,
        score=score(row, note=row.measure),
        chance=number(row.chance),
        n=number(row.n, 0),
    )


def _left_out(rows: Sequence[LeftOutSource]) -> LeftOutTable:
    names = ("data set", "N", "without it", "as many of all", "without minus as many")
    return LeftOutTable(
        headings(*names, "all images", "without minus all"),
        [LeftOutRow(row.source, number(row.n, 0), _left_out_cells(row)) for row in rows],
    )


def _left_out_cells(row: LeftOutSource) -> list[Cell]:
    return [
        score(row.outside),
        score(row.matched),
        score(row.drop, plus=True),
        score(row.inside),
        score(row.drop_from_all, plus=True),
    ]
