"""What gives images away, and how varied they are."""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from xraysynth.evaluation.results import Diversity
from xraysynth.report.content import Evaluation, PoolResults
from xraysynth.report.formatting import add_word_breaks, format_number
from xraysynth.report.views.cells import Heading, build_headings, format_bounds
from xraysynth.report.views.measures import Pools


@dataclass(frozen=True)
class AppearanceRow:
    """One measure of one generator's images beside that of real ones."""

    generator: Markup
    is_measured: bool = False
    measure: str = ""
    meaning: str = ""
    value: str = ""
    interval: str = ""
    real: str = ""
    n: str = ""


@dataclass(frozen=True)
class DiversityCell:
    """Mean similarity of pairs of one class."""

    value: str
    interval: str
    real: str
    pairs: str


@dataclass(frozen=True)
class DiversityRow:
    """One metric of one generator's images, class by class."""

    generator: Markup
    is_measured: bool = False
    metric: str = ""
    cells: Sequence[DiversityCell | None] = ()


@dataclass(frozen=True)
class DiversityTable:
    """Similarity within a class; `columns` are those right of the generator."""

    headings: Sequence[Heading]
    rows: Sequence[DiversityRow]

    @property
    def columns(self) -> int:
        """Columns right of the generator's name."""
        return len(self.headings) - 1


@dataclass(frozen=True)
class AppearanceSection:
    """Appearance and variety; `of_study` where images came from a study's generators."""

    headings: Sequence[Heading]
    rows: Sequence[AppearanceRow]
    diversity: DiversityTable
    is_from_study: bool


def appearance_section(
    pools: Pools, classes: Sequence[str], *, is_from_study: bool
) -> AppearanceSection:
    """Appearance and variety of these pools."""
    return AppearanceSection(
        headings=build_headings("images of", "measure", "value", "real", "N", text_columns=2),
        rows=[row for pool in pools for row in _appearance_rows(pool)],
        diversity=DiversityTable(
            build_headings("images of", "metric", *classes, text_columns=2),
            [row for pool in pools for row in _diversity_rows(pool, classes)],
        ),
        is_from_study=is_from_study,
    )


def _appearance_rows(pool: PoolResults | Evaluation) -> list[AppearanceRow]:
    generator = add_word_breaks(pool.generator)
    rows = [
        AppearanceRow(
            generator,
            is_measured=True,
            measure=row.measure.replace("_", " "),
            meaning=row.meaning,
            value=format_number(row.value),
            interval=format_bounds(row.low, row.high),
            real=format_number(row.real),
            n=format_number(row.n, 0),
        )
        for row in pool.appearance
    ]
    return rows or [AppearanceRow(generator)]


def _diversity_rows(pool: PoolResults | Evaluation, classes: Sequence[str]) -> list[DiversityRow]:
    generator = add_word_breaks(pool.generator)
    by_place = {(row.metric, row.label): row for row in pool.diversity}
    rows = []
    for metric in dict.fromkeys(row.metric for row in pool.diversity):
        cells = [_diversity_cell(by_place.get((metric, label))) for label in classes]
        rows.append(DiversityRow(generator, is_measured=True, metric=metric, cells=cells))
    return rows or [DiversityRow(generator)]


def _diversity_cell(row: Diversity | None) -> DiversityCell | None:
    if row is None:
        return None
    interval = format_bounds(row.low, row.high)
    return DiversityCell(
        format_number(row.value), interval, format_number(row.real), format_number(row.n, 0)
    )
