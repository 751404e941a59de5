"""Sets of images weighted to one class mix, so that a difference between them is not one of their mixes.

A pool that holds equally many images of each class and real images in their natural mix differ in
every mean over all classes, however alike they are within each class. Such a mean is therefore taken
with weights: each class counts as much as in the set that the pool is compared with.
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

ALL_CLASSES = ""
"""The label of a measure, and the key of a count, that is taken over all classes."""


def class_proportions(labels: np.ndarray) -> dict[str, float]:
    """Return the proportion of each class among images, by name.

    >>> class_proportions(np.array(["a", "b", "a", "a"]))
    {'a': 0.75, 'b': 0.25}
    """
    names, counts = np.unique(labels, return_counts=True)
    proportions = counts / len(labels)
    return dict(zip(map(str, names), proportions.tolist(), strict=True))


def apportion(mix: np.ndarray, n: int) -> np.ndarray:
    """Divide `n` images among classes in proportion to `mix` `(C,)`, by largest remainders.

    >>> apportion(np.array([0.67, 0.24, 0.09]), 10)
    array([7, 2, 1])
    """
    quotas = n * mix / mix.sum()
    counts: np.ndarray = np.floor(quotas + 1e-9).astype(int)
    remainders = quotas - counts
    counts[np.argsort(-remainders, kind="stable")[: n - counts.sum()]] += 1
    return counts


def sample_weights_for_mix(labels: np.ndarray, mix: Mapping[str, float]) -> np.ndarray:
    """Compute weights `(N,)`, 1 on average, under which images have the class mix `mix`.

    Args:
        labels: Class name of each image, `(N,)`.
        mix: Proportion of each class, by name. Images of other classes get weight 0. The proportion
            of a class without images goes to the other classes, in proportion.

    Raises:
        XraysynthError: If no image is of a class in `mix`.

    >>> sample_weights_for_mix(np.array(["a", "b", "b", "b"]), {"a": 0.7, "b": 0.3})
    array([2.8, 0.4, 0.4, 0.4])
    """
    unique, codes, counts = np.unique(labels, return_inverse=True, return_counts=True)
    names = list(map(str, unique))
    proportions = np.array([mix.get(name, 0.0) for name in names])
    if not proportions.sum() > 0:
        raise XraysynthError(
            f"class mix: images of {format_some(names)} cannot be weighted to a mix "
            f"of {format_some(sorted(mix))}; compare sets that have a class in common"
        )
    class_weights = proportions / proportions.sum() * len(labels) / counts
    weights: np.ndarray = class_weights[codes]
    return weights


def stratified_bootstrap_weights(
    labels: np.ndarray, replicates: int = REPLICATES, seed: int = 0
) -> np.ndarray:
    """Count how often each of independent images occurs in each bootstrap replicate, `(R, N)`.

    Images are drawn within classes, because the number of images of each class in a pool is part of
    the design and not random.
    """
    codes = np.unique(labels, return_inverse=True)[1].ravel()
    return cluster_bootstrap_weights(np.arange(len(labels)), replicates, seed, targets=codes)


def _weights_with_draws(
    labels: np.ndarray, weights: np.ndarray, replicates: int, seed: int
) -> np.ndarray:
    """Return the `weights` `(N,)` of images in the sample, then in each draw: `(1 + R, N)`."""
    draws = stratified_bootstrap_weights(labels, replicates, seed)
    return np.asarray(weights * np.vstack([np.ones(len(labels)), draws]))


def weighted_mean(
    values: np.ndarray,
    labels: np.ndarray,
    mix: Mapping[str, float],
    *,
    replicates: int = REPLICATES,
    seed: int = 0,
) -> Interval:
    """Compute the mean of independent `values` in the class mix `mix`, with its bootstrap interval.

    Images are drawn within classes. Where a class in `mix` has fewer than `MIN_BOOTSTRAP_PATIENTS`
    images, the bounds are NaN: a few images do not show how far they differ, and a single one would
    seem not to vary at all, however much weight it has.

    Args:
        values: Value of each image, `(N,)`.
        labels: Class name of each image, `(N,)`.
        mix: Proportion of each class, by name.
        replicates: Number of bootstrap replicates.
        seed: Seed of the draws.

    Returns:
        The mean; `n` counts the images of the classes in `mix`.
    """
    weights = sample_weights_for_mix(labels, mix)
    draws = _weights_with_draws(labels, weights, replicates, seed)
    means = draws @ values / (draws @ np.ones(len(labels)))
    value, replicate_means = float(means[0]), means[1:]
    if scarce_class_mask(labels, weights).any():
        replicate_means = np.full(1, np.nan)
    return percentile_interval(value, replicate_means, n=int(np.sum(weights > 0)))


def scarce_class_mask(labels: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return which images `(N,)` have weight in a class of fewer than `MIN_BOOTSTRAP_PATIENTS` images."""
    _, codes, counts = np.unique(labels, return_inverse=True, return_counts=True)
    is_scarce: np.ndarray = (weights > 0) & (counts[codes.ravel()] < MIN_BOOTSTRAP_PATIENTS)
    return is_scarce


