"""Which difference between two arms a study can find, before its trainings have run.

A difference varies by patients and by seeds (`statistics.DifferenceSpread`): its variance is
p² N₀ / N + 2 v / S for N test patients and S seeds of both arms, where p² is the variance that N₀
patients show, and v the variance between the seeds of an arm.
"""

from dataclasses import dataclass

import numpy as np

from xraysynth.evaluation.metrics.statistics import POWER, DifferenceSpread

MOST_PATIENTS = 1_000_000
"""Number of test patients beyond which none is looked for."""

_DRAWS = 2000


@dataclass(frozen=True)
class ExpectedSpread:
    """What differences between the arms of a study are expected to vary by.

    Attributes:
        seeds_sd: Standard deviation between the seeds of an arm, √v.
        weight: How much what arms have in common counts in the variance of one of them, from 0 (each
            arm for itself) to below 1 (`seed_variance`).
        patients_sd: Standard deviation p of a difference over draws of the `patients`.
        patients: Number of test patients, N₀.
    """

    seeds_sd: float
    weight: float
    patients_sd: float
    patients: int

    def detectable(
        self, seeds: int, level: float, *, patients: float | None = None, power: float = POWER
    ) -> float:
        """Compute the smallest true difference that is found with this power.

        Args:
            seeds: Number of seeds of both arms, S, at least 2.
            level: The p-value that a difference must be below to be found.
            patients: Number of test patients, N; None for those there are.
            power: Probability of finding it.
        """
        scale = 1.0 if patients is None else self.patients / patients
        spread = DifferenceSpread(
            difference=0.0,
            patients_sd=self.patients_sd * float(np.sqrt(scale)),
            seeds_variances=self._plausible_variances(seeds),
        )
        return spread.detectable(level, power)

    def _plausible_variances(self, seeds: int) -> np.ndarray:
        """Return plausible variances `(D,)` of a difference over seeds, as finished arms would show.

        The variance of an arm is known with (S - 1) / (1 - w) degrees of freedom, d₀ + d in
        `seed_variance`, as w = d₀ / (d₀ + d).
        """
        from scipy.stats import chi2

        degrees = (seeds - 1) / (1 - self.weight)
        quantiles = chi2.ppf((np.arange(_DRAWS) + 0.5) / _DRAWS, degrees)
        shuffled = np.random.default_rng(0).permutation(quantiles)
        variances: np.ndarray = self.seeds_sd**2 * degrees * (1 / quantiles + 1 / shuffled) / seeds
        return variances

    def needed_patients(self, wanted: float, seeds: int, level: float) -> int | None:
        """Compute with how many test patients a difference is found; None if no number is enough.

        Args:
            wanted: The true difference.
            seeds: Number of seeds of both arms.
            level: The p-value that a difference must be below to be found.
        """
        if self.detectable(seeds, level, patients=MOST_PATIENTS) > wanted:
            return None
        low, high = 1, MOST_PATIENTS
        while low < high:
            middle = (low + high) // 2
            if self.detectable(seeds, level, patients=middle) > wanted:
                low = middle + 1
            else:
                high = middle
        return low
