"""Figures as inline SVG that follow the page's colours and font."""

import io
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from xraysynth.evaluation.metrics.scores import pr_band
from xraysynth.report.content import Arm

_PAGE_COLOURS = {
    "#010203": "var(--ink)",
    "#040506": "var(--muted)",
    "#070809": "var(--line)",
    "#0c0d0e": "var(--page)",
}
INK, MUTED, _LINE, GROUND = _PAGE_COLOURS
_SERIES = tuple(
    f"#0a0b{i:02x}" for i in range(1, 7)
)  # stand-ins: the page says what they look like
_PAGE_COLOURS |= {colour: f"var(--series-{i})" for i, colour in enumerate(_SERIES, 1)}
_RC: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "xraysynth",
    "font.family": "DejaVu Sans",
    "font.size": 11,
    "axes.labelcolor": INK,
    "axes.edgecolor": MUTED,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": _LINE,
    "xtick.color": INK,
    "ytick.color": INK,
}
TEXT: dict[str, Any] = {"color": INK, "fontsize": 11, "parse_math": False}
_RECALL = np.linspace(0.01, 1, 100)
_DASHES: dict[str, tuple[int, int]] = {"add": (4, 2), "pretrain": (1, 2)}
MARKERS = {"add": "s", "pretrain": "^"}


@dataclass(frozen=True)
class Stroke:
    """How an arm is drawn: colour by generator, dashes by mode, width by share."""

    colour: str
    width: float
    dashes: tuple[int, int] | None

    @property
    def css(self) -> str:
        """SVG presentation attributes for the legend."""
        dashes = ",".join(map(str, self.dashes)) if self.dashes else "none"
        colour = _PAGE_COLOURS[self.colour]
        return f"stroke:{colour};stroke-width:{self.width:g};stroke-dasharray:{dashes}"

    @property
    def line(self) -> dict[str, Any]:
        """Keyword arguments of `Axes.plot`."""
        style = (0, self.dashes) if self.dashes else "-"
        return {"color": self.colour, "linewidth": self.width, "linestyle": style}


def stroke(arm: Arm, generators: Sequence[str]) -> Stroke:
    """The stroke of one arm; real-only is the page's ink, and a control is grey."""
    if arm.share == 0:
        return Stroke(INK, 2.4, None)
    if arm.control or arm.generator not in generators:
        return Stroke(MUTED, 0.8 + 2 * arm.share, _DASHES.get(arm.mode))
    colour = _SERIES[list(generators).index(arm.generator) % len(_SERIES)]
    return Stroke(colour, 0.8 + 2 * arm.share, _DASHES.get(arm.mode))


def swatch(generator: str, generators: Sequence[str]) -> str:
    """SVG presentation attributes of a generator's colour, for a legend."""
    return Stroke(colour(generator, generators), 2.4, None).css


def colour(generator: str, generators: Sequence[str]) -> str:
    """A generator's colour in figures."""
    return _SERIES[list(generators).index(generator) % len(_SERIES)]


def _marker(arm: Arm) -> dict[str, str]:
    """Keyword arguments of a dot: its form says the mode, and a hollow grey one is a control."""
    if arm.control:
        return {"marker": "X" if arm.control == "permuted" else "D", "mfc": GROUND}
    hollow = {"mfc": GROUND} if arm.mode in MARKERS else {}
    return {"marker": MARKERS.get(arm.mode, "o")} | hollow


def differences(arms: Sequence[Arm], generators: Sequence[str], metric: str, name: str) -> str:
    """Each arm minus real-only with its interval, zero marked; controls are grey and hollow."""
    rows = [arm for arm in arms if metric in arm.difference]
    figure, axes = canvas(height=0.7 + 0.5 * len(rows), left=0.03, bottom=0.6, top=0.1)
    axes.axvline(0, color=INK, linewidth=1)
    for y, arm in enumerate(reversed(rows)):
        interval, colour = arm.difference[metric], stroke(arm, generators).colour
        axes.plot([interval.low, interval.high], [y, y], color=colour, linewidth=2.2)
        marker = {"mfc": GROUND} if arm.control else {}
        axes.plot([interval.value], [y], "o", color=colour, markersize=7, **marker)
        place, ground = axes.get_yaxis_transform(), {"fc": GROUND, "ec": "none", "pad": 0.6}
        axes.text(0, y + 0.22, arm.name, transform=place, bbox=ground, **TEXT)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.set_ylim(-0.5, len(rows) - 0.3)
    axes.set_xlabel(f"Δ {name} against real only")
    label = f"{name} of {len(rows)} arms minus real only, with 95% intervals"
    return svg(figure, "differences", label)


