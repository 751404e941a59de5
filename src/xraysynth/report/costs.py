"""What images cost: time, dollars and energy, per image, per usable image and per point of macro-F1."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from xraysynth.evaluation.metrics.statistics import Interval
from xraysynth.generation.generators.base import ARCHIVE, SERVICES
from xraysynth.generation.ledger import Ledger
from xraysynth.report import arm_groups, findings, verdicts
from xraysynth.report.content import Arm, Content, PoolResults
from xraysynth.report.formatting import is_finite

Unit = Literal["s", "USD", "kWh"]

UNITS: dict[Unit, str] = {"s": "time", "USD": "dollars", "kWh": "energy"}
"""The units of a cost in order, each with its name."""

NOT_MEASURED, NOT_APPLICABLE, NO_GAIN = "not measured", "not applicable", "no gain shown"


@dataclass(frozen=True)
class Quantity:
    """A number, or the words in its place.

    Attributes:
        value: The number; None where `text` stands in its place.
        low: Lower end of its interval.
        high: Upper end of its interval.
        n: Number of images behind it.
        unit: Its unit, as in `formatting.format_quantity`.
        how: "measured" or "estimated" where there is a number.
        text: The words, where there is no number.
        note: What the number was measured on or estimated from.
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
        """Returns a number from a record, or "not measured" if it is missing or not finite.

        Args:
            value: The number in a record, which may be None or NaN.
            unit: Its unit.
            how: "measured" or "estimated".
            **options: Further fields of the quantity.
        """
        if not is_finite(value):
            return cls(text=NOT_MEASURED)
        return cls(float(value), unit=unit, how=how, **options)

    @classmethod
    def from_interval(cls, interval: Interval | None, unit: str, *, note: str = "") -> "Quantity":
        """Returns a measured number with its interval, or "not measured".

        Args:
            interval: The number with its interval; None where it was not measured.
            unit: Its unit.
            note: What it was measured on.
        """
        if interval is None or not is_finite(interval.value):
            return cls(text=NOT_MEASURED)
        return cls(
            interval.value, interval.low, interval.high, interval.n, unit, "measured", note=note
        )

    def scale_by(self, factor: float, **changes: Any) -> "Quantity":
        """Returns the number and its interval times a factor; words stay as they are.

        Args:
            factor: The factor.
            **changes: Fields that get another value, such as the unit.
        """
        if self.value is None:
            return self
        low = None if self.low is None else self.low * factor
        high = None if self.high is None else self.high * factor
        return replace(self, value=self.value * factor, low=low, high=high, **changes)


@dataclass(frozen=True)
class PoolCost:
    """What a pool cost in one unit.

    Attributes:
        generation: Cost of one image without the fine-tuning.
        finetuning: Cost of the whole fine-tuning, which is paid once.
        total: Cost of one image of this study's pool, with its part of the fine-tuning.
    """

    generation: Quantity
    finetuning: Quantity
    total: Quantity

    def for_images(self, images: int) -> Quantity:
        """Returns the cost of a number of images, with the fine-tuning in full."""
        if self.finetuning.value is None or self.generation.value is None:
            # Nothing is fine-tuned, or the total says in words why the cost is not known.
            return self.total.scale_by(images)
        generation = self.generation.scale_by(images)
        return replace(generation, value=(generation.value or 0.0) + self.finetuning.value)


def compute_costs(pool: PoolResults, usd_per_hour: float | None) -> dict[Unit, PoolCost]:
    """Returns what the images of a pool and its fine-tuning cost, by unit.

    Args:
        pool: The images with their ledger.
        usd_per_hour: Price of an hour of the machine that made the images; None if it was not set.
    """
    finetuning = _finetuning_ledger(pool)
    seconds = _unit_cost(pool, "s", pool.ledger.seconds_per_image, finetuning.seconds)
    kwh_per_1000 = pool.ledger.energy_kwh_per_1000
    energy = _unit_cost(
        pool,
        "kWh",
        None if kwh_per_1000 is None else kwh_per_1000 / 1000,
        finetuning.energy_kwh,
        how=_energy_provenance(pool),
    )
    if pool.card.access in SERVICES:
        unknown = Quantity(text=NOT_MEASURED, note="not reported by the service")
        energy = PoolCost(unknown, energy.finetuning, unknown)
    return {"s": seconds, "USD": _dollar_cost(pool, seconds, usd_per_hour), "kWh": energy}


