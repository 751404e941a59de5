"""Sets of images brought to one class mix, so that what differs between them is not their mix.

A pool that holds equally many images of each class and real images in their natural mix differ in
every mean over all classes, however alike they are within each class. Such a mean is therefore taken
with weights: each class counts as much as in the set that it is compared with.
"""

from collections.abc import Mapping

import numpy as np

from xraysynth.errors import XraysynthError, format_some
from xraysynth.evaluation.metrics.resampling import cluster_bootstrap_weights
from xraysynth.evaluation.metrics.statistics import (
    MIN_BOOTSTRAP_PATIENTS,
    REPLICATES,
    Interval,
    percentile_interval,
    proportion_sd,
    score_interval,
)
from xraysynth.seeds import derive_seed


def class_proportions(labels: np.ndarray) -> dict[str, float]:
    """The share of each class among images, by name.

    >>> class_proportions(np.array(["a", "b", "a", "a"]))
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


def sample_weights_for_mix(labels: np.ndarray, mix: Mapping[str, float]) -> np.ndarray:
    """Weights `(N,)`, 1 on average, under which images of `labels` `(N,)` have the class mix `mix`.

    Images of classes that `mix` lacks weigh nothing. A class without images leaves its share to the
    others, in proportion.

    >>> sample_weights_for_mix(np.array(["a", "b", "b", "b"]), {"a": 0.7, "b": 0.3})
    array([2.8, 0.4, 0.4, 0.4])
    """
    names, place, counts = np.unique(labels, return_inverse=True, return_counts=True)
    shares = np.array([mix.get(str(name), 0.0) for name in names])
    if not shares.sum() > 0:
        raise XraysynthError(
            f"class mix: images of {format_some([str(name) for name in names])} cannot be weighted to a mix "
            f"of {format_some(sorted(mix))}; compare sets that have a class in common"
        )
    weights: np.ndarray = (shares / shares.sum() * len(labels) / counts)[place]
    return weights


def stratified_bootstrap_weights(
    labels: np.ndarray, replicates: int = REPLICATES, seed: int = 0
) -> np.ndarray:
    """How often each of independent images counts in each bootstrap replicate, `(R, N)`.

    Drawn within classes: how many images of each class a pool has was decided, not found.
    """
    codes = np.unique(labels, return_inverse=True)[1].ravel()
    return cluster_bootstrap_weights(np.arange(len(labels)), replicates, seed, targets=codes)


def weighted_mean(
    values: np.ndarray,
    labels: np.ndarray,
    mix: Mapping[str, float],
    *,
    replicates: int = REPLICATES,
    seed: int = 0,
) -> Interval:
    """Mean of independent `values` `(N,)` in the class mix `mix`, its interval drawn within classes.

    `n` counts the images of the classes in `mix`. The bounds are NaN where one of these classes has
    fewer than `MIN_BOOTSTRAP_PATIENTS` images: so few do not show how far they differ, and a single one seems
    not to differ at all, however much it weighs.
    """
    weights = sample_weights_for_mix(labels, mix)
    drawn = weights * np.vstack(
        [np.ones(len(labels)), stratified_bootstrap_weights(labels, replicates, seed)]
    )
    means = drawn @ values / (drawn @ np.ones(len(labels)))
    known = means[1:] if not scarce_class_mask(labels, weights).any() else np.full(1, np.nan)
    return percentile_interval(float(means[0]), known, n=int(np.sum(weights > 0)))


def scarce_class_mask(labels: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Which images `(N,)` have weight and are of a class of fewer than `MIN_BOOTSTRAP_PATIENTS` images."""
    _, place, counts = np.unique(labels, return_inverse=True, return_counts=True)
    found: np.ndarray = (weights > 0) & (counts[place.ravel()] < MIN_BOOTSTRAP_PATIENTS)
    return found


def shared_classes(*labels: np.ndarray) -> list[str]:
    """The classes that all of some sets of images have, by name.

    >>> shared_classes(np.array(["a", "b"]), np.array(["b", "c", "b"]))
    ['b']
    """
    return sorted(set.intersection(*(set(map(str, names)) for names in labels)))


def macro_proportion(
    outcomes: np.ndarray, labels: np.ndarray, *, replicates: int = REPLICATES, seed: int = 0
) -> Interval:
    """Mean over classes of the share of independent `answers` `(N,)` that are true, in [0, 1].

    The interval draws within classes, on the logit scale. A class of which all answers are alike, or
    which has fewer than `MIN_BOOTSTRAP_PATIENTS` images, does not show how far its share varies:
    what the draws lack of the variance of `proportion_interval` is added.

    >>> found = macro_proportion(np.arange(80) < 40, np.repeat(["a", "b"], 40))  # all of a, none of b
    >>> found.value, round(found.low, 2), round(found.high, 2)
    (0.5, 0.47, 0.53)
    """
    labels, outcomes = np.asarray(labels).astype(str), np.asarray(outcomes, bool)
    weights = sample_weights_for_mix(labels, dict.fromkeys(labels, 1.0))
    drawn = weights * np.vstack(
        [np.ones(len(labels)), stratified_bootstrap_weights(labels, replicates, seed)]
    )
    shares = drawn @ outcomes / (drawn @ np.ones(len(labels)))
    as_many = int(weights.sum() ** 2 / np.square(weights).sum())  # images of equal weight
    names = np.unique(labels)
    missing = [
        _variance_beyond_bootstrap(outcomes[labels == name], drawn[:, labels == name])
        for name in names
    ]
    hidden_sd = float(np.sqrt(np.sum(missing)) / len(names))
    hidden = hidden_sd * np.random.default_rng(derive_seed(seed, "few")).normal(size=replicates)
    value = float(outcomes.all()) if outcomes.all() or not outcomes.any() else float(shares[0])
    return score_interval(value, shares[1:], n=len(labels), patients=as_many, between_runs=hidden)


def _variance_beyond_bootstrap(outcomes: np.ndarray, drawn: np.ndarray) -> float:
    """Variance of the share of one class by `proportion_interval`, as far as draws `(1 + R, n)` lack it."""
    share, n = float(outcomes.mean()), len(outcomes)
    if 0 < share < 1 and n >= MIN_BOOTSTRAP_PATIENTS:
        return 0.0
    seen = np.var(drawn[1:] @ outcomes / drawn[1:].sum(1))
    return max(0.0, proportion_sd(share, trials=n) ** 2 - float(seen))