def against_share(
    arms: Sequence[Arm], generator: str, generators: Sequence[str], metric: str, name: str
) -> str:
    """One generator's score against synthetic share: band, mean and every seed, by mode.

    Controls of the same shares are grey, hollow dots without a line.
    """
    figure, axes = canvas(height=3.1, left=0.14, bottom=0.55, top=0.12, right=0.19)
    baseline = [arm for arm in arms if arm.share == 0]
    mixed = [arm for arm in arms if arm.share > 0]
    own = [arm for arm in mixed if arm.generator == generator and not arm.control]
    controls = [arm for arm in mixed if arm.control and arm.generator in ("", generator)]
    for arm in baseline:
        axes.axhline(arm.scores[metric].value, color=INK, linewidth=1, linestyle=(0, (2, 2)))
        _draw_seeds(axes, arm, INK, metric)
    modes = list(dict.fromkeys(arm.mode for arm in own if arm.share < 1)) or [own[0].mode]
    ends = []
    for mode in modes:
        line = baseline + sorted((a for a in own if a.mode == mode), key=lambda a: a.share)
        ends.append(_draw_mode(axes, line, mode, stroke(own[0], generators).colour, metric))
    for arm in own:
        if arm.mode not in modes:  # synthetic only, beside hybrids of other modes
            _draw_seeds(axes, arm, stroke(arm, generators).colour, metric)
    for arm in controls:
        _draw_point(axes, arm.share + 0.02, arm, MUTED, metric)
    shares = sorted({arm.share for arm in baseline + own})
    axes.set_xticks(shares, [f"{share:.0%}" for share in shares])
    axes.set_xlim(-0.04, 1.04)
    axes.set_ylim(*_range(baseline + own + controls, metric))
    _label_ends(axes, ends)
    axes.set_xlabel("synthetic share of the training images")
    axes.set_ylabel(name)
    return svg(figure, f"share-{generator}", f"{name} against synthetic share for {generator}")


def _draw_mode(
    axes: Any, line: Sequence[Arm], mode: str, colour: str, metric: str
) -> tuple[float, float, str]:
    """Band, line and seeds of one mode; returns where the line ends, and the mode."""
    x = [arm.share for arm in line]
    intervals = [arm.scores[metric] for arm in line]
    dashes = (0, _DASHES[mode]) if mode in _DASHES else "-"
    low, high = [i.low for i in intervals], [i.high for i in intervals]
    axes.fill_between(x, low, high, color=colour, alpha=0.16, linewidth=0)
    axes.plot(x, [i.value for i in intervals], color=colour, linewidth=2, linestyle=dashes)
    for arm in line:
        if arm.share > 0:
            _draw_seeds(axes, arm, colour, metric)
    return line[-1].share, line[-1].scores[metric].value, mode


def _label_ends(axes: Any, ends: Sequence[tuple[float, float, str]]) -> None:
    """The names of the modes at the ends of their lines, apart enough to be read."""
    low, high = axes.get_ylim()
    least, last = 0.07 * (high - low), -np.inf
    for x, y, mode in sorted(ends, key=lambda end: end[1]):
        last = max(y, last + least)
        axes.annotate(mode, (x, last), (9, 0), textcoords="offset points", va="center", **TEXT)


def _draw_seeds(axes: Any, arm: Arm, colour: str, metric: str) -> None:
    values = [scores[metric] for scores in arm.scores_by_seed if metric in scores]
    axes.plot([arm.share] * len(values), values, linestyle="", color=colour, **_marker(arm))


def _draw_point(axes: Any, x: float, arm: Arm, colour: str, metric: str) -> None:
    """An arm's mean with its interval."""
    interval = arm.scores[metric]
    axes.plot([x, x], [interval.low, interval.high], color=colour, linewidth=1)
    axes.plot([x], [interval.value], linestyle="", color=colour, **_marker(arm))


def real_alone(arms: Sequence[Arm]) -> list[Arm]:
    """The arms of the learning curve, by their number of real images, which repeats do not raise.

    Of arms with as many real images, the one that has no repeats.
    """
    found: dict[int, Arm] = {}
    for arm in sorted(arms, key=lambda arm: arm.share):
        repeats = arm.control == "duplicate" and arm.mode == "replace"
        if not arm.left_out and (arm.share == 0 or repeats):
            found.setdefault(arm.real_images, arm)
    return [found[count] for count in sorted(found)]