def _unit_cost(
    pool: PoolResults,
    unit: Unit,
    generation: float | None,
    finetuning: float | None,
    *,
    how: str = "measured",
) -> PoolCost:
    """Returns the cost in one unit, from that of one image and that of the whole fine-tuning."""
    if pool.card.access == ARCHIVE:
        unknown = Quantity(text=NOT_MEASURED, note="made before this study")
        return PoolCost(unknown, Quantity(text=NOT_APPLICABLE), unknown)
    images = int(pool.ledger.images or 0)
    per_image = Quantity.from_value(generation, unit, how=how, n=images)
    if not pool.finetuning:
        return _cost_without_finetuning(pool, per_image)
    once = Quantity.from_value(finetuning, unit, how=how)
    if per_image.value is None or once.value is None or not images:
        return PoolCost(per_image, once, Quantity(text=NOT_MEASURED))
    total = Quantity.from_value(per_image.value + once.value / images, unit, how=how, n=images)
    return PoolCost(per_image, once, total)


def _cost_without_finetuning(pool: PoolResults, per_image: Quantity) -> PoolCost:
    """Returns the cost of a pool whose weights this study did not fine-tune."""
    if pool.ledger.trained_parameters:
        note = "without the fine-tuning, which was done elsewhere"
        return PoolCost(per_image, Quantity(text=NOT_MEASURED), replace(per_image, note=note))
    return PoolCost(per_image, Quantity(text=NOT_APPLICABLE), replace(per_image, note=""))


def _finetuning_ledger(pool: PoolResults) -> Ledger:
    """Returns the ledger of the whole fine-tuning job, which includes loading and preparing."""
    return pool.finetuning.ledger if pool.finetuning else Ledger()


def _energy_provenance(pool: PoolResults) -> str:
    """Returns whether the energy of a pool was "measured" or "estimated"."""
    method = str(pool.ledger.energy_method or "")
    return "estimated" if method.startswith("estimated") else "measured"


def _dollar_cost(pool: PoolResults, seconds: PoolCost, usd_per_hour: float | None) -> PoolCost:
    """Returns the price that a service reported, or the time at the price of a machine hour."""
    ledger, access = pool.ledger, pool.card.access
    paid_usd = float(ledger.cost_usd or 0)  # None where no answer has a price
    if access in SERVICES and (paid_usd or access != SERVICES[1]):
        return _service_cost(ledger, paid_usd)
    if access == ARCHIVE:
        return seconds  # it holds words and no number
    if usd_per_hour is None:
        unknown = Quantity(text=NOT_APPLICABLE, note="the price of a machine hour was not set")
        return PoolCost(unknown, unknown, unknown)
    usd_per_second = usd_per_hour / 3600
    return PoolCost(
        seconds.generation.scale_by(usd_per_second, unit="USD", how="estimated"),
        seconds.finetuning.scale_by(usd_per_second, unit="USD", how="estimated"),
        seconds.total.scale_by(usd_per_second, unit="USD", how="estimated"),
    )


def _service_cost(ledger: Ledger, paid_usd: float) -> PoolCost:
    """Returns the price that a service reported with its answers, per image."""
    images, possible_usd = int(ledger.images or 0), float(ledger.possible_usd or 0)
    note = ""
    if possible_usd:
        note = f"plus up to ${possible_usd:.2f} in total that may have been billed"
    # The ledger may know the price of a part of the images only, and then has their mean.
    per_image = ledger.cost_usd_per_image or (paid_usd / images if images else None)
    is_known = images and (paid_usd or not possible_usd)
    cost = Quantity.from_value(per_image if is_known else None, "USD", n=images, note=note)
    return PoolCost(cost, Quantity(text=NOT_APPLICABLE), cost)


