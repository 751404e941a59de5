"""Which arm gets the next seed, and when a study has enough of them."""

import numpy as np
import pytest

from xraysynth.evaluation.metrics.bootstrap_scores import BootstrapScores, moderate_arms
from xraysynth.evaluation.metrics.seed_allocation import (
    Precision,
    add_rounds,
    measure_precisions,
    plan_round,
)

CLASSES = list("abcd")
UNTIL = 0.05


def difference(
    arm: int,
    reference: int = 0,
    *,
    variances: tuple[float, float] = (0.002, 0.002),
    seeds: tuple[int, int] = (3, 3),
    patients_sd: float = 0.01,
) -> Precision:
    variance = patients_sd**2 + variances[0] / seeds[0] + variances[1] / seeds[1]
    half_width = 1.96 * np.sqrt(variance)
    return Precision(arm, reference, half_width, patients_sd, variances, seeds)


def planned(precisions: list[Precision], seeds: list[int], most: int = 20) -> list[int]:
    return plan_round(precisions, seeds, until=UNTIL, most_seeds=most)


def scored_arms(
    skills: tuple[float, ...], runs: int = 3, *, spread: float = 0.3, decisions_only: bool = False
) -> list[BootstrapScores]:
    rng = np.random.default_rng(3)
    targets = np.arange(160) % 4
    arms = []
    for skill in skills:
        skills_of_runs = skill + spread * rng.normal(size=(runs, 1, 1))
        logits = rng.normal(size=(runs, 160, 4)) + skills_of_runs * np.eye(4)[targets]
        raised = np.exp(logits)
        probabilities = raised / raised.sum(2, keepdims=True)
        arms.append(
            BootstrapScores.from_runs(
                list(probabilities),
                targets,
                np.arange(160) // 2,
                classes=CLASSES,
                replicates=100,
                decisions_only=decisions_only,
            )
        )
    return arms


def test_the_arm_that_varies_more_gets_the_seeds():
    more = difference(1, variances=(0.003, 0.0005), seeds=(5, 5))
    added = planned([more], [5, 5])
    assert added[1] > added[0] == 0
    much_more = difference(1, variances=(0.1, 0.0005), seeds=(5, 5))
    assert max(planned([much_more], [5, 5])) == 5  # a round at most doubles the seeds


def test_the_reference_of_many_arms_comes_first():
    of_both = {"variances": (0.002, 0.002), "seeds": (5, 5)}
    added = planned([difference(arm, **of_both) for arm in (1, 2, 3)], [5] * 4)
    assert added[0] > max(added[1:])


def test_a_seed_goes_to_the_arm_that_lowers_the_sum_of_variances_most():
    """As all counts of seeds that are as large would show."""
    rng = np.random.default_rng(0)
    for _ in range(50):
        variances, seeds = rng.uniform(0.001, 0.02, 4), rng.integers(5, 9, 4)
        pairs = [(1, 0), (2, 0), (3, 2)]
        precisions = []
        for arm, reference in pairs:
            of_both = (variances[arm], variances[reference]), (seeds[arm], seeds[reference])
            precisions.append(difference(arm, reference, variances=of_both[0], seeds=of_both[1]))
        wide = [one for one in precisions if one.half_width > UNTIL]

        def total(numbers, wide=wide, variances=variances):
            members = [arm for one in wide for arm in (one.arm, one.reference)]
            return sum(variances[arm] / numbers[arm] for arm in members)

        after = [total(seeds + np.eye(4, dtype=int)[arm]) for arm in range(4)]
        added = planned(precisions, seeds.tolist())
        assert added[int(np.argmin(after))] > 0


def test_nothing_is_added_where_every_difference_is_known_well_enough():
    narrow = difference(1, variances=(0.0001, 0.0001))
    assert narrow.half_width < UNTIL
    assert planned([narrow], [5, 5]) == [0, 0]
    wide = difference(2, variances=(0.02, 0.0001))
    assert planned([narrow, wide], [5, 5, 5])[1] == 0
    assert planned([], [5, 5]) == [0, 0]


def test_an_arm_of_a_difference_has_five_seeds_before_it_can_stop():
    narrow = difference(1, variances=(0.0001, 0.0001))
    assert planned([narrow], [3, 4, 3]) == [2, 1, 0]
    assert planned([narrow], [3, 3], most=4) == [1, 1]
    assert planned([difference(1, patients_sd=0.04)], [3, 3]) == [0, 0]


def test_seeds_that_are_expected_to_be_enough_end_a_round():
    """Both arms take part, but one seed is expected to do."""
    almost = difference(1, variances=(0.00145, 0.00145), seeds=(5, 5))
    assert UNTIL < almost.half_width < 0.052
    assert sum(planned([almost], [5, 5])) == 1


