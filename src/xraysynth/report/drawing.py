"""The canvas of every figure: an inline SVG that follows the page's colours and font."""

import io
import re
from collections.abc import Mapping
from typing import Any

PAGE_COLOURS = {
    "#010203": "var(--ink)",
    "#040506": "var(--muted)",
    "#070809": "var(--line)",
    "#0c0d0e": "var(--page)",
}
INK, MUTED, _LINE, BACKGROUND = PAGE_COLOURS
SERIES_COLOURS = tuple(
    f"#0a0b{i:02x}" for i in range(1, 7)
)  # stand-ins: the page says what they look like
PAGE_COLOURS |= {colour: f"var(--series-{i})" for i, colour in enumerate(SERIES_COLOURS, 1)}
_RC_PARAMS: dict[Any, Any] = {
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
TEXT_STYLE: Mapping[str, object] = {"color": INK, "fontsize": 11, "parse_math": False}


def create_canvas(
    *, height: float, left: float, bottom: float, top: float, right: float = 0.03
) -> tuple[Any, Any]:
    """A 4.8 inch wide figure; `left`, `right` in fractions of it, `bottom`, `top` in inches."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(_RC_PARAMS):
        figure = Figure(figsize=(4.8, height))
        box = (left, bottom / height, 1 - left - right, 1 - (bottom + top) / height)
        return figure, figure.add_axes(box)


def render_svg(figure: Any, name: str, label: str) -> str:
    """The figure as an `<svg>` element with its own ids and the page's colours and font."""
    import matplotlib as mpl

    buffer = io.StringIO()
    nothing = dict.fromkeys(["Date", "Creator", "Format", "Type"])
    with mpl.rc_context(_RC_PARAMS):
        figure.savefig(buffer, format="svg", transparent=True, metadata=nothing)
    text = buffer.getvalue()
    view = re.search(r'viewBox="([^"]+)"', text)
    inner = text[text.index(">", text.index("<svg")) + 1 :].replace("xlink:href", "href")
    inner = re.sub(r"<(metadata|style)\b.*?</\1>", "", inner, flags=re.S)
    for colour, variable in PAGE_COLOURS.items():
        inner = inner.replace(colour, variable)
    inner = inner.replace("'DejaVu Sans'", "system-ui, sans-serif")
    head = (
        f'<svg role="img" aria-label="{_escape_html(label)}" viewBox="{view[1] if view else ""}">'
    )
    return head + _prefix_ids(inner, re.sub(r"\W", "-", name))


def _prefix_ids(svg: str, name: str) -> str:
    """Ids that are referred to get the figure's name in front; the others go."""
    used = set(re.findall(r"(?:url\(#|href=\"#)([\w.-]+)", svg))
    svg = re.sub(r' id="([\w.-]+)"', lambda m: f' id="{name}-{m[1]}"' if m[1] in used else "", svg)
    return re.sub(r'(url\(#|href="#)', rf"\g<1>{name}-", svg)


def _escape_html(text: str) -> str:
    from html import escape

    return escape(text, quote=True)
