import numpy as np
import pytest

from xraysynth.errors import XraysynthError
from xraysynth.evaluation.metrics.class_mix import (
    apportion,
    class_proportions,
    macro_proportion,
    sample_weights_for_mix,
    weighted_mean,
)
from xraysynth.evaluation.metrics.statistics import proportion_sd


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
    assert weighted_mean(values, labels, class_proportions(labels)).value == values.mean()


def test_the_interval_of_a_weighted_mean_covers_the_truth():
    labels, covered = np.repeat(("a", "b"), (30, 120)), 0
    for seed in range(200):
        values = np.random.default_rng(seed).normal(size=150) + (labels == "a")
        found = weighted_mean(values, labels, {"a": 0.7, "b": 0.3}, replicates=200, seed=seed)
        covered += found.low <= 0.7 <= found.high
    assert covered / 200 == pytest.approx(0.94, abs=0.04)


def test_classes_that_one_set_lacks_weigh_nothing():
    labels = np.array(["a", "b", "c", "c"])
    assert sample_weights_for_mix(
        labels, {"a": 0.5, "c": 0.25, "d": 0.25}
    ).tolist() == pytest.approx([8 / 3, 0, 2 / 3, 2 / 3])
    with pytest.raises(XraysynthError, match="have a class in common"):
        sample_weights_for_mix(labels, {"d": 1.0})


def test_a_class_of_a_few_images_leaves_a_mean_without_bounds():
    mix = {"a": 0.25, "b": 0.25, "c": 0.5}
    found = weighted_mean(np.array([1.0, 2.0, 9.0]), np.array(["a", "b", "c"]), mix)
    assert found.value == pytest.approx(5.25)
    assert np.isnan([found.low, found.high]).all()
    for n, known in ((5, False), (6, True)):
        labels = np.repeat(("a", "b"), (40, n))
        values = np.random.default_rng(n).normal(size=40 + n)
        found = weighted_mean(values, labels, {"a": 0.5, "b": 0.5}, replicates=50)
        assert np.isfinite(found.low) == known
        without = weighted_mean(values, labels, {"a": 1.0}, replicates=50)
        assert np.isfinite(without.low)  # of no weight, it does not matter


def test_shares_of_all_and_of_none_in_two_classes_have_an_interval():
    labels = np.repeat(("a", "b"), 40)
    found = macro_proportion(labels == "a", labels, replicates=2000)
    assert found.value == 0.5
    sd = np.hypot(proportion_sd(1, trials=40), proportion_sd(0, trials=40)) / 2
    assert (found.high - found.low) / 2 == pytest.approx(1.96 * sd, rel=0.08)
    all_of_them = macro_proportion(labels != "", labels)
    assert (all_of_them.value, all_of_them.high) == (1, 1)
    assert 0.93 < all_of_them.low < 0.97
    one = macro_proportion(np.arange(41) < 20, np.repeat(("a", "b"), (40, 1)))
    assert one.value == 0.25
    assert one.high - one.low > 0.3


def test_the_interval_of_a_mean_share_covers_the_truth():
    rng, covered = np.random.default_rng(0), 0
    labels = np.repeat(("a", "b"), (60, 25))
    for seed in range(150):
        answers = rng.random(85) < np.where(labels == "a", 0.97, 0.6)
        found = macro_proportion(answers, labels, replicates=200, seed=seed)
        covered += found.low <= 0.785 <= found.high
    assert covered / 150 == pytest.approx(0.95, abs=0.04)
