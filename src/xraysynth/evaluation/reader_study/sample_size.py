"""How many readers and images the next reading needs.

The variance of a mean over J readers and n images, of variances found with n_0 images,

    s^2 / J + (n_0 / n) (c + w / J),

has the spread s between readers, what images give all readers (c) and what they give each (w)
(Obuchowski 1995; Hillis, Obuchowski and Berbaum 2011). Its interval is that of `crossed`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from xraysynth.evaluation.reader_study.mrmc import Crossed, Spread, few

READERS = (2, 3, 4, 6, 8, 12, 16)
IMAGES = (20, 40, 80, 160, 320)
"""Images of a generator, beside as many real ones."""


@dataclass(frozen=True)
class Plan:
    """The half-width of the 95 % interval to expect from so many readers and images."""

    readers: int
    images: int
    half_width: float


def plans(
    found: Crossed,
    *,
    images: int,
    readers: Sequence[int] = READERS,
    sizes: Sequence[int] = IMAGES,
) -> list[Plan]:
    """What to expect of each design; `images` of a generator gave `found`. None without a variance.

    The spread between readers is that found, or the prior's own where one reader shows none.
    """
    if not found.readers or found.over_images <= 0:
        return []
    own = found.within
    shared = max(found.over_images - own / found.readers, 0.0)
    spread = max(found.between - own, 0.0) if found.readers > 1 else found.scale**2
    result = []
    for count in readers:
        for size in sizes:
            factor = images / size
            expected = Spread.of(
                spread + factor * own, factor * own, freedom=count - 1, scale=found.scale
            )
            over_images = factor * (shared + own / count)
            half = expected.half_width(readers=count, over_images=over_images) * few(size)
            result.append(Plan(count, size, half))
    return result


def smallest(designs: Sequence[Plan], half_width: float) -> Plan | None:
    """The design of the fewest answers that reaches a half-width, None if none does."""
    enough = [plan for plan in designs if plan.half_width <= half_width]
    return min(enough, key=lambda plan: (plan.readers * plan.images, plan.readers), default=None)
