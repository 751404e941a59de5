"""Detection by hand, by scipy's formula and by scikit-learn; intervals by their definition."""

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from xraysynth.evaluation.reader_study import detection
from xraysynth.evaluation.reader_study.jackknife import jackknife_deviations
from xraysynth.evaluation.reader_study.mrmc import ReaderStatistic, reader_means
from xraysynth.evaluation.reader_study.spread_posterior import SpreadPosterior

SYNTHETIC = np.arange(40) >= 20
STRATA = SYNTHETIC.astype(int)
MASKS = {"synthetic": SYNTHETIC, "real": ~SYNTHETIC, "strata": STRATA}


def said(hits: int, false_alarms: int) -> np.ndarray:
    """One reader's answers: 1 for "synthetic"."""
    return np.r_[np.arange(20) < false_alarms, np.arange(20) < hits].astype(float)


def test_d_prime_and_criterion_are_hautus_log_linear():
    answers = np.stack([said(15, 4), said(20, 0)])
    z = [norm.ppf([(h + 0.5) / 21, (f + 0.5) / 21]) for h, f in ((15, 4), (20, 0))]
    assert detection.d_prime(answers, **MASKS).values == pytest.approx([a - b for a, b in z])
    assert detection.criterion(answers, **MASKS).values == pytest.approx([-sum(p) / 2 for p in z])


def test_guessing_is_zero_whatever_the_bias():
    for n in (3, 10, 18):
        assert detection.d_prime(said(n, n)[None], **MASKS).values == pytest.approx([0])
    assert detection.criterion(said(3, 3)[None], **MASKS).values[0] > 0  # leans to "real"


def test_accuracy_weighs_both_kinds_alike():
    few = SYNTHETIC & (np.arange(40) < 22)
    masks = {"synthetic": few, "real": ~SYNTHETIC, "strata": STRATA}
    assert detection.accuracy(said(20, 10)[None], **masks).value == pytest.approx(0.75)


def test_area_is_scikit_learns_with_ties():
    rng = np.random.default_rng(0)
    rating = rng.integers(1, 6, (3, 40)).astype(float) + SYNTHETIC
    rating[2, 5] = np.nan
    found = detection.roc_auc(rating, synthetic=SYNTHETIC, real=~SYNTHETIC, strata=STRATA).values
    for row, value in zip(rating, found, strict=True):
        seen = np.isfinite(row)
        assert value == pytest.approx(roc_auc_score(SYNTHETIC[seen], row[seen]))


def test_the_variance_of_a_rate_is_the_binomials():
    answers = (np.arange(50) < 15).astype(float)[None]
    found = detection.proportion(answers, np.zeros(50))
    assert found.image_variance == pytest.approx(0.3 * 0.7 / 49)


def test_the_variance_of_an_area_is_delongs():
    rng = np.random.default_rng(1)
    rating = rng.normal(size=(1, 40)) + SYNTHETIC
    above = (rating[0, SYNTHETIC][:, None] > rating[0, ~SYNTHETIC]).astype(float)
    delong = above.mean(1).var(ddof=1) / 20 + above.mean(0).var(ddof=1) / 20
    assert detection.roc_auc(rating, **MASKS).image_variance == pytest.approx(delong)


def test_jackknife_deviations_of_a_mean_are_its_own():
    rng = np.random.default_rng(2)
    x, strata = rng.normal(size=(1, 30)), np.arange(30) % 1
    without = (x.sum() - x) / 29
    assert jackknife_deviations([x.mean()], without, strata) == pytest.approx(
        reader_means(x, strata, prior_scale=1.0).deviations
    )


def test_an_answer_all_alike_has_an_interval_and_no_nan():
    found = detection.proportion(np.ones((2, 20)), np.zeros(20)).estimate(is_proportion=True)
    assert found.value == 1
    assert 0.7 < found.low < 0.95
    assert found.high == 1


def test_one_reader_is_said_to_be_one():
    found = detection.d_prime(said(15, 4)[None], **MASKS).estimate()
    assert found.low < found.value < found.high
    assert "one reader" in found.note


def test_without_answers_there_are_words():
    found = detection.proportion(np.full((2, 5), np.nan), np.zeros(5)).estimate(is_proportion=True)
    assert np.isnan(found.value)
    assert found.note == "no answers"


def test_missing_answers_leave_the_others():
    answers = np.stack([said(15, 4), said(12, 6)])
    answers[1, 30:] = np.nan
    found = detection.proportion(np.where(SYNTHETIC, answers, np.nan), STRATA)
    assert found.values == pytest.approx([15 / 20, 10 / 10])


def test_a_difference_on_the_same_images_is_paired():
    rng = np.random.default_rng(3)
    x = rng.normal(size=(3, 60))
    one, other = (reader_means(values, np.zeros(60), prior_scale=0.1) for values in (x, x + 1))
    assert (other - one).image_variance == pytest.approx(0, abs=1e-12)


def test_differing_readers_widen_the_interval():
    def width(gap: float) -> float:
        values = np.array([-gap, gap, -gap, gap])
        rng = np.random.default_rng(0)
        noise = rng.normal(0, 0.1 / np.sqrt(50), (4, 50))
        found = ReaderStatistic(values, noise, np.zeros(4), 0.3, 50).estimate()
        return found.high - found.low

    assert width(0.0) < width(0.5) < width(1.0)


def test_p_value_and_interval_agree():
    rng = np.random.default_rng(4)
    for shift in (0.2, 0.4, 0.6, 0.8):
        x = rng.normal(shift, 1, (3, 40))
        found = reader_means(x, np.zeros(40), prior_scale=0.3).estimate(test=True)
        assert (found.p < 0.05) == (found.low > 0 or found.high < 0)


def test_the_half_width_covers_what_it_says():
    spread = SpreadPosterior.from_variances(0.1, 0.02, degrees_of_freedom=2, prior_scale=0.3)
    half = spread.half_width(readers=3, image_variance=0.05)
    assert spread.coverage(half, readers=3, image_variance=0.05) == pytest.approx([0.95], abs=1e-4)
