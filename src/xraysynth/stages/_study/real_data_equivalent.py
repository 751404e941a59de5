"""Real-data equivalents of synthetic images, and the cost of leaving a source out of training."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from xraysynth.report.content import Arm, ArmEquivalent, LeftOutSource
from xraysynth.stages._study.arms import PRIMARY_METRIC, Scorer
from xraysynth.stages._study.tested_arm import TestedArm, select_source
from xraysynth.training.recipe import Control

if TYPE_CHECKING:
    from xraysynth.evaluation.metrics.real_data_equivalent import LearningCurve

LEFT_OUT_METRIC = "balanced_accuracy"
"""The score on the test images of one source, which is defined even if classes have no image."""


def compute_real_data_equivalents(
    scorer: Scorer, tested_arms: Sequence[TestedArm], arms: Sequence[Arm]
) -> list[ArmEquivalent]:
    """Compute how many real images one synthetic image of each mixed arm is equivalent to.

    The learning curve goes through the real-only arms, and is read at the arm's score.

    Args:
        scorer: The scores of all arms.
        tested_arms: All arms of the study.
        arms: Their entries in the report, in the same order.

    Returns:
        One entry per arm that mixes real and synthetic images. Arms of a single seed are left out, on
        the curve as well. The list is empty if the curve has fewer than two points, or if a class has
        too few test patients for a bootstrap to see how they differ.
    """
    from xraysynth.evaluation.metrics.real_data_equivalent import equivalent_per_synthetic_image

    real_only_arms = _real_only_arms_by_size(tested_arms, arms)
    if len(real_only_arms) < 2:
        return []
    smallest_arm = next(iter(real_only_arms.values()))
    if scorer.resample_arm(smallest_arm).scarce_classes:
        return []
    equivalents = []
    for tested_arm, arm in zip(tested_arms, arms, strict=True):
        is_mixed = tested_arm.is_generator_arm and 0 < arm.synthetic_fraction < 1
        if not is_mixed or len(tested_arm.jobs) < 2:
            continue
        equivalent = equivalent_per_synthetic_image(
            _build_learning_curve(scorer, real_only_arms),
            scorer.resample_arm(tested_arm).replicates(PRIMARY_METRIC),
            real_images=arm.real_images,
            synthetic_images=arm.synthetic_images,
        )
        equivalents.append(ArmEquivalent(arm.name, equivalent))
    return equivalents


def _real_only_arms_by_size(
    tested_arms: Sequence[TestedArm], arms: Sequence[Arm]
) -> dict[int, TestedArm]:
    """Return the arms of real images of all sources by number of images, ascending."""
    by_size: dict[int, TestedArm] = {}
    for tested_arm, arm in zip(tested_arms, arms, strict=True):
        if not arm.generator and not arm.left_out_source and len(tested_arm.jobs) > 1:
            by_size.setdefault(arm.real_images, tested_arm)
    return dict(sorted(by_size.items()))


def _build_learning_curve(
    scorer: Scorer, real_only_arms: Mapping[int, TestedArm]
) -> "LearningCurve":
    """Build the curve of scores `(K, 1 + R)` over K numbers of real images."""
    from xraysynth.evaluation.metrics.real_data_equivalent import LearningCurve

    scores = []
    for arm in real_only_arms.values():
        scores.append(scorer.resample_arm(arm).replicates(PRIMARY_METRIC))
    return LearningCurve(np.array(list(real_only_arms)), np.stack(scores))


def compare_left_out_sources(
    scorer: Scorer, tested_arms: Sequence[TestedArm]
) -> list[LeftOutSource]:
    """Compare training with and without each left-out source, on the test images of that source.

    Training without the source is compared with the real-only arm, and with the size-matched control,
    which has as few images as the arm without the source, but of all sources.

    Args:
        scorer: The scores of all arms.
        tested_arms: All arms of the study.

    Returns:
        One entry per arm that leaves a source out; empty if the real-only arm is not finished.
    """
    with_source = _find_real_only_of_all_images(tested_arms)
    if with_source is None:
        return []
    size_matched_arms: dict[str, TestedArm] = {}
    for arm in tested_arms:
        if arm.is_size_matched_control:
            size_matched_arms.setdefault(arm.data.leave_out, arm)
    rows = []
    for arm in tested_arms:
        if arm.data.leave_out and arm.data.control is Control.none:
            size_matched = size_matched_arms.get(arm.data.leave_out)
            row = _compare_left_out_source(scorer, arm, with_source, size_matched)
            if row is not None:
                rows.append(row)
    return rows


def _find_real_only_of_all_images(tested_arms: Sequence[TestedArm]) -> TestedArm | None:
    """Return the real-only arm that trains on all real images; None if it is not finished."""
    for arm in tested_arms:
        if arm.is_real_only and arm.data.real_fraction == 1:
            return arm
    return None


def _compare_left_out_source(
    scorer: Scorer,
    without_source: TestedArm,
    with_source: TestedArm,
    size_matched: TestedArm | None = None,
) -> LeftOutSource | None:
    """Compare arms on the test images of the source that `without_source` leaves out.

    Args:
        scorer: The scores of all arms.
        without_source: The arm that leaves the source out.
        with_source: The real-only arm of all images.
        size_matched: The size-matched control of `without_source`, if there is one.

    Returns:
        Balanced accuracies and their paired differences; None if the source has no test images.
    """
    arms = [without_source, with_source]
    if size_matched is not None:
        arms.append(size_matched)
    source = without_source.data.leave_out
    predictions = [select_source(arm.predictions, source) for arm in arms]
    if predictions[0][0].empty:
        return None
    (outside, inside, *matched), _ = scorer.score_together(arms, predictions)
    row = LeftOutSource(
        source,
        len(predictions[0][0]),
        inside=inside.intervals()[LEFT_OUT_METRIC],
        outside=outside.intervals()[LEFT_OUT_METRIC],
        drop_from_all=outside.difference_to(inside)[LEFT_OUT_METRIC],
        seeds=min([list(arm.jobs) for arm in arms], key=len),
    )
    if not matched:
        return row
    return replace(
        row,
        matched=matched[0].intervals()[LEFT_OUT_METRIC],
        drop=outside.difference_to(matched[0])[LEFT_OUT_METRIC],
    )
