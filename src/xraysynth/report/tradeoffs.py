"""The generators side by side: what they are good for, what they cost, and how they can be had."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace

import pandas as pd

from xraysynth.generation.generators.base import FineTuning
from xraysynth.generation.pool import FINAL
from xraysynth.report import arm_groups, costs, findings, machines, verdicts
from xraysynth.report.content import Arm, Content, PoolView
from xraysynth.report.costs import NOT_APPLICABLE, NOT_MEASURED, UNITS, Point, Quantity, Unit
from xraysynth.report.formatting import known, percent

ACCESS = {
    "title": "what it is",
    "access": "access",
    "licence": "licence",
    "offline": "offline",
    "seeds_reproducible": "seeds reproducible",
    "prompt_control": "prompt control",
    "fine_tunable": "fine-tunable",
    "hardware": "hardware",
    "set_up": "set-up",
    "price": "price",
}
"""Fields of a generator's card, with their titles."""

MODEL = {
    "parameters": ("parameters", "count"),
    "trained_parameters": ("parameters fine-tuned", "count"),
    "bytes_on_disk": ("weights on disk", "MB"),
    "device": ("device", ""),
    "engine": ("engine", ""),
    "dtype": ("precision", ""),
    "steps": ("denoising steps", "count"),
    "energy_method": ("energy is", ""),
}
"""Entries of a ledger on the model, with their titles and units; without a unit they are words."""

Row = tuple[str, list[Quantity]]


@dataclass(frozen=True, kw_only=True)
class TradeoffRow:
    """A number of the trade-offs; its fields are the columns of tradeoffs.csv, in order.

    `arm` is empty for what belongs to a generator's images, whatever their arm.
    """

    generator: str
    arm: str = ""
    quantity: str
    value: float
    low: float | None
    high: float | None
    n: int | None
    unit: str
    how: str


COLUMNS = [item.name for item in fields(TradeoffRow)]


@dataclass(frozen=True)
class Group:
    """Rows of the table under one title, each with a quantity per generator."""

    title: str
    rows: Sequence[Row]


def side_by_side(content: Content) -> list[Group]:
    """What speaks for or against each generator, in groups."""
    pools = content.pools
    return [
        Group("Are its images of use?", _rows([_use(content, pool) for pool in pools])),
        Group("What did it take?", _rows([_takes(pool) for pool in pools])),
        Group("What did it cost?", _rows([_cost(content, pool) for pool in pools])),
        Group("How can it be had?", _rows([_card(pool) for pool in pools])),
    ]


def in_detail(content: Content) -> list[Group]:
    """What else the ledgers say."""
    price, pools = content.machine_usd_per_hour, content.pools
    return [
        Group("Answers and time", _rows([_detail(pool, price) for pool in pools])),
        Group("Model", _rows([_model(pool) for pool in pools])),
    ]


def _rows(found: Sequence[Mapping[str, Quantity]]) -> list[Row]:
    names = list(dict.fromkeys(name for one in found for name in one))
    nothing = Quantity(words=NOT_APPLICABLE)
    return [(name, [one.get(name, nothing) for one in found]) for name in names]


def _use(content: Content, pool: PoolView) -> dict[str, Quantity]:
    """Utility, quality, faithfulness and copies."""
    hybrids, alone = findings.own_arms(arm_groups.ordered(content.arms), pool.generator)
    distance = findings.first_measure(pool, ("FD(", "FID"))
    return {
        "macro-F1 over real only, best hybrid": _gain(hybrids),
        "macro-F1 over real only, synthetic only": _gain(alone),
        "distance from real images, beyond that among them": Quantity.between(
            distance.excess if distance else None,
            "",
            note=f"{distance.metric}, lower is better" if distance else "",
        ),
        "of the intended class": _faithful(pool, len(content.classes)),
        "flagged as copies": _copies(pool),
        "usable": costs.usable(pool),
    }


def _gain(arms: Sequence[Arm]) -> Quantity:
    compared = [arm for arm in arms if findings.PRIMARY in arm.difference]
    if not compared:
        return Quantity(words=NOT_MEASURED)
    best = max(compared, key=findings.gain)
    gain = best.difference[findings.PRIMARY]
    note = verdicts.verdict(gain, p_holm=best.p_holm)
    if best.synthetic_fraction < 1:
        note = f"{best.synthetic_fraction:.0%} ({best.mode}), {note}"
    return Quantity.between(gain, "F1", note=note)


def _faithful(pool: PoolView, classes: int) -> Quantity:
    seen = findings.overall_fidelity(pool)
    if seen is None:
        return Quantity(words=NOT_MEASURED)
    note = f"chance {percent(1 / classes)}"
    if known(seen.real):
        note = f"real images {percent(seen.real)}, {note}"
    return Quantity.between(seen, "share", note=note)


def _copies(pool: PoolView) -> Quantity:
    if pool.assessable:
        return Quantity(
            words="not assessable", note=pool.assessable.removesuffix(": not assessable")
        )
    return Quantity.between(findings.first_measure(pool, ("memorised",)), "share")


def _takes(pool: PoolView) -> dict[str, Quantity]:
    """Refusals, latency, throughput and memory."""
    return {"refused": _refused(pool)} | machines.here(pool)


def _refused(pool: PoolView) -> Quantity:
    """The share of answers that were a refusal: what failed before an answer came says nothing."""
    answered = sum(pool.outcomes.get(outcome, 0) for outcome in FINAL)
    share = pool.outcomes.get("refused", 0) / answered if answered else None
    return Quantity.of(share, "share", n=answered)


