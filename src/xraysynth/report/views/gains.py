"""What the arms gain over those that they are compared with."""

from collections.abc import Sequence
from dataclasses import dataclass

from xraysynth.evaluation.metrics.statistics import Interval
from xraysynth.report import arm_groups, verdicts
from xraysynth.report.arm_groups import PRIMARY_METRIC
from xraysynth.report.content import Arm
from xraysynth.report.formatting import format_count, format_duration, format_number, is_finite
from xraysynth.report.views.cells import (
    ArmLabel,
    Cell,
    Heading,
    arm_label,
    build_headings,
    raw_score_cell,
    score_cell,
)


@dataclass(frozen=True)
class GainVerdict:
    """What a difference to real only shows, where something is claimed of it."""

    word: str
    style: str
    is_single_seed: bool


@dataclass(frozen=True)
class GainRow:
    """One arm's primary score and its differences to the arms that it is compared with.

    `made_of` are its images, seeds and seconds; `by_seed` its scores, where there are several seeds.
    """

    arm: ArmLabel
    training_summary: str
    score: Cell
    by_seed: str
    is_reference: bool
    is_synthetic: bool
    difference: Cell | None
    verdict: GainVerdict | None
    over_duplicates: Cell
    over_permuted: Cell
    errors_removed: Cell
    p_holm: str


@dataclass(frozen=True)
class GainGroup:
    """Arms under one title."""

    title: str
    rows: Sequence[GainRow]


@dataclass(frozen=True)
class GainTable:
    """What the arms gain, in groups."""

    headings: Sequence[Heading]
    groups: Sequence[GainGroup]

    @property
    def columns(self) -> int:
        """All columns."""
        return len(self.headings)


def gain_table(arms: Sequence[Arm]) -> GainTable:
    """The gains of arms in the order of the page, of which the first is the reference."""
    names = ("arm", "macro-F1", "Δ real only", "Δ duplicates", "Δ permuted", "errors removed")
    groups = []
    for title, group in arm_groups.group_arms(arms):
        rows = [_gain_row(arm, is_reference=arm is arms[0]) for arm in group]
        groups.append(GainGroup(title, rows))
    return GainTable(build_headings(*names, "p (Holm)"), groups)


def _gain_row(arm: Arm, *, is_reference: bool) -> GainRow:
    difference = arm.gains_over_real.get(PRIMARY_METRIC)
    return GainRow(
        arm=arm_label(arm),
        training_summary=_training_summary(arm),
        score=raw_score_cell(arm.scores[PRIMARY_METRIC])
        if PRIMARY_METRIC in arm.scores
        else Cell(),
        by_seed=_format_seed_scores(arm) if len(arm.seeds) > 1 else "",
        is_reference=is_reference,
        is_synthetic=arm.synthetic_fraction > 0,
        difference=raw_score_cell(difference, with_sign=True) if difference else None,
        verdict=_gain_verdict(arm, difference),
        over_duplicates=score_cell(
            arm.over_duplicates.differences.get(PRIMARY_METRIC), with_sign=True
        ),
        over_permuted=score_cell(arm.over_permuted.differences.get(PRIMARY_METRIC), with_sign=True),
        errors_removed=_errors_removed_cell(arm.errors_removed),
        p_holm=format_number(arm.p_holm),
    )


def _training_summary(arm: Arm) -> str:
    added = f"{arm.synthetic_images} synthetic"
    if arm.control == "duplicate":
        added = f"{arm.real_repeats} repeated"
    parts = [f"{arm.real_images} real + {added}", format_count(len(arm.seeds), "seed")]
    if arm.seconds:
        parts.append(f"{format_duration(sum(arm.seconds) / len(arm.seconds))} a run")
    return ", ".join(parts)


def _format_seed_scores(arm: Arm) -> str:
    return ", ".join(format_number(scores.get(PRIMARY_METRIC)) for scores in arm.scores_by_seed)


def _gain_verdict(arm: Arm, difference: Interval | None) -> GainVerdict | None:
    if arm.control or arm.left_out_source:
        return None
    word = verdicts.classify_difference(difference, p_holm=arm.p_holm)
    style = word if word in (verdicts.BETTER, verdicts.WORSE) else ""
    return GainVerdict(word, style, is_single_seed=len(arm.over_real.seeds) == 1)


def _errors_removed_cell(removed: Interval | None) -> Cell:
    if removed is None or not is_finite(removed.value):
        return Cell()
    value, low, high = (
        format_number(100 * x, 0) for x in (removed.value, removed.low, removed.high)
    )
    return Cell(f"{value}%", str(removed.value), f"[{low}%, {high}%]")
