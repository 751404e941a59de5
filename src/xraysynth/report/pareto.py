"""What arms gain against what their images cost, and which of them no other beats."""

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
_LABEL_GAP = 0.19
"""Inches between two labels."""


def plottable_costs(costs: Sequence[ArmCost], unit: Unit) -> list[ArmCost]:
    """The points that have a place: with a gain, and a cost above 0, which is no place on a log axis."""
    return [
        p for p in costs if math.isfinite(p.gain.value) and (p.per_thousand[unit].value or 0) > 0
    ]


def pareto_front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Places of the (cost, gain) that no other beats: none costs as little and gains as much.

    Real images alone cost nothing and gain 0, so that what does not gain is beaten.

    >>> pareto_front([(1, 0.1), (2, 0.3), (3, 0.2), (0.5, -0.1)])
    [0, 1]
    """

    def beaten(cost: float, gain: float) -> bool:
        return any(c <= cost and g >= gain and (c, g) != (cost, gain) for c, g in points)

    return [n for n, (cost, gain) in enumerate(points) if gain > 0 and not beaten(cost, gain)]


def draw_pareto_plot(costs: Sequence[ArmCost], generators: Sequence[str], unit: Unit) -> str:
    """Gain in macro-F1 with its interval against the cost of 1,000 images, the front as a step line.

    The cost has the fine-tuning in it, once and whole.
    """
    shown = plottable_costs(costs, unit)
    at = [(point.per_thousand[unit].value or 0.0, point.gain.value) for point in shown]
    best = pareto_front(at)
    height = max(3.3, 0.9 + _LABEL_GAP * len(shown))
    right = 0.04 + 0.0165 * max(len(_short_name(point)) for point in shown)
    figure, axes = drawing.create_canvas(
        height=height, left=0.19, bottom=0.55, top=0.15, right=right
    )
    axes.axhline(0, color=drawing.INK, linewidth=1)
    axes.set_xscale("log")
    _set_limits(axes, shown, [cost for cost, _ in at])
    _draw_front(axes, sorted(at[n] for n in best))
    ends = []
    for n, point in enumerate(shown):
        x = at[n][0] * 1.05 ** sum(p.arm.generator == point.arm.generator for p in shown[:n])
        _draw_arm(
            axes, x, point, arm_styles.arm_style(point.arm, generators).colour, filled=n in best
        )
        ends.append((x, point.gain.value, _short_name(point)))
    _label_arms(axes, ends, _LABEL_GAP / (height - 0.7))
    axes.set_xlabel(AXIS_LABELS[unit])
    axes.set_ylabel("Δ macro-F1 against real only")
    label = f"Gain in macro-F1 of {len(shown)} arms against {AXIS_LABELS[unit]}; {len(best)} are not beaten"
    return drawing.render_svg(figure, f"pareto-{unit}", label)


def _set_limits(axes: Any, shown: Sequence[ArmCost], costs: Sequence[float]) -> None:
    ends = [end for p in shown for end in (p.gain.low, p.gain.high, 0.0) if math.isfinite(end)]
    pad = 0.06 * max(0.02, max(ends) - min(ends))
    axes.set_ylim(min(ends) - pad, max(ends) + pad)
    axes.set_xlim(min(costs) / 1.6, max(costs) * 2)
    ticks = _log_ticks(*axes.get_xlim())
    axes.set_xticks(ticks, [format_significant(tick, 1) for tick in ticks])
    axes.minorticks_off()


def _log_ticks(low: float, high: float) -> list[float]:
    """Round numbers in between, few enough to be read."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    found: list[float] = []
    for steps in ((1, 2, 5), (1, 3), (1,)):
        found = [m * 10.0**p for p in powers for m in steps if low <= m * 10.0**p <= high]
        if len(found) <= 3:
            break
    return found[:: 1 + len(found) // 5]


def _draw_front(axes: Any, best: Sequence[tuple[float, float]]) -> None:
    if best:
        x = [axes.get_xlim()[0], *(cost for cost, _ in best), axes.get_xlim()[1]]
        y = [0.0, *(gain for _, gain in best), best[-1][1]]
        axes.step(x, y, where="post", color=drawing.MUTED, linewidth=1.4)


def _draw_arm(axes: Any, x: float, point: ArmCost, colour: str, *, filled: bool) -> None:
    gain = point.gain
    axes.plot([x, x], [gain.low, gain.high], color=colour, linewidth=1.2)
    mark = arm_styles.MARKERS.get(point.arm.mode, "o") if point.arm.synthetic_fraction < 1 else "D"
    axes.plot([x], [gain.value], mark, color=colour, mfc=colour if filled else drawing.BACKGROUND)


def _label_arms(axes: Any, ends: Sequence[tuple[float, float, str]], min_gap: float) -> None:
    """Names right of the axes, in the order of the gains, each tied to its point."""
    low, high = axes.get_ylim()
    ordered = sorted(ends, key=lambda end: end[1])
    places = spread_apart([(y - low) / (high - low) for _, y, _ in ordered], min_gap)
    thin = {"arrowstyle": "-", "color": drawing.MUTED, "linewidth": 0.5, "shrinkA": 0, "shrinkB": 4}
    for (x, y, name), place in zip(ordered, places, strict=True):
        axes.annotate(
            name,
            (x, y),
            (1.03, place),
            textcoords="axes fraction",
            va="center",
            arrowprops=thin,
            **{**drawing.TEXT_STYLE, "fontsize": 9},
        )


def spread_apart(places: Sequence[float], min_gap: float) -> list[float]:
    """Rising places in [0, 1], moved as far apart as `least`, from below and then from the top.

    >>> spread_apart([0.5, 0.5, 0.9], 0.25)
    [0.5, 0.75, 1.0]
    """
    found: list[float] = []
    for place in places:
        found.append(max(place, found[-1] + min_gap) if found else place)
    top = 1.0
    for n in reversed(range(len(found))):
        found[n] = min(found[n], top)
        top = found[n] - min_gap
    return found


def _short_name(point: ArmCost) -> str:
    """The name of an arm in at most 24 letters."""
    arm = point.arm
    mode = "" if arm.mode == "replace" else f" {arm.mode}"
    rest = " only" if arm.synthetic_fraction == 1 else f" {arm.synthetic_fraction:.0%}{mode}"
    room = 24 - len(rest)
    name = arm.generator if len(arm.generator) <= room else f"{arm.generator[: room - 1]}…"
    return name + rest
