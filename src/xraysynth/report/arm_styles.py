"""How an arm is drawn: colour by generator, dashes and marks by mode, grey for controls."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from xraysynth.report.content import Arm
from xraysynth.report.drawing import GROUND, INK, MUTED, PAGE_COLOURS, SERIES

DASHES: dict[str, tuple[int, int]] = {"add": (4, 2), "pretrain": (1, 2)}
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
        colour = PAGE_COLOURS[self.colour]
        return f"stroke:{colour};stroke-width:{self.width:g};stroke-dasharray:{dashes}"

    @property
    def line(self) -> Mapping[str, object]:
        """Keyword arguments of `Axes.plot`."""
        style = (0, self.dashes) if self.dashes else "-"
        return {"color": self.colour, "linewidth": self.width, "linestyle": style}


def stroke(arm: Arm, generators: Sequence[str]) -> Stroke:
    """The stroke of one arm; real-only is the page's ink, and a control is grey."""
    if arm.synthetic_fraction == 0:
        return Stroke(INK, 2.4, None)
    if arm.control or arm.generator not in generators:
        return Stroke(MUTED, 0.8 + 2 * arm.synthetic_fraction, DASHES.get(arm.mode))
    colour = SERIES[list(generators).index(arm.generator) % len(SERIES)]
    return Stroke(colour, 0.8 + 2 * arm.synthetic_fraction, DASHES.get(arm.mode))


def swatch(generator: str, generators: Sequence[str]) -> str:
    """SVG presentation attributes of a generator's colour, for a legend."""
    return Stroke(colour(generator, generators), 2.4, None).css


def colour(generator: str, generators: Sequence[str]) -> str:
    """A generator's colour in figures."""
    return SERIES[list(generators).index(generator) % len(SERIES)]


def marker(arm: Arm) -> dict[str, str]:
    """Keyword arguments of a dot: its form says the mode, and a hollow grey one is a control."""
    if arm.control:
        return {"marker": "X" if arm.control == "permuted" else "D", "mfc": GROUND}
    hollow = {"mfc": GROUND} if arm.mode in MARKERS else {}
    return {"marker": MARKERS.get(arm.mode, "o")} | hollow
