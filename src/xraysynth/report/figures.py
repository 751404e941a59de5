"""Figures of the arms as inline SVG."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from xraysynth.evaluation.metrics.scores import pr_band
from xraysynth.report.arm_styles import DASHES, arm_style, marker_options
from xraysynth.report.content import Arm
from xraysynth.report.drawing import BACKGROUND, INK, MUTED, TEXT_STYLE, create_canvas, render_svg

_RECALL_GRID = np.linspace(0.01, 1, 100)
_NAME_BOX = {"fc": BACKGROUND, "ec": "none", "pad": 0.6}

LineEnd = tuple[float, float, str]
"""The end of a line, x and y, and the mode that the line shows."""


def draw_differences(arms: Sequence[Arm], generators: Sequence[str], metric: str, name: str) -> str:
    """Returns an SVG of each arm's difference to real only with its interval; controls are hollow.

    The equivalence margin, where one is given, is a band around 0.

    Args:
        arms: The arms; those without this difference are left out.
        generators: All generators of the page, whose order gives their colours.
        metric: Key of the score.
        name: Name of the score.
    """
    rows = [arm for arm in arms if metric in arm.gains_over_real]
    figure, axes = create_canvas(height=0.7 + 0.5 * len(rows), left=0.03, bottom=0.6, top=0.1)
    axes.axvline(0, color=INK, linewidth=1)
    margin = max((arm.over_real.margin or 0.0 for arm in rows), default=0.0)
    if margin:
        axes.axvspan(-margin, margin, color=MUTED, alpha=0.15, linewidth=0)
    for y, arm in enumerate(reversed(rows)):
        interval, colour = arm.gains_over_real[metric], arm_style(arm, generators).colour
        axes.plot([interval.low, interval.high], [y, y], color=colour, linewidth=2.2)
        fill = {"mfc": BACKGROUND} if arm.control else {}
        axes.plot([interval.value], [y], "o", color=colour, markersize=7, **fill)
        left_edge = axes.get_yaxis_transform()
        axes.text(0, y + 0.22, arm.name, transform=left_edge, bbox=_NAME_BOX, **TEXT_STYLE)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.set_ylim(-0.5, len(rows) - 0.3)
    axes.set_xlabel(f"Δ {name} against real only")
    label = f"{name} of {len(rows)} arms minus real only, with 95% intervals"
    return render_svg(figure, "differences", label)


def draw_score_by_fraction(
    arms: Sequence[Arm], generator: str, generators: Sequence[str], metric: str, name: str
) -> str:
    """Returns an SVG of one generator's score by synthetic fraction: band, mean and every seed.

    There is one line per mode. Controls of the same fractions are grey dots without a line.

    Args:
        arms: All arms with the score.
        generator: The generator that is drawn.
        generators: All generators of the page, whose order gives their colours.
        metric: Key of the score.
        name: Name of the score.
    """
    figure, axes = create_canvas(height=3.1, left=0.14, bottom=0.55, top=0.12, right=0.19)
    real_only, main_arms, controls = _arms_of_fraction_figure(arms, generator)
    for arm in real_only:
        axes.axhline(arm.scores[metric].value, color=INK, linewidth=1, linestyle=(0, (2, 2)))
        _draw_seeds(axes, arm, INK, metric)
    colour = arm_style(main_arms[0], generators).colour
    hybrid_modes = [arm.mode for arm in main_arms if arm.synthetic_fraction < 1]
    modes = list(dict.fromkeys(hybrid_modes)) or [main_arms[0].mode]
    ends = []
    for mode in modes:
        arms_of_mode = [arm for arm in main_arms if arm.mode == mode]
        arms_of_mode.sort(key=lambda arm: arm.synthetic_fraction)
        ends.append(_draw_mode(axes, [*real_only, *arms_of_mode], mode, colour, metric))
    for arm in main_arms:
        if arm.mode not in modes:  # synthetic only, while all hybrids have other modes
            _draw_seeds(axes, arm, colour, metric)
    for arm in controls:
        _draw_point(axes, arm.synthetic_fraction + 0.02, arm, MUTED, metric)
    fractions = sorted({arm.synthetic_fraction for arm in [*real_only, *main_arms]})
    axes.set_xticks(fractions, [f"{fraction:.0%}" for fraction in fractions])
    axes.set_xlim(-0.04, 1.04)
    axes.set_ylim(*_score_limits([*real_only, *main_arms, *controls], metric))
    _label_modes(axes, ends)
    axes.set_xlabel("synthetic fraction of the training images")
    axes.set_ylabel(name)
    label = f"{name} against synthetic fraction for {generator}"
    return render_svg(figure, f"fraction-{generator}", label)


def _arms_of_fraction_figure(
    arms: Sequence[Arm], generator: str
) -> tuple[list[Arm], list[Arm], list[Arm]]:
    """Returns the real-only arms, a generator's main arms, and the controls to draw with them."""
    real_only, main_arms, controls = [], [], []
    for arm in arms:
        if arm.synthetic_fraction == 0:
            real_only.append(arm)
        elif arm.control:
            if arm.generator in ("", generator):
                controls.append(arm)
        elif arm.generator == generator:
            main_arms.append(arm)
    return real_only, main_arms, controls


