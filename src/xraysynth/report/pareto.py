"""Plots of the arms' gains against the cost of their images, with the Pareto front."""

import math
from collections.abc import Sequence
from typing import Any

from xraysynth.report import arm_styles, drawing
from xraysynth.report.costs import ArmCost, Unit
from xraysynth.report.formatting import format_significant

AXIS_LABELS: dict[Unit, str] = {
    "s": "seconds per 1,000 images",
    "USD": "US dollars per 1,000 images",
    "kWh": "kWh per 1,000 images",
}

MAX_NAME_LENGTH = 24
"""Number of letters of an arm's name next to a plot."""

MAX_TICKS = 5

_LABEL_GAP = 0.19
"""Inches between two names."""

Point = tuple[float, float]
"""The cost and the gain of an arm."""


def plottable_costs(costs: Sequence[ArmCost], unit: Unit) -> list[ArmCost]:
    """Returns the arms with a finite gain and a cost above 0, which the logarithmic axis can show.

    Args:
        costs: The arms with their gains and costs.
        unit: The unit of the cost.
    """
    plottable = []
    for cost in costs:
        if math.isfinite(cost.gain.value) and (cost.per_thousand[unit].value or 0) > 0:
            plottable.append(cost)
    return plottable


def pareto_front(points: Sequence[Point]) -> list[int]:
    """Returns the indices of the (cost, gain) points that no other point beats.

    A point beats another if it costs no more, gains no less, and differs from it. Real images only
    cost nothing and gain 0, so a point without a gain is beaten.

    >>> pareto_front([(1, 0.1), (2, 0.3), (3, 0.2), (0.5, -0.1)])
    [0, 1]
    """
    front = []
    for index, point in enumerate(points):
        if point[1] > 0 and not _is_beaten(point, points):
            front.append(index)
    return front


def _is_beaten(point: Point, points: Sequence[Point]) -> bool:
    """Returns whether another point costs no more and gains no less."""
    cost, gain = point
    return any(c <= cost and g >= gain and (c, g) != point for c, g in points)


def draw_pareto_plot(costs: Sequence[ArmCost], generators: Sequence[str], unit: Unit) -> str:
    """Returns the gain in macro-F1 against the cost of 1,000 images as SVG, with the front as a step line.

    Args:
        costs: The arms with their gains and costs; the fine-tuning is included in full.
        generators: All generators of the page, whose order gives their colours.
        unit: The unit of the cost.
    """
    plottable = plottable_costs(costs, unit)
    points = [(arm.per_thousand[unit].value or 0.0, arm.gain.value) for arm in plottable]
    names = [_short_name(arm) for arm in plottable]
    front = pareto_front(points)
    height = max(3.3, 0.9 + _LABEL_GAP * len(plottable))
    right = 0.04 + 0.0165 * max(map(len, names))
    figure, axes = drawing.create_canvas(
        height=height, left=0.19, bottom=0.55, top=0.15, right=right
    )
    axes.axhline(0, color=drawing.INK, linewidth=1)
    axes.set_xscale("log")
    _set_limits(axes, plottable, points)
    _draw_front(axes, sorted(points[index] for index in front))
    positions = _shift_apart(plottable, points)
    for index, arm in enumerate(plottable):
        colour = arm_styles.arm_style(arm.arm, generators).colour
        _draw_arm(axes, positions[index][0], arm, colour, filled=index in front)
    _label_arms(axes, names, positions, _LABEL_GAP / (height - 0.7))
    axes.set_xlabel(AXIS_LABELS[unit])
    axes.set_ylabel("Δ macro-F1 against real only")
    label = (
        f"Gain in macro-F1 of {len(plottable)} arms against {AXIS_LABELS[unit]}; "
        f"{len(front)} are on the Pareto front"
    )
    return drawing.render_svg(figure, f"pareto-{unit}", label)


def _shift_apart(costs: Sequence[ArmCost], points: Sequence[Point]) -> list[Point]:
    """Returns the points with those of one generator, which cost the same, shifted to the right."""
    arms_by_generator: dict[str, int] = {}
    positions = []
    for cost, (x, y) in zip(costs, points, strict=True):
        generator = cost.arm.generator
        earlier = arms_by_generator.get(generator, 0)
        arms_by_generator[generator] = earlier + 1
        positions.append((x * 1.05**earlier, y))
    return positions


