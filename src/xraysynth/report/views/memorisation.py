"""Whether images are copies of training images: measures, closest pairs and similarities."""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from xraysynth.report import thumbnails
from xraysynth.report.content import Evaluation, PoolView
from xraysynth.report.formatting import breakable, number
from xraysynth.report.thumbnails import Pair
from xraysynth.report.views.cells import Heading, bounds, headings
from xraysynth.report.views.measures import MeasureTable, Pools, measure_table


@dataclass(frozen=True)
class NotAssessable:
    """A generator of which nobody can say whether it copies, and why."""

    generator: str
    reason: str


@dataclass(frozen=True)
class ClosestPairs:
    """The closest pairs of a generator, nearest first; none where they were not measured."""

    generator: str
    pairs: Sequence[Pair]


@dataclass(frozen=True)
class SimilarityRow:
    """Similarity of one generator's images to their nearest training image."""

    generator: Markup
    is_measured: bool = False
    metric: str = ""
    value: str = ""
    interval: str = ""
    real: str = ""
    n: str = ""


@dataclass(frozen=True)
class SimilarityTable:
    """The similarities of all generators."""

    headings: Sequence[Heading]
    rows: Sequence[SimilarityRow]


@dataclass(frozen=True)
class CopiesSection:
    """What is known of copies; `pools` are those of which it can be assessed."""

    not_assessable: Sequence[NotAssessable]
    pools: Sequence[ClosestPairs]
    table: MeasureTable
    nearest: SimilarityTable


def copies_section(pools: Pools) -> CopiesSection:
    """Copies of training images in these pools."""
    assessed = [pool for pool in pools if not pool.assessable]
    return CopiesSection(
        not_assessable=[NotAssessable(p.generator, p.assessable) for p in pools if p.assessable],
        pools=[ClosestPairs(pool.generator, thumbnails.pairs(pool)) for pool in assessed],
        table=measure_table(assessed, copying=True),
        nearest=SimilarityTable(
            headings("images of", "metric", "value", "held-out real", "N", words=2),
            [row for pool in assessed for row in _similarities(pool)],
        ),
    )


def _similarities(pool: PoolView | Evaluation) -> list[SimilarityRow]:
    generator = breakable(pool.generator)
    rows = [
        SimilarityRow(
            generator,
            is_measured=True,
            metric=row.metric,
            value=number(row.value),
            interval=bounds(row.low, row.high),
            real=number(row.real),
            n=number(row.n, 0),
        )
        for row in pool.nearest_similarity
    ]
    return rows or [SimilarityRow(generator)]
