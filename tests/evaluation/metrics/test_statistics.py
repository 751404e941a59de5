import importlib
import math
import sys
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from xraysynth.errors import ManifestError, XraysynthError
from xraysynth.evaluation.metrics.resampling import cluster_bootstrap_weights
from xraysynth.evaluation.metrics.seed_variance import draw_variances
from xraysynth.evaluation.metrics.statistics import (
    DifferenceSpread,
    Interval,
    bootstrap_mean,
    errors_removed,
    holm_adjust,
    paired_replicates,
    percentile_interval,
    proportion_interval,
    score_interval,
    summarise_seeds,
)

EXPERIMENT = Path(__file__).parents[3] / "experiments/interval_coverage"


@pytest.fixture
def simulation(monkeypatch):
    """The experiment on coverage of one run's scores, of which the tests run a small part."""
    monkeypatch.syspath_prepend(str(EXPERIMENT))
    yield importlib.import_module("simulate")
    sys.modules.pop("simulate")


@pytest.fixture
def seeds_simulation(simulation):
    """The experiment on coverage of arms with several seeds."""
    yield importlib.import_module("seeds")
    sys.modules.pop("seeds")


def test_images_of_a_patient_come_and_go_together():
    patients = np.array(["a", "b", "a", "c", "b", "a"])
    weights = cluster_bootstrap_weights(patients, 200, seed=3)
    assert weights.shape == (200, 6)
    assert (weights[:, [0, 0]] == weights[:, [2, 5]]).all()
    assert (weights[:, 1] == weights[:, 4]).all()
    drawn = weights[:, [0, 1, 3]].sum(1)  # one column a patient
    assert (drawn == 3).all()
    assert len(np.unique(weights, axis=0)) > 5


def test_weights_depend_on_the_seed_alone():
    patients = np.arange(30)
    assert (
        cluster_bootstrap_weights(patients, 5, 0) == cluster_bootstrap_weights(patients, 5, 0)
    ).all()
    assert (
        cluster_bootstrap_weights(patients, 5, 0) != cluster_bootstrap_weights(patients, 5, 1)
    ).any()


def test_stratified_draw_keeps_every_class():
    targets = np.array([0] * 40 + [1] * 2)
    patients = np.arange(42)
    free = cluster_bootstrap_weights(patients, 300, 0)
    stratified = cluster_bootstrap_weights(patients, 300, 0, targets=targets)
    assert (free[:, 40:].sum(1) == 0).any()
    assert (stratified[:, 40:].sum(1) == 2).all()


def test_a_small_stratum_has_the_variance_of_its_mean():
    """s^2 / n over three patients; drawing three of them would give two thirds of that."""
    values = np.array([0.0, 1.0, 5.0, 7.0, 8.0])
    weights = cluster_bootstrap_weights(np.arange(5), 20_000, 0, targets=np.array([0, 0, 0, 1, 1]))
    assert weights[:, :3].sum(1) == pytest.approx(3)
    means = weights[:, :3] @ values[:3] / 3
    assert means.var() == pytest.approx(values[:3].var(ddof=1) / 3, rel=0.03)


def test_a_class_of_one_patient_keeps_it_and_a_single_patient_of_two_classes_joins_another():
    assert (cluster_bootstrap_weights(np.array(["a", "b"]), 5, targets=np.array([0, 1])) == 1).all()
    patients = np.array(["both", "both", "rare", *[f"p{n}" for n in range(20)]])
    targets = np.array([0, 1, 1, *[0] * 20])
    weights = cluster_bootstrap_weights(patients, 400, 0, targets=targets)
    assert weights[:, 2].std() > 0  # alone in its stratum it would be drawn once each time
    assert (weights[:, targets == 1].sum(1) > 0).all()
    assert weights.mean(0) == pytest.approx(1, abs=0.2)


def test_patients_with_several_classes_are_one_stratum_and_keep_every_class():
    patients = np.array(["p", "p", "q", "q", "r", "s"])
    targets = np.array([0, 1, 0, 1, 2, 2])
    weights = cluster_bootstrap_weights(patients, 100, 0, targets=targets)
    for index in range(3):
        assert (weights[:, targets == index].sum(1) > 0).all()


