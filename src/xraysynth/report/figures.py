"""Figures of the arms as inline SVG."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from xraysynth.evaluation.metrics.scores import pr_band
from xraysynth.report.arm_styles import DASHES, arm_style, marker_options
from xraysynth.report.content import Arm
from xraysynth.report.drawing import BACKGROUND, INK, MUTED, TEXT_STYLE, create_canvas, render_svg

_RECALL_GRID = np.linspace(0.01, 1, 100)


def draw_differences(arms: Sequence[Arm], generators: Sequence[str], metric: str, name: str) -> str:
    """Each arm minus real-only with its interval, zero marked; controls are grey and hollow."""
    rows = [arm for arm in arms if metric in arm.gains_over_real]
    figure, axes = create_canvas(height=0.7 + 0.5 * len(rows), left=0.03, bottom=0.6, top=0.1)
    axes.axvline(0, color=INK, linewidth=1)
    for y, arm in enumerate(reversed(rows)):
        interval, colour = arm.gains_over_real[metric], arm_style(arm, generators).colour
        axes.plot([interval.low, interval.high], [y, y], color=colour, linewidth=2.2)
        marker = {"mfc": BACKGROUND} if arm.control else {}
        axes.plot([interval.value], [y], "o", color=colour, markersize=7, **marker)
        place, ground = axes.get_yaxis_transform(), {"fc": BACKGROUND, "ec": "none", "pad": 0.6}
        axes.text(0, y + 0.22, arm.name, transform=place, bbox=ground, **TEXT_STYLE)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.set_ylim(-0.5, len(rows) - 0.3)
    axes.set_xlabel(f"Δ {name} against real only")
    label = f"{name} of {len(rows)} arms minus real only, with 95% intervals"
    return render_svg(figure, "differences", label)


def draw_score_by_fraction(
    arms: Sequence[Arm], generator: str, generators: Sequence[str], metric: str, name: str
) -> str:
    """One generator's score against synthetic share: band, mean and every seed, by mode.

    Controls of the same shares are grey, hollow dots without a line.
    """
    figure, axes = create_canvas(height=3.1, left=0.14, bottom=0.55, top=0.12, right=0.19)
    baseline = [arm for arm in arms if arm.synthetic_fraction == 0]
    mixed = [arm for arm in arms if arm.synthetic_fraction > 0]
    own = [arm for arm in mixed if arm.generator == generator and not arm.control]
    controls = [arm for arm in mixed if arm.control and arm.generator in ("", generator)]
    for arm in baseline:
        axes.axhline(arm.scores[metric].value, color=INK, linewidth=1, linestyle=(0, (2, 2)))
        _draw_seeds(axes, arm, INK, metric)
    modes = list(dict.fromkeys(arm.mode for arm in own if arm.synthetic_fraction < 1)) or [
        own[0].mode
    ]
    ends = []
    for mode in modes:
        line = baseline + sorted(
            (a for a in own if a.mode == mode), key=lambda a: a.synthetic_fraction
        )
        ends.append(_draw_mode(axes, line, mode, arm_style(own[0], generators).colour, metric))
    for arm in own:
        if arm.mode not in modes:  # synthetic only, beside hybrids of other modes
            _draw_seeds(axes, arm, arm_style(arm, generators).colour, metric)
    for arm in controls:
        _draw_point(axes, arm.synthetic_fraction + 0.02, arm, MUTED, metric)
    shares = sorted({arm.synthetic_fraction for arm in baseline + own})
    axes.set_xticks(shares, [f"{share:.0%}" for share in shares])
    axes.set_xlim(-0.04, 1.04)
    axes.set_ylim(*_score_limits(baseline + own + controls, metric))
    _label_modes(axes, ends)
    axes.set_xlabel("synthetic fraction of the training images")
    axes.set_ylabel(name)
    return render_svg(
        figure, f"fraction-{generator}", f"{name} against synthetic fraction for {generator}"
    )


def _draw_mode(
    axes: Any, line: Sequence[Arm], mode: str, colour: str, metric: str
) -> tuple[float, float, str]:
    """Band, line and seeds of one mode; returns where the line ends, and the mode."""
    x = [arm.synthetic_fraction for arm in line]
    intervals = [arm.scores[metric] for arm in line]
    dashes = (0, DASHES[mode]) if mode in DASHES else "-"
    low, high = [i.low for i in intervals], [i.high for i in intervals]
    axes.fill_between(x, low, high, color=colour, alpha=0.16, linewidth=0)
    axes.plot(x, [i.value for i in intervals], color=colour, linewidth=2, linestyle=dashes)
    for arm in line:
        if arm.synthetic_fraction > 0:
            _draw_seeds(axes, arm, colour, metric)
    return line[-1].synthetic_fraction, line[-1].scores[metric].value, mode


def _label_modes(axes: Any, ends: Sequence[tuple[float, float, str]]) -> None:
    """The names of the modes at the ends of their lines, apart enough to be read."""
    low, high = axes.get_ylim()
    least, last = 0.07 * (high - low), -np.inf
    for x, y, mode in sorted(ends, key=lambda end: end[1]):
        last = max(y, last + least)
        axes.annotate(
            mode, (x, last), (9, 0), textcoords="offset points", va="center", **TEXT_STYLE
        )


def _draw_seeds(axes: Any, arm: Arm, colour: str, metric: str) -> None:
    values = [scores[metric] for scores in arm.scores_by_seed if metric in scores]
    axes.plot(
        [arm.synthetic_fraction] * len(values),
        values,
        linestyle="",
        color=colour,
        **marker_options(arm),
    )


def _draw_point(axes: Any, x: float, arm: Arm, colour: str, metric: str) -> None:
    """An arm's mean with its interval."""
    interval = arm.scores[metric]
    axes.plot([x, x], [interval.low, interval.high], color=colour, linewidth=1)
    axes.plot([x], [interval.value], linestyle="", color=colour, **marker_options(arm))


