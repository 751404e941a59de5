"""The first screen: what was found of each generator."""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from xraysynth.report import arm_groups, figures
from xraysynth.report.content import Arm
from xraysynth.report.findings import PRIMARY, Finding
from xraysynth.report.verdicts import Verdict


@dataclass(frozen=True)
class FactView:
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
    facts: Sequence[FactView]


@dataclass(frozen=True)
class FindingsSection:
    """What was found; `balance` is the verdict on what gains cost."""

    headlines: Sequence[Headline]
    balance: Verdict | None
    figure: Markup | str


def findings_section(
    found: Sequence[Finding],
    balance: Verdict | None,
    arms: Sequence[Arm],
    generators: Sequence[str],
) -> FindingsSection:
    """Findings, and the figure of what the arms gain."""
    return FindingsSection([_headline(one) for one in found], balance, _figure(arms, generators))


def _headline(finding: Finding) -> Headline:
    gain, _, controls = finding.utility.sentence.partition("; ")
    return Headline(
        generator=finding.generator,
        word=finding.utility.word,
        gain=gain,
        controls=controls[:1].upper() + controls[1:],
        basis=finding.basis,
        facts=[FactView(title, said.word, said.sentence) for title, said in finding.others],
    )


def _figure(arms: Sequence[Arm], generators: Sequence[str]) -> Markup | str:
    compared = [
        arm
        for arm in arms
        if PRIMARY in arm.scores
        and PRIMARY in arm.difference
        and not arm.left_out
        and arm.real_fraction == 1
    ]
    if not compared:
        return ""
    return Markup(figures.differences(compared, generators, PRIMARY, arm_groups.SUMMARY[PRIMARY]))