@pytest.mark.parametrize("patients", [8, 60, 150])
def test_no_class_vanishes_however_patients_share_classes(patients):
    rng = np.random.default_rng(patients)
    for _ in range(40):
        owners = np.concatenate([np.arange(patients), rng.integers(patients, size=patients)])
        targets = rng.choice(4, len(owners), p=[0.55, 0.3, 0.12, 0.03])
        weights = cluster_bootstrap_weights(owners, 60, 0, targets=targets)
        for index in np.unique(targets):
            assert (weights[:, targets == index].sum(1) > 0).all()


def test_a_blank_patient_is_refused():
    with pytest.raises(ManifestError, match=r"1 of 3 .*patient_id"):
        cluster_bootstrap_weights(np.array(["a", "", "b"]), 10)


@pytest.mark.parametrize(("patients", "replicates"), [([], 10), (["a"], 0), ([["a"]], 10)])
def test_nothing_to_resample_is_refused(patients, replicates):
    with pytest.raises(XraysynthError, match="bootstrap"):
        cluster_bootstrap_weights(np.array(patients), replicates)


def test_patients_of_other_images_are_refused():
    with pytest.raises(XraysynthError, match="3 patient ids for 2 targets"):
        cluster_bootstrap_weights(np.arange(3), 10, targets=np.array([0, 1]))


def test_interval_is_the_central_95_percent():
    found = percentile_interval(0.5, np.linspace(0, 1, 1001), n=7)
    assert found == Interval(0.5, pytest.approx(0.025), pytest.approx(0.975), 7)
    assert asdict(found).keys() == {"value", "low", "high", "n"}


def test_undefined_replicates_are_left_out():
    found = percentile_interval(0.5, np.array([np.nan, 0.4, 0.4]), n=1)
    assert (found.low, found.high) == (0.4, 0.4)
    assert math.isnan(percentile_interval(np.nan, np.array([np.nan]), n=1).low)


def test_paired_difference_cancels_what_both_arms_share():
    shared = np.random.default_rng(0).normal(size=200)
    assert paired_replicates(shared + 0.1, shared) == pytest.approx(np.full(200, 0.1))
    with pytest.raises(XraysynthError, match="score both with the same weights"):
        paired_replicates(shared, shared[:-1])


def test_bootstrap_interval_covers_the_mean_at_the_stated_rate():
    rng = np.random.default_rng(0)
    covered = {"by patient": [], "by image": []}
    for trial in range(200):
        effect = np.repeat(rng.normal(size=40), 3)  # three images of each of 40 patients
        values = effect + 0.2 * rng.normal(size=120)
        owners = {"by patient": np.repeat(np.arange(40), 3), "by image": np.arange(120)}
        for name, ids in owners.items():
            weights = cluster_bootstrap_weights(ids, 300, trial)
            found = percentile_interval(values.mean(), weights @ values / weights.sum(1), n=120)
            covered[name].append(found.low <= 0 <= found.high)
    assert 0.88 < np.mean(covered["by patient"]) < 0.99
    assert np.mean(covered["by image"]) < 0.85


def test_score_intervals_cover_at_the_stated_rate_and_image_level_ones_do_not(simulation):
    """200 test sets of 75 patients with up to five images, which are much alike."""
    cell = replace(simulation.SINGLE[0], most_images=5, of_patient=0.8, of_image=0.2)
    rows = simulation.measure(cell, sets=200, replicates=150, population=10_000)
    covered = {(row["method"], row["score"]): row["coverage"] for row in rows}
    for name in simulation.SCORES:
        assert 0.9 <= covered["logit", name] <= 0.99, name
        assert covered["logit by image", name] < 0.88, name
        assert covered["percentile by image", name] < 0.88, name


