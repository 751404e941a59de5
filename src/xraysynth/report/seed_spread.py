"""How much training seeds differ, and how intervals use it, in one line."""

from collections.abc import Sequence

from xraysynth.evaluation.metrics.seed_variance import SpreadOfSeeds
from xraysynth.report.claims import SIGNIFICANT
from xraysynth.report.formatting import (
    format_count,
    format_number,
    format_percent,
    format_significant,
    is_finite,
)


def describe_spread_of_seeds(spreads: Sequence[SpreadOfSeeds]) -> str:
    """Returns how the intervals between seeds were made; empty if every arm has a single seed.

    Args:
        spreads: How much seeds differ, one entry per group of arms of about as many training images.

    >>> print(describe_spread_of_seeds([SpreadOfSeeds(8, 40, sd=0.031, weight=0.6, p=0.3)]))
    Between seeds: sd 0.031 over 40 trainings of 8 arms, whose common variance counts for 60% and their own \
for the rest (Smyth 2004), with no sign that the arms differ in it (Bartlett p = 0.3).
    """
    if not spreads:
        return ""
    if len(spreads) == 1:
        return f"Between seeds: {_describe_group(spreads[0])}."
    groups = "; ".join(map(_describe_group, spreads))
    return f"Between seeds, in groups of arms of about as many training images: {groups}."


def _describe_group(spread: SpreadOfSeeds) -> str:
    """Returns how much seeds differ in one group of arms, and how much the arms lend each other."""
    trainings, arms = format_count(spread.runs, "training"), format_count(spread.arms, "arm")
    found = f"sd {format_number(spread.sd)} over {trainings} of {arms}{_describe_images(spread)}"
    if spread.arms == 1:
        return f"{found}, which has its own variance alone"
    common = format_percent(spread.weight)
    found += f", whose common variance counts for {common} and their own for the rest (Smyth 2004)"
    return found + _describe_test(spread.p)


def _describe_images(spread: SpreadOfSeeds) -> str:
    """Returns the numbers of training images of a group, where they are known."""
    if not spread.images:
        return ""
    fewest, most = min(spread.images), max(spread.images)
    return f" of {fewest} images" if fewest == most else f" of {fewest} to {most} images"


def _describe_test(p: float) -> str:
    """Returns what Bartlett's test says of the arms' variances; empty where it says nothing."""
    if not is_finite(p):
        return ""
    if p < SIGNIFICANT:
        return f", with signs that the arms differ in it (Bartlett p {_format_p(p)})"
    return f", with no sign that the arms differ in it (Bartlett p {_format_p(p)})"


def _format_p(p: float) -> str:
    """Returns a p-value with its relation."""
    return "< 0.001" if p < 0.001 else f"= {format_significant(p, 1)}"
