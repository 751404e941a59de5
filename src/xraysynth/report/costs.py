"""What images cost: time, dollars and energy, per image, per usable image and per point of macro-F1."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from xraysynth.evaluation.metrics.statistics import Interval
from xraysynth.generation.generators.base import ARCHIVE, SERVICES
from xraysynth.generation.ledger import Ledger
from xraysynth.report import arm_groups, findings, verdicts
from xraysynth.report.content import Arm, Content, PoolView
from xraysynth.report.formatting import known, quantity

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
    words: str = ""
    note: str = ""

    @classmethod
    def of(cls, value: Any, unit: str, *, how: str = "measured", **more: Any) -> "Quantity":
        """A number from a record, or that it was not measured."""
        if not known(value):
            return cls(words=NOT_MEASURED)
        return cls(float(value), unit=unit, how=how, **more)

    @classmethod
    def between(cls, found: Interval | None, unit: str, *, note: str = "") -> "Quantity":
        """A measured number with its interval."""
        if found is None or not known(found.value):
            return cls(words=NOT_MEASURED)
        return cls(found.value, found.low, found.high, found.n, unit, "measured", note=note)

    def times(self, factor: float, **changes: Any) -> "Quantity":
        """So much more of it; words stay what they are."""
        if self.value is None:
            return self
        low, high = (None if end is None else end * factor for end in (self.low, self.high))
        return replace(self, value=self.value * factor, low=low, high=high, **changes)


@dataclass(frozen=True)
class Spent:
    """What a pool took of one unit.

    `drawing` is the cost of an image, and `teaching` that of the fine-tuning, which is paid once.
    `total` is the cost of an image of this study's pool, with its part of the fine-tuning.
    """

    drawing: Quantity
    teaching: Quantity
    total: Quantity

    def of(self, images: int) -> Quantity:
        """The cost of a number of images: drawing each of them, and the fine-tuning whole."""
        if self.teaching.value is None or self.drawing.value is None:
            return self.total.times(images)  # nothing is fine-tuned here, or the words that say why
        drawn = self.drawing.times(images)
        return replace(drawn, value=(drawn.value or 0.0) + self.teaching.value)


def spent(pool: PoolView, usd_per_hour: float | None) -> dict[Unit, Spent]:
    """What the images of a pool and its fine-tuning cost, by unit."""
    teaching = _teaching(pool)
    seconds = _spent(pool, "s", pool.ledger.seconds_per_image, teaching.seconds)
    per_thousand = pool.ledger.energy_kwh_per_1000
    energy = _spent(
        pool,
        "kWh",
        None if per_thousand is None else per_thousand / 1000,
        teaching.energy_kwh,
        how=_method(pool),
    )
    if pool.card.access in SERVICES:
        nothing = Quantity(words=NOT_MEASURED, note="the service does not say")
        energy = Spent(nothing, energy.teaching, nothing)
    return {"s": seconds, "USD": _dollars(pool, seconds, usd_per_hour), "kWh": energy}


def _spent(
    pool: PoolView,
    unit: Unit,
    drawing: float | None,
    teaching: float | None,
    *,
    how: str = "measured",
) -> Spent:
    if pool.card.access == ARCHIVE:
        nothing = Quantity(words=NOT_MEASURED, note="made before this study")
        return Spent(nothing, Quantity(words=NOT_APPLICABLE), nothing)
    images = int(pool.ledger.images or 0)
    each = Quantity.of(drawing, unit, how=how, n=images)
    if not pool.taught:
        elsewhere = bool(pool.ledger.trained_parameters)
        note = "fine-tuning, done elsewhere, is not in it" if elsewhere else ""
        words = NOT_MEASURED if elsewhere else NOT_APPLICABLE
        return Spent(each, Quantity(words=words), replace(each, note=note))
    once = Quantity.of(teaching, unit, how=how)
    if each.value is None or once.value is None or not images:
        return Spent(each, once, Quantity(words=NOT_MEASURED))
    total = Quantity.of(each.value + once.value / images, unit, how=how, n=images)
    return Spent(each, once, total)


def _teaching(pool: PoolView) -> Ledger:
    """Of the whole fine-tuning job, loading and preparing included."""
    return pool.taught.ledger if pool.taught else Ledger()


def _method(pool: PoolView) -> str:
    method = str(pool.ledger.energy_method or "")
    return "estimated" if method.startswith("estimated") else "measured"


def _dollars(pool: PoolView, seconds: Spent, usd_per_hour: float | None) -> Spent:
    """What a service was paid; for what computes here, seconds at the price of a machine hour."""
    ledger, access = pool.ledger, pool.card.access
    paid = float(ledger.cost_usd or 0)  # None where no answer has a price
    if access in SERVICES and (paid or access != SERVICES[1]):
        return _paid(ledger, paid)
    if access == ARCHIVE:
        return seconds  # its words
    if usd_per_hour is None:
        nothing = Quantity(words=NOT_APPLICABLE, note="no price of a machine hour")
        return Spent(nothing, nothing, nothing)
    price, changes = usd_per_hour / 3600, {"unit": "USD", "how": "estimated"}
    parts = (seconds.drawing, seconds.teaching, seconds.total)
    return Spent(*(part.times(price, **changes) for part in parts))


def _paid(ledger: Ledger, paid: float) -> Spent:
    images, possible = int(ledger.images or 0), float(ledger.possible_usd or 0)
    note = f"and up to ${possible:.2f} in all possibly billed besides" if possible else ""
    known_price = images and (paid or not possible)
    # Of the images whose price is known, where the ledger says so.
    per_image = ledger.cost_usd_per_image or (paid / images if images else None)
    each = Quantity.of(per_image if known_price else None, "USD", n=images, note=note)
    return Spent(each, Quantity(words=NOT_APPLICABLE), each)


def usable(pool: PoolView) -> Quantity:
    """The share of images that show the intended class and are no copies, the mean over classes.

    Both are looked at image by image. Where copies cannot be looked for, none is subtracted. Pools
    that were measured before this was recorded have none.
    """
    share = pool.usable
    looked_for = share is not None and share.copies_looked_for
    note = "" if looked_for else "copies were not looked for"
    return Quantity.between(share, "share", note=note)


def per_usable(cost: Quantity, share: Quantity) -> Quantity:
    """The cost of one usable image; its interval is that of the share, and open where that holds 0."""
    if cost.value is None or not share.value:
        words = cost.words or share.words or "none is usable"
        return Quantity(words=words, note=cost.note)
    low = cost.value / share.high if share.high else None
    high = None if share.low is None else cost.value / share.low if share.low else math.inf
    value = cost.value / share.value
    return Quantity(value, low, high, share.n, cost.unit, "estimated", note=share.note)


@dataclass(frozen=True)
class Point:
    """An arm with synthetic images: its gain in macro-F1, and what its images cost.

    By unit, and with the fine-tuning, which must be paid whole however few images an arm takes:
    `thousand` is the cost of 1,000 images, `images` that of all its synthetic images, `per_point`
    that of these over the points (0.01 of macro-F1) that it gains.
    """

    arm: Arm
    gain: Interval
    word: str
    thousand: Mapping[Unit, Quantity]
    images: Mapping[Unit, Quantity]
    per_point: Mapping[Unit, Quantity]

    @property
    def shown_gain(self) -> Quantity:
        """The gain as a cell."""
        return Quantity.between(self.gain, "F1")


def points(content: Content) -> list[Point]:
    """One for each arm of all real images that a generator has a part in, controls left out."""
    price = content.machine_usd_per_hour
    pools = {pool.generator: spent(pool, price) for pool in content.pools}
    nothing = Quantity(words=NOT_MEASURED)
    unknown = dict.fromkeys(UNITS, Spent(nothing, nothing, nothing))
    return [
        _point(arm, pools.get(arm.generator, unknown))
        for arm in arm_groups.ordered(content.arms)
        if arm.synthetic_fraction > 0
        and not arm_groups.group(arm)
        and findings.PRIMARY in arm.difference
    ]


def _point(arm: Arm, spent: Mapping[Unit, Spent]) -> Point:
    gain = arm.difference[findings.PRIMARY]
    word = verdicts.verdict(gain, p_holm=arm.p_holm)
    thousand = {unit: cost.of(1000) for unit, cost in spent.items()}
    images = {
        unit: replace(cost.of(arm.synthetic_images), n=None, note="")
        for unit, cost in spent.items()
    }
    per_point = {unit: _per_point(cost, gain, word) for unit, cost in images.items()}
    return Point(arm, gain, word, thousand, images, per_point)


def _per_point(cost: Quantity, gain: Interval, word: str) -> Quantity:
    if word != verdicts.BETTER:
        return Quantity(words=NO_GAIN if word != verdicts.NOT_COMPARED else verdicts.NOT_COMPARED)
    if cost.value is None:
        return cost
    value, low, high = (cost.value / (100 * g) for g in (gain.value, gain.high, gain.low))
    return replace(cost, value=value, low=low, high=high, n=gain.n)


def cheapest(shown: Sequence[Point]) -> verdicts.Verdict | None:
    """Which of the arms that gain has the cheapest images; None where nothing was compared."""
    compared = [point for point in shown if point.word != verdicts.NOT_COMPARED]
    if not compared:
        return None
    gaining = [point for point in compared if point.word == verdicts.BETTER]
    if not gaining:
        return verdicts.Verdict(
            NO_GAIN, "no generator shows a gain, so no price of a gain can be named"
        )
    unit = max(_PRICES, key=lambda unit: sum(p.images[unit].value is not None for p in gaining))
    known_of = [point for point in gaining if point.images[unit].value is not None]
    others = [point.arm.generator for point in gaining if point not in known_of]
    names = ", ".join(dict.fromkeys(others))
    if not known_of:
        return verdicts.Verdict("gain", f"a gain is shown by {names}, but not what it costs")
    missing = f"; what images cost is not known of {names}" if names else ""
    return verdicts.Verdict("gain", _cheapest(known_of, unit) + missing)


_PRICES: tuple[Unit, ...] = ("USD", "s")


def _cheapest(gaining: Sequence[Point], unit: Unit) -> str:
    best = min(gaining, key=lambda point: point.images[unit].value or 0.0)
    cost, per_point = best.images[unit], best.per_point[unit]
    said = (
        f"the cheapest gain shown is that of {best.arm.name}: macro-F1 {verdicts.change(best.gain)} "
        f"for {quantity(cost.value, unit)} ({best.arm.synthetic_images} synthetic images), "
        f"{quantity(per_point.value, unit)} a point of 0.01"
    )
    over = best.arm.over_duplicates
    gain = over.differences.get(findings.PRIMARY)
    if gain is not None and verdicts.verdict(gain, p_holm=over.p_holm) != verdicts.BETTER:
        said += ", but repeats of real images, which cost nothing, are not shown to do worse"
    return said