@pytest.mark.parametrize("spread", ["alike", "very unequal"])
def test_intervals_of_three_seeds_cover_and_are_much_narrower_than_student_s(
    seeds_simulation, spread
):
    study = seeds_simulation.Study("", 8, 3, spread)
    for row in seeds_simulation.measure(study, studies=60, replicates=100, population=4000):
        assert 0.9 <= row["coverage"] <= 0.99, row
        assert row["coverage_arm"] >= 0.85, row
        assert row["seeds_width_ratio"] <= 0.68, row


def test_score_interval_is_symmetric_on_the_logit_scale_and_stays_within_bounds():
    replicates = np.clip(np.random.default_rng(0).normal(0.97, 0.02, 2000), 0, 1)
    found = score_interval(0.97, replicates, n=90, patients=50)
    low, value, high = (np.log(x / (1 - x)) for x in (found.low, 0.97, found.high))
    assert high - value == pytest.approx(value - low)
    assert 0 < found.low < 0.97 < found.high < 1
    assert found.low < percentile_interval(0.97, replicates, n=90).low
    assert found.n == 90


def test_score_interval_takes_deviations_between_runs_by_their_tangent():
    steady = np.full(1001, 0.8)
    deviations = np.linspace(-0.04, 0.04, 1001)
    found = score_interval(0.8, steady, n=9, patients=9, between_runs=deviations)
    half = 0.95 * 0.04 / (0.8 * 0.2)
    logits = np.log(4) + np.array([-half, half])
    assert (found.low, found.high) == pytest.approx(tuple(1 / (1 + np.exp(-logits))))


def test_a_perfect_score_is_not_certain():
    ones = np.ones(100)
    perfect = score_interval(1.0, ones, n=100, patients=50)
    assert (perfect.low, perfect.high) == (pytest.approx(0.9287, abs=1e-4), 1.0)  # Wilson, 50 of 50
    none = score_interval(0.0, 0 * ones, n=100, patients=50)
    assert (none.low, none.high) == (0.0, pytest.approx(0.0713, abs=1e-4))


def test_few_patients_get_the_interval_of_as_many_trials():
    still = np.full(100, 0.8)  # one patient, whom every draw repeats
    found = score_interval(0.8, still, n=5, patients=1)
    exact = proportion_interval(0.8, trials=1, n=5)
    assert (found.low, found.high) == (pytest.approx(exact.low), pytest.approx(exact.high))
    assert exact.low < 0.15
    many = score_interval(0.8, still, n=60, patients=6)
    assert many.high - many.low == pytest.approx(0, abs=1e-9)


def test_a_score_that_is_not_defined_has_no_interval():
    nan = np.full(5, np.nan)
    assert math.isnan(score_interval(0.5, nan, n=1, patients=1).low)
    assert math.isnan(bootstrap_mean(np.array([0.5])).low)
    assert math.isnan(bootstrap_mean(np.array([])).value)
    assert math.isnan(score_interval(math.nan, nan, n=0, patients=0).high)
    assert math.isnan(score_interval(0.0, np.zeros(5), n=0, patients=0).high)


def test_errors_removed_is_the_difference_as_a_share_of_the_errors_left():
    found = errors_removed(Interval(0.05, 0.01, 0.09, 7), reference=0.8)
    assert found == Interval(pytest.approx(0.25), pytest.approx(0.05), pytest.approx(0.45), 7)
    assert math.isnan(errors_removed(Interval(0.0, 0.0, 0.0, 7), reference=1.0).value)


def test_seeds_are_summed_up_one_by_one():
    found = summarise_seeds([0.5, 0.75, 1.0])
    assert found.values == (0.5, 0.75, 1.0)
    assert (found.mean, found.sd) == (0.75, 0.25)
    assert math.isnan(summarise_seeds([0.5]).sd)
    with pytest.raises(XraysynthError, match="without runs"):
        summarise_seeds([])


def spread_of(by_seed, patients_sd):
    """The spread of a difference of which each seed shows one value."""
    (variances,) = draw_variances([by_seed], np.random.default_rng(1))
    return DifferenceSpread(by_seed.mean(), patients_sd, variances / len(by_seed))


