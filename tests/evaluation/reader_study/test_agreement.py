"""Agreement against published examples and the libraries that are kept for it."""

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score
from statsmodels.stats.inter_rater import fleiss_kappa

from xraysynth.evaluation.reader_study import agreement
from xraysynth.evaluation.reader_study.jackknife import jackknife_deviations

FLEISS = """0 0 0 0 14|0 2 6 4 2|0 0 3 5 6|0 3 9 2 0|2 2 8 1 1
7 7 0 0 0|3 2 6 3 0|2 5 3 2 2|6 5 2 1 0|0 2 2 3 7"""
"""Fourteen raters of ten subjects; kappa 0.210 (Fleiss 1971)."""

KRIPPENDORFF = [
    "* * * * * 3 4 1 2 1 1 3 3 * 3",
    "1 * 2 1 3 3 4 3 * * * * * * *",
    "* * 2 1 3 4 4 * 2 1 1 3 3 * 4",
]
"""Three observers with gaps; alpha is 0.691 nominal (Krippendorff 2011)."""


def codes(text: list[str]) -> np.ndarray:
    return np.array([[float("nan") if c == "*" else float(c) - 1 for c in r.split()] for r in text])


def random(readers: int = 4, images: int = 50, options: int = 4, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, options, images)
    noise = rng.integers(0, options, (readers, images))
    return np.where(rng.random((readers, images)) < 0.6, truth, noise).astype(float)


def test_fleiss_is_the_published_value():
    counts = [[int(n) for n in row.split()] for row in FLEISS.replace("\n", "|").split("|")]
    rows = np.array([np.repeat(np.arange(5), row) for row in counts]).T.astype(float)
    found = agreement.fleiss(rows, np.zeros(10), options=5)
    assert found.value == pytest.approx(0.210, abs=5e-4)
    assert found.low < 0.210 < found.high


def test_the_fast_fleiss_is_that_of_statsmodels_without_each_image():
    x = random()
    whole, without = agreement._fleiss_loo(x, 4)
    counts = (x[..., None] == np.arange(4)).sum(0)
    assert whole == pytest.approx(fleiss_kappa(counts))
    assert without[:5] == pytest.approx(
        [fleiss_kappa(np.delete(counts, i, axis=0)) for i in range(5)]
    )


def test_alpha_is_the_published_value_with_gaps():
    found = agreement.krippendorff_alpha(
        codes(KRIPPENDORFF), np.zeros(15), options=4, level="nominal"
    )
    assert found.value == pytest.approx(0.691, abs=5e-4)


def test_alpha_without_each_image_is_alpha_of_the_others():
    x = random(images=12)
    _, without = agreement._alpha_loo(x, 4, "ordinal")
    expected = [agreement._alpha_loo(np.delete(x, i, axis=1), 4, "ordinal")[0] for i in range(12)]
    assert without == pytest.approx(expected)


def test_weighted_kappa_is_scikit_learns():
    x = random()
    value, without = agreement._weighted_kappa_loo(x[0], x[1])
    assert value == pytest.approx(cohen_kappa_score(x[0], x[1], weights="quadratic"))
    assert without[3] == pytest.approx(
        cohen_kappa_score(np.delete(x[0], 3), np.delete(x[1], 3), weights="quadratic")
    )
    pairs = agreement.pairwise_kappas(x[:2], ["a", "b"], ordinal=True)
    assert pairs[0].value == pytest.approx(value)


def test_cohen_within_a_reader_is_scikit_learns():
    x = random(readers=2, images=30)
    found = agreement.intra_reader_kappa(x[:1], x[1:], np.zeros(30), ordinal=False)
    assert found.values == pytest.approx([cohen_kappa_score(x[0], x[1])])


def test_full_agreement_and_none():
    same = np.tile(np.arange(20) % 3, (3, 1)).astype(float)
    assert agreement.fleiss(same, np.zeros(20), options=3).value == pytest.approx(1)
    chance = random(images=4000, seed=1) * 0 + np.random.default_rng(0).integers(0, 3, (4, 4000))
    found = agreement.fleiss(chance, np.zeros(4000), options=3)
    assert found.low < 0 < found.high


@pytest.mark.parametrize("readers", [2, 3])
def test_all_answers_alike_are_undefined_and_say_so(readers):
    x = np.ones((readers, 10))
    for found in (
        agreement.fleiss(x, np.zeros(10), options=2),
        agreement.krippendorff_alpha(x, np.zeros(10), options=2, level="nominal"),
        agreement.weighted_kappa(x, np.zeros(10)),
    ):
        assert np.isnan(found.value)
        assert "all answers alike" in found.note


def test_one_reader_agrees_with_nobody():
    for found in (
        agreement.fleiss(np.ones((1, 10)), np.zeros(10), options=2),
        agreement.weighted_kappa(np.ones((1, 10)), np.zeros(10)),
    ):
        assert np.isnan(found.value)
        assert "two readers" in found.note


def test_two_readers_leave_their_spread_to_an_assumption():
    found = agreement.fleiss(random(readers=2), np.zeros(50), options=4)
    assert "assumed, not measured" in found.note
    assert found.low < found.value < found.high


def test_images_that_one_reader_has_not_seen_are_counted():
    x = random()
    x[0, :7] = np.nan
    found = agreement.fleiss(x, np.zeros(50), options=4)
    assert found.n == 43
    assert "7 images" in found.note


def test_the_jackknife_variance_of_strata():
    rng = np.random.default_rng(0)
    values, strata = rng.normal(size=30), np.repeat([0, 1], 15)
    expected = sum(14 / 15 * ((v - v.mean()) ** 2).sum() for v in (values[:15], values[15:]))
    found = jackknife_deviations([0.0], values[None], strata)
    assert (found**2).sum() == pytest.approx(expected)
