"""Tables of the measures against real images, encoder by encoder and class by class."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from xraysynth.evaluation.results import Measure
from xraysynth.report.content import EncoderAgreement, Evaluation, PoolResults
from xraysynth.report.formatting import add_word_breaks, format_distance, format_number, is_finite
from xraysynth.report.views.cells import Heading, build_headings

DIRECTION_TITLES = {
    "lower": "lower is better",
    "higher": "higher is better",
    "floor": "best near the baseline",
}
"""What `better` of a measure says."""

MEMORISATION_METRICS = ("memorised", "AuthPct", "C_T", "MiFD", "MiFID")
"""What the metrics begin with that ask whether images are copies."""

FAMILY_TERMS = {
    "FD": "Fréchet distance (FD)",
    "FD∞": "Fréchet distance (FD)",
    "KD": "kernel distance (KD)",
    "CMMD": "CMMD",
    "precision": "precision and recall (of images)",
    "recall": "precision and recall (of images)",
    "density": "density and coverage",
    "coverage": "density and coverage",
    "Vendi": "Vendi score",
    "memorised share": "memorisation flag",
    "AuthPct": "AuthPct",
    "C_T": "C_T",
    "MiFD": "MiFID",
}
"""The glossary's term behind a family of metrics."""

_INCEPTION_NAMES = (("FID", "FD"), ("KID", "KD"))

Pools = Sequence[PoolResults | Evaluation]


@dataclass(frozen=True)
class MeasureCell:
    """A measure, the number of the note that it comes with, and its floor and N where known."""

    raw: str = ""
    text: str = ""
    note_number: str = ""
    interval: str = ""
    baseline: str = ""
    n: str = ""


@dataclass(frozen=True)
class MetricFamilyRow:
    """One generator's measures of a family, encoder by encoder."""

    generator: Markup
    cells: Sequence[MeasureCell]


@dataclass(frozen=True)
class MetricFamily:
    """One metric with every encoder; `term` is the glossary's term that explains it, empty for none."""

    name: str
    term: str
    direction: str
    rows: Sequence[MetricFamilyRow]


@dataclass(frozen=True)
class MeasureTable:
    """Measures of all classes together, with `columns` columns and the notes that its cells name."""

    headings: Sequence[Heading]
    families: Sequence[MetricFamily]
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
class EncoderAgreementRow:
    """How far two encoders rank the generators alike."""

    first: str
    second: str
    kendall_tau: str
    generators: str


@dataclass(frozen=True)
class EncoderAgreementTable:
    """Every two encoders."""

    headings: Sequence[Heading]
    rows: Sequence[EncoderAgreementRow]


@dataclass(frozen=True)
class MeasuresSection:
    """The measures against real images; `has_fid` where FD is there with the encoder of FID."""

    table: MeasureTable
    has_fid: bool
    by_class: Sequence[ClassTable]
    encoder_agreement: EncoderAgreementTable | None


def measures_section(
    pools: Pools, classes: Sequence[str], encoder_agreement: Sequence[EncoderAgreement] = ()
) -> MeasuresSection:
    """The measures of these pools, by class where there are several."""
    by_class = [class_table(pool, classes) for pool in pools] if len(classes) > 1 else []
    return MeasuresSection(
        table=measure_table(pools, memorisation=False),
        has_fid=any(
            row.metric == "FID"
            for pool in pools
            for row in _overall_measures(pool, memorisation=False)
        ),
        by_class=[table for table in by_class if table.rows],
        encoder_agreement=_encoder_agreement_table(encoder_agreement)
        if encoder_agreement
        else None,
    )