def shared_classes(*labels: np.ndarray) -> list[str]:
    """Return the classes that all of several sets of images have, sorted by name.

    >>> shared_classes(np.array(["a", "b"]), np.array(["b", "c", "b"]))
    ['b']
    """
    names = [set(map(str, column)) for column in labels]
    return sorted(set.intersection(*names))


def macro_proportion(
    outcomes: np.ndarray, labels: np.ndarray, *, replicates: int = REPLICATES, seed: int = 0
) -> Interval:
    """Compute the mean over classes of the proportion of true `outcomes`, in [0, 1].

    The interval draws images within classes, on the logit scale. A class whose outcomes are all equal,
    or which has fewer than `MIN_BOOTSTRAP_PATIENTS` images, does not show how far its proportion
    varies: the part of the variance of `proportion_interval` that the draws lack is added.

    Args:
        outcomes: Independent outcome of each image, `(N,)` bool.
        labels: Class name of each image, `(N,)`.
        replicates: Number of bootstrap replicates.
        seed: Seed of the draws.

    >>> outcomes = np.arange(80) < 40  # all of a, none of b
    >>> proportion = macro_proportion(outcomes, np.repeat(["a", "b"], 40))
    >>> proportion.value, round(proportion.low, 2), round(proportion.high, 2)
    (0.5, 0.47, 0.53)
    """
    labels, outcomes = np.asarray(labels).astype(str), np.asarray(outcomes, bool)
    weights = sample_weights_for_mix(labels, dict.fromkeys(labels, 1.0))
    draws = _weights_with_draws(labels, weights, replicates, seed)
    proportions = draws @ outcomes / (draws @ np.ones(len(labels)))
    effective_n = int(weights.sum() ** 2 / np.square(weights).sum())  # images of equal weight
    names = np.unique(labels)
    variances = []
    for name in names:
        is_class = labels == name
        variances.append(_variance_beyond_bootstrap(outcomes[is_class], draws[:, is_class]))
    hidden_sd = float(np.sqrt(np.sum(variances)) / len(names))
    hidden = hidden_sd * np.random.default_rng(derive_seed(seed, "few")).normal(size=replicates)
    value = float(proportions[0])
    if outcomes.all() or not outcomes.any():  # without the rounding of the weighted mean
        value = float(outcomes.all())
    return score_interval(
        value, proportions[1:], n=len(labels), patients=effective_n, between_runs=hidden
    )


def _variance_beyond_bootstrap(outcomes: np.ndarray, draws: np.ndarray) -> float:
    """Return by how much the variance of `proportion_interval` exceeds that of one class's `draws`.

    `outcomes` `(n,)` and `draws` `(1 + R, n)` are those of the images of the class.
    """
    proportion, n = float(outcomes.mean()), len(outcomes)
    if 0 < proportion < 1 and n >= MIN_BOOTSTRAP_PATIENTS:
        return 0.0
    bootstrap_variance = np.var(draws[1:] @ outcomes / draws[1:].sum(1))
    return max(0.0, proportion_sd(proportion, trials=n) ** 2 - float(bootstrap_variance))
