import numpy as np
import pytest

from xraysynth.errors import XraysynthError
from xraysynth.metrics.features import Features
from xraysynth.metrics.memorization import memorization


def drawn(seed, n, dimensions=8):
    values = np.random.default_rng(seed).normal(size=(n, dimensions))
    return Features(values, {"encoder": "e", "weights": "w", "preprocessing": "p"})


def found(synthetic, *, train=None, held_out=None, **options):
    held_out = held_out or drawn(1, 400)
    return memorization(
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
    assert result.closest(100) == [
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


def test_the_interval_covers_the_uncertainty_of_the_threshold():
    result = found(drawn(2, 300))
    assert result.flagged.low <= result.flagged.value <= result.flagged.high
    assert result.flagged.high > 0.005
    assert result.flagged.n == 300
    assert result.n_null == 400


def test_images_far_from_training_are_never_flagged():
    far = Features(drawn(2, 300).values * 5, drawn(0, 2).identity)
    assert found(far).flagged.value < found(drawn(2, 300)).flagged.value + 1e-9


def test_too_few_held_out_images_have_no_one_percent_quantile():
    with pytest.raises(XraysynthError, match="needs at least 100 held-out images, got 99"):
        found(drawn(2, 10), held_out=drawn(1, 99))


def test_features_of_other_encoders_do_not_mix():
    other = Features(drawn(2, 300).values, drawn(0, 2).identity | {"weights": "v"})
    with pytest.raises(XraysynthError, match="differ in weights"):
        found(other)
