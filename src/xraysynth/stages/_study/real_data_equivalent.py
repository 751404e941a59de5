"""What a synthetic image is worth in real ones, and what a data set's absence costs."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from xraysynth.report.content import Arm, ArmEquivalent, LeftOutSource
from xraysynth.training.recipe import Control

if TYPE_CHECKING:
    pass
from xraysynth.stages._study.arms import PRIMARY_METRIC, Scorer, TestedArm, shared_seeds

LEFT_OUT_METRIC = "balanced_accuracy"
"""The score on the test images of one data set, some of whose classes may be missing."""


def compute_real_data_equivalents(
    scorer: Scorer, tested_arms: Sequence[TestedArm], arms: Sequence[Arm]
) -> list[ArmEquivalent]:
    """How many real images one synthetic image is worth, arm by arm.

    Read by the seeds that the arm and every point of the learning curve have finished. Left out where
    these are fewer than two, or a class has too few test patients to see how far these differ.
    """
    from xraysynth.evaluation.metrics.real_data_equivalent import (
        LearningCurve,
        equivalent_per_synthetic_image,
    )

    points: dict[int, TestedArm] = {}
    for one, arm in zip(tested_arms, arms, strict=True):
        if not arm.generator and not arm.left_out_source:
            points.setdefault(arm.real_images, one)
    sizes = sorted(points)
    if len(sizes) < 2 or scorer.resample_arm(points[sizes[0]]).scarce_classes:
        return []
    rows = []
    for one, arm in zip(tested_arms, arms, strict=True):
        seeds = shared_seeds([one, *points.values()])
        if one.is_generator_arm and 0 < arm.synthetic_fraction < 1 and len(seeds) > 1:
            curve = [
                scorer.resample_seeds(points[size], seeds).replicates(PRIMARY_METRIC)
                for size in sizes
            ]
            found = equivalent_per_synthetic_image(
                LearningCurve(np.array(sizes), np.stack(curve)),
                scorer.resample_seeds(one, seeds).replicates(PRIMARY_METRIC),
                real_images=arm.real_images,
                synthetic_images=arm.synthetic_images,
            )
            rows.append(ArmEquivalent(arm.name, found))
    return rows


def compare_left_out_sources(
    scorer: Scorer, tested_arms: Sequence[TestedArm]
) -> list[LeftOutSource]:
    """Balanced accuracy on each data set's test images, of training with it and without."""
    inside = next((t for t in tested_arms if t.is_real_only and t.data.real_fraction == 1), None)
    if inside is None:
        return []
    smaller = [
        t for t in tested_arms if t.data.leave_out and t.data.control is Control.size_matched
    ]
    rows = []
    for one in tested_arms:
        if one.data.leave_out and one.data.control is Control.none:
            matched = [t for t in smaller if t.data.leave_out == one.data.leave_out]
            # A matched arm that has finished other seeds must not hide what the two show.
            row = _compare_left_out_source(scorer, one, inside, *matched[:1])
            rows.append(row or _compare_left_out_source(scorer, one, inside))
    return [row for row in rows if row]


def _compare_left_out_source(
    scorer: Scorer,
    without_source: TestedArm,
    with_source: TestedArm,
    size_matched: TestedArm | None = None,
) -> LeftOutSource | None:
    """Scores on the test images of the data set that `outside` leaves out; None without any."""
    source = without_source.data.leave_out
    arms = {"inside": with_source, "outside": without_source} | (
        {"matched": size_matched} if size_matched else {}
    )
    seeds = shared_seeds([without_source, *arms.values()])
    tables = {}
    for name, arm in arms.items():
        by_seed = dict(zip(arm.jobs, arm.predictions, strict=True))
        tables[name] = [by_seed[seed][by_seed[seed]["source"] == source] for seed in seeds]
    if not seeds or any(table[0].empty for table in tables.values()):
        return None
    resampled = {name: scorer.resample(table) for name, table in tables.items()}
    scores = {name: found.intervals()[LEFT_OUT_METRIC] for name, found in resampled.items()}
    drops = {
        name: resampled["outside"].difference_to(resampled[other])[LEFT_OUT_METRIC]
        for name, other in {"drop": "matched", "drop_from_all": "inside"}.items()
        if other in resampled
    }
    return LeftOutSource(source, len(tables["outside"][0]), seeds=seeds, **scores, **drops)
