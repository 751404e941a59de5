"""Whether synthetic images are copies of training images, judged against real ones that cannot be.

A real image of another patient also has a nearest training image. How near that lies, over many
held-out images, is the calibrated null: a synthetic image nearer than all but 1 % of these is flagged.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from xraysynth.errors import XraysynthError
from xraysynth.metrics.features import Features, require_same
from xraysynth.metrics.neighbours import nearest
from xraysynth.metrics.statistics import (
    REPLICATES,
    Interval,
    cluster_weights,
    count_draws,
    interval,
)

LEVEL = 0.01
"""Share of held-out real images that lie nearer than the threshold, and would be flagged."""


@dataclass(frozen=True)
class Memorization:
    """Share of synthetic images nearer to a training image than the threshold; near 0.01 is clean.

    `nearest` are the rows of the nearest training images and `distances` those to them, both `(M,)`;
    `threshold` is the 1 % quantile of the `n_null` held-out images' distances.
    """

    flagged: Interval
    threshold: float
    n_null: int
    distances: np.ndarray
    nearest: np.ndarray

    def closest(self, k: int) -> list[tuple[int, int]]:
        """The `k` closest pairs: rows of the synthetic and of the training image."""
        rows = np.argsort(self.distances, kind="stable")[:k]
        return [(int(row), int(self.nearest[row])) for row in rows]


def memorization(
    *,
    train: Features,
    held_out: Features,
    synthetic: Features,
    patients: ArrayLike,
    replicates: int = REPLICATES,
    seed: int = 0,
) -> Memorization:
    """Flag synthetic images against the null of `held_out` images, whose patients are `(H,)`.

    A synthetic y is flagged if d(y, NN_train(y)) is below the 1 % quantile of d(h, NN_train(h)) over
    held-out h, Euclidean in the encoder's features. The interval resamples held-out patients, and
    with them the threshold, and synthetic images. No patient may be in train and held-out.
    """
    require_same(train, held_out, synthetic)
    if len(held_out.values) < 1 / LEVEL:
        raise XraysynthError(
            f"memorisation: the 1 % quantile needs at least {1 / LEVEL:.0f} held-out images, got "
            f"{len(held_out.values)}; enlarge splits.val_fraction and splits.test_fraction"
        )
    null = nearest(held_out.values, train.values)[0][:, 0]
    distances, originals = (found[:, 0] for found in nearest(synthetic.values, train.values))
    threshold = float(weighted_quantile(null, np.ones((1, len(null))), LEVEL)[0])
    weights = cluster_weights(patients, replicates, seed)
    thresholds = weighted_quantile(null, weights, LEVEL)
    m = len(distances)
    draws = np.random.default_rng(seed + 1).integers(m, size=(replicates, m))
    below = distances[None, :] < thresholds[:, None]
    shares = (count_draws(draws, m) * below).sum(1) / m
    flagged = interval(float((distances < threshold).mean()), shares, n=m)
    return Memorization(flagged, threshold, len(null), distances, originals)


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
