"""The first screen of a study's page: the findings on each generator."""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from xraysynth.evaluation.metrics.seed_variance import SpreadOfSeeds
from xraysynth.report import arm_groups, figures
from xraysynth.report.arm_groups import PRIMARY_METRIC
from xraysynth.report.content import Arm
from xraysynth.report.findings import Finding
from xraysynth.report.seed_spread import describe_spread_of_seeds
from xraysynth.report.verdicts import Verdict

TITLE_TERMS = {
    "Distance": "real-vs-real baseline",
    "Memorisation": "memorisation flag",
    "Label fidelity": "label fidelity",
    "Real-data equivalent": "real-data equivalent",
    "Synthetic only": "synthetic fraction",
    "Permuted control": "permuted control",
}
"""The glossary's term behind the title of each verdict."""


@dataclass(frozen=True)
class TitledVerdict:
    """A verdict under its title.

    Attributes:
        title: The title.
        term: The glossary's term behind the title.
        word: The word of the verdict.
        sentence: The sentence of the verdict.
    """

    title: str
    term: str
    word: str
    sentence: str


@dataclass(frozen=True)
class Headline:
    """The findings on one generator.

    Attributes:
        generator: Name of the generator.
        word: The word of the verdict on its gain.
        gain: The verdict on its gain over real only.
        controls: The verdicts on its controls; empty without controls.
        basis: What these verdicts rest on.
        facts: Verdicts on its images and its other arms.
    """

    generator: str
    word: str
    gain: str
    controls: str
    basis: str
    facts: Sequence[TitledVerdict]


@dataclass(frozen=True)
class FindingsSection:
    """The first screen of the page.

    Attributes:
        headlines: The findings on each generator.
        cost_verdict: The verdict on the cheapest gain; None where nothing was compared.
        spread_of_seeds: How the intervals between seeds were made; empty without several seeds.
        margin: The margin of equivalence, as text; empty if none is given.
        figure: The gains of the arms as SVG; empty where nothing was compared.
    """

    headlines: Sequence[Headline]
    cost_verdict: Verdict | None
    spread_of_seeds: str
    margin: str
    figure: Markup | str


def findings_section(
    findings: Sequence[Finding],
    cost_verdict: Verdict | None,
    arms: Sequence[Arm],
    generators: Sequence[str],
    spreads: Sequence[SpreadOfSeeds],
) -> FindingsSection:
    """Returns the findings, and the figure of the arms' gains over real only.

    Args:
        findings: The findings on each generator.
        cost_verdict: The verdict on the cheapest gain.
        arms: The arms in the order of the page.
        generators: All generators of the page, whose order gives their colours.
        spreads: How much training seeds differ, by group of arms.
    """
    return FindingsSection(
        headlines=list(map(_headline, findings)),
        cost_verdict=cost_verdict,
        spread_of_seeds=describe_spread_of_seeds(spreads),
        margin=max((arm.over_real.primary.margin_text for arm in arms), default=""),
        figure=_draw_gains(arms, generators),
    )


def _headline(finding: Finding) -> Headline:
    """Splits the verdict on a generator's gain into its first sentence and those on the controls."""
    gain, _, controls = finding.utility.sentence.partition("; ")
    facts = []
    for title, verdict in finding.other_verdicts:
        facts.append(TitledVerdict(title, TITLE_TERMS[title], verdict.word, verdict.sentence))
    return Headline(
        generator=finding.generator,
        word=finding.utility.word,
        gain=gain,
        controls=controls[:1].upper() + controls[1:],
        basis=finding.basis,
        facts=facts,
    )


def _draw_gains(arms: Sequence[Arm], generators: Sequence[str]) -> Markup | str:
    """Returns the gains over real only as SVG; empty where nothing was compared."""
    compared = [arm for arm in arms if _has_comparable_gain(arm)]
    if not compared:
        return ""
    name = arm_groups.SUMMARY_METRICS[PRIMARY_METRIC]
    return Markup(figures.draw_differences(compared, generators, PRIMARY_METRIC, name))


def _has_comparable_gain(arm: Arm) -> bool:
    """Whether an arm of the whole train split was compared with real only."""
    is_scored = PRIMARY_METRIC in arm.scores and PRIMARY_METRIC in arm.gains_over_real
    return is_scored and not arm.left_out_source and arm.real_fraction == 1
