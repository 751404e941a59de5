"""View of the measures against real images, by encoder and by class."""

import re
from collections.abc import Mapping, Sequence
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
"""Titles of the directions in `Measure.better`."""

MEMORISATION_METRICS = ("memorised", "AuthPct", "C_T", "MiFD", "MiFID")
"""How the names of the measures of memorisation begin."""

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
"""Names of distances on Inception's features, and on those of any encoder."""

Pools = Sequence[PoolResults | Evaluation]


@dataclass(frozen=True)
class MeasureCell:
    """One measure.

    Attributes:
        raw: The number for machines; empty where it was not measured.
        text: The number as text.
        note_number: The number of its note below the table; empty for none.
        interval: Its interval.
        baseline: Its real-vs-real baseline; empty where it is not known.
        n: Number of images.
    """

    raw: str = ""
    text: str = ""
    note_number: str = ""
    interval: str = ""
    baseline: str = ""
    n: str = ""


@dataclass(frozen=True)
class MetricFamilyRow:
    """One generator's measures of a family, one cell per encoder."""

    generator: Markup
    cells: Sequence[MeasureCell]


@dataclass(frozen=True)
class MetricFamily:
    """One metric with every encoder.

    Attributes:
        name: Name of the metric without its encoder.
        term: The glossary's term that explains it; empty for none.
        direction: Which values are better, in words.
        rows: The measures of each generator.
    """

    name: str
    term: str
    direction: str
    rows: Sequence[MetricFamilyRow]


@dataclass(frozen=True)
class MeasureTable:
    """Measures of all classes together, and the notes that its cells refer to."""

    headings: Sequence[Heading]
    families: Sequence[MetricFamily]
    notes: Sequence[str]

    @property
    def columns(self) -> int:
        """Number of columns."""
        return len(self.headings)


@dataclass(frozen=True)
class ClassRow:
    """One metric with one encoder, one cell per class."""

    metric: str
    encoder: str
    cells: Sequence[MeasureCell]


@dataclass(frozen=True)
class ClassTable:
    """One generator's measures by class, and the notes that its cells refer to."""

    generator: str
    headings: Sequence[Heading]
    rows: Sequence[ClassRow]
    notes: Sequence[str]

    @property
    def title(self) -> str:
        """The name of the table for screen readers."""
        return f"Measures of {self.generator} by class"


@dataclass(frozen=True)
class EncoderAgreementRow:
    """How similarly two encoders rank the generators."""

    first: str
    second: str
    kendall_tau: str
    generators: str


@dataclass(frozen=True)
class EncoderAgreementTable:
    """The agreement of each pair of encoders."""

    headings: Sequence[Heading]
    rows: Sequence[EncoderAgreementRow]


@dataclass(frozen=True)
class MeasuresSection:
    """The section on the measures against real images.

    Attributes:
        table: Measures of all classes together.
        has_fid: Whether one of them is FID itself.
        by_class: Measures by class; empty with a single class.
        encoder_agreement: How similarly encoders rank the generators; None where it was not measured.
    """

    table: MeasureTable
    has_fid: bool
    by_class: Sequence[ClassTable]
    encoder_agreement: EncoderAgreementTable | None


def measures_section(
    pools: Pools, classes: Sequence[str], encoder_agreement: Sequence[EncoderAgreement] = ()
) -> MeasuresSection:
    """Returns the measures of some pools, and those by class where there are several classes.

    Args:
        pools: The generators' images and measures.
        classes: The classes in order.
        encoder_agreement: How similarly encoders rank the generators.
    """
    by_class = []
    for pool in pools:
        table = class_table(pool, classes)
        if table.rows and len(classes) > 1:
            by_class.append(table)
    metrics = {row.metric for _, row in _pool_measures(pools, memorisation=False)}
    return MeasuresSection(
        table=measure_table(pools, memorisation=False),
        has_fid="FID" in metrics,
        by_class=by_class,
        encoder_agreement=_encoder_agreement_table(encoder_agreement),
    )


def measure_table(pools: Pools, *, memorisation: bool) -> MeasureTable:
    """Returns measures of all classes together: those of memorisation, or all others.

    Args:
        pools: The generators' images and measures.
        memorisation: Whether to take the measures of memorisation.
    """
    measures: dict[str, dict[tuple[str, str], Measure]] = {}
    encoders: dict[str, None] = {}
    notes: dict[str, None] = {}
    for pool, row in _pool_measures(pools, memorisation=memorisation):
        family = measures.setdefault(metric_family(row.metric), {})
        family[pool.generator, row.encoder] = row
        encoders[row.encoder] = None
        if row.note:
            notes[row.note] = None
    families = []
    for name, family in measures.items():
        first = next(iter(family.values()))  # all measures of a family have one direction
        direction = DIRECTION_TITLES.get(first.better, "")
        rows = []
        for pool in pools:
            rows.append(_family_row(pool.generator, family, list(encoders), list(notes)))
        families.append(MetricFamily(name, FAMILY_TERMS.get(name, ""), direction, rows))
    return MeasureTable(build_headings("images of", *encoders), families, list(notes))


