import numpy as np
import pytest

from xraysynth.errors import XraysynthError
from xraysynth.metrics.class_mix import apportion, class_shares, weighted_mean, weights_to_mix


def test_apportioned_counts_sum_to_the_whole_and_lie_next_to_their_quotas():
    rng = np.random.default_rng(0)
    for n in range(1, 60):
        mix = rng.dirichlet(np.ones(4))
        counts = apportion(mix, n)
        assert counts.sum() == n
        assert (np.abs(counts - n * mix) < 1).all()


def test_weighted_means_have_the_mix_of_the_other_set():
    labels = np.repeat(("a", "b"), (50, 150))
    values = np.where(labels == "a", 1.0, 0.0)
    found = weighted_mean(values, labels, {"a": 0.8, "b": 0.2}, replicates=50)
    assert found.value == pytest.approx(0.8)
    assert (found.low, found.high) == (pytest.approx(0.8), pytest.approx(0.8))
    assert weighted_mean(values, labels, class_shares(labels)).value == values.mean()


def test_the_interval_of_a_weighted_mean_covers_the_truth():
    labels, covered = np.repeat(("a", "b"), (30, 120)), 0
    for seed in range(200):
        values = np.random.default_rng(seed).normal(size=150) + (labels == "a")
        found = weighted_mean(values, labels, {"a": 0.7, "b": 0.3}, replicates=200, seed=seed)
        covered += found.low <= 0.7 <= found.high
    assert covered / 200 == pytest.approx(0.94, abs=0.04)


def test_classes_that_one_set_lacks_weigh_nothing():
    labels = np.array(["a", "b", "c", "c"])
    assert weights_to_mix(labels, {"a": 0.5, "c": 0.25, "d": 0.25}).tolist() == pytest.approx(
        [8 / 3, 0, 2 / 3, 2 / 3]
    )
    with pytest.raises(XraysynthError, match="have a class in common"):
        weights_to_mix(labels, {"d": 1.0})
