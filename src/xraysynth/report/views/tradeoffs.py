"""View of the trade-offs: generators compared, the cost of a gain, and needs on small machines."""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from xraysynth.report import pareto, tradeoffs, verdicts
from xraysynth.report.content import Content
from xraysynth.report.costs import UNITS, ArmCost, Quantity, Unit
from xraysynth.report.formatting import format_quantity
from xraysynth.report.views.cells import ArmLabel, Heading, arm_label

ROW_TITLES = {
    "distance from real images, beyond that among them": "distance above baseline",
    "of the intended class": "label fidelity",
    "flagged as copies": "flagged as memorised",
    "usable": "usable images",
    "possibly billed besides": "possibly billed in addition",
}
"""Title of a row in tradeoffs.csv -> its plainer title on the page; other titles are the same in both."""


ROW_TERMS = {
    "macro-F1 over real only, best hybrid": "macro-F1",
    "macro-F1 over real only, synthetic only": "macro-F1",
    "distance above baseline": "real-vs-real baseline",
    "label fidelity": "label fidelity",
    "flagged as memorised": "memorisation flag",
    "usable images": "usable image",
    "refused": "refusal",
}
"""The glossary's term behind the title of a row."""


@dataclass(frozen=True)
class QuantityCell:
    """A quantity as a cell.

    Attributes:
        text: The number with its unit, or words if there is no number.
        raw: The number for machines; empty if there is none.
        interval: Its interval.
        n: Its number of images.
        is_estimated: Whether it was estimated and not measured.
        note: A note below it.
    """

    text: str
    raw: str = ""
    interval: str = ""
    n: str = ""
    is_estimated: bool = False
    note: str = ""


@dataclass(frozen=True)
class ComparisonRow:
    """One quantity of each generator.

    Attributes:
        title: Title of the row.
        term: The glossary's term behind the title; empty for none.
        cells: One cell per generator.
    """

    title: str
    term: str
    cells: Sequence[QuantityCell]


@dataclass(frozen=True)
class ComparisonGroup:
    """Rows under one title."""

    title: str
    rows: Sequence[ComparisonRow]


@dataclass(frozen=True)
class ComparisonTable:
    """The generators side by side, one column per generator."""

    headings: Sequence[Heading]
    groups: Sequence[ComparisonGroup]

    @property
    def columns(self) -> int:
        """Number of columns, including that of the titles."""
        return len(self.headings)


@dataclass(frozen=True)
class ArmCostRow:
    """One arm's gain and the cost of its synthetic images.

    Attributes:
        arm: The arm.
        gain: Its macro-F1 minus the macro-F1 of real only.
        synthetic_images: Number of its synthetic images.
        costs: Their cost in each unit.
        per_f1_point: The cost per point of macro-F1 in each unit; empty where no gain is shown.
        no_price: Why there is no cost per point; empty where there is one.
    """

    arm: ArmLabel
    gain: QuantityCell
    synthetic_images: int
    costs: Sequence[QuantityCell]
    per_f1_point: Sequence[QuantityCell]
    no_price: str


@dataclass(frozen=True)
class ArmCostTable:
    """Costs of the arms in all `units` in which at least one cost is known."""

    units: Sequence[str]
    rows: Sequence[ArmCostRow]

    @property
    def unit_count(self) -> int:
        """Number of units."""
        return len(self.units)


@dataclass(frozen=True)
class IncompletePlot:
    """The generators that are missing from the plot of one unit."""

    unit: str
    generators: str


@dataclass(frozen=True)
class CostPlots:
    """Plots of gain against cost.

    Attributes:
        figures: The plots as SVG, one per unit that has one.
        units_without_plot: Units in which no cost is known.
        incomplete: Generators that are missing from a plot.
    """

    figures: Sequence[Markup]
    units_without_plot: Sequence[str]
    incomplete: Sequence[IncompletePlot]


@dataclass(frozen=True)
class TradeoffsSection:
    """The section on trade-offs.

    Attributes:
        comparison: Utility, quality, cost and access of the generators.
        usd_per_hour: Price of a machine hour; empty where it was not set.
        details: Further numbers from the ledgers.
        arm_costs: Costs of the arms; None where no arm was compared with real only.
        plots: Gain against cost.
        machines: Requirements on small machines.
    """

    comparison: ComparisonTable
    usd_per_hour: str
    details: ComparisonTable
    arm_costs: ArmCostTable | None
    plots: CostPlots
    machines: ComparisonTable


def tradeoffs_section(
    content: Content, arm_costs: Sequence[ArmCost], generators: Sequence[str]
) -> TradeoffsSection | None:
    """Returns the trade-offs of a study's generators; None where no generator made images.

    Args:
        content: The content of the page.
        arm_costs: The arms with their gains and costs.
        generators: All generators of the page, whose order gives their colours.
    """
    if not content.pools:
        return None
    names = [pool.generator for pool in content.pools]
    price = content.machine_usd_per_hour
    machine_groups = tradeoffs.machine_requirements(content)
    return TradeoffsSection(
        comparison=_comparison_table(names, tradeoffs.compare_generators(content)),
        usd_per_hour="" if price is None else format_quantity(price, "USD"),
        details=_comparison_table(names, tradeoffs.ledger_details(content)),
        arm_costs=_arm_cost_table(arm_costs) if arm_costs else None,
        plots=_cost_plots(arm_costs, generators),
        machines=_comparison_table(names, machine_groups, is_short=True),
    )