def _set_limits(axes: Any, costs: Sequence[ArmCost], points: Sequence[Point]) -> None:
    """Sets the axes to hold every interval, 0 and every cost, with round ticks."""
    gains = [0.0]
    for cost in costs:
        gains += filter(math.isfinite, [cost.gain.low, cost.gain.high])
    padding = 0.06 * max(0.02, max(gains) - min(gains))
    axes.set_ylim(min(gains) - padding, max(gains) + padding)
    lowest, highest = min(points)[0], max(points)[0]
    axes.set_xlim(lowest / 1.6, highest * 2)
    ticks = _log_ticks(*axes.get_xlim())
    axes.set_xticks(ticks, [format_significant(tick, 1) for tick in ticks])
    axes.minorticks_off()


def _log_ticks(low: float, high: float) -> list[float]:
    """Returns round numbers between two limits of a logarithmic axis, few enough to be read."""
    ticks: list[float] = []
    for steps in ((1, 2, 5), (1, 3), (1,)):
        ticks = _round_numbers(low, high, steps)
        if len(ticks) <= 3:
            break
    return ticks[:: 1 + len(ticks) // MAX_TICKS]


def _round_numbers(low: float, high: float, steps: Sequence[int]) -> list[float]:
    """Returns the `steps` times every power of ten that lie between two limits, in order."""
    numbers = []
    lowest, highest = math.floor(math.log10(low)), math.ceil(math.log10(high))
    for power in range(lowest, highest + 1):
        for step in steps:
            number = step * 10.0**power
            if low <= number <= high:
                numbers.append(number)
    return numbers


def _draw_front(axes: Any, front: Sequence[Point]) -> None:
    """Draws the front from the left to the right end of the axes."""
    if not front:
        return
    left, right = axes.get_xlim()
    x, y = [left], [0.0]
    for cost, gain in [*front, (right, front[-1][1])]:
        x.append(cost)
        y.append(gain)
    axes.step(x, y, where="post", color=drawing.MUTED, linewidth=1.4)


def _draw_arm(axes: Any, x: float, cost: ArmCost, colour: str, *, filled: bool) -> None:
    """Draws the gain of an arm with its interval; a point on the front is filled."""
    gain = cost.gain
    axes.plot([x, x], [gain.low, gain.high], color=colour, linewidth=1.2)
    marker = "D"  # synthetic only
    if cost.arm.synthetic_fraction < 1:
        marker = arm_styles.MARKERS.get(cost.arm.mode, "o")
    fill = colour if filled else drawing.BACKGROUND
    axes.plot([x], [gain.value], marker, color=colour, mfc=fill)


def _label_arms(
    axes: Any, names: Sequence[str], positions: Sequence[Point], min_gap: float
) -> None:
    """Writes the names right of the axes, in the order of the gains, each with a line to its point."""
    low, high = axes.get_ylim()
    order = sorted(range(len(names)), key=lambda index: positions[index][1])
    heights = [(positions[index][1] - low) / (high - low) for index in order]
    line = {"arrowstyle": "-", "color": drawing.MUTED, "linewidth": 0.5, "shrinkA": 0, "shrinkB": 4}
    style = {**drawing.TEXT_STYLE, "fontsize": 9}
    for index, height in zip(order, spread_apart(heights, min_gap), strict=True):
        axes.annotate(
            names[index],
            positions[index],
            (1.03, height),
            textcoords="axes fraction",
            va="center",
            arrowprops=line,
            **style,
        )


def spread_apart(positions: Sequence[float], min_gap: float) -> list[float]:
    """Returns rising positions in [0, 1], moved apart so that their gaps are at least `min_gap`.

    They are moved up from the lowest one on, and then down from 1 where they left the range.

    >>> spread_apart([0.5, 0.5, 0.9], 0.25)
    [0.5, 0.75, 1.0]
    """
    spread: list[float] = []
    for position in positions:
        spread.append(max(position, spread[-1] + min_gap) if spread else position)
    limit = 1.0
    for index in reversed(range(len(spread))):
        spread[index] = min(spread[index], limit)
        limit = spread[index] - min_gap
    return spread


def _short_name(cost: ArmCost) -> str:
    """Returns the name of an arm, shortened to `MAX_NAME_LENGTH` letters."""
    arm = cost.arm
    if arm.synthetic_fraction == 1:
        suffix = " only"
    else:
        mode = "" if arm.mode == "replace" else f" {arm.mode}"
        suffix = f" {arm.synthetic_fraction:.0%}{mode}"
    room = MAX_NAME_LENGTH - len(suffix)
    name = arm.generator
    if len(name) > room:
        name = f"{name[: room - 1]}…"
    return name + suffix
