"""Whether synthetic images show their class: to a judge, and to classifiers of real images."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from xraysynth.data.persons import person_keys
from xraysynth.evaluation.classifier_evaluation import (
    ClassifierTest,
    FidelityClassifierResult,
    is_meaningful,
)
from xraysynth.evaluation.metrics.class_mix import macro_proportion
from xraysynth.evaluation.metrics.classification import score_arm
from xraysynth.evaluation.metrics.statistics import Interval
from xraysynth.evaluation.results import LabelFidelity, PoolScores, UsableShare
from xraysynth.manifest import Manifest

POOL_SCORE_NAMES = ("accuracy", "macro_f1", "macro_auroc")
"""Scores of classifiers of real images on a pool."""


def measure_label_fidelity(
    images: Manifest,
    probabilities: np.ndarray,
    classifier_result: FidelityClassifierResult,
    *,
    replicates: int,
) -> list[LabelFidelity]:
    """Which class a classifier of other patients sees, beside real images of these patients.

    Over all classes it is the mean of the classes' shares on both sides, of those that the pool has,
    so that it does not depend on how many images of each there are: chance is 1 over their number.
    `seen` are the classifier's probabilities `(N, C)`.
    """
    targets, classes = images.targets, images.classes
    ids = images.table["image_id"].to_numpy()
    scores = score_arm([probabilities], targets, ids, classes=classes, replicates=replicates)
    right = probabilities.argmax(1) == targets
    scores["balanced_accuracy"] = macro_proportion(right, targets, replicates=replicates)
    names = [("", "balanced_accuracy"), *((label, f"recall/{label}") for label in classes)]
    real_scores = {name: classifier_result.scores[name] for _, name in names}
    shown = [label for index, label in enumerate(classes) if (targets == index).any()]
    recalls = [real_scores[f"recall/{label}"] for label in shown]
    if len(shown) < len(classes) or any(recall.value in (0, 1) for recall in recalls):
        real_scores["balanced_accuracy"] = mean_recall(recalls)
    rows = []
    for label, name in names:
        real = real_scores[name]
        row = LabelFidelity(
            *scores[name].as_tuple(),
            label=label,
            real=real.value,
            real_low=real.low,
            real_high=real.high,
            real_n=real.n,
        )
        rows.append(row)
    return rows


def mean_recall(recalls: Sequence[Interval]) -> Interval:
    """The mean over some classes of their recalls, whose errors are independent."""
    count = len(recalls)
    value = sum(recall.value for recall in recalls) / count
    below = sum((recall.value - recall.low) ** 2 for recall in recalls) ** 0.5 / count
    above = sum((recall.high - recall.value) ** 2 for recall in recalls) ** 0.5 / count
    return Interval(value, value - below, value + above, sum(recall.n for recall in recalls))


def usable_share(
    probabilities: np.ndarray, targets: np.ndarray, is_copy: np.ndarray | None, replicates: int
) -> UsableShare:
    """The share of images in which the classifier sees the intended class and that are no copies.

    `seen` are probabilities `(N, C)`, `targets` class indices `(N,)` and `is_copy` flags `(N,)`, or
    None where copies could not be looked for. The mean over the classes that the pool has, with the
    interval of `class_mix.macro_proportion`.
    """
    answers = probabilities.argmax(1) == targets
    if is_copy is not None:
        answers = answers & ~is_copy
    share = macro_proportion(answers, targets, replicates=replicates)
    return UsableShare(*share.as_tuple(), copies_looked_for=is_copy is not None)


def scores_on_pool(
    test: ClassifierTest, images: Manifest, real: Manifest, classifiers: Sequence[Path]
) -> PoolScores:
    """Scores of classifiers of real images on the pool, in the class mix of the `real` test images.

    Of a pool that lacks a class `without` names it, what is averaged over all classes is left out, and
    `<score> of real images` has the same classifiers' score on the real test images of its classes.
    """
    counts = [np.bincount(side.targets, minlength=len(test.classes)) for side in (images, real)]
    shared = (counts[0] > 0) & (counts[1] > 0)
    if not shared.any():
        return {}
    labels = {name for name, both in zip(test.classes, shared, strict=True) if both}
    names = [name for name in POOL_SCORE_NAMES if is_meaningful(name, labels, test.classes)]

    def compute_scores(side: Manifest, groups: ArrayLike) -> dict[str, Interval]:
        rows = shared[side.targets]
        every = score_arm(
            [test.predict(side, weights)[rows] for weights in classifiers],
            side.targets[rows],
            np.asarray(groups)[rows],
            classes=test.classes,
            replicates=test.replicates,
            mix=counts[1] * shared / counts[1][shared].sum(),
        )
        return {name: every[name] for name in names}

    on_pool: PoolScores = {
        **compute_scores(images, images.table["image_id"]),
        "seeds": len(classifiers),
    }
    if shared.all():
        return on_pool
    on_real = compute_scores(real, person_keys(real.table, test.linked))
    return {
        **on_pool,
        **{f"{name} of real images": score for name, score in on_real.items()},
        "without": [name for name in test.classes if name not in labels],
    }