def _comparison_table(
    generators: Sequence[str], groups: Sequence[tradeoffs.QuantityGroup], *, is_short: bool = False
) -> ComparisonTable:
    """Returns groups of quantities as a table, one column per generator."""
    make_cell = _machine_cell if is_short else _quantity_cell
    table_groups = []
    for group in groups:
        rows = []
        for title, quantities in group.rows:
            cells = list(map(make_cell, quantities))
            page_title = ROW_TITLES.get(title, title)
            rows.append(ComparisonRow(page_title, ROW_TERMS.get(page_title, ""), cells))
        table_groups.append(ComparisonGroup(group.title, rows))
    headings = [Heading(name, is_text=True) for name in ("generator", *generators)]
    return ComparisonTable(headings, table_groups)


def _quantity_cell(quantity: Quantity) -> QuantityCell:
    """Returns a quantity with its interval, N and note."""
    if quantity.value is None:
        return QuantityCell(quantity.text, note=quantity.note)
    return QuantityCell(
        text=format_quantity(quantity.value, quantity.unit),
        raw=str(quantity.value),
        interval=_format_interval(quantity),
        n=f"N = {quantity.n}" if quantity.n else "",
        is_estimated=quantity.how == "estimated",
        note=quantity.note,
    )


def _machine_cell(quantity: Quantity) -> QuantityCell:
    """Returns a quantity whose note also says whether it was measured or estimated."""
    note = ", ".join(filter(None, [quantity.how, quantity.note]))
    if quantity.value is None:
        return QuantityCell(quantity.text, note=note)
    text = format_quantity(quantity.value, quantity.unit)
    return QuantityCell(text, str(quantity.value), _format_interval(quantity), note=note)


def _plain_cell(quantity: Quantity) -> QuantityCell:
    """Returns a quantity with its interval only."""
    if quantity.value is None:
        return QuantityCell(quantity.text)
    text = format_quantity(quantity.value, quantity.unit)
    return QuantityCell(text, str(quantity.value), _format_interval(quantity))


def _format_interval(quantity: Quantity) -> str:
    if quantity.low is None or quantity.high is None:
        return ""
    low = format_quantity(quantity.low, quantity.unit)
    high = format_quantity(quantity.high, quantity.unit)
    return f"[{low}, {high}]"


def _arm_cost_table(arm_costs: Sequence[ArmCost]) -> ArmCostTable:
    """Returns the costs of the arms in all units in which at least one cost is known."""
    units = tradeoffs.units_with_costs(arm_costs)
    rows = [_arm_cost_row(cost, units) for cost in arm_costs]
    return ArmCostTable([UNITS[unit] for unit in units], rows)


def _arm_cost_row(arm_cost: ArmCost, units: Sequence[Unit]) -> ArmCostRow:
    """Returns one arm with its gain and costs."""
    costs, per_f1_point = [], []
    has_gain = arm_cost.word == verdicts.BETTER
    for unit in units:
        costs.append(_quantity_cell(arm_cost.all_images[unit]))
        if has_gain:
            per_f1_point.append(_plain_cell(arm_cost.per_f1_point[unit]))
    return ArmCostRow(
        arm=arm_label(arm_cost.arm),
        gain=_quantity_cell(arm_cost.gain_quantity),
        synthetic_images=arm_cost.arm.synthetic_images,
        costs=costs,
        per_f1_point=per_f1_point,
        no_price="" if has_gain or not units else arm_cost.per_f1_point["s"].text,
    )


def _cost_plots(arm_costs: Sequence[ArmCost], generators: Sequence[str]) -> CostPlots:
    """Returns a plot of gain against cost for each unit in which some cost is known."""
    figures, units_without_plot, incomplete = [], [], []
    for unit, name in UNITS.items():
        if not pareto.plottable_costs(arm_costs, unit):
            units_without_plot.append(name)
            continue
        figures.append(Markup(pareto.draw_pareto_plot(arm_costs, generators, unit)))
        missing = _generators_without_point(arm_costs, unit)
        if missing:
            incomplete.append(IncompletePlot(name, missing))
    return CostPlots(figures, units_without_plot, incomplete)


def _generators_without_point(arm_costs: Sequence[ArmCost], unit: Unit) -> str:
    """Returns the generators with an arm that is missing from the plot of a unit."""
    plottable = pareto.plottable_costs(arm_costs, unit)
    missing = [cost.arm.generator for cost in arm_costs if cost not in plottable]
    return ", ".join(dict.fromkeys(missing))
