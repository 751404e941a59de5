"""The difference that is expected to be found, against simulated studies."""

import numpy as np
import pytest

from xraysynth.evaluation.metrics.power import ExpectedSpread
from xraysynth.evaluation.metrics.seed_variance import draw_variances
from xraysynth.evaluation.metrics.statistics import DifferenceSpread

SPREAD = ExpectedSpread(seeds_sd=0.03, weight=0.5, patients_sd=0.02, patients=100)


def test_more_seeds_and_more_patients_find_smaller_differences():
    by_seeds = [SPREAD.detectable(seeds, 0.05) for seeds in (3, 5, 10, 20)]
    assert by_seeds == sorted(by_seeds, reverse=True)
    assert SPREAD.detectable(5, 0.05, patients=400) < SPREAD.detectable(5, 0.05)
    assert SPREAD.detectable(5, 0.01) > SPREAD.detectable(5, 0.05)
    assert SPREAD.detectable(5, 0.05, patients=100) == SPREAD.detectable(5, 0.05)


def test_many_seeds_leave_the_patients():
    assert SPREAD.detectable(100_000, 0.05) == pytest.approx((1.96 + 0.8416) * 0.02, rel=0.01)


@pytest.mark.parametrize("seeds", [3, 10])
def test_the_difference_is_found_in_four_of_five_studies(seeds):
    """Two arms that borrow nothing from each other."""
    spread = ExpectedSpread(seeds_sd=0.03, weight=0.0, patients_sd=0.02, patients=100)
    difference = spread.detectable(seeds, 0.05)
    rng = np.random.default_rng(0)
    found = []
    for _ in range(400):
        arms = [difference + 0.03 * rng.normal(size=seeds), 0.03 * rng.normal(size=seeds)]
        seen = arms[0].mean() - arms[1].mean() + 0.02 * rng.normal()
        variances = [draw_variances([arm], rng, 500)[0] / seeds for arm in arms]
        found.append(DifferenceSpread(seen, 0.02, sum(variances)).p_value() < 0.05)
    assert 0.73 < np.mean(found) < 0.92


def test_the_needed_number_of_patients_finds_the_difference_and_one_less_does_not():
    needed = SPREAD.needed_patients(0.06, 10, 0.05)
    assert SPREAD.detectable(10, 0.05, patients=needed) <= 0.06
    assert SPREAD.detectable(10, 0.05, patients=needed - 1) > 0.06
    assert SPREAD.needed_patients(0.06, 20, 0.05) < needed
    assert SPREAD.needed_patients(0.02, 3, 0.05) is None
    assert SPREAD.needed_patients(0.9, 20, 0.05) <= 2
