import math

import numpy as np
import pytest
from sklearn.isotonic import IsotonicRegression

from xraysynth.errors import XraysynthError
from xraysynth.evaluation.metrics.real_data_equivalent import (
    LearningCurve,
    _isotonic_fit,
    equivalent_per_synthetic_image,
    equivalent_real_images,
)

SIZES = np.array([100, 200, 400, 800])


def score(n, noise=0.0):
    """A score that grows with log n: 0.1 a doubling."""
    return 0.5 + 0.1 * np.log2(np.asarray(n) / 100) + noise


def replicated(values, spread=0.0, replicates=400, seed=0):
    """Values `(K,)` with replicates that share their noise, as those on common test sets do."""
    noise = spread * np.random.default_rng(seed).normal(size=replicates)
    return np.asarray(values)[..., None] + np.concatenate([[0], noise])


@pytest.mark.parametrize("n", [100, 141, 200, 333, 800])
def test_the_number_of_real_images_is_found_exactly(n):
    curve = LearningCurve(SIZES, replicated(score(SIZES), 0.05))
    found = equivalent_real_images(curve, replicated(score(n), 0.05))
    assert (found.value, found.low, found.high) == pytest.approx((n, n, n))
    assert found.censored == ""


def test_half_a_real_image_each():
    curve = LearningCurve(SIZES, replicated(score(SIZES), 0.05))
    found = equivalent_per_synthetic_image(
        curve, replicated(score(300), 0.05), real_images=200, synthetic_images=200
    )
    assert (found.value, found.low, found.high) == pytest.approx((0.5, 0.5, 0.5))
    assert found.n == 200


def test_the_interval_is_that_of_the_score_read_off_the_curve():
    curve = LearningCurve(SIZES, replicated(score(SIZES), replicates=1001))
    noise = np.concatenate([[0], np.linspace(-0.05, 0.05, 1001)])
    found = equivalent_real_images(curve, score(300) + noise)
    assert found.value == pytest.approx(300)
    assert found.low == pytest.approx(300 * 2**-0.475, rel=0.01)
    assert found.high == pytest.approx(300 * 2**0.475, rel=0.01)


@pytest.mark.parametrize(
    ("n", "low", "high", "word"),
    [(50, -math.inf, -math.inf, "below the smallest"), (3000, math.inf, math.inf, "above")],
)
def test_what_lies_off_the_curve_is_censored(n, low, high, word):
    curve = LearningCurve(SIZES, replicated(score(SIZES)))
    found = equivalent_real_images(curve, replicated(score(n), 0.01))
    assert (found.value, found.low, found.high) == (low, low, high)
    assert word in found.censored
    each = equivalent_per_synthetic_image(
        curve, replicated(score(n), 0.01), real_images=100, synthetic_images=50
    )
    assert (each.value, each.low) == (low, low)
    assert each.censored == found.censored


def test_an_interval_that_leaves_the_curve_at_one_end_keeps_the_other():
    curve = LearningCurve(SIZES, replicated(score(SIZES)))
    found = equivalent_real_images(curve, replicated(score(700), 0.05))
    assert found.value == pytest.approx(700)
    assert 100 < found.low < 700
    assert found.high == math.inf
    assert found.censored == "reaches above the largest number of real images"


def test_a_curve_that_falls_in_between_is_smoothed_before_it_is_inverted():
    """0.5, 0.7, 0.6, 0.8 becomes 0.5, 0.65, 0.65, 0.8; 0.65 is first reached at 200 images."""
    curve = LearningCurve(SIZES, replicated([0.5, 0.7, 0.6, 0.8]))
    values = [0.5, 0.575, 0.65, 0.725, 0.8]
    found = [equivalent_real_images(curve, replicated(v)).value for v in values]
    assert found == pytest.approx([100, 100 * 2**0.5, 200, 400 * 2**0.5, 800])


def test_a_noisy_curve_still_finds_a_known_number():
    rng = np.random.default_rng(1)
    found = []
    for _ in range(60):
        noise = 0.08 * rng.normal(size=(4, 1))
        curve = LearningCurve(SIZES, replicated(score(SIZES)) + noise)
        found.append(equivalent_real_images(curve, replicated(score(300))).value)
    assert (np.diff(curve.scores[:, 0]) < 0).any()  # the case tests what it should
    assert 230 < np.median(found) < 390


def test_the_fit_is_that_of_scikit_learn():
    scores = np.random.default_rng(0).normal(size=(6, 20))
    expected = [IsotonicRegression().fit_transform(np.arange(6), column) for column in scores.T]
    assert _isotonic_fit(scores) == pytest.approx(np.stack(expected, 1))


def test_a_flat_curve_tells_nothing_but_better_or_worse():
    curve = LearningCurve(SIZES, replicated([0.6, 0.6, 0.6, 0.6]))
    assert equivalent_real_images(curve, replicated(0.61)).value == math.inf
    assert equivalent_real_images(curve, replicated(0.59)).value == -math.inf
    assert equivalent_real_images(curve, replicated(0.6)).value == pytest.approx(100)


def test_undefined_replicates_are_left_out():
    curve = LearningCurve(SIZES, replicated(score(SIZES), replicates=4))
    scores = replicated(score(200), replicates=4)
    scores[2] = np.nan
    found = equivalent_real_images(curve, scores)
    assert (found.low, found.high) == pytest.approx((200, 200))
    assert math.isnan(equivalent_real_images(curve, scores * np.nan).low)


def test_wrong_input_is_refused():
    for sizes in ([100], [200, 100], [0, 100]):
        with pytest.raises(XraysynthError, match=r"ascending.*real_fraction"):
            LearningCurve(np.array(sizes), np.zeros((len(sizes), 3)))
    with pytest.raises(XraysynthError, match=r"4 sizes for scores of shape \(3, 5\)"):
        LearningCurve(SIZES, np.zeros((3, 5)))
    curve = LearningCurve(SIZES, replicated(score(SIZES), replicates=9))
    with pytest.raises(XraysynthError, match="as many replicates"):
        equivalent_real_images(curve, replicated(0.5, replicates=8))
    with pytest.raises(XraysynthError, match="no synthetic images"):
        equivalent_per_synthetic_image(
            curve, replicated(0.5, replicates=9), real_images=5, synthetic_images=0
        )
