"""How an arm is drawn: colour by generator, dashes and marks by mode, grey for controls."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from xraysynth.report.content import Arm
from xraysynth.report.drawing import BACKGROUND, INK, MUTED, PAGE_COLOURS, SERIES_COLOURS

DASHES: dict[str, tuple[int, int]] = {"add": (4, 2), "pretrain": (1, 2)}
MARKERS = {"add": "s", "pretrain": "^"}


@dataclass(frozen=True)
class LineStyle:
    """How an arm is drawn: colour by generator, dashes by mode, width by share."""

    colour: str
    width: float
    dashes: tuple[int, int] | None

    @property
    def svg_style(self) -> str:
        """SVG presentation attributes for the legend."""
        dashes = ",".join(map(str, self.dashes)) if self.dashes else "none"
        colour = PAGE_COLOURS[self.colour]
        return f"stroke:{colour};stroke-width:{self.width:g};stroke-dasharray:{dashes}"

    @property
    def plot_options(self) -> Mapping[str, object]:
        """Keyword arguments of `Axes.draw_pareto_plot`."""
        style = (0, self.dashes) if self.dashes else "-"
        return {"color": self.colour, "linewidth": self.width, "linestyle": style}


def arm_style(arm: Arm, generators: Sequence[str]) -> LineStyle:
    """The stroke of one arm; real-only is the page's ink, and a control is grey."""
    if arm.synthetic_fraction == 0:
        return LineStyle(INK, 2.4, None)
    if arm.control or arm.generator not in generators:
        return LineStyle(MUTED, 0.8 + 2 * arm.synthetic_fraction, DASHES.get(arm.mode))
    colour = SERIES_COLOURS[list(generators).index(arm.generator) % len(SERIES_COLOURS)]
    return LineStyle(colour, 0.8 + 2 * arm.synthetic_fraction, DASHES.get(arm.mode))


def legend_style(generator: str, generators: Sequence[str]) -> str:
    """SVG presentation attributes of a generator's colour, for a legend."""
    return LineStyle(generator_colour(generator, generators), 2.4, None).svg_style


def generator_colour(generator: str, generators: Sequence[str]) -> str:
    """A generator's colour in figures."""
    return SERIES_COLOURS[list(generators).index(generator) % len(SERIES_COLOURS)]


def marker_options(arm: Arm) -> dict[str, str]:
    """Keyword arguments of a dot: its form says the mode, and a hollow grey one is a control."""
    if arm.control:
        return {"marker": "X" if arm.control == "permuted" else "D", "mfc": BACKGROUND}
    hollow = {"mfc": BACKGROUND} if arm.mode in MARKERS else {}
    return {"marker": MARKERS.get(arm.mode, "o")} | hollow
