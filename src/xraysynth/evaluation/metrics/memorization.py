"""Whether synthetic images are copies of training images, judged against real ones that cannot be.

A real image of another patient also has a nearest training image. How near that lies, over many
held-out images, is the calibrated null: a synthetic image nearer than all but 1 % of these is flagged.
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
"""Share of held-out real images that lie nearer than the threshold, and would be flagged."""

MIN_IMAGES_PER_CLASS = 10
"""Images of a class, synthetic and held-out, below which its share is not given."""

_QUANTILES = (np.arange(1000) + 0.5) / 1000


@dataclass(frozen=True)
class FlaggedShare:
    """Share of synthetic images flagged, that of held-out images, and the difference."""

    synthetic: Interval
    held_out: Interval
    excess: Interval


@dataclass(frozen=True)
class Memorization:
    """Share of synthetic images nearer to a training image than the threshold; near 0.01 is clean.

    `flagged` is in the class mix of the held-out images, and `p` that of "no more than 1 % lie so
    near", see `flagged_p_value`. `nearest` are the rows of the nearest training images and
    `distances` those to them, both `(M,)`; `threshold` is the 1 % quantile of the distances of the
    `n_held_out` held-out images, those of classes that the synthetic images have too. `by_class` has, at
    the same threshold, the classes of at least 10 images on both sides.
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
        """Which synthetic images are flagged, `(M,)` bool."""
        below: np.ndarray = self.distances < self.threshold
        return below

    def closest_pairs(self, k: int) -> list[tuple[int, int]]:
        """The `k` closest pairs: rows of the synthetic and of the training image."""
        rows = np.argsort(self.distances, kind="stable")[:k]
        return [(int(row), int(self.nearest_train_rows[row])) for row in rows]


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
    """Flag synthetic images against the null of `held_out` images, whose patients are `(H,)`.

    A synthetic y is flagged if d(y, NN_train(y)) is below the 1 % quantile of d(h, NN_train(h)) over
    held-out h, Euclidean in the encoder's features. Classes lie differently near to their training
    images; with labels, the share is therefore that of synthetic images weighted to the class mix of
    the held-out ones. A class that only one of the two sets has is left out of both, and so of the
    threshold. The interval resamples held-out patients, and with them the threshold, and synthetic
    images within their classes; of a class too small for that (`class_mix.scarce_class_mask`) it reckons that
    none or that all are flagged. No patient may be in train and held-out.
    """
    require_same_encoder(train, held_out, synthetic)
    labels = (
        text_column(
            held_out_labels, len(held_out.values), column_name="labels", image_kind="held-out"
        ),
        text_column(
            synthetic_labels, len(synthetic.values), column_name="labels", image_kind="synthetic"
        ),
    )
    shared = np.isin(labels[0], shared_classes(*labels))
    if shared.sum() < 1 / FLAG_LEVEL:
        raise XraysynthError(
            f"memorisation: the 1 % quantile needs at least {1 / FLAG_LEVEL:.0f} held-out images, got "
            f"{shared.sum()} of classes that the synthetic images have; enlarge splits.val_fraction "
            "and splits.test_fraction"
        )
    labels, patients = (labels[0][shared], labels[1]), np.asarray(patients)[shared]
    null = nearest_neighbours(held_out.values[shared], train.values)[0][:, 0]
    distances, originals = (
        found[:, 0] for found in nearest_neighbours(synthetic.values, train.values)
    )
    threshold = float(weighted_quantile(null, np.ones((1, len(null))), FLAG_LEVEL)[0])
    drawn = (
        cluster_bootstrap_weights(patients, replicates, seed),
        stratified_bootstrap_weights(labels[1], replicates, seed + 1),
    )
    thresholds = weighted_quantile(null, drawn[0], FLAG_LEVEL)
    weights = sample_weights_for_mix(labels[1], class_proportions(labels[0]))
    below = [values < np.append(threshold, thresholds)[:, None] for values in (null, distances)]
    return Memorization(
        flagged=_flagged_interval(
            below[1], drawn[1], weights, scarce_class_mask(labels[1], weights)
        ),
        p_value=flagged_p_value(below[1][0], weights, patients=len(np.unique(patients))),
        threshold=threshold,
        n_held_out=len(null),
        distances=distances,
        nearest_train_rows=originals,
        by_class=_flagged_share_by_class(below, drawn, labels),
    )


