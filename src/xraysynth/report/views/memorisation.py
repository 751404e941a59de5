"""Whether images are copies of training images: measures, closest pairs and similarities."""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from xraysynth.report import thumbnails
from xraysynth.report.content import Evaluation, PoolResults
from xraysynth.report.formatting import add_word_breaks, format_number
from xraysynth.report.thumbnails import ThumbnailPair
from xraysynth.report.views.cells import Heading, build_headings, format_bounds
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
    pairs: Sequence[ThumbnailPair]


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
class MemorisationSection:
    """What is known of copies; `pools` are those of which it can be assessed."""

    not_assessable: Sequence[NotAssessable]
    pools: Sequence[ClosestPairs]
    table: MeasureTable
    nearest_similarity: SimilarityTable


def memorisation_section(pools: Pools) -> MemorisationSection:
    """Copies of training images in these pools."""
    assessed = [pool for pool in pools if not pool.not_assessable_reason]
    return MemorisationSection(
        not_assessable=[
            NotAssessable(p.generator, p.not_assessable_reason)
            for p in pools
            if p.not_assessable_reason
        ],
        pools=[ClosestPairs(pool.generator, thumbnails.closest_pairs(pool)) for pool in assessed],
        table=measure_table(assessed, memorisation=True),
        nearest_similarity=SimilarityTable(
            build_headings("images of", "metric", "value", "held-out real", "N", text_columns=2),
            [row for pool in assessed for row in _similarity_rows(pool)],
        ),
    )


def _similarity_rows(pool: PoolResults | Evaluation) -> list[SimilarityRow]:
    generator = add_word_breaks(pool.generator)
    rows = [
        SimilarityRow(
            generator,
            is_measured=True,
            metric=row.metric,
            value=format_number(row.value),
            interval=format_bounds(row.low, row.high),
            real=format_number(row.real),
            n=format_number(row.n, 0),
        )
        for row in pool.nearest_similarity
    ]
    return rows or [SimilarityRow(generator)]
