"""Scores of a classifier's predictions, computed for many weightings of the images at once.

Notation as in `classification`: N images, C classes, R replicates; probabilities are `(N, C)`, targets
are class indices `(N,)`, and weights are `(R, N)`.
"""

from collections.abc import Sequence

import numpy as np

from xraysynth.errors import XraysynthError
from xraysynth.evaluation.metrics.class_mix import ALL_CLASSES
from xraysynth.evaluation.metrics.statistics import percentile_interval

CALIBRATION_BINS = 15

_BLOCK_WEIGHTS = 2_000_000
"""Weights that are held as float64 at a time: 16 MB per temporary array."""


def replicate_scores(
    probabilities: np.ndarray,
    targets: np.ndarray,
    weights: np.ndarray,
    *,
    classes: Sequence[str],
    decisions_only: bool = False,
) -> dict[str, np.ndarray]:
    """Compute every score of `classification.score_run` under each row of `weights`.

    Args:
        probabilities: Probability of each class for each image, `(N, C)`.
        targets: Index of the true class of each image, `(N,)`.
        weights: How much each image counts in each replicate, `(R, N)`.
        classes: Names of the C classes.
        decisions_only: Whether to leave out the scores that depend on more than the most probable
            class: AUROC, AUPRC, calibration error and Brier's score take a hundred times as long.

    Returns:
        Scores `(R,)` by name.

    Raises:
        XraysynthError: If shapes do not match, or if `check_predictions` raises an error.
    """
    probabilities, targets = np.asarray(probabilities, np.float64), np.asarray(targets)
    check_predictions(probabilities, targets, classes)
    if weights.ndim != 2 or weights.shape[1] != len(targets):
        raise XraysynthError(
            f"weights have shape {weights.shape}, but must be (R, {len(targets)}), with one weight per "
            "image and replicate"
        )
    n_blocks = -(-weights.size // _BLOCK_WEIGHTS)
    block_scores = []
    for block in np.array_split(weights, n_blocks):
        block_scores.append(
            _score_block(probabilities, targets, block.astype(float), classes, decisions_only)
        )
    scores = {}
    for name in block_scores[0]:
        scores[name] = np.concatenate([block[name] for block in block_scores])
    return scores


def confusion_matrix(
    probabilities: np.ndarray, targets: np.ndarray, weights: np.ndarray | None = None
) -> np.ndarray:
    """Count images per true class (rows) and predicted class (columns).

    Returns:
        Counts `(C, C)` int64, or with `weights` `(R, N)` weighted counts `(R, C, C)`.
    """
    n_classes = probabilities.shape[1]
    cell = targets * n_classes + probabilities.argmax(1)
    if weights is None:
        counts = np.bincount(cell, minlength=n_classes**2)
        return counts.reshape(n_classes, n_classes)
    cells: np.ndarray = weights @ np.eye(n_classes**2)[cell]
    return cells.reshape(-1, n_classes, n_classes)


def pr_curve(
    probabilities: np.ndarray, targets: np.ndarray, *, index: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Compute the precision-recall curve of class `index` against the rest.

    Returns:
        Precision `(T + 1,)`, recall `(T + 1,)` and thresholds `(T,)`, as scikit-learn defines them.
    """
    from sklearn.metrics import precision_recall_curve

    precision, recall, thresholds = precision_recall_curve(
        np.asarray(targets) == index, probabilities[:, index]
    )
    return precision, recall, thresholds


def pr_band(
    probabilities: np.ndarray,
    targets: np.ndarray,
    weights: np.ndarray,
    *,
    index: int,
    recall: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Compute the precision of class `index` at given recalls, with a pointwise 95 % band.

    The precision at recall r is the one at the highest threshold that reaches r, without interpolation.

    Args:
        probabilities: Probability of each class for each image, `(N, C)`.
        targets: Index of the true class of each image, `(N,)`.
        weights: How much each image counts in each replicate, `(R, N)`.
        index: The class.
        recall: Recalls in (0, 1], `(L,)`.

    Returns:
        Precision, lower and upper end of the band, `(L,)` each.
    """
    rows = np.vstack([np.ones(len(targets)), weights])
    hits, totals = _weight_by_score(probabilities[:, index], np.asarray(targets) == index, rows)
    true_positives, predicted = hits.cumsum(1), totals.cumsum(1)
    required = recall * true_positives[:, -1:] - 1e-9  # recall 0.3 of 10 images is 3 of them, not 4
    first = np.stack(list(map(np.searchsorted, true_positives, required)))
    first = np.minimum(first, true_positives.shape[1] - 1)
    with np.errstate(invalid="ignore"):
        precision = np.take_along_axis(true_positives / predicted, first, 1)
    bands = []
    for point in precision.T:
        interval = percentile_interval(point[0], point[1:], n=len(targets))
        bands.append((interval.value, interval.low, interval.high))
    value, low, high = np.array(bands).reshape(-1, 3).T
    return value, low, high


def _score_block(
    probabilities: np.ndarray,
    targets: np.ndarray,
    weights: np.ndarray,
    classes: Sequence[str],
    decisions_only: bool,
) -> dict[str, np.ndarray]:
    """Compute every score `(R,)` under a block of weights, by name; see `replicate_scores`."""
    cells = confusion_matrix(probabilities, targets, weights)
    true, predicted, hits = cells.sum(2), cells.sum(1), np.diagonal(cells, axis1=1, axis2=2)
    per_class = {  # (R, C) each
        "precision": _ratio(hits, predicted),
        "recall": _ratio(hits, true),
        "f1": _ratio(2 * hits, true + predicted),
    }
    scores = {
        "accuracy": hits.sum(1) / weights.sum(1),
        "balanced_accuracy": _nanmean(np.where(true > 0, per_class["recall"], np.nan)),
    }
    if not decisions_only:
        auroc, auprc = _auroc_and_auprc_per_class(probabilities, targets, weights)
        per_class |= {"auroc": auroc, "auprc": auprc}
        scores["ece"] = _calibration_error(probabilities, targets, weights)
        scores["brier"] = _brier(probabilities, targets, weights)
    for name, values in per_class.items():
        scores[f"macro_{name}"] = _nanmean(values)
    for index, label in enumerate(classes):
        for name, values in per_class.items():
            scores[f"{name}/{label}"] = values[:, index]
    return scores


def _auroc_and_auprc_per_class(
    probabilities: np.ndarray, targets: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return AUROC and AUPRC of each class against the rest, `(R, C)` each."""
    aurocs, auprcs = [], []
    for index, scores in enumerate(probabilities.T):
        auroc, auprc = _auroc_and_auprc(scores, targets == index, weights)
        aurocs.append(auroc)
        auprcs.append(auprc)
    return np.stack(aurocs, 1), np.stack(auprcs, 1)


def _auroc_and_auprc(
    scores: np.ndarray, positive: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """AUROC (Mann-Whitney, ties count half) and AUPRC (average precision), `(R,)` each."""
    hits, totals = _weight_by_score(scores, positive, weights)
    true_positives, predicted = hits.cumsum(1), totals.cumsum(1)
    positives = true_positives[:, -1]
    with np.errstate(invalid="ignore"):
        # Pairs in which the positive has the higher score than the negative, ties by half.
        concordant = ((totals - hits) * (true_positives - hits / 2)).sum(1)
        auroc = concordant / (positives * (predicted[:, -1] - positives))
        auprc = (hits * _ratio(true_positives, predicted)).sum(1) / positives
    return auroc, auprc


def _weight_by_score(
    scores: np.ndarray, positive: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Sum the weights of positives and of all images at each of G distinct scores, highest first.

    Both sums are `(R, G)`.
    """
    order = np.argsort(-scores, kind="stable")
    starts = np.flatnonzero(np.diff(scores[order], prepend=np.inf))
    ordered = weights[:, order]
    hits = np.add.reduceat(ordered * positive[order], starts, axis=1)
    return hits, np.add.reduceat(ordered, starts, axis=1)


def _calibration_error(
    probabilities: np.ndarray, targets: np.ndarray, weights: np.ndarray
) -> np.ndarray:
    """Expected calibration error of the top label `(R,)`, lower is better (Guo et al. 2017, eq. 3).

    ECE = sum_b |sum_{i in b} w_i (correct_i - confidence_i)| / sum_i w_i over 15 bins of equal
    width, each open to the left: (0, 1/15], ... Repeated images raise it, so that its bootstrap
    interval lies too high in relation to the point value.
    """
    confidence = probabilities.max(1)
    gap = (probabilities.argmax(1) == targets) - confidence
    edges = np.linspace(0, 1, CALIBRATION_BINS + 1)
    bins = np.clip(np.searchsorted(edges, confidence) - 1, 0, CALIBRATION_BINS - 1)
    by_bin = np.eye(CALIBRATION_BINS)[bins] * gap[:, None]
    error: np.ndarray = np.abs(weights @ by_bin).sum(1) / weights.sum(1)
    return error


def _brier(probabilities: np.ndarray, targets: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Mean over images of sum_c (p_c - y_c)^2 `(R,)`, in [0, 2], lower is better (Brier 1950)."""
    squares = (probabilities - np.eye(probabilities.shape[1])[targets]) ** 2
    score: np.ndarray = weights @ squares.sum(1) / weights.sum(1)
    return score


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Return numerator / denominator, and 0 where the denominator is 0."""
    zeros = np.zeros(np.broadcast_shapes(numerator.shape, denominator.shape))
    ratio: np.ndarray = np.divide(numerator, denominator, out=zeros, where=denominator > 0)
    return ratio


def _nanmean(values: np.ndarray) -> np.ndarray:
    """Return the mean over classes `(R,)` without NaN; NaN, and no warning, where all are NaN."""
    with np.errstate(invalid="ignore"):
        mean: np.ndarray = np.nansum(values, 1) / np.sum(~np.isnan(values), 1)
    return mean


def count_images(targets: np.ndarray, classes: Sequence[str]) -> dict[str, int]:
    """Count images by class, and all of them under ""."""
    counts = {label: int(np.sum(targets == index)) for index, label in enumerate(classes)}
    counts[ALL_CLASSES] = len(targets)
    return counts


def check_predictions(
    probabilities: np.ndarray, targets: np.ndarray, classes: Sequence[str]
) -> None:
    """Check that probabilities `(N, C)` and targets `(N,)` match each other and `classes`.

    Raises:
        XraysynthError: If shapes differ, if probabilities do not sum to 1, or if targets are no
            class indices.
    """
    shape, n_classes = np.shape(probabilities), len(classes)
    if shape != (len(targets), n_classes) or not len(targets):
        raise XraysynthError(
            f"probabilities have shape {shape}, but must be (images, classes), here "
            f"({len(targets)}, {n_classes}), with at least one image"
        )
    if not np.allclose(np.sum(probabilities, 1), 1, atol=1e-3) or np.min(probabilities) < 0:
        raise XraysynthError(
            "probabilities must be finite, at least 0 and sum to 1 over the classes; pass the "
            "softmax of the logits"
        )
    if targets.dtype.kind not in "iu" or targets.min() < 0 or targets.max() >= n_classes:
        raise XraysynthError(
            f"targets must be class indices from 0 to {n_classes - 1}, got {targets.dtype} from "
            f"{targets.min()} to {targets.max()}"
        )


def sample_weights_for_targets(
    targets: np.ndarray, mix: np.ndarray, classes: Sequence[str]
) -> np.ndarray:
    """Compute weights `(N,)`, 1 on average, under which images have the class proportions `mix` `(C,)`.

    The proportion of a class without images is distributed over the other classes, in proportion to
    theirs.

    Raises:
        XraysynthError: If `mix` is not one proportion per class, or is 0 for all classes with images.
    """
    proportions = np.asarray(mix, np.float64)
    is_valid = np.isfinite(proportions).all() and proportions.shape == (len(classes),)
    if not is_valid or proportions.min() < 0:
        raise XraysynthError(
            f"mix={proportions.tolist()}: it must hold a proportion of at least 0 for each of the "
            f"{len(classes)} classes"
        )
    observed = np.bincount(targets, minlength=len(classes)) / len(targets)
    required = np.where(observed > 0, proportions, 0)
    if not required.sum() > 0:
        raise XraysynthError(
            f"mix={proportions.tolist()} gives no weight to any class that has images; leave mix out"
        )
    required = required / required.sum()
    factor = np.divide(required, observed, out=np.zeros_like(observed), where=observed > 0)
    weights: np.ndarray = factor[targets]
    return weights