def _flagged_interval(
    below: np.ndarray, drawn: np.ndarray, weights: np.ndarray, in_scarce_class: np.ndarray
) -> Interval:
    """The weighted share of `below` `(1 + R, N)`; at its bounds none or all of the `few` `(N,)` are."""
    n = int(np.sum(weights > 0))
    shares = _weighted_shares(below, drawn, weights)
    found = percentile_interval(float(shares[0]), shares[1:], n=n)
    if not in_scarce_class.any():
        return found
    none, every = (
        _weighted_shares(side, drawn, weights)[1:]
        for side in (below & ~in_scarce_class, below | in_scarce_class)
    )
    low, high = (
        percentile_interval(found.value, none, n=n).low,
        percentile_interval(found.value, every, n=n).high,
    )
    return Interval(found.value, low, high, n)


def _weighted_shares(below: np.ndarray, drawn: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Weighted shares `(1 + R,)` of what is `below` `(1 + R, N)`, as it is and in each draw."""
    counts = np.ascontiguousarray(weights * np.vstack([np.ones_like(drawn[:1]), drawn]))
    total = counts.sum(1)
    shares = np.full(len(counts), np.nan)
    np.divide((counts * below).sum(1), total, out=shares, where=total > 0)
    return shares


def _flagged_share_by_class(
    below: list[np.ndarray], drawn: tuple[np.ndarray, np.ndarray], labels: tuple[np.ndarray, ...]
) -> dict[str, FlaggedShare]:
    """The classes that have enough images on both sides, held-out first in every argument."""
    found = {}
    for label in class_proportions(labels[1]) if len(class_proportions(labels[1])) > 1 else {}:
        of_class = [side == label for side in labels]
        counts = [int(side.sum()) for side in of_class]
        if min(counts) < MIN_IMAGES_PER_CLASS:
            continue
        held, made = (
            _weighted_shares(nearer, times, one.astype(float))
            for nearer, times, one in zip(below, drawn, of_class, strict=True)
        )
        found[label] = FlaggedShare(
            percentile_interval(float(made[0]), made[1:], n=counts[1]),
            percentile_interval(float(held[0]), held[1:], n=counts[0]),
            percentile_interval(float(made[0] - held[0]), made[1:] - held[1:], n=counts[1]),
        )
    return found


def flagged_p_value(flagged: np.ndarray, weights: np.ndarray, *, patients: int) -> float:
    """One-sided p-value of "no more new images are flagged than held-out ones", in (0, 1].

    A new image lies below the threshold, which is of rank r = 0.01 (H + 1) among H held-out
    patients, with a probability q that is itself Beta(r, H + 1 - r). Given q the flagged count is
    binomial: p = P(count >= k) over both. `weights` `(M,)` make the count one of images that weigh
    as much as the `flagged` `(M,)` do on average, W = sum w^2 / sum w over these, of all weights 1 in
    sum (after Fay & Feuer 1997): k is the flagged share / W, of 1 / W images. Unweighted that is the
    count.
    r is at least 1, as with fewer than 100 patients of several images each the threshold may be all
    one patient's.

    >>> flagged = np.arange(300) < 18
    >>> p = flagged_p_value(flagged, np.ones(300), patients=200)
    >>> 0.0005 < p < 0.005
    True
    """
    weights = weights / weights.sum()
    share = float(weights[flagged].sum())
    if share <= 0:
        return 1.0
    weight = float(np.square(weights[flagged]).sum()) / share
    count, size = share / weight, 1 / weight
    rank = max(1.0, FLAG_LEVEL * (patients + 1))
    # P(Bin(m, q) >= k) is P(B <= q) of B ~ Beta(k, m - k + 1); over B, which is narrow, the tail of
    # q is smooth, so that small p-values are exact too
    shares = betaincinv(count, max(size - count, 0.0) + 1, _QUANTILES)
    return float(np.mean(betaincc(rank, patients + 1 - rank, shares)))


def weighted_quantile(values: np.ndarray, weights: np.ndarray, level: float) -> np.ndarray:
    """The `level` quantile of `values` `(N,)` under each row of `weights` `(R, N)`, counts: `(R,)`.

    The value of rank level (n + 1), interpolated between whole ranks (Hyndman & Fan 1996, type 6): a
    further value lies below it with probability `level`, whatever the distribution, for any
    n >= 1 / level. The common type 7 would put 2 % below the 1 % quantile of 100 values.

    >>> weighted_quantile(np.array([3.0, 1.0, 2.0]), np.array([[1, 1, 1], [9, 1, 0]]), 0.5)
    array([2., 3.])
    """
    order = np.argsort(values, kind="stable")
    cumulated = np.cumsum(weights[:, order], axis=1)
    total = cumulated[:, -1]
    rank = np.clip(level * (total + 1), 1, total)
    below, above = (
        values[order][np.argmax(cumulated >= np.minimum(whole, total)[:, None], axis=1)]
        for whole in (np.floor(rank), np.floor(rank) + 1)
    )
    chosen: np.ndarray = below + (rank - np.floor(rank)) * (above - below)
    return chosen
