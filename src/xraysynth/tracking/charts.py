"""Charts of a classifier on its test images, for a W&B run."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from xraysynth.tracking.media import to_wandb_table

CALIBRATION_BINS = 15
"""Bins of the calibration curve, equally wide: those of the calibration error (ECE)."""


def test_charts(
    probabilities: np.ndarray, targets: np.ndarray, classes: Sequence[str]
) -> Mapping[str, object]:
    """Returns the confusion matrix, precision-recall curves and the calibration curve, by name.

    Args:
        probabilities: `(N, C)` class probabilities.
        targets: `(N,)` class indices.
        classes: The class vocabulary.
    """
    from wandb import plot

    labels = list(classes)
    predicted = probabilities.argmax(axis=1).tolist()
    calibration: list[list[Any]] = []
    for confidence, accuracy, n_images in compute_reliability_bins(probabilities, targets):
        calibration.append([confidence, accuracy, "classifier", n_images])
    calibration += [[0.0, 0.0, "perfect", None], [1.0, 1.0, "perfect", None]]
    bins = to_wandb_table(["confidence", "accuracy", "line", "images"], calibration)
    return {
        "test/confusion": plot.confusion_matrix(
            y_true=targets.tolist(), preds=predicted, class_names=labels
        ),
        "test/pr": plot.pr_curve(targets.tolist(), probabilities.tolist(), labels=labels),
        "test/calibration": plot.line(bins, "confidence", "accuracy", "line", "Calibration"),
    }


def compute_reliability_bins(
    probabilities: np.ndarray, targets: np.ndarray
) -> list[tuple[float, float, int]]:
    """Computes the points of a calibration curve, in the bins of the ECE.

    Args:
        probabilities: `(N, C)` class probabilities.
        targets: `(N,)` class indices.

    Returns:
        Mean confidence, accuracy and number of images of each bin that has images.
    """
    confidence = probabilities.max(1)
    is_correct = probabilities.argmax(1) == targets
    edges = np.linspace(0, 1, CALIBRATION_BINS + 1)
    bins = np.clip(np.searchsorted(edges, confidence) - 1, 0, CALIBRATION_BINS - 1)
    points = []
    for number in np.unique(bins):
        in_bin = bins == number
        accuracy = float(is_correct[in_bin].mean())
        points.append((float(confidence[in_bin].mean()), accuracy, int(in_bin.sum())))
    return points
