"""Tables of the measures against real images, encoder by encoder and class by class."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from xraysynth.evaluation.results import Measure
from xraysynth.report.content import Agreement, Evaluation, PoolView
from xraysynth.report.formatting import breakable, known, measured, number
from xraysynth.report.views.cells import Heading, headings

DIRECTIONS = {
    "lower": "lower is better",
    "higher": "higher is better",
    "floor": "the nearer to the floor the better",
}
"""What `better` of a measure says."""

COPYING = ("memorised", "AuthPct", "C_T", "MiFD", "MiFID")
"""What the metrics begin with that ask whether images are copies."""

_SAME = (("FID", "FD"), ("KID", "KD"))

Pools = Sequence[PoolView | Evaluation]


@dataclass(frozen=True)
class MeasureCell:
    """A measure, the number of the note that it comes with, and its floor and N where known."""

    raw: str = ""
    text: str = ""
    mark: str = ""
    interval: str = ""
    floor: str = ""
    n: str = ""


@dataclass(frozen=True)
class FamilyRow:
    """One generator's measures of a family, encoder by encoder."""

    generator: Markup
    cells: Sequence[MeasureCell]


@dataclass(frozen=True)
class Family:
    """One metric with every encoder."""

    name: str
    direction: str
    rows: Sequence[FamilyRow]


@dataclass(frozen=True)
class MeasureTable:
    """Measures of all classes together, with `columns` columns and the notes that its cells name."""

    headings: Sequence[Heading]
    families: Sequence[Family]
    notes: Sequence[str]

    @property
    def columns(self) -> int:
        """All columns."""
        return len(self.headings)


@dataclass(frozen=True)
class ClassRow:
    """One metric with one encoder, class by class."""

    metric: str
    encoder: str
    cells: Sequence[MeasureCell]


@dataclass(frozen=True)
class ClassTable:
    """One generator's measures of single classes."""

    generator: str
    headings: Sequence[Heading]
    rows: Sequence[ClassRow]
    notes: Sequence[str]

    @property
    def title(self) -> str:
        """What the table is called where it scrolls."""
        return f"Measures of {self.generator} by class"


@dataclass(frozen=True)
class AgreementRow:
    """How far two encoders rank the generators alike."""

    first: str
    second: str
    kendall_tau: str
    generators: str


@dataclass(frozen=True)
class AgreementTable:
    """Every two encoders."""

    headings: Sequence[Heading]
    rows: Sequence[AgreementRow]


@dataclass(frozen=True)
class MeasuresSection:
    """The measures against real images; `has_fid` where FD is there with the encoder of FID."""

    table: MeasureTable
    has_fid: bool
    by_class: Sequence[ClassTable]
    agreement: AgreementTable | None


def measures_section(
    pools: Pools, classes: Sequence[str], agreement: Sequence[Agreement] = ()
) -> MeasuresSection:
    """The measures of these pools, by class where there are several."""
    by_class = [class_table(pool, classes) for pool in pools] if len(classes) > 1 else []
    return MeasuresSection(
        table=measure_table(pools, copying=False),
        has_fid=any(row.metric == "FID" for pool in pools for row in _overall(pool, copying=False)),
        by_class=[table for table in by_class if table.rows],
        agreement=_agreement(agreement) if agreement else None,
    )


def measure_table(pools: Pools, *, copying: bool) -> MeasureTable:
    """Measures of all classes together, either those of copying or all others."""
    by_place: dict[tuple[str, str, str], Measure] = {}
    for pool in pools:
        for row in _overall(pool, copying=copying):
            by_place[family_of(row.metric), pool.generator, row.encoder] = row
    columns = encoders(pools, copying=copying)
    notes = _notes([row for pool in pools for row in _overall(pool, copying=copying)])
    directions = {name: DIRECTIONS.get(m.better, "") for (name, _, _), m in by_place.items()}
    families = []
    for name, direction in directions.items():
        rows = []
        for pool in pools:
            places = [(name, pool.generator, encoder) for encoder in columns]
            cells = [_cell(by_place.get(place), notes) for place in places]
            rows.append(FamilyRow(breakable(pool.generator), cells))
        families.append(Family(name, direction, rows))
    return MeasureTable(headings("images of", *columns), families, notes)


def encoders(pools: Pools, *, copying: bool) -> list[str]:
    """The encoders of the measures, in the order they come."""
    rows = [row for pool in pools for row in _overall(pool, copying=copying)]
    return list(dict.fromkeys(row.encoder for row in rows))


def family_of(metric: str) -> str:
    """What a metric is called whatever its encoder is: FD(xrv) and FID are both FD.

    >>> family_of("MiFID"), family_of("FD∞(classifier)"), family_of("C_T(embedded)")
    ('MiFD', 'FD∞', 'C_T')
    """
    name = re.sub(r"\(.*\)", "", metric).strip()
    for inception, general in _SAME:
        name = name.replace(inception, general)
    return name


def class_table(pool: PoolView | Evaluation, classes: Sequence[str]) -> ClassTable:
    """A pool's measures of single classes, without those of copying."""
    rows = [row for row in pool.measures if row.label and not _is_copying(row)]
    notes = _notes(rows)
    by_place = {(row.metric, row.encoder, row.label): row for row in rows}
    names = dict.fromkeys((metric, encoder) for metric, encoder, _ in by_place)
    table = []
    for name in names:
        cells = [_cell(by_place.get((*name, label)), notes) for label in classes]
        table.append(ClassRow(*name, cells))
    columns = headings("measure", "encoder", *classes, words=2)
    return ClassTable(pool.generator, columns, table, notes)


def _overall(pool: PoolView | Evaluation, *, copying: bool) -> list[Measure]:
    return [row for row in pool.measures if not row.label and _is_copying(row) == copying]


def _is_copying(row: Measure) -> bool:
    return family_of(row.metric).startswith(COPYING)


def _notes(rows: Sequence[Measure]) -> list[str]:
    """What the measures of a table come with, each once; a cell refers to it by its number."""
    return list(dict.fromkeys(row.note for row in rows if row.note))


def _cell(row: Measure | None, notes: Sequence[str]) -> MeasureCell:
    if row is None:
        return MeasureCell()
    size = row.value
    low, high = measured(row.low, size), measured(row.high, size)
    return MeasureCell(
        raw=str(row.value),
        text=measured(row.value, size),
        mark=str(notes.index(row.note) + 1) if row.note else "",
        interval=f"[{low}, {high}]" if known(row.low) else "",
        floor=_floor(row),
        n=number(row.n, 0) if known(row.value) else "",
    )


def _floor(row: Measure) -> str:
    if not known(row.floor):
        return ""
    value, low, high = (measured(x, row.value) for x in (row.floor, row.floor_low, row.floor_high))
    has_bounds = known(row.floor_low) and row.floor_low != row.floor_high
    return f"{value} [{low}, {high}]" if has_bounds else value


def _agreement(pairs: Sequence[Agreement]) -> AgreementTable:
    return AgreementTable(
        headings("encoder", "and", "Kendall's τ", "generators", words=2),
        [AgreementRow(p.first, p.second, number(p.kendall_tau, 2), number(p.n, 0)) for p in pairs],
    )
