"""The verdict on costs: which of the arms that gain has the cheapest synthetic images."""

from collections.abc import Sequence

from xraysynth.report import verdicts
from xraysynth.report.costs import NO_GAIN, ArmCost, Unit
from xraysynth.report.formatting import format_quantity

_PREFERRED_UNITS: tuple[Unit, ...] = ("USD", "s")
"""Units to compare costs in; the first is taken where both are known of as many arms."""


def cheapest_gain(costs: Sequence[ArmCost]) -> verdicts.Verdict | None:
    """Returns a sentence on the cheapest gain; None where no arm was compared with real only."""
    compared = [cost for cost in costs if cost.word != verdicts.NOT_COMPARED]
    if not compared:
        return None
    gaining = [cost for cost in compared if cost.word == verdicts.BETTER]
    if not gaining:
        sentence = "no generator shows a gain over real images, so no cost of a gain can be given"
        return verdicts.Verdict(NO_GAIN, sentence)
    unit = _choose_unit(gaining)
    priced, generators_without_price = [], []
    for cost in gaining:
        if cost.all_images[unit].value is not None:
            priced.append(cost)
        else:
            generators_without_price.append(cost.arm.generator)
    names = ", ".join(dict.fromkeys(generators_without_price))
    if not priced:
        return verdicts.Verdict("gain", f"a gain is shown for {names}, but its cost is not known")
    sentence = _describe_cheapest(priced, unit)
    if names:
        sentence += f"; the cost of the images of {names} is not known"
    return verdicts.Verdict("gain", sentence)


def _choose_unit(costs: Sequence[ArmCost]) -> Unit:
    """Returns the preferred unit in which the costs of most arms are known."""

    def count_priced(unit: Unit) -> int:
        """Returns the number of arms whose cost is known in a unit."""
        return sum(cost.all_images[unit].value is not None for cost in costs)

    return max(_PREFERRED_UNITS, key=count_priced)


def _describe_cheapest(costs: Sequence[ArmCost], unit: Unit) -> str:
    """Returns a sentence on the arm whose synthetic images are the cheapest in all."""
    cheapest = min(costs, key=lambda cost: cost.all_images[unit].value or 0.0)
    arm = cheapest.arm
    all_images = format_quantity(cheapest.all_images[unit].value, unit)
    per_f1_point = format_quantity(cheapest.per_f1_point[unit].value, unit)
    sentence = (
        f"the cheapest gain shown is that of {arm.name}: macro-F1 "
        f"{verdicts.format_difference(cheapest.gain)} for {all_images} "
        f"({arm.synthetic_images} synthetic images), or {per_f1_point} per 0.01 of macro-F1"
    )
    over_duplicates = arm.over_duplicates.primary
    if over_duplicates.interval is not None and over_duplicates.word != verdicts.BETTER:
        sentence += ", but repeated real images, which cost nothing, are not shown to do worse"
    return sentence
