"""Comparison of the generators: their utility, quality, speed, cost and access, side by side."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields

import pandas as pd

from xraysynth.report import costs, machines, tradeoff_columns
from xraysynth.report.content import Content
from xraysynth.report.costs import NOT_APPLICABLE, UNITS, ArmCost, Quantity, Unit

QuantityRow = tuple[str, list[Quantity]]
"""The title of a row and its quantities, one per generator."""


@dataclass(frozen=True, kw_only=True)
class TradeoffRow:
    """One number of the trade-offs; the fields are the columns of tradeoffs.csv, in order.

    Attributes:
        generator: Name of the generator.
        arm: Name of the arm; empty for numbers of a generator's images whatever their arm.
        quantity: Title of the number.
        value: The number.
        low: Lower end of its interval.
        high: Upper end of its interval.
        n: Number of images behind it.
        unit: Its unit.
        how: "measured" or "estimated".
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
    """Rows of a comparison under one title."""

    title: str
    rows: Sequence[QuantityRow]


def compare_generators(content: Content) -> list[QuantityGroup]:
    """Returns what speaks for or against each generator, in groups."""
    utility, resources, expenses, cards = [], [], [], []
    for pool in content.pools:
        utility.append(tradeoff_columns.utility_column(content, pool))
        resources.append(tradeoff_columns.resource_column(pool))
        expenses.append(tradeoff_columns.cost_column(content, pool))
        cards.append(tradeoff_columns.card_column(pool))
    return [
        QuantityGroup("Utility and quality", _table_rows(utility)),
        QuantityGroup("Time and memory", _table_rows(resources)),
        QuantityGroup("Cost", _table_rows(expenses)),
        QuantityGroup("Access and licence", _table_rows(cards)),
    ]


def ledger_details(content: Content) -> list[QuantityGroup]:
    """Returns further numbers from the generators' ledgers, in groups."""
    answers, models = [], []
    for pool in content.pools:
        answers.append(tradeoff_columns.ledger_column(pool, content.machine_usd_per_hour))
        models.append(tradeoff_columns.model_column(pool))
    return [
        QuantityGroup("Answers and time", _table_rows(answers)),
        QuantityGroup("Model", _table_rows(models)),
    ]


def machine_requirements(content: Content) -> list[QuantityGroup]:
    """Returns what is known of each generator on small machines, one group per machine."""
    groups = []
    for profile in machines.MACHINE_PROFILES:
        columns = [machines.expected_performance(pool, profile) for pool in content.pools]
        groups.append(QuantityGroup(profile.name, _table_rows(columns)))
    return groups


def _table_rows(columns: Sequence[Mapping[str, Quantity]]) -> list[QuantityRow]:
    """Returns rows from one column per generator; a title that a column lacks does not apply to it."""
    titles: dict[str, None] = {}
    for column in columns:
        titles |= dict.fromkeys(column)
    not_applicable = Quantity(text=NOT_APPLICABLE)
    rows = []
    for title in titles:
        rows.append((title, [column.get(title, not_applicable) for column in columns]))
    return rows


def units_with_costs(arm_costs: Sequence[ArmCost]) -> list[Unit]:
    """Returns the units in which the cost of some arm is known."""
    units = []
    for unit in UNITS:
        if any(cost.all_images[unit].value is not None for cost in arm_costs):
            units.append(unit)
    return units


def tradeoffs_table(content: Content) -> pd.DataFrame:
    """Returns every number of the trade-offs in a row of its own, with the columns `TRADEOFF_COLUMNS`."""
    rows = [*_generator_rows(content), *_arm_rows(content)]
    dtypes = dict.fromkeys(["value", "low", "high"], "float64") | {"n": "Int64"}
    return pd.DataFrame(rows, columns=TRADEOFF_COLUMNS).astype(dtypes)


def _generator_rows(content: Content) -> Iterator[TradeoffRow]:
    """Yields every number that belongs to a generator's images."""
    for group in (*compare_generators(content), *ledger_details(content)):
        for title, cells in group.rows:
            yield from _rows_by_generator(content, title, cells)
    for group in machine_requirements(content):
        for title, cells in group.rows:
            yield from _rows_by_generator(content, f"{group.title}: {title}", cells)


def _rows_by_generator(
    content: Content, title: str, quantities: Sequence[Quantity]
) -> Iterator[TradeoffRow]:
    """Yields the numbers of one row of a comparison, generator by generator."""
    for pool, quantity in zip(content.pools, quantities, strict=True):
        yield from _quantity_rows(quantity, title, pool.generator)


def _arm_rows(content: Content) -> Iterator[TradeoffRow]:
    """Yields gains and costs of the arms."""
    for cost in costs.arm_costs(content):
        generator, arm = cost.arm.generator, cost.arm.name
        yield from _quantity_rows(cost.gain_quantity, "macro-F1 over real only", generator, arm)
        for unit, name in UNITS.items():
            title = f"synthetic images, {name}"
            yield from _quantity_rows(cost.all_images[unit], title, generator, arm)
            title = f"a point of macro-F1, {name}"
            yield from _quantity_rows(cost.per_f1_point[unit], title, generator, arm)


def _quantity_rows(
    quantity: Quantity, title: str, generator: str, arm: str = ""
) -> Iterator[TradeoffRow]:
    """Yields one row for a number, and none for words."""
    if quantity.value is not None:
        yield TradeoffRow(
            generator=generator,
            arm=arm,
            quantity=title,
            value=quantity.value,
            low=quantity.low,
            high=quantity.high,
            n=quantity.n,
            unit=quantity.unit,
            how=quantity.how,
        )
