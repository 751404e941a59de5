"""What a family of comparisons shows: adjusted p-values, detectable differences, equivalence."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from xraysynth.report.claims import SIGNIFICANT

if TYPE_CHECKING:
    from xraysynth.evaluation.metrics.statistics import DifferenceSpread


@dataclass(frozen=True)
class Decision:
    """What one comparison of a family shows; the fields are those of `report.content.Comparison`."""

    p_holm: float
    detectable: float
    margin: float | None = None
    p_equivalent: float | None = None


def decide(
    spreads: Mapping[int, "DifferenceSpread"], margin: float | None = None
) -> dict[int, Decision]:
    """Decide what each comparison of a family shows.

    Args:
        spreads: The differences, by any number of the comparison.
        margin: The largest difference that does not matter; None if equivalence is not tested.
    """
    from xraysynth.evaluation.metrics.statistics import holm_adjust

    names = {str(index): spread for index, spread in spreads.items()}
    p_values = {name: spread.p_value() for name, spread in names.items()}
    adjusted = holm_adjust(p_values)
    equivalent = {}
    if margin is not None:
        equivalent = holm_adjust(
            {name: spread.equivalence_p_value(margin) for name, spread in names.items()}
        )
    decisions = {}
    for name, spread in names.items():
        level = level_to_be_found(p_values, name)
        decisions[int(name)] = Decision(
            adjusted[name], spread.detectable(level), margin, equivalent.get(name)
        )
    return decisions


def level_to_be_found(p_values: Mapping[str, float], name: str) -> float:
    """Return the p-value below which one comparison is significant, given the others of its family.

    By Holm's method (1979) it is the level divided by the number of comparisons that are left once
    those are taken out that are significant before it.

    >>> level_to_be_found({"a": 0.001, "b": 0.3, "c": 0.4}, "c")
    0.025
    """
    others = sorted(p for other, p in p_values.items() if other != name)
    left = len(p_values)
    for p in others:
        if p * left >= SIGNIFICANT:
            break
        left -= 1
    return SIGNIFICANT / left
