"""What was found, generator by generator: the verdicts on the page's first screen."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from xraysynth.evaluation.metrics.statistics import holm_adjust
from xraysynth.evaluation.results import LabelFidelity, Measure
from xraysynth.report import arm_groups, verdicts
from xraysynth.report.content import Arm, Content, PoolResults
from xraysynth.report.formatting import is_finite
from xraysynth.report.verdicts import Verdict

PRIMARY_METRIC = arm_groups.PRIMARY_METRIC

FRECHET_PREFIXES: tuple[str, ...] = ("FD(", "FID")
KERNEL_PREFIXES: tuple[str, ...] = ("KD(", "KID")
MEMORISATION_PREFIXES: tuple[str, ...] = ("memorised",)
"""What the names of the measures begin with that a verdict rests on, or shows."""


@dataclass(frozen=True)
class Finding:
    """One generator: whether its images help, what that rests on, and verdicts by their title."""

    generator: str
    utility: Verdict
    basis: str
    other_verdicts: Sequence[tuple[str, Verdict]]


def collect_findings(content: Content) -> list[Finding]:
    """One for each generator that was trained with, or that made images."""
    arms = arm_groups.sort_arms(content.arms)
    pools = {pool.generator: pool for pool in content.pools}
    names = dict.fromkeys([arm.generator for arm in arms if arm.generator] + list(pools))
    adjusted = {
        measures: _holm_p_values(content.pools, measures)
        for measures in (KERNEL_PREFIXES, MEMORISATION_PREFIXES)
    }
    found = []
    for name in names:
        p_holm = {measures: p_values.get(name) for measures, p_values in adjusted.items()}
        found.append(_build_finding(content, arms, name, pools.get(name), p_holm))
    return found


def _holm_p_values(pools: Sequence[PoolResults], prefixes: tuple[str, ...]) -> dict[str, float]:
    """The p-values of one measure of every pool, adjusted after Holm over the generators."""
    rows = {pool.generator: first_measure(pool, prefixes) for pool in pools}
    return holm_adjust({name: row.p for name, row in rows.items() if row and is_finite(row.p)})


def _build_finding(
    content: Content,
    arms: Sequence[Arm],
    generator: str,
    pool: PoolResults | None,
    p_holm: Mapping[tuple[str, ...], float | None],
) -> Finding:
    hybrids, alone = arms_of_generator(arms, generator)
    others = _image_verdicts(pool, p_holm) if pool else []
    if not (tried := hybrids or alone):
        nothing = Verdict(verdicts.NOT_COMPARED, f"{generator}: no classifier was trained with it")
        return Finding(generator, nothing, "", others)
    best = max(tried, key=gain_over_real)
    worth = next((row for row in content.equivalents if row.arm == best.name), None)
    if worth:
        others.append(("Worth", verdicts.real_data_equivalent(worth.equivalent)))
    others += [("Alone", arm_utility(arms, arm)) for arm in alone if arm is not best]
    others += [
        ("Permuted", verdicts.permuted_control(arm.name, over, arm.over_permuted.p_holm))
        for arm in [*hybrids, *alone]
        if arm is not best and (over := arm.over_permuted.differences.get(PRIMARY_METRIC))
    ]
    basis = _describe_basis(best, len(tried)) + _finetuning_caveat(best, pool)
    return Finding(generator, arm_utility(arms, best), basis, others)


def arms_of_generator(arms: Sequence[Arm], generator: str) -> tuple[list[Arm], list[Arm]]:
    """A generator's arms, hybrid and synthetic only; never controls, nor with fewer real images
    unless there are no others."""
    own = [
        a for a in arms if a.generator == generator and a.synthetic_fraction > 0 and not a.control
    ]
    whole = [arm for arm in own if not arm_groups.group_key(arm)] or own
    return [a for a in whole if a.synthetic_fraction < 1], [
        a for a in whole if a.synthetic_fraction == 1
    ]


def gain_over_real(arm: Arm) -> float:
    """Macro-F1 over real only; minus infinity where it is not known."""
    value = (
        arm.gains_over_real[PRIMARY_METRIC].value
        if PRIMARY_METRIC in arm.gains_over_real
        else math.nan
    )
    return value if math.isfinite(value) else -math.inf


def arm_utility(arms: Sequence[Arm], arm: Arm) -> Verdict:
    """Whether an arm gains, beside its controls."""
    duplicate = _duplicate_control(arms, arm)
    return verdicts.utility(
        arm=arm.name,
        metric=arm_groups.SUMMARY_METRICS[PRIMARY_METRIC],
        over_real=arm.over_real.differences.get(PRIMARY_METRIC),
        p_real=arm.over_real.p_holm,
        over_duplicates=arm.over_duplicates.differences.get(PRIMARY_METRIC),
        p_duplicates=arm.over_duplicates.p_holm,
        duplicates_over_real=duplicate.gains_over_real.get(PRIMARY_METRIC) if duplicate else None,
        over_permuted=arm.over_permuted.differences.get(PRIMARY_METRIC),
        p_permuted=arm.over_permuted.p_holm,
    )


def _duplicate_control(arms: Sequence[Arm], arm: Arm) -> Arm | None:
    """The duplicate-real control of an arm. Repeats of real images are the same for images that come
    on top and for those that come first."""
    mode = "add" if arm.mode == "pretrain" else arm.mode
    place = (arm.synthetic_fraction, mode, arm.real_fraction)
    return next(
        (
            other
            for other in arms
            if other.control == "duplicate"
            and (other.synthetic_fraction, other.mode, other.real_fraction) == place
        ),
        None,
    )


def _describe_basis(best: Arm, arm_count: int) -> str:
    """What the comparison with real only rests on, and that it was chosen among several."""
    seeds = len(best.over_real.seeds)
    basis = (
        f"{arm_groups.count_test_images(best)} test images, {arm_groups.count_test_patients(best)} patients, "
        f"{seeds} {'seed' if seeds == 1 else 'seeds'} of both arms."
    )
    if arm_count > 1:
        corrected = (
            "p, but not the interval, corrects" if best.p_holm is not None else "nothing corrects"
        )
        basis += f" The largest gain of {arm_count} arms; {corrected} for that."
    return basis


def _finetuning_caveat(best: Arm, pool: PoolResults | None) -> str:
    """Said of an arm with few real images whose generator has learned from more than these."""
    taught = pool.finetuning.images if pool and pool.finetuning else 0
    if not taught or best.real_fraction == 1:
        return ""
    return (
        f" {best.generator} was fine-tuned on {taught} real images, and its classifiers are compared with "
        f"those of {best.real_fraction:.0%} of them: what it adds is no gain from these alone."
    )


def _image_verdicts(
    pool: PoolResults, p_holm: Mapping[tuple[str, ...], float | None]
) -> list[tuple[str, Verdict]]:
    """Verdicts on the images themselves."""
    found = []
    if kernel := first_measure(pool, KERNEL_PREFIXES):
        frechet = first_measure(pool, FRECHET_PREFIXES)
        shown = verdicts.image_distance(
            _distance_with_baseline(kernel),
            p_holm=p_holm[KERNEL_PREFIXES],
            second_distance=_distance_with_baseline(frechet) if frechet else None,
            warning=frechet.note if frechet else "",
        )
        found.append(("Images", shown))
    flagged = first_measure(pool, MEMORISATION_PREFIXES)
    unassessable = pool.not_assessable_reason.removesuffix(": not assessable")
    copies = verdicts.memorisation(
        flagged=flagged,
        p_holm=p_holm[MEMORISATION_PREFIXES],
        not_assessable_reason=unassessable,
    )
    found.append(("Copies", copies))
    seen = overall_fidelity(pool)
    faithful = verdicts.label_fidelity(
        fidelity=seen,
        classes=sum(1 for row in pool.label_fidelity if row.label and row.n > 0),
        real=seen.real_interval if seen else None,
    )
    return [*found, ("Labels", faithful)]


def _distance_with_baseline(row: Measure) -> verdicts.Distance:
    return verdicts.Distance(row.metric, row, row.baseline)


def first_measure(pool: PoolResults, prefixes: tuple[str, ...]) -> Measure | None:
    """The first encoder's measure of all classes by one of these names."""
    overall = (row for row in pool.measures if not row.label)
    return next((row for row in overall if row.metric.startswith(prefixes)), None)


def overall_fidelity(pool: PoolResults) -> LabelFidelity | None:
    """The label faithfulness of all classes together."""
    return next((row for row in pool.label_fidelity if not row.label), None)