def test_seeds_end_at_the_largest_number():
    wide = difference(1, variances=(0.02, 0.02), seeds=(20, 5))
    assert planned([wide], [20, 5]) == [0, 5]
    assert planned([wide], [20, 18]) == [0, 2]
    assert planned([wide], [20, 20]) == [0, 0]


def test_patients_alone_can_make_an_interval_too_wide_for_any_seed():
    few_patients = difference(1, patients_sd=0.04)
    assert few_patients.patients_half_width == pytest.approx(1.96 * 0.04, abs=1e-4)
    assert planned([few_patients], [3, 3]) == [0, 0]
    wide = difference(2, variances=(0.02, 0.02))
    assert planned([few_patients, wide], [5, 5, 5])[1] == 0
    needed = few_patients.needed_patients(UNTIL, patients=100, most_seeds=20)
    enough = 0.04**2 * 100 / needed + 0.004 / 20
    assert 1.96 * np.sqrt(enough) == pytest.approx(UNTIL, abs=1e-3)
    # Where no number is enough for so few seeds, the number for as many as it takes.
    assert few_patients.needed_patients(0.01, patients=100, most_seeds=3) == pytest.approx(
        100 * (1.96 * 0.04 / 0.01) ** 2, rel=0.01
    )


def test_seeds_that_do_not_differ_cannot_narrow_anything():
    alike = Precision(1, 0, 0.06, 0.01, (0.0, 0.0), (3, 3))
    assert alike.patients_half_width == 0.06
    assert planned([alike], [3, 3]) == [0, 0]
    assert alike.expected_half_width([9, 9]) == pytest.approx(0.06)
    exact = Precision(1, 0, 0.0, 0.0, (0.0, 0.0), (3, 3))
    assert exact.expected_half_width([9, 9]) == 0


def test_what_is_measured_is_the_interval_of_the_report():
    arms, sizes = scored_arms((0.5, 0.8, 1.1)), [100, 110, 400]
    moderated, _ = moderate_arms(arms, sizes)
    pairs = [(1, 0), (2, 0)]
    found = measure_precisions(arms, sizes, pairs, "macro_f1")
    for (arm, reference), precision in zip(pairs, found, strict=True):
        interval = moderated[arm].difference_to(moderated[reference])["macro_f1"]
        spread = moderated[arm].difference_spread(moderated[reference], "macro_f1")
        shown = (interval.high - interval.low) / 2
        assert precision.half_width >= shown
        assert precision.half_width in (shown, spread.critical_difference())
        assert precision.half_width == pytest.approx(shown, rel=0.2)
        assert precision.patients_sd == spread.patients_sd
        assert precision.seeds == (3, 3)
        of_mean = 1 / np.mean(1 / moderated[arm].variances_of_mean("macro_f1"))
        assert precision.seed_variances[0] == pytest.approx(3 * of_mean)


def test_scores_of_decisions_alone_give_the_same():
    arms = [scored_arms((0.5, 0.8), decisions_only=fast) for fast in (False, True)]
    assert "macro_auroc" not in arms[1][0].by_run
    measured = [measure_precisions(each, [100, 100], [(1, 0)], "macro_f1") for each in arms]
    assert measured[0] == measured[1]


def test_an_arm_of_one_seed_has_no_precision():
    arms = [scored_arms((0.5,), runs=1)[0], scored_arms((0.5,))[0]]
    assert measure_precisions(arms, [100, 100], [(1, 0)], "macro_f1") == []


def test_more_seeds_of_a_real_arm_narrow_as_expected():
    runs = scored_arms((0.5, 0.9), runs=20, spread=0.2)
    asked = []

    def measure(numbers, finished=20):
        asked.append(list(numbers))
        if max(numbers) > finished:
            return None
        arms = [arm.select_runs(range(n)) for arm, n in zip(runs, numbers, strict=True)]
        return measure_precisions(arms, [100, 100], [(1, 0)], "macro_f1")

    rule = {"until": 0.1, "most_seeds": 20}
    seeds, (precision,) = add_rounds(measure, [3, 3], **rule)
    assert precision.half_width <= 0.1
    assert 10 < sum(seeds) < 40
    assert asked[0] == [3, 3]
    assert min(asked[1]) >= 5
    assert asked[-1] == seeds
    # With fewer of the trainings, the same rounds are found as far as they are known.
    partial = add_rounds(lambda numbers: measure(numbers, finished=max(asked[0])), [3, 3], **rule)
    assert partial == (asked[1], None)