def measure_table(pools: Pools, *, memorisation: bool) -> MeasureTable:
    """Measures of all classes together, either those of copying or all others."""
    by_place: dict[tuple[str, str, str], Measure] = {}
    for pool in pools:
        for row in _overall_measures(pool, memorisation=memorisation):
            by_place[metric_family(row.metric), pool.generator, row.encoder] = row
    columns = list_encoders(pools, memorisation=memorisation)
    notes = _distinct_notes(
        [row for pool in pools for row in _overall_measures(pool, memorisation=memorisation)]
    )
    directions = {name: DIRECTION_TITLES.get(m.better, "") for (name, _, _), m in by_place.items()}
    families = []
    for name, direction in directions.items():
        rows = []
        for pool in pools:
            places = [(name, pool.generator, encoder) for encoder in columns]
            cells = [_measure_cell(by_place.get(place), notes) for place in places]
            rows.append(MetricFamilyRow(add_word_breaks(pool.generator), cells))
        families.append(MetricFamily(name, FAMILY_TERMS.get(name, ""), direction, rows))
    return MeasureTable(build_headings("images of", *columns), families, notes)


def list_encoders(pools: Pools, *, memorisation: bool) -> list[str]:
    """The encoders of the measures, in the order they come."""
    rows = [row for pool in pools for row in _overall_measures(pool, memorisation=memorisation)]
    return list(dict.fromkeys(row.encoder for row in rows))


def metric_family(metric: str) -> str:
    """What a metric is called whatever its encoder is: FD(xrv) and FID are both FD.

    >>> metric_family("MiFID"), metric_family("FD∞(classifier)"), metric_family("C_T(embedded)")
    ('MiFD', 'FD∞', 'C_T')
    """
    name = re.sub(r"\(.*\)", "", metric).strip()
    for inception, general in _INCEPTION_NAMES:
        name = name.replace(inception, general)
    return name


def class_table(pool: PoolResults | Evaluation, classes: Sequence[str]) -> ClassTable:
    """A pool's measures of single classes, without those of copying."""
    rows = [row for row in pool.measures if row.label and not _is_memorisation_metric(row)]
    notes = _distinct_notes(rows)
    by_place = {(row.metric, row.encoder, row.label): row for row in rows}
    names = dict.fromkeys((metric, encoder) for metric, encoder, _ in by_place)
    table = []
    for name in names:
        cells = [_measure_cell(by_place.get((*name, label)), notes) for label in classes]
        table.append(ClassRow(*name, cells))
    columns = build_headings("measure", "encoder", *classes, text_columns=2)
    return ClassTable(pool.generator, columns, table, notes)


def _overall_measures(pool: PoolResults | Evaluation, *, memorisation: bool) -> list[Measure]:
    return [
        row
        for row in pool.measures
        if not row.label and _is_memorisation_metric(row) == memorisation
    ]


def _is_memorisation_metric(row: Measure) -> bool:
    return metric_family(row.metric).startswith(MEMORISATION_METRICS)


def _distinct_notes(rows: Sequence[Measure]) -> list[str]:
    """What the measures of a table come with, each once; a cell refers to it by its number."""
    return list(dict.fromkeys(row.note for row in rows if row.note))


def _measure_cell(row: Measure | None, notes: Sequence[str]) -> MeasureCell:
    if row is None:
        return MeasureCell()
    size = row.value
    low, high = format_distance(row.low, size), format_distance(row.high, size)
    return MeasureCell(
        raw=str(row.value),
        text=format_distance(row.value, size),
        note_number=str(notes.index(row.note) + 1) if row.note else "",
        interval=f"[{low}, {high}]" if is_finite(row.low) else "",
        baseline=_format_baseline(row),
        n=format_number(row.n, 0) if is_finite(row.value) else "",
    )


def _format_baseline(row: Measure) -> str:
    if not is_finite(row.baseline_value):
        return ""
    value, low, high = (
        format_distance(x, row.value)
        for x in (row.baseline_value, row.baseline_low, row.baseline_high)
    )
    has_bounds = is_finite(row.baseline_low) and row.baseline_low != row.baseline_high
    return f"{value} [{low}, {high}]" if has_bounds else value


def _encoder_agreement_table(pairs: Sequence[EncoderAgreement]) -> EncoderAgreementTable:
    return EncoderAgreementTable(
        build_headings("encoder", "and", "Kendall's τ", "generators", text_columns=2),
        [
            EncoderAgreementRow(
                p.first, p.second, format_number(p.kendall_tau, 2), format_number(p.n, 0)
            )
            for p in pairs
        ],
    )
