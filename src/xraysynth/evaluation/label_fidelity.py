"""Measures whether synthetic images show their intended class.

Two kinds of classifiers answer: the label-fidelity classifier, which is trained on real patients of its
own, and the real-only classifiers of the study.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import compress
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from xraysynth.data.persons import person_keys
from xraysynth.evaluation.classifier_evaluation import (
    ClassifierTest,
    FidelityClassifierResult,
    select_meaningful,
)
from xraysynth.evaluation.metrics.class_mix import macro_proportion
from xraysynth.evaluation.metrics.classification import score_arm
from xraysynth.evaluation.metrics.statistics import Interval
from xraysynth.evaluation.results import LabelFidelity, PoolScores, UsableShare
from xraysynth.manifest import Manifest

POOL_SCORE_NAMES = ("accuracy", "macro_f1", "macro_auroc")
"""Scores of real-only classifiers that are reported for a pool."""


def measure_label_fidelity(
    images: Manifest,
    probabilities: np.ndarray,
    classifier_result: FidelityClassifierResult,
    *,
    replicates: int,
) -> list[LabelFidelity]:
    """Measures how often the label-fidelity classifier sees the intended class of synthetic images.

    The value of all classes is the mean recall of the classes that the pool has, on both sides, so that
    it does not depend on the number of images per class: chance is 1 over the number of classes.

    Args:
        images: N synthetic images.
        probabilities: The classifier's class probabilities `(N, C)` of these images.
        classifier_result: The classifier's own test, with its recall on real images of other patients.
        replicates: The number of bootstrap replicates of each interval.

    Returns:
        One row for all classes (label ""), then one per class, each with the value of real images.
    """
    targets, classes = images.targets, images.classes
    ids = images.table["image_id"].to_numpy()
    scores = score_arm([probabilities], targets, ids, classes=classes, replicates=replicates)
    is_correct = probabilities.argmax(1) == targets
    scores["balanced_accuracy"] = macro_proportion(is_correct, targets, replicates=replicates)
    real_scores = _real_fidelity_scores(classifier_result, targets, classes)
    name_of_label = {"": "balanced_accuracy"}
    for label in classes:
        name_of_label[label] = f"recall/{label}"
    rows = []
    for label, name in name_of_label.items():
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


def _real_fidelity_scores(
    classifier_result: FidelityClassifierResult, targets: np.ndarray, classes: Sequence[str]
) -> dict[str, Interval]:
    """Returns the classifier's scores on real images, averaged over the classes that a pool has.

    The bootstrap interval of the balanced accuracy is kept where the pool has all classes. It is
    replaced by `mean_recall` where a class is absent, or where a recall of 0 or 1 leaves no spread.

    Args:
        classifier_result: The classifier's test on real images.
        targets: The class indices of the pool's images, `(N,)`.
        classes: The names of all classes.
    """
    scores = dict(classifier_result.scores)
    recalls = []
    for index, label in enumerate(classes):
        if (targets == index).any():
            recalls.append(scores[f"recall/{label}"])
    is_without_spread = any(recall.value in (0, 1) for recall in recalls)
    if len(recalls) < len(classes) or is_without_spread:
        scores["balanced_accuracy"] = mean_recall(recalls)
    return scores


def mean_recall(recalls: Sequence[Interval]) -> Interval:
    """Returns the mean of the recalls of some classes, whose errors are independent.

    The distances of the bounds from the mean are sqrt(sum of squared distances) / number of classes.
    """
    total, squares_below, squares_above, n_images = 0.0, 0.0, 0.0, 0
    for recall in recalls:
        total += recall.value
        squares_below += (recall.value - recall.low) ** 2
        squares_above += (recall.high - recall.value) ** 2
        n_images += recall.n
    n_classes = len(recalls)
    mean = total / n_classes
    low = mean - squares_below**0.5 / n_classes
    high = mean + squares_above**0.5 / n_classes
    return Interval(mean, low, high, n_images)


def usable_share(
    probabilities: np.ndarray, targets: np.ndarray, is_copy: np.ndarray | None, replicates: int
) -> UsableShare:
    """Measures the proportion of images that show the intended class and are not copies.

    Args:
        probabilities: Class probabilities `(N, C)` of the label-fidelity classifier.
        targets: The intended class indices `(N,)`.
        is_copy: The memorisation flags `(N,)` bool, None where copies could not be looked for.
        replicates: The number of bootstrap replicates.

    Returns:
        The mean over the classes that the pool has, with the interval of
        `class_mix.macro_proportion`.
    """
    is_usable = probabilities.argmax(1) == targets
    if is_copy is not None:
        is_usable = is_usable & ~is_copy
    proportion = macro_proportion(is_usable, targets, replicates=replicates)
    return UsableShare(*proportion.as_tuple(), copies_looked_for=is_copy is not None)


@dataclass(frozen=True)
class _PoolTest:
    """Scores real-only classifiers on the images of the classes that a pool and the test split share.

    Attributes:
        test: The way in which classifiers are tested.
        classifiers: The weights of the classifiers, one file per seed.
        is_shared: Whether both sets have images of each class, `(C,)` bool.
        mix: The proportion of each class in the real test images, `(C,)`, over the shared classes.
    """

    test: ClassifierTest
    classifiers: Sequence[Path]
    is_shared: np.ndarray
    mix: np.ndarray

    def shared_labels(self) -> set[str]:
        """Returns the names of the shared classes."""
        return set(compress(self.test.classes, self.is_shared))

    def compute_scores(self, images: Manifest, groups: ArrayLike) -> dict[str, Interval]:
        """Scores all classifiers on `images`, whose `groups` `(N,)` the bootstrap draws together."""
        rows = self.is_shared[images.targets]
        probabilities = [self.test.predict(images, weights)[rows] for weights in self.classifiers]
        scores = score_arm(
            probabilities,
            images.targets[rows],
            np.asarray(groups)[rows],
            classes=self.test.classes,
            replicates=self.test.replicates,
            mix=self.mix,
        )
        reported = {name: scores[name] for name in POOL_SCORE_NAMES}
        return select_meaningful(reported, self.shared_labels(), self.test.classes)


def scores_on_pool(
    test: ClassifierTest, images: Manifest, real: Manifest, classifiers: Sequence[Path]
) -> PoolScores:
    """Scores real-only classifiers on a pool, in the class mix of the real test images.

    Args:
        test: The way in which classifiers are tested.
        images: The images of the pool.
        real: The real test images.
        classifiers: The weights of the classifiers, one file per seed.

    Returns:
        The scores by name, and the number of classifiers as `seeds`. Of a pool that lacks classes,
        means over all classes are left out, `without` names the classes, and `<score> of real images`
        is the score of the same classifiers on the real test images of the remaining classes. Empty
        where the pool has no class in common with the test images.
    """
    counts = np.bincount(images.targets, minlength=len(test.classes))
    real_counts = np.bincount(real.targets, minlength=len(test.classes))
    is_shared = (counts > 0) & (real_counts > 0)
    if not is_shared.any():
        return {}
    mix = real_counts * is_shared / real_counts[is_shared].sum()
    pool_test = _PoolTest(test, classifiers, is_shared, mix)
    scores: dict[str, Interval | int | Sequence[str]] = {}
    scores |= pool_test.compute_scores(images, images.table["image_id"])
    scores["seeds"] = len(classifiers)
    if is_shared.all():
        return scores
    real_scores = pool_test.compute_scores(real, person_keys(real.table, test.linked))
    for name, score in real_scores.items():
        scores[f"{name} of real images"] = score
    scores["without"] = list(compress(test.classes, ~is_shared))
    return scores
