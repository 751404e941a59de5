"""View of the memorisation of training images: measures, closest pairs and similarities."""

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
    """A generator whose memorisation cannot be assessed, and why."""

    generator: str
    reason: str


@dataclass(frozen=True)
class ClosestPairs:
    """The closest pairs of a generator, nearest first; empty where nothing was measured."""

    generator: str
    pairs: Sequence[ThumbnailPair]


@dataclass(frozen=True)
class SimilarityRow:
    """Similarity of one generator's images to their nearest training image.

    Attributes:
        generator: Name of the generator.
        is_measured: Whether there is a number; if not, the other fields are empty.
        metric: Name of the similarity.
        value: Mean over images.
        interval: Its 95 % interval.
        real: Mean over held-out real images.
        n: Number of images.
    """

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
    """The section on memorisation.

    Attributes:
        not_assessable: Generators whose memorisation cannot be assessed.
        pools: Closest pairs of all other generators.
        table: Measures of memorisation.
        nearest_similarity: Similarity of images to their nearest training image.
    """

    not_assessable: Sequence[NotAssessable]
    pools: Sequence[ClosestPairs]
    table: MeasureTable
    nearest_similarity: SimilarityTable


def memorisation_section(pools: Pools) -> MemorisationSection:
    """Returns the memorisation of training images in some pools."""
    not_assessable, assessed = [], []
    closest_pairs: list[ClosestPairs] = []
    similarity_rows: list[SimilarityRow] = []
    for pool in pools:
        if pool.not_assessable_reason:
            not_assessable.append(NotAssessable(pool.generator, pool.not_assessable_reason))
            continue
        assessed.append(pool)
        closest_pairs.append(ClosestPairs(pool.generator, thumbnails.closest_pairs(pool)))
        similarity_rows += _similarity_rows(pool)
    headings = build_headings("images of", "metric", "value", "held-out real", "N", text_columns=2)
    return MemorisationSection(
        not_assessable=not_assessable,
        pools=closest_pairs,
        table=measure_table(assessed, memorisation=True),
        nearest_similarity=SimilarityTable(headings, similarity_rows),
    )


def _similarity_rows(pool: PoolResults | Evaluation) -> list[SimilarityRow]:
    """Returns one row per similarity, or one that says that nothing was measured."""
    generator = add_word_breaks(pool.generator)
    rows = []
    for row in pool.nearest_similarity:
        rows.append(
            SimilarityRow(
                generator,
                is_measured=True,
                metric=row.metric,
                value=format_number(row.value),
                interval=format_bounds(row.low, row.high),
                real=format_number(row.real),
                n=format_number(row.n, 0),
            )
        )
    return rows or [SimilarityRow(generator)]
