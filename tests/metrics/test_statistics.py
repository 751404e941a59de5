import math

import numpy as np
import pytest

from xraysynth.errors import ManifestError, XraysynthError
from xraysynth.metrics.statistics import (
    Interval,
    bootstrap_mean,
    cluster_weights,
    holm,
    interval,
    p_value,
    paired_difference,
)


def test_images_of_a_patient_come_and_go_together():
    patients = np.array(["a", "b", "a", "c", "b", "a"])
    weights = cluster_weights(patients, 200, seed=3)
    assert weights.shape == (200, 6)
    assert (weights[:, [0, 0]] == weights[:, [2, 5]]).all()
    assert (weights[:, 1] == weights[:, 4]).all()
    drawn = weights[:, [0, 1, 3]].sum(1)  # one column a patient
    assert (drawn == 3).all()
    assert len(np.unique(weights, axis=0)) > 5


def test_weights_depend_on_the_seed_alone():
    patients = np.arange(30)
    assert (cluster_weights(patients, 5, 0) == cluster_weights(patients, 5, 0)).all()
    assert (cluster_weights(patients, 5, 0) != cluster_weights(patients, 5, 1)).any()


def test_stratified_draw_keeps_every_class():
    targets = np.array([0] * 40 + [1] * 2)
    patients = np.arange(42)
    free = cluster_weights(patients, 300, 0)
    stratified = cluster_weights(patients, 300, 0, targets=targets)
    assert (free[:, 40:].sum(1) == 0).any()
    assert (stratified[:, 40:].sum(1) == 2).all()


def test_patients_with_several_classes_are_one_stratum_and_keep_every_class():
    patients = np.array(["p", "p", "q", "q", "r", "s"])
    targets = np.array([0, 1, 0, 1, 2, 2])
    weights = cluster_weights(patients, 100, 0, targets=targets)
    for index in range(3):
        assert (weights[:, targets == index].sum(1) > 0).all()


def test_a_blank_patient_is_refused():
    with pytest.raises(ManifestError, match=r"1 of 3 .*patient_id"):
        cluster_weights(np.array(["a", "", "b"]), 10)


@pytest.mark.parametrize(("patients", "replicates"), [([], 10), (["a"], 0), ([["a"]], 10)])
def test_nothing_to_resample_is_refused(patients, replicates):
    with pytest.raises(XraysynthError, match="bootstrap"):
        cluster_weights(np.array(patients), replicates)


def test_patients_of_other_images_are_refused():
    with pytest.raises(XraysynthError, match="3 patient ids for 2 targets"):
        cluster_weights(np.arange(3), 10, targets=np.array([0, 1]))


def test_interval_is_the_central_95_percent():
    found = interval(0.5, np.linspace(0, 1, 1001), n=7)
    assert found == Interval(0.5, pytest.approx(0.025), pytest.approx(0.975), 7)
    assert found.as_dict().keys() == {"value", "low", "high", "n"}


def test_undefined_replicates_are_left_out():
    found = interval(0.5, np.array([np.nan, 0.4, 0.4]), n=1)
    assert (found.low, found.high) == (0.4, 0.4)
    assert math.isnan(interval(np.nan, np.array([np.nan]), n=1).low)


def test_paired_difference_cancels_what_both_arms_share():
    shared = np.random.default_rng(0).normal(size=501)
    found = paired_difference(shared + 0.1, shared, n=5)
    assert found.value == pytest.approx(0.1)
    assert found.low == pytest.approx(0.1)
    assert found.high == pytest.approx(0.1)
    with pytest.raises(XraysynthError, match="same weights"):
        paired_difference(shared, shared[:-1], n=5)


def test_bootstrap_interval_covers_the_mean_at_the_stated_rate():
    rng = np.random.default_rng(0)
    covered = {"by patient": [], "by image": []}
    for trial in range(200):
        effect = np.repeat(rng.normal(size=40), 3)  # three images of each of 40 patients
        values = effect + 0.2 * rng.normal(size=120)
        owners = {"by patient": np.repeat(np.arange(40), 3), "by image": np.arange(120)}
        for name, ids in owners.items():
            weights = cluster_weights(ids, 300, trial)
            found = interval(values.mean(), weights @ values / weights.sum(1), n=120)
            covered[name].append(found.low <= 0 <= found.high)
    assert 0.88 < np.mean(covered["by patient"]) < 0.99
    assert np.mean(covered["by image"]) < 0.85


def test_p_value_and_holm():
    assert p_value(np.full(999, 0.3)) == pytest.approx(0.002)
    assert p_value(np.linspace(-1, 1, 1001)) == 1
    assert holm({"a": 0.04, "b": 0.01, "c": 0.9}) == pytest.approx({"a": 0.08, "b": 0.03, "c": 0.9})
    assert holm({"a": 0.6, "b": 0.7}) == {"a": 1, "b": 1}


def test_the_bootstrap_interval_of_a_mean_is_that_of_theory():
    values = np.random.default_rng(0).normal(3, 2, 400)
    found = bootstrap_mean(values, 2000)
    assert found.value == values.mean()
    assert found.n == 400
    half = 1.96 * values.std(ddof=1) / 20
    assert (found.high - found.low) / 2 == pytest.approx(half, rel=0.1)
