import numpy as np
import pytest
from scipy.spatial.distance import cdist
from scipy.stats import mannwhitneyu, norm
from sklearn.cluster import KMeans

from xraysynth.errors import XraysynthError
from xraysynth.evaluation.metrics.copying import (
    authenticity,
    calibrated_distance,
    data_copying,
    mann_whitney_z,
)


def drawn(seed, n, d=8, shift=0.0):
    return np.random.default_rng(seed).normal(size=(n, d)) + shift


def clusters(seed, n, d=8):
    """`n` images in each of two groups far apart."""
    return np.concatenate([drawn(seed, n, d), drawn(seed + 1000, n, d, shift=50)])


TRAIN = drawn(0, 300)


def test_a_pure_copier_is_never_authentic():
    assert authenticity(train=TRAIN, synthetic=TRAIN) == 0.0
    assert authenticity(train=TRAIN, synthetic=TRAIN[::-1][:50]) == 0.0
    assert authenticity(train=TRAIN, synthetic=TRAIN + 1e-3) == 0.0


def test_images_far_from_training_are_all_authentic():
    assert authenticity(train=TRAIN, synthetic=TRAIN + 9) == 1.0


@pytest.mark.parametrize(("d", "mutual"), [(1, 2 / 3), (2, 0.6215), (3, 0.5926)])
def test_independent_draws_are_authentic_unless_they_and_their_neighbour_are_mutual(d, mutual):
    """The share of mutual neighbours in a Poisson process is known (Clark & Evans 1955; Cox 1981)."""
    rng = np.random.default_rng(0)
    found = authenticity(train=rng.uniform(size=(4000, d)), synthetic=rng.uniform(size=(4000, d)))
    assert found == pytest.approx(1 - mutual, abs=0.025)


def test_independent_draws_are_authentic_about_half_the_time_in_many_dimensions():
    shares = [authenticity(train=drawn(s, 300), synthetic=drawn(50 + s, 300)) for s in range(10)]
    assert np.mean(shares) == pytest.approx(0.5, abs=0.12)
    narrow = [
        authenticity(train=drawn(s, 300), synthetic=0.7 * drawn(50 + s, 300)) for s in range(10)
    ]
    assert np.mean(narrow) < np.mean(shares) - 0.1


def test_copies_among_new_images_lower_the_share():
    new = drawn(1, 200)
    mixed = np.concatenate([new, TRAIN[:200]])
    assert authenticity(train=TRAIN, synthetic=mixed) == pytest.approx(
        authenticity(train=TRAIN, synthetic=new) / 2
    )


@pytest.mark.parametrize("m", [20, 300, 1000])
def test_authenticity_by_definition_with_any_number_of_synthetic_images(m):
    synthetic = drawn(1, m)
    to_train, own = cdist(synthetic, TRAIN), cdist(TRAIN, TRAIN)
    np.fill_diagonal(own, np.inf)
    rows = to_train.argmin(1)
    expected = (to_train.min(1) > own.min(1)[rows]).mean()
    assert authenticity(train=TRAIN, synthetic=synthetic) == expected
    wrong = (to_train.min(1) > np.resize(own.min(1), m)).mean()  # by position, not by neighbour
    assert wrong < expected - 0.05


def test_the_u_score_is_that_of_a_mann_whitney_test():
    held_out, synthetic = drawn(0, 40, 1)[:, 0], drawn(1, 55, 1)[:, 0] - 0.4
    p = mannwhitneyu(synthetic, held_out, use_continuity=False, alternative="less").pvalue
    assert mann_whitney_z(held_out=held_out, synthetic=synthetic) == pytest.approx(norm.ppf(p))
    assert norm.ppf(p) < -1
    swapped = mann_whitney_z(held_out=synthetic, synthetic=held_out)
    assert swapped == pytest.approx(-norm.ppf(p))


def test_ties_count_by_half_in_the_u_score():
    held_out, synthetic = np.array([0.0, 1, 1, 2, 5]), np.array([0.0, 0, 1, 2, 2, 3])
    pairs = np.sign(synthetic[:, None] - held_out) / 2  # U - hm / 2
    expected = pairs.sum() / np.sqrt(5 * 6 * 12 / 12)
    assert mann_whitney_z(held_out=held_out, synthetic=synthetic) == pytest.approx(expected)
    assert mann_whitney_z(held_out=held_out, synthetic=held_out) == 0


@pytest.mark.parametrize("cells", [None, 1, 5])
def test_data_copying_is_negative_for_copies_and_positive_for_strangers(cells):
    given = {"train": TRAIN, "held_out": drawn(1, 250), "cells": cells}
    assert data_copying(synthetic=TRAIN + 0.1 * drawn(3, 300), **given) < -3
    assert abs(data_copying(synthetic=drawn(2, 300), **given)) < 1.5
    assert data_copying(synthetic=1.5 * drawn(2, 300), **given) > 3


def test_independent_draws_have_no_preferred_sign():
    values = [
        data_copying(
            train=drawn(s, 200),
            held_out=drawn(100 + s, 150),
            synthetic=drawn(200 + s, 150),
            cells=2,
        )
        for s in range(20)
    ]
    assert np.mean(values) == pytest.approx(0, abs=0.4)
    assert np.std(values) < 1.2


