"""The findings of a study, generator by generator: the verdicts on the page's first screen."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from xraysynth.evaluation.metrics.statistics import holm_adjust
from xraysynth.evaluation.results import LabelFidelity, Measure
from xraysynth.report import arm_groups, verdicts
from xraysynth.report.content import Arm, ArmEquivalent, Content, PoolResults
from xraysynth.report.formatting import format_count, is_finite
from xraysynth.report.verdicts import Verdict

PRIMARY_METRIC = arm_groups.PRIMARY_METRIC

FRECHET_PREFIXES: tuple[str, ...] = ("FD(", "FID")
"""How the name of a Fréchet distance begins."""

KERNEL_PREFIXES: tuple[str, ...] = ("KD(", "KID")
"""How the name of a kernel distance begins, which decides whether images are far from real ones."""

MEMORISATION_PREFIXES: tuple[str, ...] = ("memorised",)
"""How the name of the measure begins that decides whether a generator memorises."""

TitledVerdict = tuple[str, Verdict]


@dataclass(frozen=True)
class Finding:
    """The verdicts on one generator.

    Attributes:
        generator: Name of the generator.
        utility: Whether training with its images is better than training on real images only.
        basis: The numbers of images, patients and seeds behind `utility`.
        other_verdicts: Verdicts on its images and its other arms, each with a title.
    """

    generator: str
    utility: Verdict
    basis: str
    other_verdicts: Sequence[TitledVerdict]


def collect_findings(content: Content) -> list[Finding]:
    """Returns one finding per generator that classifiers were trained with or that made images."""
    arms = arm_groups.sort_arms(content.arms)
    pools = {pool.generator: pool for pool in content.pools}
    names = dict.fromkeys([arm.generator for arm in arms if arm.generator])
    names |= dict.fromkeys(pools)
    kernel_p = _holm_p_values(content.pools, KERNEL_PREFIXES)
    memorisation_p = _holm_p_values(content.pools, MEMORISATION_PREFIXES)
    findings = []
    for name in names:
        pool = pools.get(name)
        image_verdicts = []
        if pool:
            image_verdicts = _image_verdicts(pool, kernel_p.get(name), memorisation_p.get(name))
        findings.append(_build_finding(content, arms, name, pool, image_verdicts))
    return findings


def _holm_p_values(pools: Sequence[PoolResults], prefixes: tuple[str, ...]) -> dict[str, float]:
    """Returns the p-value of one measure by generator, adjusted after Holm over the generators."""
    p_values = {}
    for pool in pools:
        measure = first_measure(pool, prefixes)
        if measure and is_finite(measure.p):
            p_values[pool.generator] = measure.p
    return holm_adjust(p_values)


def _build_finding(
    content: Content,
    arms: Sequence[Arm],
    generator: str,
    pool: PoolResults | None,
    image_verdicts: Sequence[TitledVerdict],
) -> Finding:
    """Returns the verdicts on one generator, the first on its best hybrid arm or else synthetic only."""
    hybrids, synthetic_only = arms_of_generator(arms, generator)
    candidates = hybrids or synthetic_only
    if not candidates:
        sentence = f"{generator}: no classifier was trained on its images"
        return Finding(generator, Verdict(verdicts.NOT_COMPARED, sentence), "", image_verdicts)
    best = max(candidates, key=gain_over_real)
    other_verdicts = [*image_verdicts, *_equivalent_verdicts(content.equivalents, best)]
    for arm in synthetic_only:
        if arm is not best:
            other_verdicts.append(("Synthetic only", arm_utility(arms, arm)))
    for arm in [*hybrids, *synthetic_only]:
        if arm.over_permuted.primary.interval and arm is not best:
            verdict = verdicts.permuted_control(arm.name, arm.over_permuted.primary)
            other_verdicts.append(("Permuted control", verdict))
    basis = _describe_basis(best, len(candidates)) + _finetuning_caveat(best, pool)
    return Finding(generator, arm_utility(arms, best), basis, other_verdicts)


def _equivalent_verdicts(equivalents: Sequence[ArmEquivalent], arm: Arm) -> list[TitledVerdict]:
    """Returns the verdict on an arm's real-data equivalent, where it was estimated."""
    for row in equivalents:
        if row.arm == arm.name:
            return [("Real-data equivalent", verdicts.real_data_equivalent(row.equivalent))]
    return []


def arms_of_generator(arms: Sequence[Arm], generator: str) -> tuple[list[Arm], list[Arm]]:
    """Returns the hybrid and the synthetic-only arms of a generator, without controls.

    Arms with a fraction of the real images count only where there are no others.

    Args:
        arms: The arms in the order of the page.
        generator: Name of the generator.
    """
    candidates = []
    for arm in arms:
        if arm.generator == generator and arm.synthetic_fraction > 0 and not arm.control:
            candidates.append(arm)
    main_arms = [arm for arm in candidates if not arm_groups.group_key(arm)]
    hybrids, synthetic_only = [], []
    for arm in main_arms or candidates:
        if arm.synthetic_fraction < 1:
            hybrids.append(arm)
        else:
            synthetic_only.append(arm)
    return hybrids, synthetic_only


