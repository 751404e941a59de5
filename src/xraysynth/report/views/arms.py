"""View of the arms: gains, scores, and probes of their classifiers."""

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
    """The section on the arms.

    Attributes:
        gains: Macro-F1 and its differences to real only and to the controls.
        scores: All scores on the test images.
        external: Macro-F1 on external test sets; None without such sets.
        probes: What the classifiers have learned.
        by_class: Scores of each class.
    """

    gains: GainTable
    scores: ScoreTable
    external: ExternalTable | None
    probes: ProbeTable
    by_class: ClassScoreTable


def arms_section(arms: Sequence[Arm], classes: Sequence[str]) -> ArmsSection | None:
    """Returns the tables of the arms, of which the first is the reference; None without arms."""
    if not arms:
        return None
    return ArmsSection(
        gains=gain_table(arms),
        scores=score_table(arms),
        external=external_table(arms),
        probes=probe_table(arms),
        by_class=class_score_table(arms, classes),
    )
