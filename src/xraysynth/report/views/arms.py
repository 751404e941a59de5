"""The arms: what they gain, their scores, and what their classifiers have learned."""

from collections.abc import Sequence
from dataclasses import dataclass

from xraysynth.report.content import Arm
from xraysynth.report.views.gains import GainTable, gain_table
from xraysynth.report.views.probes import ProbeTable, probe_table
from xraysynth.report.views.scores import (
    ClassScoreTable,
    ExternalTable,
    ScoreTable,
    class_score_table,
    external_table,
    score_table,
)


@dataclass(frozen=True)
class ArmsSection:
    """Everything about the arms; `external` is None without external test sets."""

    gains: GainTable
    scores: ScoreTable
    external: ExternalTable | None
    probes: ProbeTable
    by_class: ClassScoreTable


def arms_section(arms: Sequence[Arm], classes: Sequence[str]) -> ArmsSection | None:
    """The tables of arms in the order of the page, of which the first is the reference."""
    if not arms:
        return None
    return ArmsSection(
        gains=gain_table(arms),
        scores=score_table(arms),
        external=external_table(arms),
        probes=probe_table(arms),
        by_class=class_score_table(arms, classes),
    )
