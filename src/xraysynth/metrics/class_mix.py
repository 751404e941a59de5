"""Sets of images brought to one class mix, so that what differs between them is not their mix.

A pool that holds equally many images of each class and real images in their natural mix differ in
every mean over all classes, however alike they are within each class. Such a mean is therefore taken
with weights: each class counts as much as in the set that it is compared with.
"""

from collections.abc import Mapping

import numpy as np

from xraysynth.errors import XraysynthError, some
from xraysynth.metrics.statistics import REPLICATES, Interval, cluster_weights, interval


def class_shares(labels: np.ndarray) -> dict[str, float]:
    """The share of each class among images, by name.

    >>> class_shares(np.array(["a", "b", "a", "a"]))
    {'a': 0.75, 'b': 0.25}
    """
    names, counts = np.unique(labels, return_counts=True)
    return {str(n): float(c) / len(labels) for n, c in zip(names, counts, strict=True)}


def apportion(mix: np.ndarray, n: int) -> np.ndarray:
    """How many of `n` images each class gets by its share `mix` `(C,)`: largest remainders.

    >>> apportion(np.array([0.67, 0.24, 0.09]), 10)
    array([7, 2, 1])
    """
    quotas = n * mix / mix.sum()
    counts: np.ndarray = np.floor(quotas + 1e-9).astype(int)
    remainders = quotas - counts
    counts[np.argsort(-remainders, kind="stable")[: n - counts.sum()]] += 1
    return counts


def weights_to_mix(labels: np.ndarray, mix: Mapping[str, float]) -> np.ndarray:
    """Weights `(N,)`, 1 on average, under which images of `labels` `(N,)` have the class mix `mix`.

    Images of classes that `mix` lacks weigh nothing. A class without images leaves its share to the
    others, in proportion.

    >>> weights_to_mix(np.array(["a", "b", "b", "b"]), {"a": 0.7, "b": 0.3})
    array([2.8, 0.4, 0.4, 0.4])
    """
    names, place, counts = np.unique(labels, return_inverse=True, return_counts=True)
    shares = np.array([mix.get(str(name), 0.0) for name in names])
    if not shares.sum() > 0:
        raise XraysynthError(
            f"class mix: images of {some([str(name) for name in names])} cannot be weighted to a mix "
            f"of {some(sorted(mix))}; compare sets that have a class in common"
        )
    weights: np.ndarray = (shares / shares.sum() * len(labels) / counts)[place]
    return weights


def draw_in_classes(labels: np.ndarray, replicates: int = REPLICATES, seed: int = 0) -> np.ndarray:
    """How often each of independent images counts in each bootstrap replicate, `(R, N)`.

    Drawn within classes: how many images of each class a pool has was decided, not found.
    """
    codes = np.unique(labels, return_inverse=True)[1].ravel()
    return cluster_weights(np.arange(len(labels)), replicates, seed, targets=codes)


def weighted_mean(
    values: np.ndarray,
    labels: np.ndarray,
    mix: Mapping[str, float],
    *,
    replicates: int = REPLICATES,
    seed: int = 0,
) -> Interval:
    """Mean of independent `values` `(N,)` in the class mix `mix`, its interval drawn within classes.

    `n` counts the images of the classes in `mix`.
    """
    weights = weights_to_mix(labels, mix)
    drawn = weights * np.vstack([np.ones(len(labels)), draw_in_classes(labels, replicates, seed)])
    means = drawn @ values / (drawn @ np.ones(len(labels)))
    return interval(float(means[0]), means[1:], n=int(np.sum(weights > 0)))
