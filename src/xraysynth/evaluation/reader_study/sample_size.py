"""Plans how many readers and images the next reading needs.

The variance of a mean over J readers and n images, from variances measured with n_0 images, is

    s^2 / J + (n_0 / n) (c + w / J),

where s is the spread between readers, c the variance that images cause in all readers together, and w
the variance that they cause in each reader (Obuchowski 1995; Hillis, Obuchowski and Berbaum 2011). The
interval is that of `mrmc`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

from xraysynth.evaluation.reader_study.mrmc import ReaderStatistic, small_sample_factor
from xraysynth.evaluation.reader_study.spread_posterior import SpreadPosterior

READER_COUNTS = (2, 3, 4, 6, 8, 12, 16)
IMAGE_COUNTS = (20, 40, 80, 160, 320)
"""Numbers of images of one generator; readers see as many real ones."""


@dataclass(frozen=True)
class Plan:
    """The expected half-width of the 95 % interval from `readers` readers and `images` images."""

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
    """Computes the interval to expect of each design.

    Args:
        pilot: The statistic of a reading that was made.
        pilot_images: The number of images of a generator in it.
        reader_counts: The numbers of readers to plan for.
        image_counts: The numbers of images of a generator to plan for.

    Returns:
        One plan per number of readers and of images; empty where the pilot shows no variance. The
        spread between readers is the pilot's, or the prior scale where the pilot had one reader.
    """
    if not pilot.readers or pilot.image_variance <= 0:
        return []
    within = pilot.within_variance
    shared = max(pilot.image_variance - within / pilot.readers, 0.0)
    spread = pilot.prior_scale**2
    if pilot.readers > 1:
        spread = max(pilot.between_variance - within, 0.0)
    plans = []
    for readers, images in product(reader_counts, image_counts):
        factor = pilot_images / images
        posterior = SpreadPosterior.from_variances(
            spread + factor * within,
            factor * within,
            degrees_of_freedom=readers - 1,
            prior_scale=pilot.prior_scale,
        )
        half_width = posterior.half_width(
            readers=readers, image_variance=factor * (shared + within / readers)
        )
        plans.append(Plan(readers, images, half_width * small_sample_factor(images)))
    return plans


def smallest_plan(plans: Sequence[Plan], half_width: float) -> Plan | None:
    """Returns the plan of the fewest answers that reaches a half-width, None if none does."""
    sufficient = [plan for plan in plans if plan.half_width <= half_width]
    return min(
        sufficient, key=lambda plan: (plan.readers * plan.images, plan.readers), default=None
    )
