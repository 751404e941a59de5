"""Line styles and markers of the arms: colour by generator, dashes and marker by mode, grey for controls."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from xraysynth.report.content import Arm
from xraysynth.report.drawing import BACKGROUND, INK, MUTED, PAGE_COLOURS, SERIES_COLOURS

DASHES: dict[str, tuple[int, int]] = {"add": (4, 2), "pretrain": (1, 2)}
"""Dash and gap lengths by mode; other modes have solid lines."""

MARKERS = {"add": "s", "pretrain": "^"}
"""Matplotlib markers by mode; other modes have dots."""


@dataclass(frozen=True)
class LineStyle:
    """The line of one arm.

    Attributes:
        colour: One of the stand-in colours of `drawing`, by generator.
        width: Line width in points, which rises with the synthetic fraction.
        dashes: Dash and gap length in points by mode; None for a solid line.
    """

    colour: str
    width: float
    dashes: tuple[int, int] | None

    @property
    def svg_style(self) -> str:
        """The line as CSS of an SVG path, for the legend of a page."""
        dashes = ",".join(map(str, self.dashes)) if self.dashes else "none"
        colour = PAGE_COLOURS[self.colour]
        return f"stroke:{colour};stroke-width:{self.width:g};stroke-dasharray:{dashes}"

    @property
    def plot_options(self) -> Mapping[str, object]:
        """The line as keyword arguments of `Axes.plot`."""
        style = (0, self.dashes) if self.dashes else "-"
        return {"color": self.colour, "linewidth": self.width, "linestyle": style}


def arm_style(arm: Arm, generators: Sequence[str]) -> LineStyle:
    """Returns the line of an arm; real only has the colour of the text, and a control is grey.

    Args:
        arm: The arm.
        generators: All generators of the page, whose order gives their colours.
    """
    if arm.synthetic_fraction == 0:
        return LineStyle(INK, 2.4, None)
    if arm.control or arm.generator not in generators:
        return LineStyle(MUTED, 0.8 + 2 * arm.synthetic_fraction, DASHES.get(arm.mode))
    colour = SERIES_COLOURS[list(generators).index(arm.generator) % len(SERIES_COLOURS)]
    return LineStyle(colour, 0.8 + 2 * arm.synthetic_fraction, DASHES.get(arm.mode))


def legend_style(generator: str, generators: Sequence[str]) -> str:
    """Returns a solid line in a generator's colour as CSS of an SVG path, for a legend.

    Args:
        generator: The generator.
        generators: All generators of the page, whose order gives their colours.
    """
    return LineStyle(generator_colour(generator, generators), 2.4, None).svg_style


def generator_colour(generator: str, generators: Sequence[str]) -> str:
    """Returns the stand-in colour of a generator; colours repeat after the last of `SERIES_COLOURS`.

    Args:
        generator: The generator.
        generators: All generators of the page, whose order gives their colours.
    """
    return SERIES_COLOURS[list(generators).index(generator) % len(SERIES_COLOURS)]


def marker_options(arm: Arm) -> dict[str, str]:
    """Returns the marker of an arm as keyword arguments of `Axes.plot`: its form is the mode's.

    Markers of controls and of the modes in `MARKERS` are hollow.
    """
    if arm.control:
        return {"marker": "X" if arm.control == "permuted" else "D", "mfc": BACKGROUND}
    if arm.mode in MARKERS:
        return {"marker": MARKERS[arm.mode], "mfc": BACKGROUND}
    return {"marker": "o"}