def gain_over_real(arm: Arm) -> float:
    """Returns an arm's macro-F1 minus that of real only; minus infinity where it is not known."""
    gain = arm.gains_over_real.get(PRIMARY_METRIC)
    return gain.value if gain is not None and math.isfinite(gain.value) else -math.inf


def arm_utility(arms: Sequence[Arm], arm: Arm) -> Verdict:
    """Returns whether an arm is better than real only and than its controls.

    Args:
        arms: All arms, among which the duplicate control is found.
        arm: The arm.
    """
    duplicate = _duplicate_control(arms, arm)
    return verdicts.utility(
        arm=arm.name,
        metric=arm_groups.SUMMARY_METRICS[PRIMARY_METRIC],
        over_real=arm.over_real.primary,
        over_duplicates=arm.over_duplicates.primary,
        duplicates_over_real=duplicate.gains_over_real.get(PRIMARY_METRIC) if duplicate else None,
        over_permuted=arm.over_permuted.primary,
    )


def _duplicate_control(arms: Sequence[Arm], arm: Arm) -> Arm | None:
    """Returns the duplicate control of an arm.

    It is the same control for the modes add and pretrain: repeats of real images have no order.
    """
    mode = "add" if arm.mode == "pretrain" else arm.mode
    for other in arms:
        if (
            other.control == "duplicate"
            and other.synthetic_fraction == arm.synthetic_fraction
            and other.mode == mode
            and other.real_fraction == arm.real_fraction
        ):
            return other
    return None


def _describe_basis(best: Arm, arm_count: int) -> str:
    """Returns what the comparison with real only rests on, and that the arm was chosen among several."""
    images, patients = arm_groups.count_test_images(best), arm_groups.count_test_patients(best)
    seeds = format_count(len(best.over_real.seeds), "training seed")
    basis = (
        f"Based on {images} test images of {patients} patients and at least {seeds} of each arm."
    )
    if arm_count > 1:
        if best.p_holm is None:
            correction = "nothing is corrected for this choice"
        else:
            correction = "the p-value is corrected for this choice, the interval is not"
        basis += f" This is the arm with the largest gain among {arm_count}: {correction}."
    return basis


def _finetuning_caveat(best: Arm, pool: PoolResults | None) -> str:
    """Returns a caveat on an arm with few real images whose generator was fine-tuned on more."""
    images = pool.finetuning.images if pool and pool.finetuning else 0
    if not images or best.real_fraction == 1:
        return ""
    return (
        f" {best.generator} was fine-tuned on {images} real images, while the classifiers compared here "
        f"were trained on {best.real_fraction:.0%} of them: the gain does not come from these few alone."
    )


def _image_verdicts(
    pool: PoolResults, kernel_p_holm: float | None, memorisation_p_holm: float | None
) -> list[TitledVerdict]:
    """Returns the verdicts on the images themselves: distance, memorisation and label fidelity."""
    titled = []
    kernel = first_measure(pool, KERNEL_PREFIXES)
    if kernel:
        titled.append(("Distance", _distance_verdict(pool, kernel, kernel_p_holm)))
    memorisation = verdicts.memorisation(
        flagged=first_measure(pool, MEMORISATION_PREFIXES),
        p_holm=memorisation_p_holm,
        not_assessable_reason=pool.not_assessable_reason.removesuffix(": not assessable"),
    )
    titled.append(("Memorisation", memorisation))
    titled.append(("Label fidelity", _fidelity_verdict(pool)))
    return titled


def _distance_verdict(pool: PoolResults, kernel: Measure, p_holm: float | None) -> Verdict:
    """Returns the verdict on the distance from real images, decided by the kernel distance."""
    frechet = first_measure(pool, FRECHET_PREFIXES)
    return verdicts.image_distance(
        _distance_with_baseline(kernel),
        p_holm=p_holm,
        second_distance=_distance_with_baseline(frechet) if frechet else None,
        warning=frechet.note if frechet else "",
    )


def _distance_with_baseline(row: Measure) -> verdicts.Distance:
    return verdicts.Distance(row.metric, row, row.baseline)


def _fidelity_verdict(pool: PoolResults) -> Verdict:
    """Returns the verdict on label fidelity, with chance among the classes that have images."""
    fidelity = overall_fidelity(pool)
    classes = [row.label for row in pool.label_fidelity if row.label and row.n > 0]
    return verdicts.label_fidelity(
        fidelity=fidelity,
        classes=len(classes),
        real=fidelity.real_interval if fidelity else None,
    )


def first_measure(pool: PoolResults, prefixes: tuple[str, ...]) -> Measure | None:
    """Returns the first measure of all classes together whose name begins with one of `prefixes`.

    Args:
        pool: The generator's images and measures.
        prefixes: How the name of the measure may begin.
    """
    for row in pool.measures:
        if not row.label and row.metric.startswith(prefixes):
            return row
    return None


def overall_fidelity(pool: PoolResults) -> LabelFidelity | None:
    """Returns the label fidelity of all classes together; None where it was not measured."""
    for row in pool.label_fidelity:
        if not row.label:
            return row
    return None
