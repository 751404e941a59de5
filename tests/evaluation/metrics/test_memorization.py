from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import betabinom

from xraysynth.errors import XraysynthError
from xraysynth.evaluation.encoders.identity import Identity, Preprocessing
from xraysynth.evaluation.metrics.features import Features
from xraysynth.evaluation.metrics.memorization import (
    detect_memorization,
    flagged_p_value,
    weighted_quantile,
)


def drawn(seed, n, dimensions=8):
    values = np.random.default_rng(seed).normal(size=(n, dimensions))
    return Features(values, Identity("e", "w", Preprocessing()))


def found(synthetic, *, train=None, held_out=None, **options):
    held_out = held_out or drawn(1, 400)
    return detect_memorization(
        train=train or drawn(0, 200),
        held_out=held_out,
        synthetic=synthetic,
        patients=[f"p{n // 2}" for n in range(len(held_out.values))],
        replicates=200,
        **options,
    )


def mixed(copies, n=300):
    """`copies` near-copies of training images among `n` new ones."""
    values = drawn(2, n).values
    values[:copies] = drawn(0, 200).values[:copies] + 1e-3
    return Features(values, drawn(0, 2).identity)


def test_copies_are_all_flagged_and_known_by_their_original():
    result = found(mixed(100, n=100))
    assert result.flagged.value == 1
    assert result.closest_pairs(100) == [
        (row, row) for row in sorted(range(100), key=lambda r: result.distances[r])
    ]


@pytest.mark.parametrize("copies", [3, 15, 60])
def test_planted_copies_are_found(copies):
    result = found(mixed(copies))
    clean = found(mixed(0))
    assert result.flagged.value >= copies / 300
    assert result.flagged.value == pytest.approx(clean.flagged.value + copies / 300, abs=0.01)


def test_images_of_the_same_distribution_are_flagged_as_often_as_real_ones():
    shares = []
    for seed in range(40):
        result = found(
            drawn(500 + seed, 300), train=drawn(seed, 200), held_out=drawn(90 + seed, 400)
        )
        shares.append(result.flagged.value)
    assert 0.005 < np.mean(shares) < 0.02


@pytest.mark.parametrize("n", [100, 120, 150, 199, 400])
def test_one_percent_of_further_values_lie_below_the_threshold_whatever_n(n):
    """Of uniform values, the threshold is itself the share below it; NumPy's default gives up to 2 %."""
    values = np.random.default_rng(n).random((4000, n))
    ones = np.ones((1, n))
    found = np.mean([weighted_quantile(row, ones, 0.01)[0] for row in values])
    assert found == pytest.approx(0.01, abs=0.0007)
    if n == 100:
        assert np.quantile(values, 0.01, axis=1).mean() > 0.018


def test_a_weighted_quantile_counts_values_as_often_as_they_were_drawn():
    values = np.random.default_rng(0).random(50)
    weights = np.random.default_rng(1).multinomial(200, np.ones(50) / 50, size=20)
    found = weighted_quantile(values, weights, 0.1)
    for row, quantile in zip(weights, found, strict=True):
        expected = np.quantile(np.repeat(values, row), 0.1, method="weibull")
        assert quantile == pytest.approx(expected)


@pytest.mark.parametrize("copies", [15, 60])  # 5 and 20 %
def test_the_interval_excludes_one_percent_where_copies_were_planted(copies):
    assert found(mixed(copies)).flagged.low > 0.01
    assert found(mixed(0)).flagged.low <= 0.01


def test_the_interval_covers_the_uncertainty_of_the_threshold():
    result = found(drawn(2, 300))
    assert result.flagged.low <= result.flagged.value <= result.flagged.high
    assert result.flagged.high > 0.005
    assert result.flagged.n == 300
    assert result.n_held_out == 400


def test_images_far_from_training_are_never_flagged():
    far = Features(drawn(2, 300).values * 5, drawn(0, 2).identity)
    assert found(far).flagged.value < found(drawn(2, 300)).flagged.value + 1e-9


def test_too_few_held_out_images_have_no_one_percent_quantile():
    with pytest.raises(XraysynthError, match="needs at least 100 held-out images, got 99"):
        found(drawn(2, 10), held_out=drawn(1, 99))


def test_features_of_other_encoders_do_not_mix():
    other = Features(drawn(2, 300).values, replace(drawn(0, 2).identity, weights="v"))
    with pytest.raises(XraysynthError, match="differ in weights"):
        found(other)


def skewed(seed, labels, copies_of=None, copies=0):
    """Images of two classes, of which "b" is so narrow that all its images lie near to others."""
    spread = np.where(labels == "a", 1.0, 0.25)[:, None]
    values = drawn(seed, len(labels)).values * spread + 9.0 * (labels == "b")[:, None]
    if copies:
        values[:copies] = copies_of.values[:copies] + 1e-3
    return Features(values, drawn(0, 2).identity)


