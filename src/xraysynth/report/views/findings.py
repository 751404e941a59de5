"""The first screen: what was found of each generator."""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from xraysynth.report import arm_groups, figures
from xraysynth.report.content import Arm
from xraysynth.report.findings import PRIMARY_METRIC, Finding
from xraysynth.report.verdicts import Verdict


@dataclass(frozen=True)
class TitledVerdict:
    """A verdict under its title."""

    title: str
    word: str
    sentence: str


@dataclass(frozen=True)
class Headline:
    """One generator: its gain, and sentences on its controls, what it rests on and its images."""

    generator: str
    word: str
    gain: str
    controls: str
    basis: str
    facts: Sequence[TitledVerdict]


@dataclass(frozen=True)
class FindingsSection:
    """What was found; `cost_verdict` is the verdict on what gains cost."""

    headlines: Sequence[Headline]
    cost_verdict: Verdict | None
    figure: Markup | str


def findings_section(
    findings: Sequence[Finding],
    cost_verdict: Verdict | None,
    arms: Sequence[Arm],
    generators: Sequence[str],
) -> FindingsSection:
    """Findings, and the figure of what the arms gain."""
    return FindingsSection(
        [_headline(one) for one in findings], cost_verdict, _draw_gains(arms, generators)
    )


def _headline(finding: Finding) -> Headline:
    gain, _, controls = finding.utility.sentence.partition("; ")
    return Headline(
        generator=finding.generator,
        word=finding.utility.word,
        gain=gain,
        controls=controls[:1].upper() + controls[1:],
        basis=finding.basis,
        facts=[
            TitledVerdict(title, said.word, said.sentence) for title, said in finding.other_verdicts
        ],
    )


def _draw_gains(arms: Sequence[Arm], generators: Sequence[str]) -> Markup | str:
    compared = [
        arm
        for arm in arms
        if PRIMARY_METRIC in arm.scores
        and PRIMARY_METRIC in arm.gains_over_real
        and not arm.left_out_source
        and arm.real_fraction == 1
    ]
    if not compared:
        return ""
    return Markup(
        figures.draw_differences(
            compared, generators, PRIMARY_METRIC, arm_groups.SUMMARY_METRICS[PRIMARY_METRIC]
        )
    )