def learning_curve(arms: Sequence[Arm], generators: Sequence[str], metric: str, name: str) -> str:
    """Score against the number of real images, and where hybrids of as many real images lie."""
    figure, axes = canvas(height=3.4, left=0.14, bottom=0.55, top=0.12)
    curve = real_alone(arms)
    hybrids = [a for a in arms if 0 < a.share < 1 and not a.control and not a.left_out]
    x = [arm.real_images for arm in curve]
    bounds = [arm.scores[metric] for arm in curve]
    axes.fill_between(
        x, [i.low for i in bounds], [i.high for i in bounds], color=INK, alpha=0.1, lw=0
    )
    axes.plot(x, [i.value for i in bounds], color=INK, linewidth=1.6)
    for arm in curve:
        _draw_point(axes, arm.real_images, arm, MUTED if arm.control else INK, metric)
    for arm in hybrids:  # beside each other, where several have as many real images
        place = 1.03 ** (1 + list(generators).index(arm.generator) + 3 * arm.share)
        colour = stroke(arm, generators).colour
        _draw_point(axes, arm.real_images * place, arm, colour, metric)
    axes.set_xscale("log")
    axes.margins(x=0.08)
    counts = sorted({arm.real_images for arm in curve + hybrids})
    axes.set_xticks(counts, [f"{count:,}" for count in counts])
    axes.minorticks_off()
    axes.set_ylim(*_range(curve + hybrids, metric))
    axes.set_xlabel("real training images (logarithmic)")
    axes.set_ylabel(name)
    label = f"{name} against the number of real training images, {len(hybrids)} hybrid arms beside"
    return svg(figure, "learning", label)


def _range(arms: Iterable[Arm], metric: str) -> tuple[float, float]:
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


def precision_recall(arms: Sequence[Arm], label: str, generators: Sequence[str]) -> str:
    """Precision against recall of one class, all arms overlaid, each a mean over its seeds."""
    figure, axes = canvas(height=3.1, left=0.14, bottom=0.55, top=0.12)
    for arm in arms:
        curve = mean_precision(arm, label)
        if curve is not None:
            axes.plot(_RECALL, curve, **stroke(arm, generators).line)
    prevalence = [float((table["label"] == label).mean()) for a in arms for table in a.predictions]
    if prevalence:
        axes.axhline(prevalence[0], color=MUTED, linewidth=1, linestyle=(0, (1, 2)))
        below = prevalence[0] > 0.1
        y = prevalence[0] + (-0.02 if below else 0.02)
        axes.text(0.01, y, "chance", **(TEXT | {"color": MUTED}), va="top" if below else "bottom")
    axes.set(xlim=(0, 1.01), ylim=(0, 1.03), xlabel="recall", ylabel="precision")
    return svg(figure, f"pr-{label}", f"Precision-recall curves of {len(arms)} arms for {label}")


def mean_precision(arm: Arm, label: str) -> np.ndarray | None:
    """Precision `(100,)` at recall 0.01, 0.02, … 1, mean over seeds; None without such an image."""
    curves = []
    for table in arm.predictions:
        truth = (table["label"] == label).to_numpy().astype(int)
        if truth.any():
            scores = table[[f"p_{label}"]].to_numpy()
            nobody = np.ones((0, len(truth)))  # no replicates: the curve without a band
            curves.append(pr_band(scores, 1 - truth, nobody, index=0, recall=_RECALL)[0])
    return np.mean(curves, axis=0) if curves else None


def canvas(
    *, height: float, left: float, bottom: float, top: float, right: float = 0.03
) -> tuple[Any, Any]:
    """A 4.8 inch wide figure; `left`, `right` in fractions of it, `bottom`, `top` in inches."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(_RC):
        figure = Figure(figsize=(4.8, height))
        box = (left, bottom / height, 1 - left - right, 1 - (bottom + top) / height)
        return figure, figure.add_axes(box)


def svg(figure: Any, name: str, label: str) -> str:
    """The figure as an `<svg>` element with its own ids and the page's colours and font."""
    import matplotlib as mpl

    buffer = io.StringIO()
    nothing = dict.fromkeys(["Date", "Creator", "Format", "Type"])
    with mpl.rc_context(_RC):
        figure.savefig(buffer, format="svg", transparent=True, metadata=nothing)
    text = buffer.getvalue()
    view = re.search(r'viewBox="([^"]+)"', text)
    inner = text[text.index(">", text.index("<svg")) + 1 :].replace("xlink:href", "href")
    inner = re.sub(r"<(metadata|style)\b.*?</\1>", "", inner, flags=re.S)
    for colour, variable in _PAGE_COLOURS.items():
        inner = inner.replace(colour, variable)
    inner = inner.replace("'DejaVu Sans'", "system-ui, sans-serif")
    head = f'<svg role="img" aria-label="{_escape(label)}" viewBox="{view[1] if view else ""}">'
    return head + _own_ids(inner, re.sub(r"\W", "-", name))


def _own_ids(svg: str, name: str) -> str:
    """Ids that are referred to get the figure's name in front; the others go."""
    used = set(re.findall(r"(?:url\(#|href=\"#)([\w.-]+)", svg))
    svg = re.sub(r' id="([\w.-]+)"', lambda m: f' id="{name}-{m[1]}"' if m[1] in used else "", svg)
    return re.sub(r'(url\(#|href="#)', rf"\g<1>{name}-", svg)


def _escape(text: str) -> str:
    from html import escape

    return escape(text, quote=True)
