"""Detection of synthetic images that copy training images, calibrated on held-out real images.

A real image of another patient also has a nearest training image. The distances to it, over many
held-out images, are the calibrated null: a synthetic image that lies nearer than all but 1 % of them
is flagged.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import betaincc, betaincinv

from xraysynth.errors import XraysynthError
from xraysynth.evaluation.metrics.class_mix import (
    class_proportions,
    sample_weights_for_mix,
    scarce_class_mask,
    shared_classes,
    stratified_bootstrap_weights,
)
from xraysynth.evaluation.metrics.features import Features, require_same_encoder
from xraysynth.evaluation.metrics.labelled_features import text_column
from xraysynth.evaluation.metrics.neighbours import nearest_neighbours
from xraysynth.evaluation.metrics.resampling import cluster_bootstrap_weights
from xraysynth.evaluation.metrics.statistics import REPLICATES, Interval, percentile_interval

FLAG_LEVEL = 0.01
"""Fraction of held-out real images that lie nearer than the threshold, and would be flagged."""

MIN_IMAGES_PER_CLASS = 10
"""Number of images of a class, synthetic and held-out, below which its memorised share is not given."""

_QUANTILES = (np.arange(1000) + 0.5) / 1000


@dataclass(frozen=True)
class FlaggedShare:
    """Fraction of synthetic images flagged, fraction of held-out images flagged, and the difference."""

    synthetic: Interval
    held_out: Interval
    excess: Interval


@dataclass(frozen=True)
class Memorization:
    """The memorised share: the fraction of synthetic images that are flagged. Near 0.01 is clean.

    Attributes:
        flagged: Fraction of synthetic images that lie nearer to a training image than `threshold`,
            in the class mix of the held-out images.
        p_value: One-sided p-value of "no more than 1 % are flagged", see `flagged_p_value`.
        threshold: The 1 % quantile of the distances of held-out images to their nearest training
            images.
        n_held_out: Number of held-out images, of the classes that the synthetic images have too.
        distances: Distance of each of M synthetic images to its nearest training image, `(M,)`.
        nearest_train_rows: Rows of the nearest training images, `(M,)`.
        by_class: The fractions at the same threshold, for classes of at least 10 images on both sides.
    """

    flagged: Interval
    p_value: float
    threshold: float
    n_held_out: int
    distances: np.ndarray
    nearest_train_rows: np.ndarray
    by_class: Mapping[str, FlaggedShare]

    @property
    def flags(self) -> np.ndarray:
        """Memorisation flag of each synthetic image, `(M,)` bool."""
        flags: np.ndarray = self.distances < self.threshold
        return flags

    def closest_pairs(self, k: int) -> list[tuple[int, int]]:
        """Return the `k` closest pairs: the row of the synthetic and that of the training image."""
        rows = np.argsort(self.distances, kind="stable")[:k]
        return list(zip(rows.tolist(), self.nearest_train_rows[rows].tolist(), strict=True))


@dataclass(frozen=True)
class _ResampledSet:
    """A set of N images, held-out or synthetic, in the sample and in R draws.

    `is_below` `(1 + R, N)` says which images lie below the threshold of the sample and of each draw;
    `draws` `(R, N)` counts how often each image is drawn; `labels` `(N,)` are class names.
    """

    labels: np.ndarray
    is_below: np.ndarray
    draws: np.ndarray


def detect_memorization(
    *,
    train: Features,
    held_out: Features,
    synthetic: Features,
    patients: ArrayLike,
    held_out_labels: ArrayLike | None = None,
    synthetic_labels: ArrayLike | None = None,
    replicates: int = REPLICATES,
    seed: int = 0,
) -> Memorization:
    """Flag synthetic images that lie nearer to a training image than held-out images do.

    A synthetic y is flagged if d(y, NN_train(y)) is below the 1 % quantile of d(h, NN_train(h)) over
    held-out h, where d is Euclidean in the encoder's features. The distance to the training images
    differs between classes; with labels, synthetic images are therefore weighted to the class mix of
    the held-out ones. A class that only one of the two sets has is left out of both, and so of the
    threshold. The interval resamples held-out patients, and with them the threshold, and synthetic
    images within their classes. Where a class is too small for that (`class_mix.scarce_class_mask`),
    the interval covers the cases that none and that all of its images are flagged.

    Args:
        train: Features of the real images that the generator was trained on.
        held_out: Features of at least 100 real images of other patients.
        synthetic: Features of the synthetic images.
        patients: Patient id of each held-out image.
        held_out_labels: Class name of each held-out image.
        synthetic_labels: Class name of each synthetic image.
        replicates: Number of bootstrap replicates.
        seed: Seed of the draws.

    Raises:
        XraysynthError: If features are of different encoders, or if there are fewer than 100 held-out
            images of classes that the synthetic images have.
    """
    require_same_encoder(train, held_out, synthetic)
    held_out_classes = text_column(
        held_out_labels, len(held_out.values), column_name="labels", image_kind="held-out"
    )
    synthetic_classes = text_column(
        synthetic_labels, len(synthetic.values), column_name="labels", image_kind="synthetic"
    )
    is_shared = np.isin(held_out_classes, shared_classes(held_out_classes, synthetic_classes))
    _require_enough_held_out(int(is_shared.sum()))
    held_out_classes, patients = held_out_classes[is_shared], np.asarray(patients)[is_shared]

    null_distances = nearest_neighbours(held_out.values[is_shared], train.values)[0][:, 0]
    neighbour_distances, neighbour_rows = nearest_neighbours(synthetic.values, train.values)
    distances = neighbour_distances[:, 0]
    held_out_draws = cluster_bootstrap_weights(patients, replicates, seed)
    synthetic_draws = stratified_bootstrap_weights(synthetic_classes, replicates, seed + 1)
    thresholds = _thresholds(null_distances, held_out_draws)
    null = _ResampledSet(held_out_classes, null_distances < thresholds[:, None], held_out_draws)
    generated = _ResampledSet(synthetic_classes, distances < thresholds[:, None], synthetic_draws)

    weights = sample_weights_for_mix(synthetic_classes, class_proportions(held_out_classes))
    n_patients = len(np.unique(patients))
    return Memorization(
        flagged=_flagged_interval(generated, weights),
        p_value=flagged_p_value(generated.is_below[0], weights, patients=n_patients),
        threshold=float(thresholds[0]),
        n_held_out=len(null_distances),
        distances=distances,
        nearest_train_rows=neighbour_rows[:, 0],
        by_class=_flagged_share_by_class(null, generated),
    )


def _require_enough_held_out(n: int) -> None:
    if n < 1 / FLAG_LEVEL:
        raise XraysynthError(
            f"memorisation: the 1 % quantile needs at least {1 / FLAG_LEVEL:.0f} held-out images, got "
            f"{n} of classes that the synthetic images have; enlarge splits.val_fraction "
            "and splits.test_fraction"
        )


def _thresholds(null_distances: np.ndarray, draws: np.ndarray) -> np.ndarray:
    """Return the 1 % quantile of held-out distances `(N,)` in the sample and in each draw, `(1 + R,)`."""
    ones = np.ones((1, len(null_distances)))
    in_sample = weighted_quantile(null_distances, ones, FLAG_LEVEL)
    return np.append(in_sample, weighted_quantile(null_distances, draws, FLAG_LEVEL))


def _flagged_interval(images: _ResampledSet, weights: np.ndarray) -> Interval:
    """Return the weighted fraction of `images` that are flagged.

    At the lower bound none of the images of scarce classes are flagged, at the upper bound all are.
    """
    n = int(np.sum(weights > 0))
    fractions = _weighted_fractions(images.is_below, images.draws, weights)
    interval = percentile_interval(float(fractions[0]), fractions[1:], n=n)
    is_scarce = scarce_class_mask(images.labels, weights)
    if not is_scarce.any():
        return interval
    none = _weighted_fractions(images.is_below & ~is_scarce, images.draws, weights)
    every = _weighted_fractions(images.is_below | is_scarce, images.draws, weights)
    low = percentile_interval(interval.value, none[1:], n=n).low
    high = percentile_interval(interval.value, every[1:], n=n).high
    return Interval(interval.value, low, high, n)


def _weighted_fractions(is_below: np.ndarray, draws: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the weighted fraction of images below the threshold in the sample, then in each draw."""
    counts = np.ascontiguousarray(weights * np.vstack([np.ones_like(draws[:1]), draws]))
    total = counts.sum(1)
    fractions = np.full(len(counts), np.nan)
    np.divide((counts * is_below).sum(1), total, out=fractions, where=total > 0)
    return fractions


