"""Scores of a classifier's predictions, each under many weights of the images at once.

Notation as in `classification`: N images, C classes, R replicates; probabilities are `(N, C)`, targets
`(N,)` class indices and weights `(R, N)`.
"""

from collections.abc import Sequence

import numpy as np

from xraysynth.errors import XraysynthError
from xraysynth.evaluation.metrics.statistics import percentile_interval

CALIBRATION_BINS = 15

_BLOCK = 2_000_000  # weights held as float64 at a time: 16 MB a temporary array


def replicate_scores(
    probabilities: np.ndarray, targets: np.ndarray, weights: np.ndarray, *, classes: Sequence[str]
) -> dict[str, np.ndarray]:
    """The scores of `evaluate` under each row of `weights` `(R, N)`: `(R,)` each."""
    probabilities, targets = np.asarray(probabilities, np.float64), np.asarray(targets)
    check_predictions(probabilities, targets, classes)
    if weights.ndim != 2 or weights.shape[1] != len(targets):
        raise XraysynthError(f"weights of shape {weights.shape}: must be (R, {len(targets)})")
    blocks = np.array_split(weights, -(-weights.size // _BLOCK))
    parts = [_score_block(probabilities, targets, block.astype(float), classes) for block in blocks]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def confusion_matrix(
    probabilities: np.ndarray, targets: np.ndarray, weights: np.ndarray | None = None
) -> np.ndarray:
    """Images per true class (rows) and predicted class: `(C, C)` int64, or `(R, C, C)` weighted."""
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
    """Precision, recall (both `(T + 1,)`) and thresholds `(T,)` of one class against the rest."""
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
    """Precision of one class at given recalls in (0, 1], and its pointwise 95 % band, `(L,)` each.

    The precision at recall r is that of the highest threshold which reaches r: no interpolation.
    """
    rows = np.vstack([np.ones(len(targets)), weights])
    hits, totals = _weight_by_score(probabilities[:, index], np.asarray(targets) == index, rows)
    found, named = hits.cumsum(1), totals.cumsum(1)
    wanted = recall * found[:, -1:] - 1e-9  # recall 0.3 of 10 images is 3 of them, not 4
    first = np.stack(
        [np.searchsorted(row, level) for row, level in zip(found, wanted, strict=True)]
    )
    with np.errstate(invalid="ignore"):
        precision = np.take_along_axis(found / named, np.minimum(first, found.shape[1] - 1), 1)
    bands = [percentile_interval(point[0], point[1:], n=len(targets)) for point in precision.T]
    return (
        np.array([band.value for band in bands]),
        np.array([band.low for band in bands]),
        np.array([band.high for band in bands]),
    )


def _score_block(
    probabilities: np.ndarray, targets: np.ndarray, weights: np.ndarray, classes: Sequence[str]
) -> dict[str, np.ndarray]:
    cells = confusion_matrix(probabilities, targets, weights)
    true, predicted, hits = cells.sum(2), cells.sum(1), np.diagonal(cells, axis1=1, axis2=2)
    ranking = [_auroc_and_auprc(p, targets == c, weights) for c, p in enumerate(probabilities.T)]
    per_class = {  # (R, C) each
        "precision": _ratio(hits, predicted),
        "recall": _ratio(hits, true),
        "f1": _ratio(2 * hits, true + predicted),
        "auroc": np.stack([auroc for auroc, _ in ranking], 1),
        "auprc": np.stack([auprc for _, auprc in ranking], 1),
    }
    scores = {
        "accuracy": hits.sum(1) / weights.sum(1),
        "balanced_accuracy": _nanmean(np.where(true > 0, per_class["recall"], np.nan)),
        "ece": _calibration_error(probabilities, targets, weights),
        "brier": _brier(probabilities, targets, weights),
    }
    scores |= {f"macro_{name}": _nanmean(values) for name, values in per_class.items()}
    for index, label in enumerate(classes):
        scores |= {f"{name}/{label}": values[:, index] for name, values in per_class.items()}
    return scores


def _auroc_and_auprc(
    scores: np.ndarray, positive: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """AUROC (Mann-Whitney, ties count half) and AUPRC (average precision), `(R,)` each."""
    hits, totals = _weight_by_score(scores, positive, weights)
    found, named = hits.cumsum(1), totals.cumsum(1)
    positives = found[:, -1]
    with np.errstate(invalid="ignore"):
        above = ((totals - hits) * (found - hits / 2)).sum(1)
        auroc = above / (positives * (named[:, -1] - positives))
        auprc = (hits * _ratio(found, named)).sum(1) / positives
    return auroc, auprc


def _weight_by_score(
    scores: np.ndarray, positive: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Weight of positives and of all images at each distinct score, highest first, `(R, G)`."""
    order = np.argsort(-scores, kind="stable")
    starts = np.flatnonzero(np.diff(scores[order], prepend=np.inf))
    ordered = weights[:, order]
    hits = np.add.reduceat(ordered * positive[order], starts, axis=1)
    return hits, np.add.reduceat(ordered, starts, axis=1)


def _calibration_error(
    probabilities: np.ndarray, targets: np.ndarray, weights: np.ndarray
) -> np.ndarray:
    """Expected calibration error of the top label, lower is better (Guo et al. 2017, eq. 3).

    ECE = sum_b |sum_{i in b} w_i (correct_i - confidence_i)| / sum_i w_i over 15 bins of equal
    width, each open to the left: (0, 1/15], ... It grows when images repeat, so that its bootstrap
    interval lies high around the point value.
    """
    confidence = probabilities.max(1)
    gap = (probabilities.argmax(1) == targets) - confidence
    edges = np.linspace(0, 1, CALIBRATION_BINS + 1)
    bins = np.clip(np.searchsorted(edges, confidence) - 1, 0, CALIBRATION_BINS - 1)
    by_bin = np.eye(CALIBRATION_BINS)[bins] * gap[:, None]
    error: np.ndarray = np.abs(weights @ by_bin).sum(1) / weights.sum(1)
    return error


def _brier(probabilities: np.ndarray, targets: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Mean over images of sum_c (p_c - y_c)^2, in [0, 2], lower is better (Brier 1950)."""
    squares = (probabilities - np.eye(probabilities.shape[1])[targets]) ** 2
    score: np.ndarray = weights @ squares.sum(1) / weights.sum(1)
    return score


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    blank = np.zeros(np.broadcast_shapes(numerator.shape, denominator.shape))
    ratio: np.ndarray = np.divide(numerator, denominator, out=blank, where=denominator > 0)
    return ratio


def _nanmean(values: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore"):
        mean: np.ndarray = np.nansum(values, 1) / np.sum(~np.isnan(values), 1)
    return mean


def count_images(targets: np.ndarray, classes: Sequence[str]) -> dict[str, int]:
    """Images by class, and of all classes under ""."""
    counts = {label: int(np.sum(targets == index)) for index, label in enumerate(classes)}
    return counts | {"": len(targets)}


def check_predictions(
    probabilities: np.ndarray, targets: np.ndarray, classes: Sequence[str]
) -> None:
    """Raise `XraysynthError` for what are no probabilities of these classes and their targets."""
    shape, n_classes = np.shape(probabilities), len(classes)
    if shape != (len(targets), n_classes) or not len(targets):
        raise XraysynthError(
            f"probabilities of shape {shape}: must be (images, classes), here "
            f"({len(targets)}, {n_classes}) with at least one image"
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
    """Weight `(N,)` of each image that gives the classes the shares `mix` `(C,)`, 1 on average.

    Of a class without images nothing can be weighted; the others share what is left.
    """
    shares = np.asarray(mix, np.float64)
    if shares.shape != (len(classes),) or not np.isfinite(shares).all() or shares.min() < 0:
        raise XraysynthError(
            f"mix={shares.tolist()}: must be the share of each of {len(classes)} classes, at least 0"
        )
    own = np.bincount(targets, minlength=len(classes)) / len(targets)
    wanted = np.where(own > 0, shares, 0)
    if not wanted.sum() > 0:
        raise XraysynthError(
            f"mix={shares.tolist()} gives no weight to any class that has images; leave mix out"
        )
    factor = np.divide(wanted / wanted.sum(), own, out=np.zeros_like(own), where=own > 0)
    weights: np.ndarray = factor[targets]
    return weights