@pytest.mark.parametrize("seeds", [2, 3, 5])
@pytest.mark.parametrize("ratio", [0.0, 0.5, 3.0])
def test_p_values_are_below_their_level_no_more_often_than_that(seeds, ratio):
    """Differences of nothing: patients' part has sd 1, that of the mean over seeds sd √ratio."""
    rng = np.random.default_rng(0)
    found = []
    for _ in range(1500):
        by_seed = np.sqrt(ratio * seeds) * rng.normal(size=seeds)
        spread = spread_of(by_seed, 1.0)
        found.append(spread.p_value(rng.normal() + by_seed.mean()))
    assert np.mean(np.array(found) < 0.05) < 0.065
    assert np.mean(np.array(found) < 0.005) < 0.01
    assert np.mean(np.array(found) < 0.05) > (0.035 if ratio == 0 else 0)


@pytest.mark.parametrize("arms", [4, 25, 26, 40])
def test_a_plain_gain_is_shown_however_many_arms_there_are(arms):
    """Of 1,000 replicates none lies below 0: their number bounds no p-value, whatever the family."""
    spread = DifferenceSpread(0.3, 0.02, np.full(9, 1e-6))
    p_values = {str(n): spread.p_value() for n in range(arms)}
    assert all(adjusted < 0.001 for adjusted in holm_adjust(p_values).values())
    assert spread.p_value(0.0) == 1


def test_the_p_value_is_that_of_student_where_patients_make_no_difference():
    for seeds in (2, 3, 10):
        by_seed = np.arange(seeds) / np.std(np.arange(seeds), ddof=1) * np.sqrt(seeds)
        for t in (0.5, 2.0, 4.0):
            found = spread_of(by_seed, 0.0).p_value(-t)
            assert found == pytest.approx(2 * stats.t.sf(t, seeds - 1), rel=0.02)
    assert DifferenceSpread(1.96, 1.0, np.zeros(3)).p_value() == pytest.approx(0.05, 0.01)


def test_a_detectable_difference_is_found_four_times_out_of_five():
    """Of normal differences with known variances, tested at 5 % and at 1 %."""
    rng = np.random.default_rng(0)
    spread = DifferenceSpread(0.0, 0.03, np.full(9, 0.02**2))
    for level in (0.05, 0.01):
        true = spread.detectable(level)
        drawn = true + np.hypot(0.03, 0.02) * rng.normal(size=2000)
        power = np.mean([spread.p_value(difference) < level for difference in drawn])
        assert power == pytest.approx(0.8, abs=0.03)
    assert DifferenceSpread(0.0, 0.0, np.zeros(3)).detectable(0.05) == 0


def test_equivalence_is_two_one_sided_tests():
    rng = np.random.default_rng(0)
    spread = DifferenceSpread(0.0, 0.01, np.zeros(3))
    assert spread.equivalence_p_value(0.05) == pytest.approx(stats.norm.sf(5), rel=1e-6)
    at_margin = [DifferenceSpread(d, 0.01, np.zeros(3)) for d in rng.normal(0.05, 0.01, 2000)]
    wrong = np.mean([one.equivalence_p_value(0.05) < 0.05 for one in at_margin])
    assert wrong == pytest.approx(0.05, abs=0.015)
    assert DifferenceSpread(-0.2, 0.01, np.zeros(3)).equivalence_p_value(0.05) > 0.99


def test_holm():
    assert holm_adjust({"a": 0.04, "b": 0.01, "c": 0.9}) == pytest.approx(
        {"a": 0.08, "b": 0.03, "c": 0.9}
    )
    assert holm_adjust({"a": 0.6, "b": 0.7}) == {"a": 1, "b": 1}
    assert holm_adjust({}) == {}
    with pytest.raises(XraysynthError, match="p-values, but that of b is not known"):
        holm_adjust({"a": 0.01, "b": math.nan})


def test_the_bootstrap_interval_of_a_mean_is_that_of_theory():
    values = np.random.default_rng(0).normal(3, 2, 400)
    found = bootstrap_mean(values, 2000)
    assert found.value == values.mean()
    assert found.n == 400
    half = 1.96 * values.std(ddof=1) / 20
    assert (found.high - found.low) / 2 == pytest.approx(half, rel=0.1)
