"""Figures as inline SVG that follow the page's colours and font, and image grids as thumbnails."""

import base64
import io
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from xraysynth.errors import ImageError
from xraysynth.images import read, study_format
from xraysynth.manifest import Manifest
from xraysynth.metrics.classification import pr_band
from xraysynth.report.content import Arm

THUMBNAIL_PX = 112
GRID_SIZE = 8

_PAGE_COLOURS = {"#010203": "var(--ink)", "#040506": "var(--muted)", "#070809": "var(--line)"}
_INK, _MUTED, _LINE = _PAGE_COLOURS
_SERIES = tuple(
    f"#0a0b{i:02x}" for i in range(1, 7)
)  # stand-ins: the page says what they look like
_PAGE_COLOURS |= {colour: f"var(--series-{i})" for i, colour in enumerate(_SERIES, 1)}
_RC: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "xraysynth",
    "font.family": "DejaVu Sans",
    "font.size": 11,
    "axes.labelcolor": _INK,
    "axes.edgecolor": _MUTED,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": _LINE,
    "xtick.color": _INK,
    "ytick.color": _INK,
}
_TEXT: dict[str, Any] = {"color": _INK, "fontsize": 11, "parse_math": False}
_RECALL = np.linspace(0.01, 1, 100)


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
    """The stroke of one arm; real-only is the page's ink."""
    if arm.share == 0:
        return Stroke(_INK, 2.4, None)
    colour = _SERIES[list(generators).index(arm.generator) % len(_SERIES)]
    return Stroke(colour, 0.8 + 2 * arm.share, (4, 2) if arm.mode == "add" else None)


def differences(arms: Sequence[Arm], generators: Sequence[str], metric: str, name: str) -> str:
    """Each arm minus real-only with its interval, zero marked."""
    rows = [arm for arm in arms if metric in arm.difference]
    figure, axes = _canvas(height=0.7 + 0.5 * len(rows), left=0.03, bottom=0.6, top=0.1)
    axes.axvline(0, color=_INK, linewidth=1)
    for y, arm in enumerate(reversed(rows)):
        interval, colour = arm.difference[metric], stroke(arm, generators).colour
        axes.plot([interval.low, interval.high], [y, y], color=colour, linewidth=2.2)
        axes.plot([interval.value], [y], "o", color=colour, markersize=7)
        axes.text(0, y + 0.22, arm.name, transform=axes.get_yaxis_transform(), **_TEXT)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.set_ylim(-0.5, len(rows) - 0.3)
    axes.set_xlabel(f"Δ {name} against real only")
    label = f"{name} of {len(rows)} arms minus real only, with 95% intervals"
    return _svg(figure, "differences", label)


def against_share(
    arms: Sequence[Arm], generator: str, generators: Sequence[str], metric: str, name: str
) -> str:
    """One generator's score against synthetic share: band, mean and every seed, by mode."""
    figure, axes = _canvas(height=3.1, left=0.14, bottom=0.55, top=0.12, right=0.17)
    baseline = [arm for arm in arms if arm.share == 0]
    own = [arm for arm in arms if arm.share > 0 and arm.generator == generator]
    for arm in baseline:
        axes.axhline(arm.scores[metric].value, color=_INK, linewidth=1, linestyle=(0, (2, 2)))
        _draw_seeds(axes, arm, _INK, metric)
    for mode in dict.fromkeys(arm.mode for arm in own):
        line = baseline + sorted((a for a in own if a.mode == mode), key=lambda a: a.share)
        _draw_mode(axes, line, mode, stroke(own[0], generators).colour, metric)
    shares = sorted({arm.share for arm in baseline + own})
    axes.set_xticks(shares, [f"{share:.0%}" for share in shares])
    axes.set_xlim(-0.04, 1.04)
    axes.set_ylim(*_range(arms, metric))
    axes.set_xlabel("synthetic share of the training images")
    axes.set_ylabel(name)
    return _svg(figure, f"share-{generator}", f"{name} against synthetic share for {generator}")


def _draw_mode(axes: Any, line: Sequence[Arm], mode: str, colour: str, metric: str) -> None:
    x = [arm.share for arm in line]
    intervals = [arm.scores[metric] for arm in line]
    dashes = (0, (4, 2)) if mode == "add" else "-"
    low, high = [i.low for i in intervals], [i.high for i in intervals]
    axes.fill_between(x, low, high, color=colour, alpha=0.16, linewidth=0)
    axes.plot(x, [i.value for i in intervals], color=colour, linewidth=2, linestyle=dashes)
    for arm in line:
        if arm.share > 0:
            _draw_seeds(axes, arm, colour, metric)
    end = line[-1]
    place = (end.share, end.scores[metric].value)
    axes.annotate(mode, place, (7, 0), textcoords="offset points", va="center", **_TEXT)


def _draw_seeds(axes: Any, arm: Arm, colour: str, metric: str) -> None:
    values = [scores[metric] for scores in arm.scores_by_seed if metric in scores]
    style = {"marker": "s", "mfc": "none"} if arm.mode == "add" else {"marker": "o"}
    axes.plot([arm.share] * len(values), values, linestyle="", color=colour, **style)


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
    figure, axes = _canvas(height=3.1, left=0.14, bottom=0.55, top=0.12)
    for arm in arms:
        curve = mean_precision(arm, label)
        if curve is not None:
            axes.plot(_RECALL, curve, **stroke(arm, generators).line)
    prevalence = [float((table["label"] == label).mean()) for a in arms for table in a.predictions]
    if prevalence:
        axes.axhline(prevalence[0], color=_MUTED, linewidth=1, linestyle=(0, (1, 2)))
        below = prevalence[0] > 0.1
        y = prevalence[0] + (-0.02 if below else 0.02)
        axes.text(0.01, y, "chance", **(_TEXT | {"color": _MUTED}), va="top" if below else "bottom")
    axes.set(xlim=(0, 1.01), ylim=(0, 1.03), xlabel="recall", ylabel="precision")
    return _svg(figure, f"pr-{label}", f"Precision-recall curves of {len(arms)} arms for {label}")


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


def _canvas(
    *, height: float, left: float, bottom: float, top: float, right: float = 0.03
) -> tuple[Any, Any]:
    """A 4.8 inch wide figure; `left`, `right` in fractions of it, `bottom`, `top` in inches."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(_RC):
        figure = Figure(figsize=(4.8, height))
        box = (left, bottom / height, 1 - left - right, 1 - (bottom + top) / height)
        return figure, figure.add_axes(box)


def _svg(figure: Any, name: str, label: str) -> str:
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


@dataclass(frozen=True)
class Thumbnail:
    """One image of a grid; `src` is a data address, empty where the file cannot be read."""

    src: str
    alt: str
    prompt: str


def grid(manifest: Manifest, label: str, *, who: str) -> list[Thumbnail]:
    """The first `GRID_SIZE` images of a class in the order of their SHA-256, which nobody picks."""
    rows = manifest.where(manifest.table["label"] == label)
    table = rows.table.assign(file=rows.files).sort_values(["sha256", "image_id"]).head(GRID_SIZE)
    return [
        Thumbnail(
            src=_thumbnail(row.file),
            alt=f"{who}, {label}, image {number} of {len(table)}, SHA-256 {str(row.sha256)[:8]}",
            prompt=str(row.prompt),
        )
        for number, row in enumerate(table.itertuples(), 1)
    ]


def _thumbnail(file: Any) -> str:
    try:
        pixels = study_format(read(file), THUMBNAIL_PX)
    except ImageError:
        return ""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="JPEG", quality=88)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
