"""Whether synthetic images show their class: to a judge, and to classifiers of real images."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from xraysynth.data.persons import person_keys
from xraysynth.evaluation.classifier_evaluation import ClassifierTest, JudgeResult, is_meaningful
from xraysynth.evaluation.metrics.class_mix import mean_share
from xraysynth.evaluation.metrics.classification import arm_scores
from xraysynth.evaluation.metrics.statistics import Interval
from xraysynth.evaluation.results import LabelFidelity, TestedOn, UsableShare
from xraysynth.manifest import Manifest

COMPARED = ("accuracy", "macro_f1", "macro_auroc")
"""Scores of classifiers of real images on a pool."""


def label_fidelity(
    images: Manifest, seen: np.ndarray, judge: JudgeResult, *, replicates: int
) -> list[LabelFidelity]:
    """Which class a classifier of other patients sees, beside real images of these patients.

    Over all classes it is the mean of the classes' shares on both sides, of those that the pool has,
    so that it does not depend on how many images of each there are: chance is 1 over their number.
    `seen` are the classifier's probabilities `(N, C)`.
    """
    targets, classes = images.targets, images.classes
    ids = images.table["image_id"].to_numpy()
    scores = arm_scores([seen], targets, ids, classes=classes, replicates=replicates)
    right = seen.argmax(1) == targets
    scores["balanced_accuracy"] = mean_share(right, targets, replicates=replicates)
    names = [("", "balanced_accuracy"), *((label, f"recall/{label}") for label in classes)]
    real_scores = {name: judge.scores[name] for _, name in names}
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
    seen: np.ndarray, targets: np.ndarray, copied: np.ndarray | None, replicates: int
) -> UsableShare:
    """The share of images in which the classifier sees the intended class and that are no copies.

    `seen` are probabilities `(N, C)`, `targets` class indices `(N,)` and `copied` flags `(N,)`, or
    None where copies could not be looked for. The mean over the classes that the pool has, with the
    interval of `class_mix.mean_share`.
    """
    answers = seen.argmax(1) == targets
    if copied is not None:
        answers = answers & ~copied
    share = mean_share(answers, targets, replicates=replicates)
    return UsableShare(*share.as_tuple(), copies_looked_for=copied is not None)


def scores_on_pool(
    test: ClassifierTest, images: Manifest, real: Manifest, classifiers: Sequence[Path]
) -> TestedOn:
    """Scores of classifiers of real images on the pool, in the class mix of the `real` test images.

    Of a pool that lacks a class `without` names it, what is averaged over all classes is left out, and
    `<score> of real images` has the same classifiers' score on the real test images of its classes.
    """
    counts = [np.bincount(side.targets, minlength=len(test.classes)) for side in (images, real)]
    shared = (counts[0] > 0) & (counts[1] > 0)
    if not shared.any():
        return {}
    labels = {name for name, both in zip(test.classes, shared, strict=True) if both}
    names = [name for name in COMPARED if is_meaningful(name, labels, test.classes)]

    def scores(side: Manifest, owners: ArrayLike) -> dict[str, Interval]:
        rows = shared[side.targets]
        every = arm_scores(
            [test.predict(side, weights)[rows] for weights in classifiers],
            side.targets[rows],
            np.asarray(owners)[rows],
            classes=test.classes,
            replicates=test.replicates,
            mix=counts[1] * shared / counts[1][shared].sum(),
        )
        return {name: every[name] for name in names}

    on_pool: TestedOn = {**scores(images, images.table["image_id"]), "seeds": len(classifiers)}
    if shared.all():
        return on_pool
    on_real = scores(real, person_keys(real.table, test.linked))
    return {
        **on_pool,
        **{f"{name} of real images": score for name, score in on_real.items()},
        "without": [name for name in test.classes if name not in labels],
    }
