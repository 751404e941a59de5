"""How many readers and images the next reading needs.

The variance of a mean over J readers and n images, of variances found with n_0 images,

    s^2 / J + (n_0 / n) (c + w / J),

has the spread s between readers, what images give all readers (c) and what they give each (w)
(Obuchowski 1995; Hillis, Obuchowski and Berbaum 2011). Its interval is that of `crossed`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from xraysynth.evaluation.reader_study.mrmc import (
    ReaderStatistic,
    SpreadPosterior,
    small_sample_factor,
)

READER_COUNTS = (2, 3, 4, 6, 8, 12, 16)
IMAGE_COUNTS = (20, 40, 80, 160, 320)
"""Images of a generator, beside as many real ones."""


@dataclass(frozen=True)
class Plan:
    """The half-width of the 95 % interval to expect from so many readers and images."""

    readers: int
    images: int
    half_width: float


def compute_plans(
    pilot: ReaderStatistic,
    *,
    pilot_images: int,
    reader_counts: Sequence[int] = READER_COUNTS,
    image_counts: Sequence[int] = IMAGE_COUNTS,
) -> list[Plan]:
    """What to expect of each design; `images` of a generator gave `found`. None without a variance.

    The spread between readers is that found, or the prior's own where one reader shows none.
    """
    if not pilot.readers or pilot.image_variance <= 0:
        return []
    own = pilot.within_variance
    shared = max(pilot.image_variance - own / pilot.readers, 0.0)
    spread = max(pilot.between_variance - own, 0.0) if pilot.readers > 1 else pilot.prior_scale**2
    result = []
    for count in reader_counts:
        for size in image_counts:
            factor = pilot_images / size
            expected = SpreadPosterior.from_variances(
                spread + factor * own,
                factor * own,
                degrees_of_freedom=count - 1,
                prior_scale=pilot.prior_scale,
            )
            over_images = factor * (shared + own / count)
            half = expected.half_width(
                readers=count, image_variance=over_images
            ) * small_sample_factor(size)
            result.append(Plan(count, size, half))
    return result


def smallest_plan(plans: Sequence[Plan], half_width: float) -> Plan | None:
    """The design of the fewest answers that reaches a half-width, None if none does."""
    enough = [plan for plan in plans if plan.half_width <= half_width]
    return min(enough, key=lambda plan: (plan.readers * plan.images, plan.readers), default=None)
