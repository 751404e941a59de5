"""What gives images away, and how varied they are."""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from xraysynth.evaluation.results import Diversity
from xraysynth.report.content import Evaluation, PoolView
from xraysynth.report.formatting import breakable, number
from xraysynth.report.views.cells import Heading, bounds, headings
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
    of_study: bool


def appearance_section(
    pools: Pools, classes: Sequence[str], *, of_study: bool
) -> AppearanceSection:
    """Appearance and variety of these pools."""
    return AppearanceSection(
        headings=headings("images of", "measure", "value", "real", "N", words=2),
        rows=[row for pool in pools for row in _appearance(pool)],
        diversity=DiversityTable(
            headings("images of", "metric", *classes, words=2),
            [row for pool in pools for row in _diversity(pool, classes)],
        ),
        of_study=of_study,
    )


def _appearance(pool: PoolView | Evaluation) -> list[AppearanceRow]:
    generator = breakable(pool.generator)
    rows = [
        AppearanceRow(
            generator,
            is_measured=True,
            measure=row.measure.replace("_", " "),
            meaning=row.meaning,
            value=number(row.value),
            interval=bounds(row.low, row.high),
            real=number(row.real),
            n=number(row.n, 0),
        )
        for row in pool.appearance
    ]
    return rows or [AppearanceRow(generator)]


def _diversity(pool: PoolView | Evaluation, classes: Sequence[str]) -> list[DiversityRow]:
    generator = breakable(pool.generator)
    by_place = {(row.metric, row.label): row for row in pool.diversity}
    rows = []
    for metric in dict.fromkeys(row.metric for row in pool.diversity):
        cells = [_diversity_cell(by_place.get((metric, label))) for label in classes]
        rows.append(DiversityRow(generator, is_measured=True, metric=metric, cells=cells))
    return rows or [DiversityRow(generator)]


def _diversity_cell(row: Diversity | None) -> DiversityCell | None:
    if row is None:
        return None
    interval = bounds(row.low, row.high)
    return DiversityCell(number(row.value), interval, number(row.real), number(row.n, 0))