def learning_curve_arms(arms: Sequence[Arm]) -> list[Arm]:
    """The arms of the learning curve, by their number of real images, which repeats do not raise.

    Of arms with as many real images, the one that has no repeats.
    """
    found: dict[int, Arm] = {}
    for arm in sorted(arms, key=lambda arm: arm.synthetic_fraction):
        repeats = arm.control == "duplicate" and arm.mode == "replace"
        if not arm.left_out_source and (arm.synthetic_fraction == 0 or repeats):
            found.setdefault(arm.real_images, arm)
    return [found[count] for count in sorted(found)]


def draw_learning_curve(
    arms: Sequence[Arm], generators: Sequence[str], metric: str, name: str
) -> str:
    """Score against the number of real images, and where hybrids of as many real images lie."""
    figure, axes = create_canvas(height=3.4, left=0.14, bottom=0.55, top=0.12)
    curve = learning_curve_arms(arms)
    hybrids = [
        a for a in arms if 0 < a.synthetic_fraction < 1 and not a.control and not a.left_out_source
    ]
    x = [arm.real_images for arm in curve]
    bounds = [arm.scores[metric] for arm in curve]
    axes.fill_between(
        x, [i.low for i in bounds], [i.high for i in bounds], color=INK, alpha=0.1, lw=0
    )
    axes.plot(x, [i.value for i in bounds], color=INK, linewidth=1.6)
    for arm in curve:
        _draw_point(axes, arm.real_images, arm, MUTED if arm.control else INK, metric)
    for arm in hybrids:  # beside each other, where several have as many real images
        place = 1.03 ** (1 + list(generators).index(arm.generator) + 3 * arm.synthetic_fraction)
        colour = arm_style(arm, generators).colour
        _draw_point(axes, arm.real_images * place, arm, colour, metric)
    axes.set_xscale("log")
    axes.margins(x=0.08)
    counts = sorted({arm.real_images for arm in curve + hybrids})
    axes.set_xticks(counts, [f"{count:,}" for count in counts])
    axes.minorticks_off()
    axes.set_ylim(*_score_limits(curve + hybrids, metric))
    axes.set_xlabel("real training images (logarithmic)")
    axes.set_ylabel(name)
    label = f"{name} against the number of real training images, {len(hybrids)} hybrid arms beside"
    return render_svg(figure, "learning", label)


def _score_limits(arms: Iterable[Arm], metric: str) -> tuple[float, float]:
    values = [
        value
        for arm in arms
        for value in (
            arm.scores[metric].low,
            arm.scores[metric].high,
            *(scores[metric] for scores in arm.scores_by_seed if metric in scores),
        )
        if np.isfinite(value)
    ]
    low, high = min(values, default=0.0), max(values, default=1.0)
    pad = max(0.01, 0.06 * (high - low))
    return max(0.0, low - pad), min(1.0 + pad, high + pad)


def draw_precision_recall(arms: Sequence[Arm], label: str, generators: Sequence[str]) -> str:
    """Precision against recall of one class, all arms overlaid, each a mean over its seeds."""
    figure, axes = create_canvas(height=3.1, left=0.14, bottom=0.55, top=0.12)
    for arm in arms:
        curve = mean_precision_curve(arm, label)
        if curve is not None:
            axes.plot(_RECALL_GRID, curve, **arm_style(arm, generators).plot_options)
    prevalence = [float((table["label"] == label).mean()) for a in arms for table in a.predictions]
    if prevalence:
        axes.axhline(prevalence[0], color=MUTED, linewidth=1, linestyle=(0, (1, 2)))
        below = prevalence[0] > 0.1
        y = prevalence[0] + (-0.02 if below else 0.02)
        axes.text(
            0.01, y, "chance", **{**TEXT_STYLE, "color": MUTED}, va="top" if below else "bottom"
        )
    axes.set(xlim=(0, 1.01), ylim=(0, 1.03), xlabel="recall", ylabel="precision")
    return render_svg(
        figure, f"pr-{label}", f"Precision-recall curves of {len(arms)} arms for {label}"
    )


def mean_precision_curve(arm: Arm, label: str) -> np.ndarray | None:
    """Precision `(100,)` at recall 0.01, 0.02, … 1, mean over seeds; None without such an image."""
    curves = []
    for table in arm.predictions:
        truth = (table["label"] == label).to_numpy().astype(int)
        if truth.any():
            scores = table[[f"p_{label}"]].to_numpy()
            nobody = np.ones((0, len(truth)))  # no replicates: the curve without a band
            curves.append(pr_band(scores, 1 - truth, nobody, index=0, recall=_RECALL_GRID)[0])
    return np.mean(curves, axis=0) if curves else None
