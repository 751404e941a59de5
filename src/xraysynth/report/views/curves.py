"""View of the figures of the arms with their legends, and of the real-data equivalents."""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from xraysynth.report import arm_groups, arm_styles, figures
from xraysynth.report.arm_groups import PRIMARY_METRIC, SUMMARY_METRICS
from xraysynth.report.content import Arm, ArmEquivalent
from xraysynth.report.formatting import add_word_breaks, format_number, format_signed_or_infinite
from xraysynth.report.views.cells import Heading, build_headings

PRIMARY_METRIC_NAME = SUMMARY_METRICS[PRIMARY_METRIC]


@dataclass(frozen=True)
class Panel:
    """A figure of one generator or one class, named by it."""

    name: str
    svg: Markup


@dataclass(frozen=True)
class LegendEntry:
    """A name in a legend with the CSS of its line."""

    name: str
    css: str


@dataclass(frozen=True)
class EquivalentRow:
    """The real-data equivalent of one synthetic image of an arm.

    Attributes:
        arm: Name of the arm.
        raw: The number for machines.
        text: The number as text.
        interval: Its interval.
        n: Number of synthetic images of the arm.
        censored: Which end of the interval lies beyond the learning curve, in words.
    """

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
    """Scores by synthetic fraction, by number of real images, and precision by recall.

    Attributes:
        fraction_panels: Score against synthetic fraction, one per generator.
        learning_curve: Score against the number of real images; empty where this is the same for all arms.
        generator_legend: The colours of the generators.
        equivalents: The real-data equivalents.
        precision_recall: Precision against recall, one per class.
        arm_legend: The lines of the arms.
    """

    fraction_panels: Sequence[Panel]
    learning_curve: Markup | str
    generator_legend: Sequence[LegendEntry]
    equivalents: EquivalentTable
    precision_recall: Sequence[Panel]
    arm_legend: Sequence[LegendEntry]


def curves_section(
    arms: Sequence[Arm],
    equivalents: Sequence[ArmEquivalent],
    classes: Sequence[str],
    generators: Sequence[str],
) -> CurvesSection:
    """Returns the figures of the arms.

    Args:
        arms: The arms in the order of the page.
        equivalents: The real-data equivalents.
        classes: The classes in order.
        generators: All generators of the page, whose order gives their colours.
    """
    scored = [arm for arm in arms if PRIMARY_METRIC in arm.scores and not arm.left_out_source]
    main_arms = [arm for arm in arms if not arm_groups.group_key(arm)]
    equivalent_headings = build_headings("arm", "real-data equivalent", "N", "")
    return CurvesSection(
        fraction_panels=_fraction_panels(scored, generators),
        learning_curve=_learning_curve_svg(scored, generators),
        generator_legend=_generator_legend(generators),
        equivalents=EquivalentTable(equivalent_headings, list(map(_equivalent_row, equivalents))),
        precision_recall=_precision_recall_panels(main_arms, classes, generators),
        arm_legend=_arm_legend(main_arms, generators),
    )


def _generator_legend(generators: Sequence[str]) -> list[LegendEntry]:
    """Returns the colour of each generator."""
    entries = []
    for name in generators:
        entries.append(LegendEntry(name, arm_styles.legend_style(name, generators)))
    return entries


def _arm_legend(arms: Sequence[Arm], generators: Sequence[str]) -> list[LegendEntry]:
    """Returns the line of each arm."""
    entries = []
    for arm in arms:
        style = arm_styles.arm_style(arm, generators)
        entries.append(LegendEntry(arm.name, style.svg_style))
    return entries


def _fraction_panels(arms: Sequence[Arm], generators: Sequence[str]) -> list[Panel]:
    """Returns a panel for each generator with a main arm of the whole train split."""
    whole_split = [arm for arm in arms if arm.real_fraction == 1]
    with_main_arm = {arm.generator for arm in whole_split if not arm.control}
    panels = []
    for name in generators:
        if name in with_main_arm:
            svg = figures.draw_score_by_fraction(
                whole_split, name, generators, PRIMARY_METRIC, PRIMARY_METRIC_NAME
            )
            panels.append(Panel(name, Markup(svg)))
    return panels


def _learning_curve_svg(arms: Sequence[Arm], generators: Sequence[str]) -> Markup | str:
    """Returns the learning curve; empty with fewer than two numbers of real images."""
    if len(figures.learning_curve_arms(arms)) < 2:
        return ""
    svg = figures.draw_learning_curve(arms, generators, PRIMARY_METRIC, PRIMARY_METRIC_NAME)
    return Markup(svg)


def _precision_recall_panels(
    arms: Sequence[Arm], classes: Sequence[str], generators: Sequence[str]
) -> list[Panel]:
    """Returns a panel for each class, with the arms that have predictions."""
    tested = [arm for arm in arms if arm.predictions]
    if not tested:
        return []
    panels = []
    for label in classes:
        svg = figures.draw_precision_recall(tested, label, generators)
        panels.append(Panel(label, Markup(svg)))
    return panels


def _equivalent_row(row: ArmEquivalent) -> EquivalentRow:
    """Returns the real-data equivalent of one arm as text."""
    estimate = row.equivalent
    low, high = format_signed_or_infinite(estimate.low), format_signed_or_infinite(estimate.high)
    return EquivalentRow(
        arm=add_word_breaks(row.arm),
        raw=str(estimate.value),
        text=format_signed_or_infinite(estimate.value),
        interval=f"[{low}, {high}]",
        n=format_number(estimate.n, 0),
        censored=estimate.censored,
    )
