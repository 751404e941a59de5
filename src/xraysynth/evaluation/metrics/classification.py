"""Scores of classifiers on real test images, with patient-clustered bootstrap intervals.

Notation: N images, C classes, R bootstrap replicates. Probabilities are `(N, C)`, targets are class
indices `(N,)`, and weights `(R, N)` are counts from `resampling.cluster_bootstrap_weights`. The
predicted class is the most probable one, and the first one among equals. Point values are
scikit-learn's.

Conventions where a score is undefined: precision, recall and F1 of a class without predictions or
images are 0 (`zero_division=0`); balanced accuracy averages over the classes that occur; AUROC is
NaN without positives or without negatives, AUPRC without positives, and their macro means leave
NaN out.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from xraysynth.evaluation.metrics.bootstrap_scores import BootstrapScores, moderate_arms
from xraysynth.evaluation.metrics.statistics import REPLICATES, Interval

__all__ = ["BootstrapScores", "compare_arms", "score_arm", "score_run"]


def score_run(
    probabilities: np.ndarray,
    targets: np.ndarray,
    patients: ArrayLike,
    *,
    classes: Sequence[str],
    replicates: int = REPLICATES,
    seed: int = 0,
    mix: np.ndarray | None = None,
) -> dict[str, Interval]:
    """Compute all scores of one run, each with its interval over patients.

    Args:
        probabilities: Probability of each class for each test image, `(N, C)`.
        targets: Index of the true class of each test image, `(N,)`.
        patients: Patient id of each test image, `(N,)`.
        classes: Names of the C classes.
        replicates: Number of bootstrap replicates.
        seed: Seed of the draws.
        mix: Proportions `(C,)` to which images are weighted; by default images count equally.

    Returns:
        Intervals by score: accuracy, balanced_accuracy, ece, brier, macro_<score> and
        <score>/<class> for precision, recall, f1, auroc and auprc. `n` is the number of images, for
        <score>/<class> that of the class.

    Raises:
        XraysynthError: If probabilities, targets, patients or `mix` do not belong together.
    """
    return score_arm(
        [probabilities],
        targets,
        patients,
        classes=classes,
        replicates=replicates,
        seed=seed,
        mix=mix,
    )


def score_arm(
    runs: Sequence[np.ndarray], targets: np.ndarray, patients: ArrayLike, **options: Any
) -> dict[str, Interval]:
    """Compute all scores of one arm, averaged over its runs, with their intervals.

    Arguments are those of `BootstrapScores.from_runs`, and scores are named as in `score_run`.
    """
    return BootstrapScores.from_runs(runs, targets, patients, **options).intervals()


def compare_arms(
    arm_runs: Sequence[np.ndarray],
    reference_runs: Sequence[np.ndarray],
    targets: np.ndarray,
    patients: ArrayLike,
    **options: Any,
) -> dict[str, Interval]:
    """Compute the difference of every score between two arms, arm minus reference, paired by patient.

    Both arms are taken to be trained on about as many images, so that their variances between runs are
    moderated. The other arguments are those of `BootstrapScores.from_runs`; see also
    `BootstrapScores.difference_to`.
    """
    arms = []
    for runs in (arm_runs, reference_runs):
        arms.append(BootstrapScores.from_runs(runs, targets, patients, **options))
    (arm, reference), _ = moderate_arms(arms, [1, 1])
    return arm.difference_to(reference)