def _draw_mode(axes: Any, arms: Sequence[Arm], mode: str, colour: str, metric: str) -> LineEnd:
    """Draws band, line and seeds of one mode, and returns where its line ends."""
    x, values, low, high = [], [], [], []
    for arm in arms:
        interval = arm.scores[metric]
        x.append(arm.synthetic_fraction)
        values.append(interval.value)
        low.append(interval.low)
        high.append(interval.high)
    dashes = (0, DASHES[mode]) if mode in DASHES else "-"
    axes.fill_between(x, low, high, color=colour, alpha=0.16, linewidth=0)
    axes.plot(x, values, color=colour, linewidth=2, linestyle=dashes)
    for arm in arms:
        if arm.synthetic_fraction > 0:
            _draw_seeds(axes, arm, colour, metric)
    return x[-1], values[-1], mode


def _label_modes(axes: Any, ends: Sequence[LineEnd]) -> None:
    """Writes the modes at the ends of their lines, far enough apart to be read."""
    low, high = axes.get_ylim()
    min_gap, last = 0.07 * (high - low), -np.inf
    for x, y, mode in sorted(ends, key=lambda end: end[1]):
        last = max(y, last + min_gap)
        axes.annotate(
            mode, (x, last), (9, 0), textcoords="offset points", va="center", **TEXT_STYLE
        )


def _seed_scores(arm: Arm, metric: str) -> list[float]:
    """Returns one score of every seed, without the seeds that lack it."""
    return [scores[metric] for scores in arm.scores_by_seed if metric in scores]


def _draw_seeds(axes: Any, arm: Arm, colour: str, metric: str) -> None:
    """Draws one marker per seed."""
    values = _seed_scores(arm, metric)
    x = [arm.synthetic_fraction] * len(values)
    axes.plot(x, values, linestyle="", color=colour, **marker_options(arm))


def _draw_point(axes: Any, x: float, arm: Arm, colour: str, metric: str) -> None:
    """Draws an arm's mean with its interval."""
    interval = arm.scores[metric]
    axes.plot([x, x], [interval.low, interval.high], color=colour, linewidth=1)
    axes.plot([x], [interval.value], linestyle="", color=colour, **marker_options(arm))


def learning_curve_arms(arms: Sequence[Arm]) -> list[Arm]:
    """Returns the arms of the learning curve, sorted by their number of distinct real images.

    Of several arms with the same number, the one without repeated images is taken.
    """
    by_real_images: dict[int, Arm] = {}
    for arm in sorted(arms, key=lambda arm: arm.synthetic_fraction):
        has_repeats = arm.control == "duplicate" and arm.mode == "replace"
        if not arm.left_out_source and (arm.synthetic_fraction == 0 or has_repeats):
            by_real_images.setdefault(arm.real_images, arm)
    return [by_real_images[count] for count in sorted(by_real_images)]


def draw_learning_curve(
    arms: Sequence[Arm], generators: Sequence[str], metric: str, name: str
) -> str:
    """Returns an SVG of the score by number of real images: the learning curve, and the hybrid arms.

    Args:
        arms: All arms with the score.
        generators: All generators of the page, whose order gives their colours.
        metric: Key of the score.
        name: Name of the score.
    """
    figure, axes = create_canvas(height=3.4, left=0.14, bottom=0.55, top=0.12)
    curve = learning_curve_arms(arms)
    hybrids = [arm for arm in arms if _is_hybrid(arm)]
    _draw_curve(axes, curve, metric)
    for arm in hybrids:  # shifted, since several may have the same number of real images
        steps = 1 + list(generators).index(arm.generator) + 3 * arm.synthetic_fraction
        colour = arm_style(arm, generators).colour
        _draw_point(axes, arm.real_images * 1.03**steps, arm, colour, metric)
    axes.set_xscale("log")
    axes.margins(x=0.08)
    counts = sorted({arm.real_images for arm in curve + hybrids})
    axes.set_xticks(counts, [f"{count:,}" for count in counts])
    axes.minorticks_off()
    axes.set_ylim(*_score_limits(curve + hybrids, metric))
    axes.set_xlabel("real training images (logarithmic)")
    axes.set_ylabel(name)
    label = f"{name} against the number of real training images, with {len(hybrids)} hybrid arms"
    return render_svg(figure, "learning", label)


