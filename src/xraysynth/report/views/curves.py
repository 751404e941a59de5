"""Figures of the arms with their legends, and what a synthetic image is worth."""

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

    `generators` and `arms` are legends; `learning_curve` is empty without a learning curve.
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
    """The figures of arms in the order of the page."""
    scored = [arm for arm in arms if PRIMARY_METRIC in arm.scores and not arm.left_out_source]
    plain = [arm for arm in arms if not arm_groups.group_key(arm)]
    return CurvesSection(
        fraction_panels=_fraction_panels(
            [arm for arm in scored if arm.real_fraction == 1], generators
        ),
        learning_curve=_learning_curve_svg(scored, generators),
        generator_legend=[
            LegendEntry(name, arm_styles.legend_style(name, generators)) for name in generators
        ],
        equivalents=EquivalentTable(
            build_headings("arm", "real-data equivalent", "N", ""),
            [_equivalent_row(row) for row in equivalents],
        ),
        precision_recall=_precision_recall_panels(plain, classes, generators),
        arm_legend=[
            LegendEntry(arm.name, arm_styles.arm_style(arm, generators).svg_style) for arm in plain
        ],
    )


def _fraction_panels(arms: Sequence[Arm], generators: Sequence[str]) -> list[Panel]:
    own = {arm.generator for arm in arms if not arm.control}
    return [
        Panel(
            name,
            Markup(
                figures.draw_score_by_fraction(
                    arms, name, generators, PRIMARY_METRIC, PRIMARY_METRIC_NAME
                )
            ),
        )
        for name in generators
        if name in own
    ]


def _learning_curve_svg(arms: Sequence[Arm], generators: Sequence[str]) -> Markup | str:
    if len({arm.real_images for arm in figures.learning_curve_arms(arms)}) < 2:
        return ""
    return Markup(
        figures.draw_learning_curve(arms, generators, PRIMARY_METRIC, PRIMARY_METRIC_NAME)
    )


def _precision_recall_panels(
    arms: Sequence[Arm], classes: Sequence[str], generators: Sequence[str]
) -> list[Panel]:
    drawn = [arm for arm in arms if arm.predictions]
    return [
        Panel(label, Markup(figures.draw_precision_recall(drawn, label, generators)))
        for label in classes
        if drawn
    ]


def _equivalent_row(row: ArmEquivalent) -> EquivalentRow:
    found = row.equivalent
    value, low, high = (format_signed_or_infinite(x) for x in (found.value, found.low, found.high))
    return EquivalentRow(
        arm=add_word_breaks(row.arm),
        raw=str(found.value),
        text=value,
        interval=f"[{low}, {high}]",
        n=format_number(found.n, 0),
        censored=found.censored,
    )
