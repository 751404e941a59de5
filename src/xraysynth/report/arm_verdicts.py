"""The verdicts on the arms of a study, one after another."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from xraysynth.evaluation.metrics.statistics import Interval
from xraysynth.report.content import Arm, Comparison


@dataclass(frozen=True, kw_only=True)
class ArmVerdict(Interval):
    """The verdict on one difference of an arm in macro-F1.

    Attributes:
        arm: Name of the arm.
        minus: What it is compared with: "real only", "duplicate control" or "permuted control".
        p_holm: p-value of the difference, adjusted after Holm; None where one seed shows no difference.
        detectable: The true difference that would have been found with a probability of 80 %.
        margin: The largest difference that does not matter; None if none is given.
        p_equivalent: p-value of "the difference is as large as `margin`", adjusted after Holm.
        verdict: The word of the verdict.
    """

    arm: str
    minus: str
    p_holm: float | None
    detectable: float | None
    margin: float | None
    p_equivalent: float | None
    verdict: str


def arm_verdicts(arms: Sequence[Arm]) -> list[ArmVerdict]:
    """Returns the verdict on every difference of which something is claimed."""
    rows: list[ArmVerdict] = []
    for arm in arms:
        rows += _verdicts_of_arm(arm)
    return rows


def verdict_word(arm: Arm, comparison: Comparison) -> str:
    """Returns the word of a verdict; empty for controls, left-out sources and what was not compared."""
    if arm.control or arm.left_out_source or comparison.primary.interval is None:
        return ""
    return comparison.primary.word


def _verdicts_of_arm(arm: Arm) -> Iterator[ArmVerdict]:
    """Yields the verdicts on one arm."""
    comparisons = {
        "real only": arm.over_real,
        "duplicate control": arm.over_duplicates,
        "permuted control": arm.over_permuted,
    }
    for minus, comparison in comparisons.items():
        difference = comparison.primary
        if difference.interval is not None and verdict_word(arm, comparison):
            yield ArmVerdict(
                *difference.interval.as_tuple(),
                arm=arm.name,
                minus=minus,
                p_holm=difference.p_holm,
                detectable=difference.detectable,
                margin=difference.margin,
                p_equivalent=difference.p_equivalent,
                verdict=difference.word,
            )
