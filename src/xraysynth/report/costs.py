"""What images cost: time, dollars and energy, per image, per usable image and per point of macro-F1."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from xraysynth.evaluation.metrics.statistics import Interval
from xraysynth.generation.generators.base import ARCHIVE, SERVICES
from xraysynth.generation.ledger import Ledger
from xraysynth.report import arm_groups, findings, verdicts
from xraysynth.report.content import Arm, Content, PoolResults
from xraysynth.report.formatting import format_quantity, is_finite

Unit = Literal["s", "USD", "kWh"]
UNITS: dict[Unit, str] = {"s": "time", "USD": "dollars", "kWh": "energy"}
"""What an image costs, in order, with its name."""

NOT_MEASURED, NOT_APPLICABLE, NO_GAIN = "not measured", "not applicable", "no gain shown"


@dataclass(frozen=True)
class Quantity:
    """A number, or the words that stand in its place.

    `how` is "measured" or "estimated" where there is a number; `note` says on what, or from what.
    """

    value: float | None = None
    low: float | None = None
    high: float | None = None
    n: int | None = None
    unit: str = ""
    how: str = ""
    text: str = ""
    note: str = ""

    @classmethod
    def from_value(
        cls, value: Any, unit: str, *, how: str = "measured", **options: Any
    ) -> "Quantity":
        """A number from a record, or that it was not measured."""
        if not is_finite(value):
            return cls(text=NOT_MEASURED)
        return cls(float(value), unit=unit, how=how, **options)

    @classmethod
    def from_interval(cls, interval: Interval | None, unit: str, *, note: str = "") -> "Quantity":
        """A measured number with its interval."""
        if interval is None or not is_finite(interval.value):
            return cls(text=NOT_MEASURED)
        return cls(
            interval.value, interval.low, interval.high, interval.n, unit, "measured", note=note
        )

    def scale_by(self, factor: float, **changes: Any) -> "Quantity":
        """So much more of it; words stay what they are."""
        if self.value is None:
            return self
        low, high = (None if end is None else end * factor for end in (self.low, self.high))
        return replace(self, value=self.value * factor, low=low, high=high, **changes)


@dataclass(frozen=True)
class PoolCost:
    """What a pool took of one unit.

    `drawing` is the cost of an image, and `teaching` that of the fine-tuning, which is paid once.
    `total` is the cost of an image of this study's pool, with its part of the fine-tuning.
    """

    generation: Quantity
    finetuning: Quantity
    total: Quantity

    def for_images(self, images: int) -> Quantity:
        """The cost of a number of images: drawing each of them, and the fine-tuning whole."""
        if self.finetuning.value is None or self.generation.value is None:
            return self.total.scale_by(
                images
            )  # nothing is fine-tuned here, or the words that say why
        drawn = self.generation.scale_by(images)
        return replace(drawn, value=(drawn.value or 0.0) + self.finetuning.value)


def compute_costs(pool: PoolResults, usd_per_hour: float | None) -> dict[Unit, PoolCost]:
    """What the images of a pool and its fine-tuning cost, by unit."""
    teaching = _finetuning_ledger(pool)
    seconds = _unit_cost(pool, "s", pool.ledger.seconds_per_image, teaching.seconds)
    per_thousand = pool.ledger.energy_kwh_per_1000
    energy = _unit_cost(
        pool,
        "kWh",
        None if per_thousand is None else per_thousand / 1000,
        teaching.energy_kwh,
        how=_energy_provenance(pool),
    )
    if pool.card.access in SERVICES:
        nothing = Quantity(text=NOT_MEASURED, note="not reported by the service")
        energy = PoolCost(nothing, energy.finetuning, nothing)
    return {"s": seconds, "USD": _dollar_cost(pool, seconds, usd_per_hour), "kWh": energy}


def _unit_cost(
    pool: PoolResults,
    unit: Unit,
    generation: float | None,
    finetuning: float | None,
    *,
    how: str = "measured",
) -> PoolCost:
    if pool.card.access == ARCHIVE:
        nothing = Quantity(text=NOT_MEASURED, note="made before this study")
        return PoolCost(nothing, Quantity(text=NOT_APPLICABLE), nothing)
    images = int(pool.ledger.images or 0)
    each = Quantity.from_value(generation, unit, how=how, n=images)
    if not pool.finetuning:
        elsewhere = bool(pool.ledger.trained_parameters)
        note = "without the fine-tuning, which was done elsewhere" if elsewhere else ""
        words = NOT_MEASURED if elsewhere else NOT_APPLICABLE
        return PoolCost(each, Quantity(text=words), replace(each, note=note))
    once = Quantity.from_value(finetuning, unit, how=how)
    if each.value is None or once.value is None or not images:
        return PoolCost(each, once, Quantity(text=NOT_MEASURED))
    total = Quantity.from_value(each.value + once.value / images, unit, how=how, n=images)
    return PoolCost(each, once, total)


def _finetuning_ledger(pool: PoolResults) -> Ledger:
    """Of the whole fine-tuning job, loading and preparing included."""
    return pool.finetuning.ledger if pool.finetuning else Ledger()


def _energy_provenance(pool: PoolResults) -> str:
    method = str(pool.ledger.energy_method or "")
    return "estimated" if method.startswith("estimated") else "measured"


def _dollar_cost(pool: PoolResults, seconds: PoolCost, usd_per_hour: float | None) -> PoolCost:
    """What a service was paid; for what computes here, seconds at the price of a machine hour."""
    ledger, access = pool.ledger, pool.card.access
    paid = float(ledger.cost_usd or 0)  # None where no answer has a price
    if access in SERVICES and (paid or access != SERVICES[1]):
        return _service_cost(ledger, paid)
    if access == ARCHIVE:
        return seconds  # its words
    if usd_per_hour is None:
        nothing = Quantity(text=NOT_APPLICABLE, note="the price of a machine hour was not set")
        return PoolCost(nothing, nothing, nothing)
    price, changes = usd_per_hour / 3600, {"unit": "USD", "how": "estimated"}
    parts = (seconds.generation, seconds.finetuning, seconds.total)
    return PoolCost(*(part.scale_by(price, **changes) for part in parts))


def _service_cost(ledger: Ledger, paid_usd: float) -> PoolCost:
    images, possible = int(ledger.images or 0), float(ledger.possible_usd or 0)
    note = f"plus up to ${possible:.2f} in total that may have been billed" if possible else ""
    known_price = images and (paid_usd or not possible)
    # Of the images whose price is known, where the ledger says so.
    per_image = ledger.cost_usd_per_image or (paid_usd / images if images else None)
    each = Quantity.from_value(per_image if known_price else None, "USD", n=images, note=note)
    return PoolCost(each, Quantity(text=NOT_APPLICABLE), each)


def usable_share(pool: PoolResults) -> Quantity:
    """The share of images that show the intended class and are no copies, the mean over classes.

    Both are looked at image by image. Where copies cannot be looked for, none is subtracted. Pools
    that were measured before this was recorded have none.
    """
    share = pool.usable_share
    looked_for = share is not None and share.copies_looked_for
    note = "" if looked_for else "memorisation was not assessed"
    return Quantity.from_interval(share, "share", note=note)


def cost_per_usable_image(cost: Quantity, share: Quantity) -> Quantity:
    """The cost of one usable image; its interval is that of the share, and open where that holds 0."""
    if cost.value is None or not share.value:
        words = cost.text or share.text or "none is usable"
        return Quantity(text=words, note=cost.note)
    low = cost.value / share.high if share.high else None
    high = None if share.low is None else cost.value / share.low if share.low else math.inf
    value = cost.value / share.value
    return Quantity(value, low, high, share.n, cost.unit, "estimated", note=share.note)


@dataclass(frozen=True)
class ArmCost:
    """An arm with synthetic images: its gain in macro-F1, and what its images cost.

    By unit, and with the fine-tuning, which must be paid whole however few images an arm takes:
    `thousand` is the cost of 1,000 images, `images` that of all its synthetic images, `per_point`
    that of these over the points (0.01 of macro-F1) that it gains.
    """

    arm: Arm
    gain: Interval
    word: str
    per_thousand: Mapping[Unit, Quantity]
    all_images: Mapping[Unit, Quantity]
    per_f1_point: Mapping[Unit, Quantity]

    @property
    def gain_quantity(self) -> Quantity:
        """The gain as a cell."""
        return Quantity.from_interval(self.gain, "F1")


def arm_costs(content: Content) -> list[ArmCost]:
    """One for each arm of all real images that a generator has a part in, controls left out."""
    price = content.machine_usd_per_hour
    pools = {pool.generator: compute_costs(pool, price) for pool in content.pools}
    nothing = Quantity(text=NOT_MEASURED)
    unknown = dict.fromkeys(UNITS, PoolCost(nothing, nothing, nothing))
    return [
        _arm_cost(arm, pools.get(arm.generator, unknown))
        for arm in arm_groups.sort_arms(content.arms)
        if arm.synthetic_fraction > 0
        and not arm_groups.group_key(arm)
        and findings.PRIMARY_METRIC in arm.gains_over_real
    ]


def _arm_cost(arm: Arm, costs_by_unit: Mapping[Unit, PoolCost]) -> ArmCost:
    gain = arm.gains_over_real[findings.PRIMARY_METRIC]
    word = verdicts.classify_difference(gain, p_holm=arm.p_holm)
    thousand = {unit: cost.for_images(1000) for unit, cost in costs_by_unit.items()}
    images = {
        unit: replace(cost.for_images(arm.synthetic_images), n=None, note="")
        for unit, cost in costs_by_unit.items()
    }
    per_point = {unit: _cost_per_f1_point(cost, gain, word) for unit, cost in images.items()}
    return ArmCost(arm, gain, word, thousand, images, per_point)


def _cost_per_f1_point(cost: Quantity, gain: Interval, word: str) -> Quantity:
    if word != verdicts.BETTER:
        return Quantity(text=NO_GAIN if word != verdicts.NOT_COMPARED else verdicts.NOT_COMPARED)
    if cost.value is None:
        return cost
    value, low, high = (cost.value / (100 * g) for g in (gain.value, gain.high, gain.low))
    return replace(cost, value=value, low=low, high=high, n=gain.n)


def cheapest_gain(costs: Sequence[ArmCost]) -> verdicts.Verdict | None:
    """Which of the arms that gain has the cheapest images; None where nothing was compared."""
    compared = [point for point in costs if point.word != verdicts.NOT_COMPARED]
    if not compared:
        return None
    gaining = [point for point in compared if point.word == verdicts.BETTER]
    if not gaining:
        return verdicts.Verdict(
            NO_GAIN, "no generator shows a gain over real images, so there is no cost of a gain"
        )
    unit = max(
        _PREFERRED_UNITS,
        key=lambda unit: sum(p.all_images[unit].value is not None for p in gaining),
    )
    known_of = [point for point in gaining if point.all_images[unit].value is not None]
    others = [point.arm.generator for point in gaining if point not in known_of]
    names = ", ".join(dict.fromkeys(others))
    if not known_of:
        return verdicts.Verdict("gain", f"a gain is shown for {names}, but its cost is not known")
    missing = f"; the cost of the images of {names} is not known" if names else ""
    return verdicts.Verdict("gain", _describe_cheapest_gain(known_of, unit) + missing)


_PREFERRED_UNITS: tuple[Unit, ...] = ("USD", "s")


def _describe_cheapest_gain(gaining: Sequence[ArmCost], unit: Unit) -> str:
    best = min(gaining, key=lambda point: point.all_images[unit].value or 0.0)
    cost, per_point = best.all_images[unit], best.per_f1_point[unit]
    said = (
        f"the cheapest gain shown is that of {best.arm.name}: macro-F1 "
        f"{verdicts.format_difference(best.gain)} "
        f"for {format_quantity(cost.value, unit)} ({best.arm.synthetic_images} synthetic images), "
        f"or {format_quantity(per_point.value, unit)} per 0.01 of macro-F1"
    )
    over = best.arm.over_duplicates
    gain = over.differences.get(findings.PRIMARY_METRIC)
    if (
        gain is not None
        and verdicts.classify_difference(gain, p_holm=over.p_holm) != verdicts.BETTER
    ):
        said += ", but repeated real images, which cost nothing, are not shown to do worse"
    return said
