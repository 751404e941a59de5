"""View of the cohort: its images by class, split and source, its audit, and shortcuts in it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from xraysynth.evaluation.metrics.probes import Shortcut
from xraysynth.report.audit import CohortAudit, SourceConfounding, SourceCount, SplitCount
from xraysynth.report.content import Content, LeftOutSource
from xraysynth.report.formatting import format_number
from xraysynth.report.views.cells import Cell, Heading, build_headings, score_cell
from xraysynth.report.views.run import Fact
from xraysynth.report.views.screening import ScreeningView, screening_view

SPLITS = ("train", "val", "test")
"""Columns of the table of splits, in order."""


@dataclass(frozen=True)
class CountCell:
    """A number of images.

    Attributes:
        images: Number of images.
        patients: Number of their patients; empty where patients were not counted.
    """

    images: int = 0
    patients: str = ""


@dataclass(frozen=True)
class CountRow:
    """The images of one class or source, one cell per column."""

    name: str
    cells: Sequence[CountCell]


@dataclass(frozen=True)
class CountTable:
    """Images by class and split, or by source and class."""

    headings: Sequence[Heading]
    rows: Sequence[CountRow]


@dataclass(frozen=True)
class SourceConfoundingRow:
    """How well the source alone predicts one class.

    Attributes:
        class_name: The class.
        accuracy: Accuracy of the best prediction from the source.
        balanced_accuracy: Balanced accuracy of that prediction.
        chance_threshold: Balanced accuracy that 1 % of cohorts with permuted labels exceed.
    """

    class_name: str
    accuracy: str
    balanced_accuracy: str
    chance_threshold: str


@dataclass(frozen=True)
class SourceConfoundingTable:
    """How well the source alone predicts each class."""

    headings: Sequence[Heading]
    rows: Sequence[SourceConfoundingRow]


@dataclass(frozen=True)
class ShortcutRow:
    """One shortcut probe.

    Attributes:
        target: What is predicted.
        view: The part or coarse view of the images that it is predicted from.
        note: A note on the probe.
        score: Its score with the interval and the name of the measure.
        chance: The score of guessing.
        n: Number of images.
    """

    target: str
    view: str
    note: str
    score: Cell
    chance: str
    n: str


@dataclass(frozen=True)
class ShortcutTable:
    """The shortcut probes of the cohort."""

    headings: Sequence[Heading]
    rows: Sequence[ShortcutRow]


@dataclass(frozen=True)
class LeftOutRow:
    """Scores on the test images of one source of training without it, on a size-matched set, and on all.

    Attributes:
        source: The left-out source.
        n: Number of its test images.
        cells: Scores and differences, in the order of the columns.
    """

    source: str
    n: str
    cells: Sequence[Cell]


@dataclass(frozen=True)
class LeftOutTable:
    """Scores of leave-one-source-out."""

    headings: Sequence[Heading]
    rows: Sequence[LeftOutRow]


@dataclass(frozen=True)
class CohortSection:
    """The section on the data; a table is None where the study has no numbers for it.

    Attributes:
        has_audit: Whether an audit was recorded.
        by_split: Images by class and split.
        by_source: Images by source and class.
        cramers_v: Association of source and class from 0 to 1.
        source_confounding: How well the source alone predicts each class.
        duplicates: Numbers of duplicates.
        notes: Sentences of the audit.
        screening: What became of the images that the sources list; None where all are simply used.
        shortcuts: The shortcut probes.
        left_out_sources: Leave-one-source-out.
    """

    has_audit: bool
    by_split: CountTable | None
    by_source: CountTable | None
    cramers_v: str
    source_confounding: SourceConfoundingTable | None
    duplicates: Sequence[Fact]
    notes: Sequence[str]
    screening: ScreeningView | None
    shortcuts: ShortcutTable
    left_out_sources: LeftOutTable | None


def cohort_section(content: Content, real: str) -> CohortSection:
    """Returns the cohort of a study, its audit, its shortcuts and its left-out sources.

    Args:
        content: The content of the page.
        real: What images that are not synthetic are called.
    """
    audit = content.audit or CohortAudit()
    shortcut_headings = ("target", "view", "balanced accuracy", "chance", "N")
    return CohortSection(
        has_audit=content.audit is not None,
        by_split=_split_table(audit.by_split) if audit.by_split else None,
        by_source=_source_table(audit.by_source, content.classes) if audit.by_source else None,
        cramers_v=format_number(audit.cramers_v, 2),
        source_confounding=_source_confounding_table(audit.source_confounding),
        duplicates=_duplicate_facts(content.audit) if content.audit else [],
        notes=audit.notes,
        screening=screening_view(audit.screening, real),
        shortcuts=ShortcutTable(
            build_headings(*shortcut_headings, text_columns=2),
            list(map(_shortcut_row, content.shortcuts)),
        ),
        left_out_sources=_left_out_table(content.left_out_sources),
    )


def _duplicate_facts(audit: CohortAudit) -> list[Fact]:
    """Returns the numbers of duplicates."""
    return [
        Fact("Exact duplicates", str(audit.exact_duplicates)),
        Fact("Near-duplicates", str(audit.near_duplicates), term="near-duplicates"),
        Fact("Near-duplicates across sources", str(audit.near_duplicates_across_sources)),
    ]


def _split_table(counts: Sequence[SplitCount]) -> CountTable:
    """Returns the images by class (rows) and split (columns)."""
    cells: dict[str, dict[str, CountCell]] = {}
    for row in counts:
        patients = "" if row.patients is None else str(row.patients)
        cells.setdefault(row.label, {})[row.split] = CountCell(row.images, patients)
    return _count_table("class", cells, SPLITS)


def _source_table(counts: Sequence[SourceCount], classes: Sequence[str]) -> CountTable:
    """Returns the images by source (rows) and class (columns)."""
    cells: dict[str, dict[str, CountCell]] = {}
    for row in counts:
        cells.setdefault(row.source, {})[row.label] = CountCell(row.images)
    return _count_table("source", cells, classes)


def _count_table(
    title: str, cells: Mapping[str, Mapping[str, CountCell]], order: Sequence[str]
) -> CountTable:
    """Returns counts by row and column, with the columns that `order` names first and in its order."""
    names: dict[str, None] = {}
    for row in cells.values():
        names |= dict.fromkeys(row)
    ranks = {name: rank for rank, name in enumerate(order)}
    columns = sorted(names, key=lambda name: ranks.get(name, len(order)))
    rows = []
    for name, row in cells.items():
        rows.append(CountRow(name, [row.get(column, CountCell()) for column in columns]))
    return CountTable(build_headings(title, *columns), rows)


def _source_confounding_table(
    results: Sequence[SourceConfounding],
) -> SourceConfoundingTable | None:
    """Returns how well the source predicts each class; None without results."""
    if not results:
        return None
    rows = []
    for result in results:
        rows.append(
            SourceConfoundingRow(
                result.label,
                format_number(result.accuracy),
                format_number(result.balanced_accuracy),
                format_number(result.chance_threshold),
            )
        )
    headings = build_headings("class", "accuracy", "balanced accuracy", "chance")
    return SourceConfoundingTable(headings, rows)


def _shortcut_row(row: Shortcut) -> ShortcutRow:
    """Returns one shortcut probe as text."""
    return ShortcutRow(
        target=row.target,
        view=row.view,
        note=row.note,
        score=score_cell(row, note=row.measure),
        chance=format_number(row.chance),
        n=format_number(row.n, 0),
    )


def _left_out_table(sources: Sequence[LeftOutSource]) -> LeftOutTable | None:
    """Returns one row per left-out source; None without such sources."""
    if not sources:
        return None
    names = ("source", "N", "left out", "size-matched", "left out − size-matched")
    rows = []
    for source in sources:
        rows.append(LeftOutRow(source.source, format_number(source.n, 0), _left_out_cells(source)))
    return LeftOutTable(build_headings(*names, "all images", "left out − all images"), rows)


def _left_out_cells(source: LeftOutSource) -> list[Cell]:
    """Returns the scores and differences of one left-out source, in the order of the columns."""
    return [
        score_cell(source.outside),
        score_cell(source.matched),
        score_cell(source.drop, with_sign=True),
        score_cell(source.inside),
        score_cell(source.drop_from_all, with_sign=True),
    ]
