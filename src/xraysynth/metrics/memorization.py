"""Whether synthetic images are copies of training images, judged against real ones that cannot be.

A real image of another patient also has a nearest training image. How near that lies, over many
held-out images, is the calibrated null: a synthetic image nearer than all but 1 % of these is flagged.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from sklearn.neighbors import NearestNeighbors

from xraysynth.errors import XraysynthError
from xraysynth.metrics.features import Features, require_same
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
    index = NearestNeighbors(n_neighbors=1).fit(train.values)
    null = index.kneighbors(held_out.values)[0][:, 0]
    distances, nearest = (found[:, 0] for found in index.kneighbors(synthetic.values))
    threshold = float(np.quantile(null, LEVEL))
    weights = cluster_weights(patients, replicates, seed)
    thresholds = weighted_quantile(null, weights, LEVEL)
    m = len(distances)
    draws = np.random.default_rng(seed + 1).integers(m, size=(replicates, m))
    below = distances[None, :] < thresholds[:, None]
    shares = (count_draws(draws, m) * below).sum(1) / m
    flagged = interval(float((distances < threshold).mean()), shares, n=m)
    return Memorization(flagged, threshold, len(null), distances, nearest)


def weighted_quantile(values: np.ndarray, weights: np.ndarray, level: float) -> np.ndarray:
    """The `level` quantile of `values` `(N,)` under each row of `weights` `(R, N)`: `(R,)`.

    The smallest value up to which at least `level` of the weight lies.

    >>> weighted_quantile(np.array([3.0, 1.0, 2.0]), np.array([[1, 1, 1], [9, 1, 0]]), 0.5)
    array([2., 3.])
    """
    order = np.argsort(values, kind="stable")
    cumulated = np.cumsum(weights[:, order], axis=1)
    reached = cumulated >= level * cumulated[:, -1:]
    chosen: np.ndarray = values[order][np.argmax(reached, axis=1)]
    return chosen
