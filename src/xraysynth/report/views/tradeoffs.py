"""The generators side by side, what a gain costs, and what is known of small machines."""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from xraysynth.report import pareto, tradeoffs, verdicts
from xraysynth.report.content import Content
from xraysynth.report.costs import UNITS, ArmCost, Quantity, Unit
from xraysynth.report.formatting import format_quantity
from xraysynth.report.views.cells import ArmLabel, Heading, arm_label


@dataclass(frozen=True)
class QuantityCell:
    """A number with its unit, interval and N, or words in its place; without `raw` there are words."""

    text: str
    raw: str = ""
    interval: str = ""
    n: str = ""
    is_estimated: bool = False
    note: str = ""


@dataclass(frozen=True)
class ComparisonRow:
    """One quantity, generator by generator."""

    title: str
    cells: Sequence[QuantityCell]


@dataclass(frozen=True)
class ComparisonGroup:
    """Rows under one title."""

    title: str
    rows: Sequence[ComparisonRow]


@dataclass(frozen=True)
class ComparisonTable:
    """The generators side by side."""

    headings: Sequence[Heading]
    groups: Sequence[ComparisonGroup]

    @property
    def columns(self) -> int:
        """All columns."""
        return len(self.headings)


@dataclass(frozen=True)
class ArmCostRow:
    """One arm's gain, the cost of its images by unit, and what a point costs, or why it has no price."""

    arm: ArmLabel
    gain: QuantityCell
    synthetic_images: int
    costs: Sequence[QuantityCell]
    per_f1_point: Sequence[QuantityCell]
    no_price: str


@dataclass(frozen=True)
class ArmCostTable:
    """What gains cost, in the `units` of which something is known."""

    units: Sequence[str]
    rows: Sequence[ArmCostRow]

    @property
    def unit_count(self) -> int:
        """Units of which something is known."""
        return len(self.units)


@dataclass(frozen=True)
class IncompletePlot:
    """A plot without a place for some generators."""

    unit: str
    generators: str


@dataclass(frozen=True)
class CostPlots:
    """Gain against cost: the plots, and what has no place in any or in one of them."""

    figures: Sequence[Markup]
    units_without_plot: Sequence[str]
    incomplete: Sequence[IncompletePlot]


@dataclass(frozen=True)
class TradeoffsSection:
    """Compare and decide; `points` is None where no arm was compared with real only."""

    comparison: ComparisonTable
    usd_per_hour: str
    details: ComparisonTable
    arm_costs: ArmCostTable | None
    plots: CostPlots
    machines: ComparisonTable


def tradeoffs_section(
    content: Content, arm_costs: Sequence[ArmCost], generators: Sequence[str]
) -> TradeoffsSection | None:
    """The trade-offs of a study's generators; colours are those of a page with these `generators`."""
    if not content.pools:
        return None
    names = [pool.generator for pool in content.pools]
    price = content.machine_usd_per_hour
    return TradeoffsSection(
        comparison=_comparison_table(names, tradeoffs.compare_generators(content)),
        usd_per_hour="" if price is None else format_quantity(price, "USD"),
        details=_comparison_table(names, tradeoffs.ledger_details(content)),
        arm_costs=_arm_cost_table(arm_costs) if arm_costs else None,
        plots=_cost_plots(arm_costs, generators),
        machines=_comparison_table(names, tradeoffs.machine_requirements(content), is_short=True),
    )


def _comparison_table(
    generators: Sequence[str], groups: Sequence[tradeoffs.QuantityGroup], *, is_short: bool = False
) -> ComparisonTable:
    cell = _machine_cell if is_short else _quantity_cell
    shown = []
    for group in groups:
        rows = []
        for title, quantities in group.rows:
            rows.append(ComparisonRow(title, [cell(found) for found in quantities]))
        shown.append(ComparisonGroup(group.title, rows))
    columns = [Heading(name, is_text=True) for name in ("generator", *generators)]
    return ComparisonTable(columns, shown)


def _quantity_cell(amount: Quantity) -> QuantityCell:
    if amount.value is None:
        return QuantityCell(amount.text, note=amount.note)
    return QuantityCell(
        text=format_quantity(amount.value, amount.unit),
        raw=str(amount.value),
        interval=_format_interval(amount),
        n=f"N = {amount.n}" if amount.n else "",
        is_estimated=amount.how == "estimated",
        note=amount.note,
    )


def _machine_cell(amount: Quantity) -> QuantityCell:
    """How it is known stands in the note."""
    note = ", ".join(filter(None, [amount.how, amount.note]))
    if amount.value is None:
        return QuantityCell(amount.text, note=note)
    text = format_quantity(amount.value, amount.unit)
    return QuantityCell(text, str(amount.value), _format_interval(amount), note=note)


def _format_interval(amount: Quantity) -> str:
    if amount.low is None or amount.high is None:
        return ""
    return (
        f"[{format_quantity(amount.low, amount.unit)}, {format_quantity(amount.high, amount.unit)}]"
    )


def _arm_cost_table(arm_costs: Sequence[ArmCost]) -> ArmCostTable:
    units = tradeoffs.units_with_costs(arm_costs)
    return ArmCostTable(
        [UNITS[unit] for unit in units], [_arm_cost_row(point, units) for point in arm_costs]
    )


def _arm_cost_row(arm_cost: ArmCost, units: Sequence[Unit]) -> ArmCostRow:
    has_gain = arm_cost.word == verdicts.BETTER
    return ArmCostRow(
        arm=arm_label(arm_cost.arm),
        gain=_quantity_cell(arm_cost.gain_quantity),
        synthetic_images=arm_cost.arm.synthetic_images,
        costs=[_quantity_cell(arm_cost.all_images[unit]) for unit in units],
        per_f1_point=[_plain_cell(arm_cost.per_f1_point[unit]) for unit in units]
        if has_gain
        else [],
        no_price="" if has_gain or not units else arm_cost.per_f1_point["s"].text,
    )


def _plain_cell(amount: Quantity) -> QuantityCell:
    """The number with its interval alone."""
    if amount.value is None:
        return QuantityCell(amount.text)
    return QuantityCell(
        format_quantity(amount.value, amount.unit), str(amount.value), _format_interval(amount)
    )


def _cost_plots(arm_costs: Sequence[ArmCost], generators: Sequence[str]) -> CostPlots:
    missing = {unit: _generators_without_point(arm_costs, unit) for unit in UNITS}
    drawn = [unit for unit in UNITS if pareto.plottable_costs(arm_costs, unit)]
    return CostPlots(
        figures=[Markup(pareto.draw_pareto_plot(arm_costs, generators, unit)) for unit in drawn],
        units_without_plot=[name for unit, name in UNITS.items() if unit not in drawn],
        incomplete=[IncompletePlot(UNITS[unit], missing[unit]) for unit in drawn if missing[unit]],
    )


def _generators_without_point(arm_costs: Sequence[ArmCost], unit: Unit) -> str:
    """The generators whose cost has no place in a plot."""
    drawn = pareto.plottable_costs(arm_costs, unit)
    return ", ".join(dict.fromkeys(p.arm.generator for p in arm_costs if p not in drawn))