def test_a_clean_pool_of_another_class_mix_is_at_one_percent():
    """Unweighted, 5 % of such pools were flagged: the narrow class is near to its training images."""
    mixes = [np.repeat(("a", "b"), counts) for counts in ((190, 10), (380, 20), (150, 150))]
    train, held, made = mixes
    weighted, plain = [], []
    for seed in range(30):
        train_set = skewed(3 * seed, train)
        sets = {
            "train": train_set,
            "held_out": skewed(3 * seed + 1, held),
            "synthetic": skewed(3 * seed + 2, made),
            "patients": np.arange(400),
            "replicates": 50,
        }
        labels = {"held_out_labels": held, "synthetic_labels": made}
        weighted.append(detect_memorization(**sets, **labels))
        plain.append(detect_memorization(**sets))
    assert np.mean([one.flagged.value for one in weighted]) == pytest.approx(0.01, abs=0.004)
    assert np.mean([one.flagged.value for one in plain]) > 0.025
    called = [one.flagged.low > 0.01 and one.p < 0.05 for one in weighted]
    assert sum(called) <= 2
    copied = skewed(2, made, train_set, copies=45)
    assert detect_memorization(**sets | {"synthetic": copied}, **labels).p_value < 0.001


def test_with_100_held_out_images_few_clean_pools_have_more_than_one_percent():
    """The interval alone calls one in twelve of these pools, or one in five of several classes."""
    found = [
        detect_memorization(
            train=drawn(seed, 60),
            held_out=drawn(300 + seed, 100),
            synthetic=drawn(600 + seed, 300),
            patients=np.arange(100),
            replicates=20,
        )
        for seed in range(120)
    ]
    assert np.mean([one.p_value < 0.05 for one in found]) <= 0.08
    assert np.mean([one.p_value < 0.5 for one in found]) > 0.2


def test_images_of_one_patient_do_not_count_as_several_in_the_p_value():
    """Held-out patients of four equal images: the threshold is one patient's, of 25."""
    below = []
    for seed in range(120):
        held = Features(np.repeat(drawn(300 + seed, 25).values, 4, axis=0), drawn(0, 2).identity)
        result = detect_memorization(
            train=drawn(seed, 60),
            held_out=held,
            synthetic=drawn(600 + seed, 200),
            patients=np.repeat(np.arange(25), 4),
            replicates=20,
        )
        below.append(result.p_value < 0.05)
    assert np.mean(below) <= 0.07


def test_the_p_value_is_a_beta_binomial_tail():
    flagged = np.arange(200) < 9
    found = flagged_p_value(flagged, np.ones(200), patients=199)
    assert found == pytest.approx(betabinom.sf(8, 200, 2, 198), rel=0.01)
    assert flagged_p_value(flagged & False, np.ones(200), patients=199) == 1.0
    heavy = np.where(flagged, 20.0, 1.0)  # as if 9 of 9 + 191 / 20 images
    assert flagged_p_value(flagged, heavy, patients=199) < 1e-6
    one = np.arange(200) < 1  # of five that weigh as much as all others
    few = np.where(np.arange(200) < 5, 39.0, 1.0)
    assert flagged_p_value(one, few, patients=199) == pytest.approx(
        betabinom.sf(0, 10, 2, 198), rel=0.05
    )


def test_every_image_has_a_flag():
    result = found(mixed(100, n=300))
    assert result.flags[:100].all()
    assert result.flags.mean() == pytest.approx(result.flagged.value)


def test_a_class_that_the_pool_lacks_does_not_move_the_threshold():
    """Class a is narrow, so that its images lie near to others; the pool has no image of b, whose
    held-out images lie far away. With these in the null 3 % of clean pools were flagged."""
    counts = {"train": (100, 300), "held_out": (120, 270), "synthetic": (300, 0)}
    shares = []
    for seed in range(12):
        labels = {name: np.repeat(("a", "b"), n) for name, n in counts.items()}
        sets = {}
        for place, (name, of) in enumerate(labels.items()):
            spread = np.where(of == "a", 0.5, 1.0)[:, None]
            values = drawn(3 * seed + place, len(of)).values * spread + 9.0 * (of == "b")[:, None]
            sets[name] = Features(values, drawn(0, 2).identity)
        options = {"held_out_labels": labels["held_out"], "synthetic_labels": labels["synthetic"]}
        given = sets | options | {"patients": np.arange(390), "replicates": 50}
        one = detect_memorization(**given)
        assert one.n_held_out == 120
        assert one.flags.shape == (300,)
        shares.append(one.flagged.value)
    assert np.mean(shares) == pytest.approx(0.01, abs=0.008)
    few = given | {"held_out_labels": np.repeat(("a", "b"), (90, 300))}
    with pytest.raises(XraysynthError, match="got 90 of classes that the synthetic images have"):
        detect_memorization(**few)


def test_of_a_class_of_few_images_none_or_all_may_be_flagged():
    """One image that weighs as much as 200 others has no spread, whatever its answer is."""
    labels = np.repeat(("a", "b"), (200, 1))
    held = np.repeat(("a", "b"), (200, 200))
    found = detect_memorization(
        train=drawn(0, 200),
        held_out=drawn(1, 400),
        synthetic=drawn(2, 201),
        patients=np.arange(400),
        held_out_labels=held,
        synthetic_labels=labels,
        replicates=100,
    ).flagged
    assert found.low < 0.01
    assert 0.5 <= found.high < 0.53
    assert found.value < 0.05
