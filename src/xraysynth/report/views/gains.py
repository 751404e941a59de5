"""View of the arms' macro-F1 and its differences to real only and to the controls."""

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
    """The verdict on a difference to real only.

    Attributes:
        word: The word of the verdict, with the margin of an equivalence.
        style: Its CSS class; empty where no difference is shown.
        detectable: The difference that would have been found where none is shown; empty if not known.
        is_single_seed: Whether both arms share a single seed, which shows no difference.
    """

    word: str
    style: str
    detectable: str
    is_single_seed: bool


@dataclass(frozen=True)
class GainRow:
    """One arm's macro-F1 and its differences to the arms that it is compared with.

    Attributes:
        arm: The arm.
        training_summary: Its training images, seeds and seconds, in words.
        score: Macro-F1, mean over seeds.
        by_seed: Macro-F1 of each seed; empty with a single seed.
        is_reference: Whether other arms are compared with this one.
        is_synthetic: Whether it has synthetic images.
        difference: The arm minus real only; None where they were not compared.
        verdict: The verdict on `difference`; None where nothing is claimed.
        over_duplicates: The arm minus its duplicate control.
        over_permuted: The arm minus its permuted control.
        errors_removed: Fraction of the errors of real only that the arm removes.
        p_holm: Adjusted p-value of `difference`.
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
    """The gains of the arms, in groups."""

    headings: Sequence[Heading]
    groups: Sequence[GainGroup]

    @property
    def columns(self) -> int:
        """Number of columns."""
        return len(self.headings)


def gain_table(arms: Sequence[Arm]) -> GainTable:
    """Returns the gains of the arms in the order of the page, of which the first is the reference."""
    names = ("arm", "macro-F1", "Δ real only", "Δ duplicates", "Δ permuted", "errors removed")
    groups = []
    for title, group in arm_groups.group_arms(arms):
        rows = [_gain_row(arm, is_reference=arm is arms[0]) for arm in group]
        groups.append(GainGroup(title, rows))
    return GainTable(build_headings(*names, "p (Holm)"), groups)


def _gain_row(arm: Arm, *, is_reference: bool) -> GainRow:
    """Returns one arm with its macro-F1, its differences and the verdict on them."""
    score = arm.scores.get(PRIMARY_METRIC)
    difference = arm.gains_over_real.get(PRIMARY_METRIC)
    over_duplicates = arm.over_duplicates.differences.get(PRIMARY_METRIC)
    over_permuted = arm.over_permuted.differences.get(PRIMARY_METRIC)
    return GainRow(
        arm=arm_label(arm),
        training_summary=_training_summary(arm),
        score=raw_score_cell(score) if score else Cell(),
        by_seed=_format_seed_scores(arm) if len(arm.seeds) > 1 else "",
        is_reference=is_reference,
        is_synthetic=arm.synthetic_fraction > 0,
        difference=raw_score_cell(difference, with_sign=True) if difference else None,
        verdict=_gain_verdict(arm),
        over_duplicates=score_cell(over_duplicates, with_sign=True),
        over_permuted=score_cell(over_permuted, with_sign=True),
        errors_removed=_errors_removed_cell(arm.errors_removed),
        p_holm=format_number(arm.p_holm),
    )


def _training_summary(arm: Arm) -> str:
    """Returns training images, seeds and time: "200 real + 200 synthetic, 2 seeds, 31 s a run"."""
    added = f"{arm.synthetic_images} synthetic"
    if arm.control == "duplicate":
        added = f"{arm.real_repeats} repeated"
    parts = [f"{arm.real_images} real + {added}", format_count(len(arm.seeds), "seed")]
    if arm.seconds:
        parts.append(f"{format_duration(sum(arm.seconds) / len(arm.seconds))} a run")
    return ", ".join(parts)


def _format_seed_scores(arm: Arm) -> str:
    """Returns the macro-F1 of each seed."""
    values = [scores.get(PRIMARY_METRIC) for scores in arm.scores_by_seed]
    return ", ".join(map(format_number, values))


def _gain_verdict(arm: Arm) -> GainVerdict | None:
    """Returns the verdict on a difference to real only; controls and left-out sources have none."""
    if arm.control or arm.left_out_source:
        return None
    gain = arm.over_real.primary
    has_style = gain.word in (verdicts.BETTER, verdicts.WORSE, verdicts.EQUIVALENT)
    return GainVerdict(
        gain.word_with_margin,
        style=gain.word if has_style else "",
        detectable=gain.detectable_text,
        is_single_seed=len(arm.over_real.seeds) == 1,
    )


def _errors_removed_cell(removed: Interval | None) -> Cell:
    """Returns the fraction of removed errors in percent; a dash where it is not known."""
    if removed is None or not is_finite(removed.value):
        return Cell()
    value = format_number(100 * removed.value, 0)
    low, high = format_number(100 * removed.low, 0), format_number(100 * removed.high, 0)
    return Cell(f"{value}%", str(removed.value), f"[{low}%, {high}%]")