def usable_share(pool: PoolResults) -> Quantity:
    """Returns the fraction of images that show the intended class and have no memorisation flag.

    It is counted image by image, as the mean over classes. Where memorisation was not assessed, no
    image is excluded for it. Pools measured by earlier versions have no such number.
    """
    share = pool.usable_share
    is_assessed = share is not None and share.copies_looked_for
    note = "" if is_assessed else "memorisation was not assessed"
    return Quantity.from_interval(share, "share", note=note)


def cost_per_usable_image(cost: Quantity, share: Quantity) -> Quantity:
    """Returns the cost of one usable image.

    Args:
        cost: The cost of one image.
        share: The fraction of images that are usable. Its interval gives that of the result, which has
            no upper end if the fraction may be 0.
    """
    if cost.value is None or not share.value:
        return Quantity(text=cost.text or share.text or "none is usable", note=cost.note)
    low = cost.value / share.high if share.high else None
    high = None
    if share.low is not None:
        high = cost.value / share.low if share.low else math.inf
    value = cost.value / share.value
    return Quantity(value, low, high, share.n, cost.unit, "estimated", note=share.note)


@dataclass(frozen=True)
class ArmCost:
    """An arm with synthetic images: its gain in macro-F1 and what its images cost, by unit.

    Every cost includes the fine-tuning in full, however few images the arm takes.

    Attributes:
        arm: The arm.
        gain: Its macro-F1 minus that of real only.
        word: The verdict on the gain, in one word.
        per_thousand: Cost of 1,000 images.
        all_images: Cost of all synthetic images of the arm.
        per_f1_point: `all_images` divided by the gain in points (0.01 of macro-F1).
    """

    arm: Arm
    gain: Interval
    word: str
    per_thousand: Mapping[Unit, Quantity]
    all_images: Mapping[Unit, Quantity]
    per_f1_point: Mapping[Unit, Quantity]

    @property
    def gain_quantity(self) -> Quantity:
        """The gain as a quantity."""
        return Quantity.from_interval(self.gain, "F1")


def arm_costs(content: Content) -> list[ArmCost]:
    """Returns the costs of the main arms with synthetic images that were compared with real only."""
    price = content.machine_usd_per_hour
    pools = {pool.generator: compute_costs(pool, price) for pool in content.pools}
    not_measured = Quantity(text=NOT_MEASURED)
    unknown = dict.fromkeys(UNITS, PoolCost(not_measured, not_measured, not_measured))
    costs = []
    for arm in arm_groups.sort_arms(content.arms):
        is_main_arm = arm.synthetic_fraction > 0 and not arm_groups.group_key(arm)
        if is_main_arm and findings.PRIMARY_METRIC in arm.gains_over_real:
            costs.append(_arm_cost(arm, pools.get(arm.generator, unknown)))
    return costs


def _arm_cost(arm: Arm, costs_by_unit: Mapping[Unit, PoolCost]) -> ArmCost:
    """Returns the gain of an arm and the cost of its synthetic images in every unit."""
    gain = arm.gains_over_real[findings.PRIMARY_METRIC]
    word = arm.over_real.primary.word
    per_thousand: dict[Unit, Quantity] = {}
    all_images: dict[Unit, Quantity] = {}
    per_f1_point: dict[Unit, Quantity] = {}
    for unit, cost in costs_by_unit.items():
        per_thousand[unit] = cost.for_images(1000)
        all_images[unit] = replace(cost.for_images(arm.synthetic_images), n=None, note="")
        per_f1_point[unit] = _cost_per_f1_point(all_images[unit], gain, word)
    return ArmCost(arm, gain, word, per_thousand, all_images, per_f1_point)


def _cost_per_f1_point(cost: Quantity, gain: Interval, word: str) -> Quantity:
    """Returns a cost divided by a gain in points; words where no gain is shown."""
    if word == verdicts.NOT_COMPARED:
        return Quantity(text=verdicts.NOT_COMPARED)
    if word != verdicts.BETTER:
        return Quantity(text=NO_GAIN)
    if cost.value is None:
        return cost
    return replace(
        cost,
        value=cost.value / (100 * gain.value),
        low=cost.value / (100 * gain.high),
        high=cost.value / (100 * gain.low),
        n=gain.n,
    )