def test_cells_are_weighted_by_their_held_out_images():
    """Copies in one half only: neither half hides the other's score."""
    train = clusters(0, 100)
    held_out = np.concatenate([drawn(1, 30), drawn(2, 90, shift=50)])
    synthetic = np.concatenate([train[:60] + 1e-3, drawn(3, 60, shift=50)])
    scores = [
        mann_whitney_z(
            held_out=cdist(held_out[h], train[t]).min(1),
            synthetic=cdist(synthetic[s], train[t]).min(1),
        )
        for t, h, s in (
            (slice(0, 100), slice(0, 30), slice(0, 60)),
            (slice(100, 200), slice(30, 120), slice(60, 120)),
        )
    ]
    found = data_copying(train=train, held_out=held_out, synthetic=synthetic, cells=2)
    assert found == pytest.approx(0.25 * scores[0] + 0.75 * scores[1])
    assert scores[0] < -5
    assert found != pytest.approx(np.mean(scores), abs=0.5)


def test_neighbours_are_those_within_the_cell():
    train, held_out, synthetic = drawn(0, 60, 2), drawn(1, 200, 2), drawn(2, 200, 2)
    parts = KMeans(6, n_init=3, random_state=0).fit(train)
    far = cdist(held_out, train), cdist(synthetic, train)
    places = parts.predict(held_out), parts.predict(synthetic)
    for within in (True, False):
        scores = []
        for cell in range(6):
            own = parts.labels_ == cell if within else np.ones(60, bool)
            null, found = (
                x[place == cell][:, own].min(1) for x, place in zip(far, places, strict=True)
            )
            scores.append(mann_whitney_z(held_out=null, synthetic=found))
        expected = np.average(scores, weights=np.bincount(places[0]))
        value = data_copying(
            train=train, held_out=held_out, synthetic=synthetic, cells=6, min_per_cell=1
        )
        assert bool(value == pytest.approx(expected)) is within


def test_cells_with_too_few_images_are_left_out():
    train, held_out = clusters(0, 100), clusters(1, 50)
    copies = train[:60] + 1e-3
    only = data_copying(train=train, held_out=held_out, synthetic=copies, cells=2)
    with_few = np.concatenate([copies, drawn(7, 9, shift=60)])
    given = {"train": train, "held_out": held_out, "cells": 2}
    assert data_copying(synthetic=with_few, **given) == pytest.approx(only)
    assert data_copying(synthetic=with_few, min_per_cell=9, **given) > only + 1


def test_data_copying_is_seeded_and_takes_large_seeds():
    given = {"train": TRAIN, "held_out": drawn(1, 250), "synthetic": drawn(2, 300), "cells": 6}
    assert data_copying(seed=2**62 + 1, **given) == data_copying(seed=2**62 + 1, **given)


def test_data_copying_without_enough_images_is_refused():
    with pytest.raises(XraysynthError, match=r"needs .* at least 10 held-out .* 9 synthetic"):
        data_copying(train=TRAIN, held_out=drawn(1, 50), synthetic=drawn(2, 9))
    with pytest.raises(XraysynthError, match="none of 2 cells holds 10"):
        data_copying(
            train=clusters(0, 50), held_out=drawn(1, 50), synthetic=drawn(2, 50, shift=50), cells=2
        )


def test_the_calibrated_distance_by_definition():
    synthetic = drawn(1, 30)
    ordered = np.sort(cdist(synthetic, TRAIN), axis=1)
    for k, alpha in ((50, 0.5), (3, 1.0)):
        expected = ordered[:, 0] / (alpha * ordered[:, :k].mean(1))
        found = calibrated_distance(train=TRAIN, synthetic=synthetic, k=k, alpha=alpha)
        assert found == pytest.approx(expected)
    few = calibrated_distance(train=TRAIN[:20], synthetic=synthetic)
    nearby = np.sort(cdist(synthetic, TRAIN[:20]), axis=1)
    assert few == pytest.approx(nearby[:, 0] / (0.5 * nearby.mean(1)))


def test_the_calibrated_distance_tells_copies_from_images_in_dense_places():
    dense = 0.01 * drawn(5, 100)
    train = np.concatenate([dense, 10 + drawn(6, 100)])
    copy_of_sparse, new_in_dense = train[150:151] + 0.02, 0.01 * drawn(7, 1)
    found = calibrated_distance(
        train=train, synthetic=np.concatenate([copy_of_sparse, new_in_dense])
    )
    assert found[0] < 0.1
    assert found[1] > 0.8
    raw = cdist(np.concatenate([copy_of_sparse, new_in_dense]), train).min(1)
    assert raw[0] > raw[1]  # the plain distance would name the wrong one


def test_exact_copies_have_calibrated_distance_zero():
    assert (calibrated_distance(train=TRAIN, synthetic=TRAIN[:5]) == 0).all()
    repeated = np.repeat(TRAIN[:1], 60, axis=0)
    assert (calibrated_distance(train=repeated, synthetic=TRAIN[:1]) == 0).all()
    assert (calibrated_distance(train=repeated, synthetic=TRAIN[1:2]) == 2).all()
