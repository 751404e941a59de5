"""The canvas of every figure: an inline SVG with the page's colours and font.

Matplotlib draws with stand-in colours, which `render_svg` replaces by the CSS variables of the page, so that
a figure follows light and dark mode.
"""

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
"""CSS variables by the stand-in colour that is drawn with."""

INK, MUTED, _LINE, BACKGROUND = PAGE_COLOURS
SERIES_COLOURS = ("#0a0b01", "#0a0b02", "#0a0b03", "#0a0b04", "#0a0b05", "#0a0b06")
"""Stand-in colours of the generators, in order."""

for _number, _colour in enumerate(SERIES_COLOURS, 1):
    PAGE_COLOURS[_colour] = f"var(--series-{_number})"

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
"""Keyword arguments of a text; names with a dollar sign are no formulas."""


def create_canvas(
    *, height: float, left: float, bottom: float, top: float, right: float = 0.03
) -> tuple[Any, Any]:
    """Returns a figure of 4.8 inches width and its axes.

    Args:
        height: Height of the figure in inches.
        left: Left margin as a fraction of the width.
        bottom: Bottom margin in inches.
        top: Top margin in inches.
        right: Right margin as a fraction of the width.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(_RC_PARAMS):
        figure = Figure(figsize=(4.8, height))
        box = (left, bottom / height, 1 - left - right, 1 - (bottom + top) / height)
        return figure, figure.add_axes(box)


def render_svg(figure: Any, name: str, label: str) -> str:
    """Returns a figure as an `<svg>` element with the page's colours and font.

    Args:
        figure: The matplotlib figure.
        name: Prefix of the ids in the element, unique on the page.
        label: What the figure shows, for screen readers.
    """
    import matplotlib as mpl

    buffer = io.StringIO()
    no_metadata = dict.fromkeys(["Date", "Creator", "Format", "Type"])
    with mpl.rc_context(_RC_PARAMS):
        figure.savefig(buffer, format="svg", transparent=True, metadata=no_metadata)
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
    """Puts the figure's name in front of ids that are referred to, and removes all other ids."""
    used = set(re.findall(r"(?:url\(#|href=\"#)([\w.-]+)", svg))

    def prefix(match: re.Match[str]) -> str:
        return f' id="{name}-{match[1]}"' if match[1] in used else ""

    svg = re.sub(r' id="([\w.-]+)"', prefix, svg)
    return re.sub(r'(url\(#|href="#)', rf"\g<1>{name}-", svg)


def _escape_html(text: str) -> str:
    from html import escape

    return escape(text, quote=True)
