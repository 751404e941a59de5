"""The generators side by side: what they are good for, what they cost, and how they can be had."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace

import pandas as pd

from xraysynth.generation.generators.base import FineTuning
from xraysynth.generation.pool import FINAL_OUTCOMES
from xraysynth.report import arm_groups, costs, findings, machines, verdicts
from xraysynth.report.content import Arm, Content, PoolResults
from xraysynth.report.costs import NOT_APPLICABLE, NOT_MEASURED, UNITS, ArmCost, Quantity, Unit
from xraysynth.report.formatting import format_percent, is_finite

CARD_TITLES = {
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

LEDGER_FIELDS = {
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

QuantityRow = tuple[str, list[Quantity]]


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


TRADEOFF_COLUMNS = [item.name for item in fields(TradeoffRow)]


@dataclass(frozen=True)
class QuantityGroup:
    """Rows of the table under one title, each with a quantity per generator."""

    title: str
    rows: Sequence[QuantityRow]


def compare_generators(content: Content) -> list[QuantityGroup]:
    """What speaks for or against each generator, in groups."""
    pools = content.pools
    return [
        QuantityGroup(
            "Utility and quality", _table_rows([_utility_rows(content, pool) for pool in pools])
        ),
        QuantityGroup("Time and memory", _table_rows([_resource_rows(pool) for pool in pools])),
        QuantityGroup("Cost", _table_rows([_cost_rows(content, pool) for pool in pools])),
        QuantityGroup("Access and licence", _table_rows([_card_rows(pool) for pool in pools])),
    ]


def ledger_details(content: Content) -> list[QuantityGroup]:
    """What else the ledgers say."""
    price, pools = content.machine_usd_per_hour, content.pools
    return [
        QuantityGroup(
            "Answers and time", _table_rows([_ledger_rows(pool, price) for pool in pools])
        ),
        QuantityGroup("Model", _table_rows([_model_rows(pool) for pool in pools])),
    ]


def _table_rows(columns: Sequence[Mapping[str, Quantity]]) -> list[QuantityRow]:
    names = list(dict.fromkeys(name for one in columns for name in one))
    nothing = Quantity(text=NOT_APPLICABLE)
    return [(name, [one.get(name, nothing) for one in columns]) for name in names]


def _utility_rows(content: Content, pool: PoolResults) -> dict[str, Quantity]:
    """Utility, quality, faithfulness and copies."""
    hybrids, alone = findings.arms_of_generator(arm_groups.sort_arms(content.arms), pool.generator)
    distance = findings.first_measure(pool, ("FD(", "FID"))
    return {
        "macro-F1 over real only, best hybrid": _best_gain(hybrids),
        "macro-F1 over real only, synthetic only": _best_gain(alone),
        "distance from real images, beyond that among them": Quantity.from_interval(
            distance.excess if distance else None,
            "",
            note=f"{distance.metric}, lower is better" if distance else "",
        ),
        "of the intended class": _fidelity_quantity(pool, len(content.classes)),
        "flagged as copies": _memorised_share(pool),
        "usable": costs.usable_share(pool),
    }


def _best_gain(arms: Sequence[Arm]) -> Quantity:
    compared = [arm for arm in arms if findings.PRIMARY_METRIC in arm.gains_over_real]
    if not compared:
        return Quantity(text=NOT_MEASURED)
    best = max(compared, key=findings.gain_over_real)
    gain = best.gains_over_real[findings.PRIMARY_METRIC]
    note = verdicts.classify_difference(gain, p_holm=best.p_holm)
    if best.synthetic_fraction < 1:
        note = f"{best.synthetic_fraction:.0%} ({best.mode}), {note}"
    return Quantity.from_interval(gain, "F1", note=note)


def _fidelity_quantity(pool: PoolResults, classes: int) -> Quantity:
    seen = findings.overall_fidelity(pool)
    if seen is None:
        return Quantity(text=NOT_MEASURED)
    note = f"chance {format_percent(1 / classes)}"
    if is_finite(seen.real):
        note = f"real images {format_percent(seen.real)}, {note}"
    return Quantity.from_interval(seen, "share", note=note)


def _memorised_share(pool: PoolResults) -> Quantity:
    if pool.not_assessable_reason:
        return Quantity(
            text="not assessable", note=pool.not_assessable_reason.removesuffix(": not assessable")
        )
    return Quantity.from_interval(findings.first_measure(pool, ("memorised",)), "share")


def _resource_rows(pool: PoolResults) -> dict[str, Quantity]:
    """Refusals, latency, throughput and memory."""
    return {"refused": _refusal_rate(pool)} | machines.measured_performance(pool)


def _refusal_rate(pool: PoolResults) -> Quantity:
    """The share of answers that were a refusal: what failed before an answer came says nothing."""
    answered = sum(pool.outcomes.get(outcome, 0) for outcome in FINAL_OUTCOMES)
    share = pool.outcomes.get("refused", 0) / answered if answered else None
    return Quantity.from_value(share, "share", n=answered)


def _cost_rows(content: Content, pool: PoolResults) -> dict[str, Quantity]:
    """In each unit of 1,000 images, of the fine-tuning in them, and of one image that is usable."""
    spent, share = costs.compute_costs(pool, content.machine_usd_per_hour), costs.usable_share(pool)
    others = _generators_sharing_weights(content, pool)
    rows: dict[str, Quantity] = {}
    for unit, name in UNITS.items():
        teaching = spent[unit].finetuning
        if others and teaching.value is not None:
            teaching = replace(teaching, note=f"paid once for this and {', '.join(others)}")
        rows[f"1,000 images, {name}"] = spent[unit].for_images(1000)
        rows[f"fine-tuning, once, {name}"] = teaching
        rows[f"one usable image, {name}"] = costs.cost_per_usable_image(spent[unit].total, share)
    return rows


def _generators_sharing_weights(content: Content, pool: PoolResults) -> list[str]:
    """The other generators that draw with the weights of the same fine-tuning."""
    weights = pool.finetuning.weights if pool.finetuning else ""
    return [
        other.generator
        for other in content.pools
        if weights
        and other is not pool
        and other.finetuning
        and other.finetuning.weights == weights
    ]


def _ledger_rows(pool: PoolResults, usd_per_hour: float | None) -> dict[str, Quantity]:
    """Answers by outcome, requests, and 1,000 images without the fine-tuning."""
    ledger, spent = pool.ledger, costs.compute_costs(pool, usd_per_hour)
    taught = pool.finetuning or FineTuning()
    named = {"image": "images", "possibly_billed": "possibly billed"}
    answers = [f"{count} {named.get(name, name)}" for name, count in pool.outcomes.items()]
    found = {
        "answers": Quantity(text=", ".join(answers) or NOT_MEASURED),
        "requests, retries included": Quantity.from_value(ledger.attempts, "count"),
        "time per image, 95th percentile": Quantity.from_value(ledger.seconds_p95, "s"),
        "loading the model": Quantity.from_value(ledger.load_seconds, "s"),
        "possibly billed besides": Quantity.from_value(ledger.possible_usd or None, "USD"),
        "fine-tuning, steps": Quantity.from_value(taught.steps, "count"),
        "fine-tuning, peak memory": machines.peak_memory(taught.ledger),
        **{
            f"1,000 images without fine-tuning, {name}": spent[unit].generation.scale_by(1000)
            for unit, name in UNITS.items()
        },
    }
    if not pool.finetuning:
        gone = [name for name in found if name.startswith("fine-tuning")]
        found |= dict.fromkeys(gone, Quantity(text=NOT_APPLICABLE))
    return found


def _card_rows(pool: PoolResults) -> dict[str, Quantity]:
    card, said = asdict(pool.card), {True: "yes", False: "no"}
    return {
        title: Quantity(text=str(said.get(card[name], card[name])))
        for name, title in CARD_TITLES.items()
    }


def _model_rows(pool: PoolResults) -> dict[str, Quantity]:
    values = pool.ledger.known_values
    if pool.ledger.bytes_on_disk is not None:
        values["bytes_on_disk"] = pool.ledger.bytes_on_disk / 1e6
    return {
        title: Quantity.from_value(values[name], unit) if unit else Quantity(text=str(values[name]))
        for name, (title, unit) in LEDGER_FIELDS.items()
        if name in values
    }


def machine_requirements(content: Content) -> list[QuantityGroup]:
    """What is known of each generator on small machines."""
    return [
        QuantityGroup(
            profile.name,
            _table_rows([machines.expected_performance(pool, profile) for pool in content.pools]),
        )
        for profile in machines.MACHINE_PROFILES
    ]


def units_with_costs(arm_costs: Sequence[ArmCost]) -> list[Unit]:
    """Of which some cost is known."""
    return [unit for unit in UNITS if any(p.all_images[unit].value is not None for p in arm_costs)]


def tradeoffs_table(content: Content) -> pd.DataFrame:
    """Every number of the trade-offs in a row of its own, columns `COLUMNS`."""
    rows = [*_generator_rows(content), *_arm_rows(content)]
    numbers = dict.fromkeys(["value", "low", "high"], "float64") | {"n": "Int64"}
    return pd.DataFrame(rows, columns=TRADEOFF_COLUMNS).astype(numbers)


def _generator_rows(content: Content) -> Iterator[TradeoffRow]:
    for group in (*compare_generators(content), *ledger_details(content)):
        for title, cells in group.rows:
            yield from _rows_by_generator(content, title, cells)
    for group in machine_requirements(content):
        for title, cells in group.rows:
            yield from _rows_by_generator(content, f"{group.title}: {title}", cells)


def _rows_by_generator(
    content: Content, title: str, cells: Sequence[Quantity]
) -> Iterator[TradeoffRow]:
    for pool, cell in zip(content.pools, cells, strict=True):
        yield from _quantity_rows(cell, title, pool.generator)


def _arm_rows(content: Content) -> Iterator[TradeoffRow]:
    for point in costs.arm_costs(content):
        generator, arm = point.arm.generator, point.arm.name
        yield from _quantity_rows(point.gain_quantity, "macro-F1 over real only", generator, arm)
        for unit, name in UNITS.items():
            yield from _quantity_rows(
                point.all_images[unit], f"synthetic images, {name}", generator, arm
            )
            cost = point.per_f1_point[unit]
            yield from _quantity_rows(cost, f"a point of macro-F1, {name}", generator, arm)


def _quantity_rows(
    cell: Quantity, title: str, generator: str, arm: str = ""
) -> Iterator[TradeoffRow]:
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