def _family_row(
    generator: str,
    family: Mapping[tuple[str, str], Measure],
    encoders: Sequence[str],
    notes: Sequence[str],
) -> MetricFamilyRow:
    """Returns one generator's measures of a family, one cell per encoder."""
    cells = []
    for encoder in encoders:
        cells.append(_measure_cell(family.get((generator, encoder)), notes))
    return MetricFamilyRow(add_word_breaks(generator), cells)


def _pool_measures(
    pools: Pools, *, memorisation: bool
) -> list[tuple[PoolResults | Evaluation, Measure]]:
    """Returns measures of all classes together with their pool: those of memorisation, or all others."""
    rows = []
    for pool in pools:
        for row in pool.measures:
            if not row.label and _is_memorisation_metric(row) == memorisation:
                rows.append((pool, row))
    return rows


def metric_family(metric: str) -> str:
    """Returns the name of a metric whatever its encoder is: FD(xrv) and FID are both FD.

    >>> metric_family("MiFID"), metric_family("FD∞(classifier)"), metric_family("C_T(embedded)")
    ('MiFD', 'FD∞', 'C_T')
    """
    name = re.sub(r"\(.*\)", "", metric).strip()
    for inception, general in _INCEPTION_NAMES:
        name = name.replace(inception, general)
    return name


def class_table(pool: PoolResults | Evaluation, classes: Sequence[str]) -> ClassTable:
    """Returns a pool's measures by class, without those of memorisation."""
    measures: dict[tuple[str, str], dict[str, Measure]] = {}
    notes_by_text: dict[str, None] = {}
    for row in pool.measures:
        if not row.label or _is_memorisation_metric(row):
            continue
        measures.setdefault((row.metric, row.encoder), {})[row.label] = row
        if row.note:
            notes_by_text[row.note] = None
    notes = list(notes_by_text)
    class_rows = []
    for (metric, encoder), by_class in measures.items():
        cells = [_measure_cell(by_class.get(label), notes) for label in classes]
        class_rows.append(ClassRow(metric, encoder, cells))
    headings = build_headings("measure", "encoder", *classes, text_columns=2)
    return ClassTable(pool.generator, headings, class_rows, notes)


def _is_memorisation_metric(row: Measure) -> bool:
    return metric_family(row.metric).startswith(MEMORISATION_METRICS)


def _measure_cell(row: Measure | None, notes: Sequence[str]) -> MeasureCell:
    """Returns one measure as text; an empty cell where it was not measured."""
    if row is None:
        return MeasureCell()
    scale = row.value
    low, high = format_distance(row.low, scale), format_distance(row.high, scale)
    return MeasureCell(
        raw=str(row.value),
        text=format_distance(row.value, scale),
        note_number=str(notes.index(row.note) + 1) if row.note else "",
        interval=f"[{low}, {high}]" if is_finite(row.low) else "",
        baseline=_format_baseline(row),
        n=format_number(row.n, 0) if is_finite(row.value) else "",
    )


def _format_baseline(row: Measure) -> str:
    """Returns the baseline, with its interval if it has one, in as many decimals as the measure."""
    if not is_finite(row.baseline_value):
        return ""
    text = format_distance(row.baseline_value, row.value)
    if not is_finite(row.baseline_low) or row.baseline_low == row.baseline_high:
        return text
    low = format_distance(row.baseline_low, row.value)
    high = format_distance(row.baseline_high, row.value)
    return f"{text} [{low}, {high}]"


def _encoder_agreement_table(pairs: Sequence[EncoderAgreement]) -> EncoderAgreementTable | None:
    """Returns the agreement of each pair of encoders; None where it was not measured."""
    if not pairs:
        return None
    rows = []
    for pair in pairs:
        tau, generators = format_number(pair.kendall_tau, 2), format_number(pair.n, 0)
        rows.append(EncoderAgreementRow(pair.first, pair.second, tau, generators))
    headings = build_headings("encoder", "and", "Kendall's τ", "generators", text_columns=2)
    return EncoderAgreementTable(headings, rows)
