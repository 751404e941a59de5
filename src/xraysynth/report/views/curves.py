"""Figures of the arms with their legends, and what a synthetic image is worth."""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from xraysynth.report import arm_groups, arm_styles, figures
from xraysynth.report.arm_groups import PRIMARY, SUMMARY
from xraysynth.report.content import Arm, ArmWorth
from xraysynth.report.formatting import breakable, number, signed_or_infinite
from xraysynth.report.views.cells import Heading, headings

NAME = SUMMARY[PRIMARY]


@dataclass(frozen=True)
class Panel:
    """A figure of one generator or class."""

    name: str
    svg: Markup


@dataclass(frozen=True)
class LegendEntry:
    """A name and how it is drawn."""

    name: str
    css: str


@dataclass(frozen=True)
class EquivalentRow:
    """How many real images one synthetic image of an arm is worth."""

    arm: Markup
    raw: str
    text: str
    interval: str
    n: str
    censored: str


@dataclass(frozen=True)
class EquivalentTable:
    """The real-data equivalents of the hybrid arms."""

    headings: Sequence[Heading]
    rows: Sequence[EquivalentRow]


@dataclass(frozen=True)
class CurvesSection:
    """Scores against shares and numbers of images, and precision against recall.

    `generators` and `arms` are legends; `learning` is empty without a learning curve.
    """

    shares: Sequence[Panel]
    learning: Markup | str
    generators: Sequence[LegendEntry]
    equivalents: EquivalentTable
    precision_recall: Sequence[Panel]
    arms: Sequence[LegendEntry]


def curves_section(
    arms: Sequence[Arm],
    worth: Sequence[ArmWorth],
    classes: Sequence[str],
    generators: Sequence[str],
) -> CurvesSection:
    """The figures of arms in the order of the page."""
    scored = [arm for arm in arms if PRIMARY in arm.scores and not arm.left_out]
    plain = [arm for arm in arms if not arm_groups.group(arm)]
    return CurvesSection(
        shares=_shares([arm for arm in scored if arm.real_fraction == 1], generators),
        learning=_learning(scored, generators),
        generators=[LegendEntry(name, arm_styles.swatch(name, generators)) for name in generators],
        equivalents=EquivalentTable(
            headings("arm", "real images per synthetic one", "N", ""),
            [_equivalent(row) for row in worth],
        ),
        precision_recall=_precision_recall(plain, classes, generators),
        arms=[LegendEntry(arm.name, arm_styles.stroke(arm, generators).css) for arm in plain],
    )


def _shares(arms: Sequence[Arm], generators: Sequence[str]) -> list[Panel]:
    own = {arm.generator for arm in arms if not arm.control}
    return [
        Panel(name, Markup(figures.against_share(arms, name, generators, PRIMARY, NAME)))
        for name in generators
        if name in own
    ]


def _learning(arms: Sequence[Arm], generators: Sequence[str]) -> Markup | str:
    if len({arm.real_images for arm in figures.real_alone(arms)}) < 2:
        return ""
    return Markup(figures.learning_curve(arms, generators, PRIMARY, NAME))


def _precision_recall(
    arms: Sequence[Arm], classes: Sequence[str], generators: Sequence[str]
) -> list[Panel]:
    drawn = [arm for arm in arms if arm.predictions]
    return [
        Panel(label, Markup(figures.precision_recall(drawn, label, generators)))
        for label in classes
        if drawn
    ]


def _equivalent(row: ArmWorth) -> EquivalentRow:
    found = row.equivalent
    value, low, high = (signed_or_infinite(x) for x in (found.value, found.low, found.high))
    return EquivalentRow(
        arm=breakable(row.arm),
        raw=str(found.value),
        text=value,
        interval=f"[{low}, {high}]",
        n=number(found.n, 0),
        censored=found.censored,
    )
