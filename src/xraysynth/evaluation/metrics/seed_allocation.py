"""Which arm of a study is trained with another seed, until the differences between arms are known well.

A study that goes on until intervals are narrow adds seeds in rounds. The interval of a difference
between arms a and b has three parts: the variance over draws of patients, which no seed changes, and the
variances v_a / S_a and v_b / S_b of the means over S_a and S_b seeds. One seed more of arm a takes
v_a / (S_a (S_a + 1)) off every difference that a is part of, so that the arm is chosen whose next seed
takes most off all differences that are still too wide. The variances are moderated over the arms
(`seed_variance`), as in the intervals themselves.

A round depends on the scores of finished seeds alone, neither on their order nor on the machine: whoever
has the same scores finds the same rounds. `experiments/interval_coverage` measures how often the
intervals contain the truth at which this rule stops.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from xraysynth.evaluation.metrics.bootstrap_scores import BootstrapScores, moderate_arms
from xraysynth.evaluation.metrics.statistics import NORMAL_QUANTILE

LEAST_SEEDS = 5
"""Number of seeds below which no arm of a difference stops: by three, an interval is narrow by chance."""


@dataclass(frozen=True)
class Precision:
    """How wide the interval of a difference between two arms is, and what makes it wide.

    Attributes:
        arm: Position of the arm among all arms.
        reference: Position of the arm that it is compared with.
        half_width: Half the width of the 95 % interval, or that without the chance of its replicates if it
            is larger: a study that stopped at replicates that happen to be close would stop too early.
        patients_sd: Standard deviation of the difference over draws of patients.
        seed_variances: Variances between the seeds of the arm and of the reference.
        seeds: Numbers of seeds of the arm and of the reference.
    """

    arm: int
    reference: int
    half_width: float
    patients_sd: float
    seed_variances: tuple[float, float]
    seeds: tuple[int, int]

    @property
    def patients_half_width(self) -> float:
        """Half the width that remains with any number of seeds."""
        if not any(self.seed_variances):
            return self.half_width
        return min(self.half_width, NORMAL_QUANTILE * self.patients_sd)

    def expected_half_width(self, seeds: Sequence[int]) -> float:
        """Compute half the width that is expected with other numbers of seeds.

        Args:
            seeds: Number of seeds of every arm of the study, `(A,)`.
        """
        variance = self._variance(self.seeds)
        if not variance:
            return self.half_width
        expected = self._variance((seeds[self.arm], seeds[self.reference]))
        return float(self.half_width * np.sqrt(expected / variance))

    def _variance(self, seeds: tuple[int, int]) -> float:
        """Return the variance of the difference with these numbers of seeds."""
        seeds_part = sum(v / n for v, n in zip(self.seed_variances, seeds, strict=True))
        return float(self.patients_sd**2 + seeds_part)

    def saving(self, arm: int, seeds: Sequence[int]) -> float:
        """Return by how much one seed more of an arm lowers the variance of this difference."""
        variances = dict(zip((self.arm, self.reference), self.seed_variances, strict=True))
        return variances.get(arm, 0.0) / (seeds[arm] * (seeds[arm] + 1))

    def needed_patients(self, until: float, patients: int, most_seeds: int) -> int:
        """Return with how many test patients the interval would be narrow enough.

        Args:
            until: Half the width that is wanted.
            patients: Number of test patients that there are.
            most_seeds: Number of seeds that both arms would have.
        """
        wanted = (until / NORMAL_QUANTILE) ** 2 - sum(self.seed_variances) / most_seeds
        # Where so few seeds are too few for any number of patients, the number for enough of them.
        wanted = wanted if wanted > 0 else (until / NORMAL_QUANTILE) ** 2
        return int(np.ceil(patients * max(1.0, self.patients_sd**2 / wanted)))


def measure_precisions(
    arms: Sequence[BootstrapScores],
    sizes: Sequence[int],
    pairs: Sequence[tuple[int, int]],
    score: str,
) -> list[Precision]:
    """Measure how wide the intervals of differences between arms are.

    Args:
        arms: All arms of a study, which lend each other their variances between seeds.
        sizes: Number of training images of each arm.
        pairs: Positions of the arm and of the one that it is compared with, one pair per difference.
        score: Name of the score that is compared.

    Returns:
        One entry per pair of arms that have two seeds or more.
    """
    moderated, _ = moderate_arms(arms, sizes, [score])
    variances = [_seed_variance(arm, score) for arm in moderated]
    precisions = []
    for first, second in pairs:
        arm, reference = moderated[first], moderated[second]
        spread = arm.difference_spread(reference, score)
        if spread is None:
            continue
        interval = arm.difference(reference, score)
        precisions.append(
            Precision(
                arm=first,
                reference=second,
                half_width=max((interval.high - interval.low) / 2, spread.critical_difference()),
                patients_sd=spread.patients_sd,
                seed_variances=(variances[first], variances[second]),
                seeds=(arm.n_runs, reference.n_runs),
            )
        )
    return precisions


def _seed_variance(arm: BootstrapScores, score: str) -> float:
    """Return the variance of a score between seeds, the harmonic mean of the plausible ones."""
    variances = arm.variances_of_mean(score)
    return float(arm.n_runs / np.mean(1 / variances)) if variances.all() else 0.0


def add_rounds(
    measure: Callable[[Sequence[int]], list[Precision] | None],
    seeds: Sequence[int],
    *,
    until: float,
    most_seeds: int,
) -> tuple[list[int], list[Precision] | None]:
    """Add seeds round by round, as far as the scores of their trainings are known.

    Args:
        measure: Returns the precisions with so many seeds of every arm, from `measure_precisions`; None
            if a training is missing.
        seeds: Number of seeds of every arm in the beginning, `(A,)`.
        until: Half the width at which an interval is narrow enough.
        most_seeds: Largest number of seeds of an arm.

    Returns:
        The number of seeds of every arm, and the precisions with them; None if a training is missing.
    """
    numbers = list(seeds)
    while True:
        precisions = measure(numbers)
        if precisions is None:
            return numbers, None
        added = plan_round(precisions, numbers, until=until, most_seeds=most_seeds)
        if not any(added):
            return numbers, precisions
        numbers = [number + more for number, more in zip(numbers, added, strict=True)]


def plan_round(
    precisions: Sequence[Precision], seeds: Sequence[int], *, until: float, most_seeds: int
) -> list[int]:
    """Choose how many seeds each arm gets in the next round; all 0 if the study is at its end.

    Every arm of a difference first gets `LEAST_SEEDS`. A round goes on until all differences are
    expected to be narrow enough, but no further than to twice as many seeds of an arm as there are: the
    variance of few seeds says little about how many it takes. Rounds of single seeds would look at the
    intervals more often, and stop at those that happen to be narrow. Differences whose patients alone
    make them too wide get no seeds.

    Args:
        precisions: The differences, from `measure_precisions`.
        seeds: Number of seeds of every arm, `(A,)`.
        until: Half the width at which an interval is narrow enough.
        most_seeds: Largest number of seeds of an arm.
    """
    planned = list(seeds)
    limits = [min(most_seeds, 2 * number) for number in seeds]
    for precision in precisions:
        if precision.patients_half_width <= until:
            for member in (precision.arm, precision.reference):
                planned[member] = max(planned[member], min(LEAST_SEEDS, most_seeds))
    while True:
        too_wide = _reachable(precisions, planned, until)
        arm = _most_saving_arm(too_wide, planned, limits)
        if arm is None:
            return [after - before for after, before in zip(planned, seeds, strict=True)]
        planned[arm] += 1


def _reachable(
    precisions: Sequence[Precision], seeds: Sequence[int], until: float
) -> list[Precision]:
    """Return the differences that are too wide with so many seeds, and would not be with enough."""
    return [
        precision
        for precision in precisions
        if precision.patients_half_width <= until < precision.expected_half_width(seeds)
    ]


def _most_saving_arm(
    precisions: Sequence[Precision], seeds: Sequence[int], limits: Sequence[int]
) -> int | None:
    """Return the arm whose next seed takes most variance off the differences; the first of equal ones.

    None if no seed takes any off, or if all arms are at their `limits`.
    """
    best, largest = None, 0.0
    for arm, number in enumerate(seeds):
        saved = sum(precision.saving(arm, seeds) for precision in precisions)
        if number < limits[arm] and saved > largest:
            best, largest = arm, saved
    return best