def _flagged_share_by_class(
    held_out: _ResampledSet, synthetic: _ResampledSet
) -> dict[str, FlaggedShare]:
    """Return the flagged fractions of each class that has enough images on both sides.

    Empty where all synthetic images are of one class.
    """
    labels = list(class_proportions(synthetic.labels))
    if len(labels) < 2:
        return {}
    by_class = {}
    for label in labels:
        n_held_out = int(np.sum(held_out.labels == label))
        n_synthetic = int(np.sum(synthetic.labels == label))
        if min(n_held_out, n_synthetic) < MIN_IMAGES_PER_CLASS:
            continue
        null = _class_fractions(held_out, label)
        flagged = _class_fractions(synthetic, label)
        excess = flagged - null
        by_class[label] = FlaggedShare(
            percentile_interval(float(flagged[0]), flagged[1:], n=n_synthetic),
            percentile_interval(float(null[0]), null[1:], n=n_held_out),
            percentile_interval(float(excess[0]), excess[1:], n=n_synthetic),
        )
    return by_class


def _class_fractions(images: _ResampledSet, label: str) -> np.ndarray:
    """Return the fraction of one class below the threshold in the sample, then in each draw."""
    weights = (images.labels == label).astype(float)
    return _weighted_fractions(images.is_below, images.draws, weights)


