"""View of the images' appearance and diversity."""

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
    """One property of one generator's images, and of real ones.

    Attributes:
        generator: Name of the generator.
        is_measured: Whether there is a number; if not, the other fields are empty.
        measure: Name of the property.
        meaning: What the number means, in words.
        value: Mean over images.
        interval: Its 95 % interval.
        real: Mean over real images.
        n: Number of images.
    """

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
    """Mean similarity of pairs of synthetic images of one class, and of real pairs.

    Attributes:
        value: Mean over pairs.
        interval: Its 95 % interval.
        real: Mean over pairs of real images.
        pairs: Number of pairs.
    """

    value: str
    interval: str
    real: str
    pairs: str


@dataclass(frozen=True)
class DiversityRow:
    """One metric of one generator's images; a class without a number has None.

    Attributes:
        generator: Name of the generator.
        is_measured: Whether there are numbers.
        metric: Name of the similarity.
        cells: One cell per class.
    """

    generator: Markup
    is_measured: bool = False
    metric: str = ""
    cells: Sequence[DiversityCell | None] = ()


@dataclass(frozen=True)
class DiversityTable:
    """Similarity of images within a class."""

    headings: Sequence[Heading]
    rows: Sequence[DiversityRow]

    @property
    def columns(self) -> int:
        """Number of columns right of the generator's name."""
        return len(self.headings) - 1


@dataclass(frozen=True)
class AppearanceSection:
    """Appearance and diversity; `is_from_study` says whether a study's generators made the images."""

    headings: Sequence[Heading]
    rows: Sequence[AppearanceRow]
    diversity: DiversityTable
    is_from_study: bool


def appearance_section(
    pools: Pools, classes: Sequence[str], *, is_from_study: bool
) -> AppearanceSection:
    """Returns the appearance and diversity of the images of some pools.

    Args:
        pools: The generators' images.
        classes: The classes in order.
        is_from_study: Whether a study's generators made the images.
    """
    appearance_rows: list[AppearanceRow] = []
    diversity_rows: list[DiversityRow] = []
    for pool in pools:
        appearance_rows += _appearance_rows(pool)
        diversity_rows += _diversity_rows(pool, classes)
    diversity_headings = build_headings("images of", "metric", *classes, text_columns=2)
    return AppearanceSection(
        headings=build_headings("images of", "measure", "value", "real", "N", text_columns=2),
        rows=appearance_rows,
        diversity=DiversityTable(diversity_headings, diversity_rows),
        is_from_study=is_from_study,
    )


def _appearance_rows(pool: PoolResults | Evaluation) -> list[AppearanceRow]:
    """Returns one row per property, or one that says that nothing was measured."""
    generator = add_word_breaks(pool.generator)
    rows = []
    for row in pool.appearance:
        rows.append(
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
        )
    return rows or [AppearanceRow(generator)]


def _diversity_rows(pool: PoolResults | Evaluation, classes: Sequence[str]) -> list[DiversityRow]:
    """Returns one row per metric, or one that says that nothing was measured."""
    generator = add_word_breaks(pool.generator)
    by_metric: dict[str, dict[str, Diversity]] = {}
    for row in pool.diversity:
        by_metric.setdefault(row.metric, {})[row.label] = row
    rows = []
    for metric, by_class in by_metric.items():
        cells = [_diversity_cell(by_class.get(label)) for label in classes]
        rows.append(DiversityRow(generator, is_measured=True, metric=metric, cells=cells))
    return rows or [DiversityRow(generator)]


def _diversity_cell(row: Diversity | None) -> DiversityCell | None:
    """Returns the similarity of one class; None where it was not measured."""
    if row is None:
        return None
    interval = format_bounds(row.low, row.high)
    real, n = format_number(row.real), format_number(row.n, 0)
    return DiversityCell(format_number(row.value), interval, real, n)
