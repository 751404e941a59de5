"""What a synthetic image is worth in real ones, and what a data set's absence costs."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from xraysynth.report.content import Arm, ArmWorth, LeftOutSource
from xraysynth.training.recipe import Control

if TYPE_CHECKING:
    pass
from xraysynth.stages._study.arms import PRIMARY, Scorer, Tested, shared_seeds

LEFT_OUT_SCORE = "balanced_accuracy"
"""The score on the test images of one data set, some of whose classes may be missing."""


def worth(scorer: Scorer, tested: Sequence[Tested], arms: Sequence[Arm]) -> list[ArmWorth]:
    """How many real images one synthetic image is worth, arm by arm.

    Read by the seeds that the arm and every point of the learning curve have finished. Left out where
    these are fewer than two, or a class has too few test patients to see how far these differ.
    """
    from xraysynth.evaluation.metrics.real_data_equivalent import Curve, per_synthetic_image

    points: dict[int, Tested] = {}
    for one, arm in zip(tested, arms, strict=True):
        if not arm.generator and not arm.left_out:
            points.setdefault(arm.real_images, one)
    sizes = sorted(points)
    if len(sizes) < 2 or scorer.resampled(points[sizes[0]]).scarce_classes:
        return []
    rows = []
    for one, arm in zip(tested, arms, strict=True):
        seeds = shared_seeds([one, *points.values()])
        if one.of_interest and 0 < arm.synthetic_fraction < 1 and len(seeds) > 1:
            curve = [scorer.of_seeds(points[size], seeds).replicates(PRIMARY) for size in sizes]
            found = per_synthetic_image(
                Curve(np.array(sizes), np.stack(curve)),
                scorer.of_seeds(one, seeds).replicates(PRIMARY),
                real_images=arm.real_images,
                synthetic_images=arm.synthetic_images,
            )
            rows.append(ArmWorth(arm.name, found))
    return rows


def left_out(scorer: Scorer, tested: Sequence[Tested]) -> list[LeftOutSource]:
    """Balanced accuracy on each data set's test images, of training with it and without."""
    inside = next((t for t in tested if t.real_only and t.data.real_fraction == 1), None)
    if inside is None:
        return []
    smaller = [t for t in tested if t.data.leave_out and t.data.control is Control.size_matched]
    rows = []
    for one in tested:
        if one.data.leave_out and one.data.control is Control.none:
            matched = [t for t in smaller if t.data.leave_out == one.data.leave_out]
            # A matched arm that has finished other seeds must not hide what the two show.
            row = _left_out_row(scorer, one, inside, *matched[:1])
            rows.append(row or _left_out_row(scorer, one, inside))
    return [row for row in rows if row]


def _left_out_row(
    scorer: Scorer, outside: Tested, inside: Tested, matched: Tested | None = None
) -> LeftOutSource | None:
    """Scores on the test images of the data set that `outside` leaves out; None without any."""
    source = outside.data.leave_out
    arms = {"inside": inside, "outside": outside} | ({"matched": matched} if matched else {})
    seeds = shared_seeds([outside, *arms.values()])
    tables = {}
    for name, arm in arms.items():
        by_seed = dict(zip(arm.jobs, arm.tables, strict=True))
        tables[name] = [by_seed[seed][by_seed[seed]["source"] == source] for seed in seeds]
    if not seeds or any(table[0].empty for table in tables.values()):
        return None
    resampled = {name: scorer.of(table) for name, table in tables.items()}
    scores = {name: found.scores()[LEFT_OUT_SCORE] for name, found in resampled.items()}
    drops = {
        name: resampled["outside"].minus(resampled[other])[LEFT_OUT_SCORE]
        for name, other in {"drop": "matched", "drop_from_all": "inside"}.items()
        if other in resampled
    }
    return LeftOutSource(source, len(tables["outside"][0]), seeds=seeds, **scores, **drops)