def flagged_p_value(flagged: np.ndarray, weights: np.ndarray, *, patients: int) -> float:
    """Compute the one-sided p-value of "no more new images are flagged than held-out ones", in (0, 1].

    The threshold has rank r = 0.01 (H + 1) among H held-out patients, so that a new image lies below
    it with a probability q that is itself Beta(r, H + 1 - r). Given q the flagged count is binomial:
    p = P(count >= k) over both. With weights, scaled to sum 1, k is the number of images of average
    weight that the flagged ones amount to (after Fay & Feuer 1997): the flagged images weigh
    W = sum w^2 / sum w on average, so that k is their total weight / W, of 1 / W images. With equal
    weights that is the count. r is at least 1, because with fewer than 100 patients of several images
    each the threshold may come from one patient alone.

    Args:
        flagged: Which images are flagged, `(M,)` bool.
        weights: Weight of each image, `(M,)`.
        patients: Number of held-out patients H.

    >>> flagged = np.arange(300) < 18
    >>> p = flagged_p_value(flagged, np.ones(300), patients=200)
    >>> 0.0005 < p < 0.005
    True
    """
    weights = weights / weights.sum()
    flagged_weight = float(weights[flagged].sum())
    if flagged_weight <= 0:
        return 1.0
    average_weight = float(np.square(weights[flagged]).sum()) / flagged_weight
    count, size = flagged_weight / average_weight, 1 / average_weight
    rank = max(1.0, FLAG_LEVEL * (patients + 1))
    # P(Bin(m, q) >= k) equals P(B <= q) for B ~ Beta(k, m - k + 1). B is narrow and the tail of q is
    # smooth over it, so that small p-values are exact too.
    probabilities = betaincinv(count, max(size - count, 0.0) + 1, _QUANTILES)
    return float(np.mean(betaincc(rank, patients + 1 - rank, probabilities)))


def weighted_quantile(values: np.ndarray, weights: np.ndarray, level: float) -> np.ndarray:
    """Compute the `level` quantile of `values` under each row of `weights`.

    It is the value of rank level (n + 1), interpolated between whole ranks (Hyndman & Fan 1996,
    type 6): a further value lies below it with probability `level`, whatever the distribution, for any
    n >= 1 / level. Of the common type 7, 2 % would lie below the 1 % quantile of 100 values.

    Args:
        values: Values `(N,)`.
        weights: How often each value counts in each of R cases, `(R, N)`.
        level: Level in (0, 1).

    Returns:
        Quantiles `(R,)`.

    >>> weighted_quantile(np.array([3.0, 1.0, 2.0]), np.array([[1, 1, 1], [9, 1, 0]]), 0.5)
    array([2., 3.])
    """
    order = np.argsort(values, kind="stable")
    ranked = values[order]
    cumulated = np.cumsum(weights[:, order], axis=1)
    total = cumulated[:, -1]
    rank = np.clip(level * (total + 1), 1, total)
    whole_rank = np.floor(rank)
    below = _values_of_rank(ranked, cumulated, whole_rank)
    above = _values_of_rank(ranked, cumulated, np.minimum(whole_rank + 1, total))
    quantiles: np.ndarray = below + (rank - whole_rank) * (above - below)
    return quantiles


def _values_of_rank(ranked: np.ndarray, cumulated: np.ndarray, ranks: np.ndarray) -> np.ndarray:
    """Return the value of rank `ranks` `(R,)` among values `(N,)` with counts `cumulated` `(R, N)`."""
    first = np.argmax(cumulated >= ranks[:, None], axis=1)
    return np.asarray(ranked[first])
