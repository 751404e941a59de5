import math

import numpy as np
import pytest
from scipy import stats

from xraysynth.evaluation.metrics.bootstrap_scores import BootstrapScores, moderate_arms
from xraysynth.evaluation.metrics.seed_variance import (
    draw_variances,
    group_by_size,
    summarise_spread,
)


def arms_of(deviations, seeds, rng):
    return [sd * rng.normal(size=seeds) for sd in deviations]


def test_one_arm_alone_varies_as_student_t_does():
    values = [np.array([0.5, 0.6, 0.8, 0.5])]
    (variances,) = draw_variances(values, np.random.default_rng(0), 20_000)
    sample = np.var(values[0], ddof=1)
    for level in (0.1, 0.5, 0.9):
        expected = 3 * sample / stats.chi2.ppf(1 - level, 3)
        assert np.quantile(variances, level) == pytest.approx(expected, rel=0.02)


def test_arms_that_differ_alike_share_their_variance_and_others_keep_their_own():
    rng = np.random.default_rng(0)
    alike = arms_of(np.ones(12), 3, rng)
    alike[0] = np.array([0.0, 0.01, 0.02])  # three seeds that happen to agree
    shared = draw_variances(alike, np.random.default_rng(0))
    assert np.median(shared[0]) > 0.1  # its own variance is 0.0001
    apart = arms_of(np.repeat([0.1, 10], 6), 10, rng)
    kept = draw_variances(apart, np.random.default_rng(0))
    assert np.median(kept[:6]) < 0.03
    assert np.median(kept[6:]) > 40
    summary = summarise_spread(apart)
    assert summary.p < 1e-6
    assert summary.weight < summarise_spread(alike).weight


def test_the_weight_of_what_is_common_grows_with_the_number_of_arms_that_agree():
    rng = np.random.default_rng(0)
    weights = []
    for arms in (2, 8, 30):
        found = [summarise_spread(arms_of(np.ones(arms), 4, rng)).weight for _ in range(20)]
        weights.append(np.mean(found))
    assert weights[0] < weights[1] < weights[2]
    assert weights[0] > 0.2
    assert weights[2] > 0.6


def test_the_prior_variance_is_that_of_the_posterior_s_formula():
    """Many arms pin d₀ and s₀² down; an arm's variance is then (d₀ s₀² + d s²) / χ²(d₀ + d)."""
    rng = np.random.default_rng(0)
    prior_degrees, degrees = 8, 4
    true = prior_degrees / rng.chisquare(prior_degrees, 400)
    values = arms_of(np.sqrt(true), degrees + 1, rng)
    variances = draw_variances(values, np.random.default_rng(1), 4000)
    samples = np.var(values, axis=1, ddof=1)
    expected = (prior_degrees + degrees * samples) / (prior_degrees + degrees)
    harmonic = 1 / np.mean(1 / variances, axis=1)
    assert harmonic == pytest.approx(expected, rel=0.25)
    assert np.corrcoef(harmonic, expected)[0, 1] > 0.99


def test_single_runs_and_runs_without_any_spread():
    rng = np.random.default_rng(0)
    found = draw_variances([np.array([0.3]), rng.normal(size=3)], rng, 50)
    assert not found[0].any()
    assert found[1].all()
    assert not draw_variances([np.full(3, 0.2), np.full(3, 0.7)], rng, 50).any()
    assert summarise_spread([np.array([0.3])]) is None
    alone = summarise_spread([np.array([0.3, 0.5])])
    assert (alone.arms, alone.runs, alone.weight) == (1, 2, 0)
    assert math.isnan(alone.p)
    stuck = draw_variances([np.full(3, 0.2), rng.normal(size=3), rng.normal(size=3)], rng, 50)
    assert stuck[0].all()  # three equal scores of a few images show no certainty


def test_bartlett_s_p_value_is_scipy_s():
    values = arms_of([1, 2, 3], 6, np.random.default_rng(0))
    assert summarise_spread(values).p == pytest.approx(stats.bartlett(*values).pvalue)


def test_arms_of_other_sizes_are_groups_of_their_own():
    assert group_by_size([100, 100, 150, 151, 500]) == [[0, 1, 2], [3], [4]]
    rng = np.random.default_rng(0)
    targets = np.arange(80) % 4
    arms = []
    for skill in (0.5, 0.6, 0.7, 0.8):
        logits = rng.normal(size=(3, 80, 4)) + skill * np.eye(4)[targets]
        runs = np.exp(logits) / np.exp(logits).sum(2, keepdims=True)
        options = {"classes": list("abcd"), "replicates": 20}
        arms.append(BootstrapScores.from_runs(list(runs), targets, np.arange(80), **options))
    moderated, spreads = moderate_arms(arms, [100, 110, 100, 400])
    assert [spread.arms for spread in spreads["macro_f1"]] == [3, 1]
    alone = arms[3].variances_of_mean("macro_f1")
    assert moderated[3].variances_of_mean("macro_f1") == pytest.approx(alone)
    assert moderated[0].variances_of_mean("macro_f1").std() != pytest.approx(
        arms[0].variances_of_mean("macro_f1").std()
    )
    assert moderated[1].run_values("macro_f1") == pytest.approx(arms[1].run_values("macro_f1"))
