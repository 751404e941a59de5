"""A difference between two arms with what was tested of it, and the word that sums it up."""

from dataclasses import dataclass
from typing import TypeGuard

from xraysynth.evaluation.metrics.statistics import Interval
from xraysynth.report.claims import (
    BETTER,
    EQUIVALENT,
    NO_DIFFERENCE,
    NOT_COMPARED,
    SIGNIFICANT,
    WORSE,
)
from xraysynth.report.formatting import format_significant, is_finite

_LARGEST_DIFFERENCE = 1.0
"""The largest difference of two scores in [0, 1]."""


@dataclass(frozen=True)
class MeasuredDifference:
    """The difference of two arms in the primary score, higher is better, with what was tested of it.

    Attributes:
        interval: The difference with its 95 % interval; None where nothing was compared.
        p_holm: p-value of "there is no difference", adjusted after Holm. It is None where nothing is
            claimed, as with a single training seed.
        detectable: The true difference that would have been found with a probability of 80 %.
        margin: The largest difference that does not matter; None if none is given.
        p_equivalent: p-value of "the true difference is as large as `margin`", adjusted after Holm.

    >>> difference = MeasuredDifference(Interval(0.01, -0.03, 0.05, 90), p_holm=0.4, detectable=0.064)
    >>> difference.word, difference.detectable_text
    ('no difference shown', '0.064 or more would have been found')
    """

    interval: Interval | None = None
    p_holm: float | None = None
    detectable: float | None = None
    margin: float | None = None
    p_equivalent: float | None = None

    @property
    def word(self) -> str:
        """What is shown, in one word; see `classify_difference`."""
        return classify_difference(
            self.interval, p_holm=self.p_holm, p_equivalent=self.p_equivalent
        )

    @property
    def word_with_margin(self) -> str:
        """The word, which names the margin if it is `EQUIVALENT`."""
        return f"{self.word} within {self.margin_text}" if self.word == EQUIVALENT else self.word

    @property
    def verdict_text(self) -> str:
        """The word, with the difference that would have been found where none is shown."""
        detectable = f" ({self.detectable_text})" if self.detectable_text else ""
        return self.word_with_margin + detectable

    @property
    def margin_text(self) -> str:
        """The margin as text, such as "±0.05"; empty without one."""
        return f"±{self.margin:g}" if is_known(self.margin) else ""

    @property
    def detectable_text(self) -> str:
        """Which difference would have been found, where none is shown; empty if it is not known."""
        if self.word != NO_DIFFERENCE or not is_known(self.detectable):
            return ""
        if self.detectable >= _LARGEST_DIFFERENCE:
            return "even the largest difference might not have been found"
        return f"{format_significant(self.detectable, 2)} or more would have been found"


def classify_difference(
    difference: Interval | None, *, p_holm: float | None, p_equivalent: float | None = None
) -> str:
    """Returns in one word what is shown of a difference; higher is better.

    A difference that is shown is never called equivalent, however small it is.

    Args:
        difference: The difference with its 95 % interval; None where nothing was compared.
        p_holm: Its p-value, adjusted after Holm. Without one, as with a single training seed, nothing is
            compared. A p-value of 0.05 or more shows no difference even where the interval, which is not
            adjusted for the other comparisons, excludes zero.
        p_equivalent: p-value of "the difference is as large as the margin", adjusted after Holm; None
            without a margin.
    """
    if not has_bounds(difference) or not is_known(p_holm):
        return NOT_COMPARED
    if not difference.low <= 0 <= difference.high and p_holm < SIGNIFICANT:
        return BETTER if difference.low > 0 else WORSE
    if is_known(p_equivalent) and p_equivalent < SIGNIFICANT:
        return EQUIVALENT
    return NO_DIFFERENCE


def has_bounds(difference: Interval | None) -> TypeGuard[Interval]:
    """Returns whether a difference was computed and has a finite interval."""
    return difference is not None and is_finite(difference.low) and is_finite(difference.high)


def is_known(value: float | None) -> TypeGuard[float]:
    """Returns whether there is a number, and it is finite."""
    return value is not None and is_finite(value)
