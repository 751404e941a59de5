"""The generators side by side, what a gain costs, and what is known of small machines."""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from xraysynth.report import pareto, tradeoffs, verdicts
from xraysynth.report.content import Content
from xraysynth.report.costs import UNITS, Point, Quantity, Unit
from xraysynth.report.formatting import quantity
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
class PointRow:
    """One arm's gain, the cost of its images by unit, and what a point costs, or why it has no price."""

    arm: ArmLabel
    gain: QuantityCell
    synthetic_images: int
    costs: Sequence[QuantityCell]
    per_point: Sequence[QuantityCell]
    no_price: str


@dataclass(frozen=True)
class PointTable:
    """What gains cost, in the `units` of which something is known."""

    units: Sequence[str]
    rows: Sequence[PointRow]

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

    drawn: Sequence[Markup]
    empty: Sequence[str]
    incomplete: Sequence[IncompletePlot]


@dataclass(frozen=True)
class TradeoffsSection:
    """Compare and decide; `points` is None where no arm was compared with real only."""

    side_by_side: ComparisonTable
    usd_per_hour: str
    details: ComparisonTable
    points: PointTable | None
    plots: CostPlots
    machines: ComparisonTable


def tradeoffs_section(
    content: Content, points: Sequence[Point], generators: Sequence[str]
) -> TradeoffsSection | None:
    """The trade-offs of a study's generators; colours are those of a page with these `generators`."""
    if not content.pools:
        return None
    names = [pool.generator for pool in content.pools]
    price = content.machine_usd_per_hour
    return TradeoffsSection(
        side_by_side=_table(names, tradeoffs.side_by_side(content)),
        usd_per_hour="" if price is None else quantity(price, "USD"),
        details=_table(names, tradeoffs.in_detail(content)),
        points=_points(points) if points else None,
        plots=_plots(points, generators),
        machines=_table(names, tradeoffs.on_machines(content), short=True),
    )


def _table(
    generators: Sequence[str], groups: Sequence[tradeoffs.Group], *, short: bool = False
) -> ComparisonTable:
    cell = _short_cell if short else _cell
    shown = []
    for group in groups:
        rows = []
        for title, quantities in group.rows:
            rows.append(ComparisonRow(title, [cell(found) for found in quantities]))
        shown.append(ComparisonGroup(group.title, rows))
    columns = [Heading(name, is_text=True) for name in ("generator", *generators)]
    return ComparisonTable(columns, shown)


def _cell(found: Quantity) -> QuantityCell:
    if found.value is None:
        return QuantityCell(found.words, note=found.note)
    return QuantityCell(
        text=quantity(found.value, found.unit),
        raw=str(found.value),
        interval=_interval(found),
        n=f"N = {found.n}" if found.n else "",
        is_estimated=found.how == "estimated",
        note=found.note,
    )


def _short_cell(found: Quantity) -> QuantityCell:
    """How it is known stands in the note."""
    note = ", ".join(filter(None, [found.how, found.note]))
    if found.value is None:
        return QuantityCell(found.words, note=note)
    text = quantity(found.value, found.unit)
    return QuantityCell(text, str(found.value), _interval(found), note=note)


def _interval(found: Quantity) -> str:
    if found.low is None or found.high is None:
        return ""
    return f"[{quantity(found.low, found.unit)}, {quantity(found.high, found.unit)}]"


def _points(points: Sequence[Point]) -> PointTable:
    units = tradeoffs.units(points)
    return PointTable([UNITS[unit] for unit in units], [_point(point, units) for point in points])


def _point(point: Point, units: Sequence[Unit]) -> PointRow:
    has_gain = point.word == verdicts.BETTER
    return PointRow(
        arm=arm_label(point.arm),
        gain=_cell(point.shown_gain),
        synthetic_images=point.arm.synthetic_images,
        costs=[_cell(point.images[unit]) for unit in units],
        per_point=[_bare_cell(point.per_point[unit]) for unit in units] if has_gain else [],
        no_price="" if has_gain or not units else point.per_point["s"].words,
    )


def _bare_cell(found: Quantity) -> QuantityCell:
    """The number with its interval alone."""
    if found.value is None:
        return QuantityCell(found.words)
    return QuantityCell(quantity(found.value, found.unit), str(found.value), _interval(found))


def _plots(points: Sequence[Point], generators: Sequence[str]) -> CostPlots:
    missing = {unit: _undrawn(points, unit) for unit in UNITS}
    drawn = [unit for unit in UNITS if pareto.drawn(points, unit)]
    return CostPlots(
        drawn=[Markup(pareto.plot(points, generators, unit)) for unit in drawn],
        empty=[name for unit, name in UNITS.items() if unit not in drawn],
        incomplete=[IncompletePlot(UNITS[unit], missing[unit]) for unit in drawn if missing[unit]],
    )


def _undrawn(points: Sequence[Point], unit: Unit) -> str:
    """The generators whose cost has no place in a plot."""
    drawn = pareto.drawn(points, unit)
    return ", ".join(dict.fromkeys(p.arm.generator for p in points if p not in drawn))