def _is_hybrid(arm: Arm) -> bool:
    """Returns whether an arm mixes real and synthetic images and is no control."""
    return 0 < arm.synthetic_fraction < 1 and not arm.control and not arm.left_out_source


def _draw_curve(axes: Any, curve: Sequence[Arm], metric: str) -> None:
    """Draws the scores of real images only, with band, line and a point for each arm."""
    x, values, low, high = [], [], [], []
    for arm in curve:
        interval = arm.scores[metric]
        x.append(arm.real_images)
        values.append(interval.value)
        low.append(interval.low)
        high.append(interval.high)
    axes.fill_between(x, low, high, color=INK, alpha=0.1, lw=0)
    axes.plot(x, values, color=INK, linewidth=1.6)
    for arm in curve:
        _draw_point(axes, arm.real_images, arm, MUTED if arm.control else INK, metric)


def _score_limits(arms: Sequence[Arm], metric: str) -> tuple[float, float]:
    """Returns the limits of an axis, so that the intervals and seeds of all arms are inside."""
    values: list[float] = []
    for arm in arms:
        interval = arm.scores[metric]
        values += filter(np.isfinite, [interval.low, interval.high, *_seed_scores(arm, metric)])
    low, high = min(values, default=0.0), max(values, default=1.0)
    padding = max(0.01, 0.06 * (high - low))
    return max(0.0, low - padding), min(1.0 + padding, high + padding)


def draw_precision_recall(arms: Sequence[Arm], label: str, generators: Sequence[str]) -> str:
    """Returns an SVG of precision against recall for one class: one line per arm, mean over seeds.

    Args:
        arms: The arms, with predictions.
        label: The class.
        generators: All generators of the page, whose order gives their colours.
    """
    figure, axes = create_canvas(height=3.1, left=0.14, bottom=0.55, top=0.12)
    for arm in arms:
        curve = mean_precision_curve(arm, label)
        if curve is not None:
            axes.plot(_RECALL_GRID, curve, **arm_style(arm, generators).plot_options)
    _draw_chance(axes, arms, label)
    axes.set(xlim=(0, 1.01), ylim=(0, 1.03), xlabel="recall", ylabel="precision")
    title = f"Precision-recall curves of {len(arms)} arms for {label}"
    return render_svg(figure, f"pr-{label}", title)


def _draw_chance(axes: Any, arms: Sequence[Arm], label: str) -> None:
    """Draws the precision of guessing, which is the frequency of the class in the test images."""
    for arm in arms:
        if not arm.predictions:
            continue
        frequency = float((arm.predictions[0]["label"] == label).mean())
        axes.axhline(frequency, color=MUTED, linewidth=1, linestyle=(0, (1, 2)))
        style = {**TEXT_STYLE, "color": MUTED}
        if frequency > 0.1:
            axes.text(0.01, frequency - 0.02, "chance", va="top", **style)
        else:
            axes.text(0.01, frequency + 0.02, "chance", va="bottom", **style)
        return


def mean_precision_curve(arm: Arm, label: str) -> np.ndarray | None:
    """Returns the precision `(100,)` at recall 0.01, 0.02, … 1, averaged over seeds.

    It is None if no test image is of the class.

    Args:
        arm: The arm, with one table of predictions per seed.
        label: The class.
    """
    curves = []
    for table in arm.predictions:
        is_positive = (table["label"] == label).to_numpy().astype(int)
        if is_positive.any():
            probabilities = table[[f"p_{label}"]].to_numpy()
            no_replicates = np.ones((0, len(is_positive)))  # the curve is taken without a band
            targets = 1 - is_positive
            band = pr_band(probabilities, targets, no_replicates, index=0, recall=_RECALL_GRID)
            curves.append(band[0])
    return np.mean(curves, axis=0) if curves else None