def _cost(content: Content, pool: PoolView) -> dict[str, Quantity]:
    """In each unit of 1,000 images, of the fine-tuning in them, and of one image that is usable."""
    spent, share = costs.spent(pool, content.machine_usd_per_hour), costs.usable(pool)
    others = _taught_together(content, pool)
    rows: dict[str, Quantity] = {}
    for unit, name in UNITS.items():
        teaching = spent[unit].teaching
        if others and teaching.value is not None:
            teaching = replace(teaching, note=f"paid once for this and {', '.join(others)}")
        rows[f"1,000 images, {name}"] = spent[unit].of(1000)
        rows[f"fine-tuning, once, {name}"] = teaching
        rows[f"one usable image, {name}"] = costs.per_usable(spent[unit].total, share)
    return rows


def _taught_together(content: Content, pool: PoolView) -> list[str]:
    """The other generators that draw with the weights of the same fine-tuning."""
    weights = pool.taught.weights if pool.taught else ""
    return [
        other.generator
        for other in content.pools
        if weights and other is not pool and other.taught and other.taught.weights == weights
    ]


def _detail(pool: PoolView, usd_per_hour: float | None) -> dict[str, Quantity]:
    """Answers by outcome, requests, and 1,000 images without the fine-tuning."""
    ledger, spent = pool.ledger, costs.spent(pool, usd_per_hour)
    taught = pool.taught or FineTuning()
    named = {"image": "images", "possibly_billed": "possibly billed"}
    answers = [f"{count} {named.get(name, name)}" for name, count in pool.outcomes.items()]
    found = {
        "answers": Quantity(words=", ".join(answers) or NOT_MEASURED),
        "requests, retries included": Quantity.of(ledger.attempts, "count"),
        "time per image, 95th percentile": Quantity.of(ledger.seconds_p95, "s"),
        "loading the model": Quantity.of(ledger.load_seconds, "s"),
        "possibly billed besides": Quantity.of(ledger.possible_usd or None, "USD"),
        "fine-tuning, steps": Quantity.of(taught.steps, "count"),
        "fine-tuning, peak memory": machines.peak(taught.ledger),
        **{
            f"1,000 images without fine-tuning, {name}": spent[unit].drawing.times(1000)
            for unit, name in UNITS.items()
        },
    }
    if not pool.taught:
        gone = [name for name in found if name.startswith("fine-tuning")]
        found |= dict.fromkeys(gone, Quantity(words=NOT_APPLICABLE))
    return found


def _card(pool: PoolView) -> dict[str, Quantity]:
    card, said = asdict(pool.card), {True: "yes", False: "no"}
    return {
        title: Quantity(words=str(said.get(card[name], card[name])))
        for name, title in ACCESS.items()
    }


def _model(pool: PoolView) -> dict[str, Quantity]:
    values = pool.ledger.known
    if pool.ledger.bytes_on_disk is not None:
        values["bytes_on_disk"] = pool.ledger.bytes_on_disk / 1e6
    return {
        title: Quantity.of(values[name], unit) if unit else Quantity(words=str(values[name]))
        for name, (title, unit) in MODEL.items()
        if name in values
    }


def on_machines(content: Content) -> list[Group]:
    """What is known of each generator on small machines."""
    return [
        Group(profile.name, _rows([machines.on(pool, profile) for pool in content.pools]))
        for profile in machines.PROFILES
    ]


def units(points: Sequence[Point]) -> list[Unit]:
    """Of which some cost is known."""
    return [unit for unit in UNITS if any(p.images[unit].value is not None for p in points)]


def table(content: Content) -> pd.DataFrame:
    """Every number of the trade-offs in a row of its own, columns `COLUMNS`."""
    rows = [*_of_generators(content), *_of_arms(content)]
    numbers = dict.fromkeys(["value", "low", "high"], "float64") | {"n": "Int64"}
    return pd.DataFrame(rows, columns=COLUMNS).astype(numbers)


def _of_generators(content: Content) -> Iterator[TradeoffRow]:
    for group in (*side_by_side(content), *in_detail(content)):
        for title, cells in group.rows:
            yield from _of_each(content, title, cells)
    for group in on_machines(content):
        for title, cells in group.rows:
            yield from _of_each(content, f"{group.title}: {title}", cells)


def _of_each(content: Content, title: str, cells: Sequence[Quantity]) -> Iterator[TradeoffRow]:
    for pool, cell in zip(content.pools, cells, strict=True):
        yield from _row(cell, title, pool.generator)


def _of_arms(content: Content) -> Iterator[TradeoffRow]:
    for point in costs.points(content):
        generator, arm = point.arm.generator, point.arm.name
        yield from _row(point.shown_gain, "macro-F1 over real only", generator, arm)
        for unit, name in UNITS.items():
            yield from _row(point.images[unit], f"synthetic images, {name}", generator, arm)
            cost = point.per_point[unit]
            yield from _row(cost, f"a point of macro-F1, {name}", generator, arm)


def _row(cell: Quantity, title: str, generator: str, arm: str = "") -> Iterator[TradeoffRow]:
    """A row of what is a number."""
    if cell.value is not None:
        yield TradeoffRow(
            generator=generator,
            arm=arm,
            quantity=title,
            value=cell.value,
            low=cell.low,
            high=cell.high,
            n=cell.n,
            unit=cell.unit,
            how=cell.how,
        )
