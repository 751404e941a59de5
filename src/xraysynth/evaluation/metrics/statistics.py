"""Intervals and p-values of scores, of proportions and of paired differences, and Holm's adjustment.

`experiments/interval_coverage` measures how often these intervals contain the truth.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from xraysynth.errors import XraysynthError

REPLICATES = 1000
CONFIDENCE_LEVEL = 0.95
POWER = 0.8
"""Probability with which a detectable difference is found."""

NORMAL_QUANTILE = 1.959964
"""Half the width of an interval at CONFIDENCE_LEVEL, in standard deviations of a normal."""

MIN_BOOTSTRAP_PATIENTS = 6
"""Number of patients below which a bootstrap is too narrow, and `proportion_interval` replaces it.

The bootstrap interval of a class of one to five patients covers a recall averaged over classes in 64
to 91 % of test sets, and the class's AUROC in 74 to 87 % (`experiments/interval_coverage`).
"""


@dataclass(frozen=True)
class Interval:
    """A measured value, the bounds of its 95 % interval, and the number of items it was measured on.

    Records of a measurement inherit from this class: JSON and tables show their fields together with
    these four, and a function that takes an interval takes them too. Bounds are NaN where there is no
    interval.
    """

    value: float
    low: float
    high: float
    n: int

    def as_tuple(self) -> tuple[float, float, float, int]:
        """Return value, low, high and n, for the constructor of a record that inherits from this class.

        >>> Interval(0.5, 0.4, 0.6, 20).as_tuple()
        (0.5, 0.4, 0.6, 20)
        """
        return self.value, self.low, self.high, self.n


def percentile_interval(
    value: float, replicates: np.ndarray, *, n: int, level: float = CONFIDENCE_LEVEL
) -> Interval:
    """Compute the percentile interval of bootstrap replicates around a point value.

    Args:
        value: The point value.
        replicates: Values `(R,)` of the replicates. Undefined ones (NaN) are left out; where all are
            undefined, the bounds are NaN.
        n: Number of items that `value` was measured on.
        level: Confidence level in (0, 1).
    """
    defined = replicates[~np.isnan(replicates)]
    if not len(defined):
        return Interval(float(value), float("nan"), float("nan"), n)
    low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(value), float(low), float(high), n)


def score_interval(
    value: float,
    replicates: np.ndarray,
    *,
    n: int,
    patients: int,
    between_runs: np.ndarray | float = 0.0,
) -> Interval:
    """Compute the interval of a score in [0, 1], symmetric on the logit scale.

    logit(value) -+ h, where h is half the width of the central 95 % of the replicates' logits.
    Percentiles themselves lie too high for scores near 1, AUROC above all (Qin & Hotilovac 2008).
    A value of 0 or 1 has no spread to measure and gets `proportion_interval` with one trial per
    patient. With fewer than `MIN_BOOTSTRAP_PATIENTS` patients the interval contains that one as well.

    Args:
        value: The score.
        replicates: Scores `(R,)` of the bootstrap replicates, NaN where undefined.
        n: Number of images that `value` was measured on.
        patients: Number of patients that these images are of.
        between_runs: Deviations `(R,)` between training runs, which may leave [0, 1]. They are
            carried to the logit scale by its tangent at `value`.
    """
    defined = ~np.isnan(replicates)
    if not defined.any() or not np.isfinite(value) or not patients:
        return Interval(float(value), float("nan"), float("nan"), n)
    widest = proportion_interval(value, trials=patients, n=n)
    if not 0 < value < 1:
        return widest
    margin = min(value, 1 - value) / 10  # a replicate without an error would be infinitely far
    logits = _logit(np.clip(replicates, margin, 1 - margin))
    logits += np.asarray(between_runs) / (value * (1 - value))
    tails = np.quantile(logits[defined], [(1 - CONFIDENCE_LEVEL) / 2, (1 + CONFIDENCE_LEVEL) / 2])
    ends = _logit(value) + np.array([-1, 1]) * (tails[1] - tails[0]) / 2
    low, high = (1 / (1 + np.exp(-ends))).tolist()
    if patients < MIN_BOOTSTRAP_PATIENTS:
        low, high = min(low, widest.low), max(high, widest.high)
    return Interval(float(value), low, high, n)


def proportion_interval(value: float, *, trials: int, n: int) -> Interval:
    """Compute the interval of a proportion of m independent `trials`.

    Wilson's, (p + z²/2m ± z √(p (1 - p)/m + z²/4m²)) / (1 + z²/m) for m trials (Wilson 1927). With
    fewer than `MIN_BOOTSTRAP_PATIENTS` trials, that of Clopper & Pearson (1934), by quantiles of
    Beta(pm, m - pm + 1) and Beta(pm + 1, m - pm), which never covers less than its level. A mean over
    m patients of scores in [0, 1] varies at most as much as a proportion of m patients with the same
    mean. The interval is therefore an upper bound for such a mean, and the only one for a single
    patient.

    Args:
        value: The proportion p, or mean score, in [0, 1].
        trials: Number of trials or patients m.
        n: Number of items that `value` was measured on.

    >>> interval = proportion_interval(0.8, trials=1, n=5)
    >>> round(interval.low, 2), round(interval.high, 2)
    (0.01, 1.0)
    >>> interval = proportion_interval(1.0, trials=50, n=50)
    >>> round(interval.low, 2), interval.high
    (0.93, 1.0)
    """
    proportion = min(max(float(value), 0.0), 1.0)
    bounds = _clopper_pearson if trials < MIN_BOOTSTRAP_PATIENTS else _wilson
    low, high = bounds(proportion, trials)
    if proportion == 0:
        low = 0.0
    if proportion == 1:
        high = 1.0
    return Interval(float(value), low, high, n)


def _wilson(proportion: float, trials: int) -> tuple[float, float]:
    """Return the bounds of Wilson's interval."""
    centre = proportion + NORMAL_QUANTILE**2 / (2 * trials)
    variance = proportion * (1 - proportion) / trials + NORMAL_QUANTILE**2 / (4 * trials**2)
    half = NORMAL_QUANTILE * np.sqrt(variance)
    scale = 1 + NORMAL_QUANTILE**2 / trials
    return float((centre - half) / scale), float((centre + half) / scale)


def _clopper_pearson(proportion: float, trials: int) -> tuple[float, float]:
    """Return the bounds of the interval of Clopper and Pearson."""
    from scipy.stats import beta

    hits, misses = proportion * trials, (1 - proportion) * trials
    tail = (1 - CONFIDENCE_LEVEL) / 2
    low = 0.0 if not hits else float(beta.ppf(tail, hits, misses + 1))
    high = 1.0 if not misses else float(beta.ppf(1 - tail, hits + 1, misses))
    return low, high


def proportion_sd(value: float, *, trials: int) -> float:
    """Return the standard deviation of a normal whose central 95 % are as wide as `proportion_interval`."""
    interval = proportion_interval(value, trials=trials, n=0)
    return (interval.high - interval.low) / (2 * NORMAL_QUANTILE)


def _logit(proportion: np.ndarray | float) -> np.ndarray:
    """Return log(p / (1 - p))."""
    logit: np.ndarray = np.log(proportion) - np.log1p(-np.asarray(proportion))
    return logit


def bootstrap_mean(values: np.ndarray, replicates: int = REPLICATES, seed: int = 0) -> Interval:
    """Compute the mean of independent values `(N,)`, with its percentile bootstrap interval.

    The bounds of a single value are NaN, because it has no spread.
    """
    n = len(values)
    if n < 2:
        mean = float(values.mean()) if n else float("nan")
        return Interval(mean, float("nan"), float("nan"), n)
    draws = np.random.default_rng(seed).integers(n, size=(replicates, n))
    return percentile_interval(float(values.mean()), values[draws].mean(axis=1), n=n)


def paired_replicates(arm: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Subtract the replicates of a reference from those of an arm.

    Subtracting replicate by replicate removes the variation that both arms share because they are
    tested on the same images.

    Args:
        arm: Point value of the arm, then its replicates: `(1 + R,)`.
        reference: Point value and replicates `(1 + R,)` of the reference, under the same weights.

    Raises:
        XraysynthError: If the numbers of replicates differ.
    """
    if arm.shape != reference.shape:
        raise XraysynthError(
            f"paired difference: the arms have {arm.shape} and {reference.shape} replicates; score "
            "both with the same weights"
        )
    difference: np.ndarray = arm - reference
    return difference


def errors_removed(difference: Interval, *, reference: float) -> Interval:
    """Compute the fraction of the reference's errors that an arm avoids, difference / (1 - reference).

    Higher is better, and a negative fraction means that the arm makes more errors. The reference's
    error is taken as exact, so that the interval covers 0 exactly when that of the difference does.
    NaN if the reference makes no errors.

    Args:
        difference: The arm's score minus the reference's, for a score that is 1 at best.
        reference: The reference's score.

    >>> errors_removed(Interval(0.1, 0.0, 0.2, 9), reference=0.6)
    Interval(value=0.25, low=0.0, high=0.5, n=9)
    """
    scale = 1 / (1 - reference) if reference < 1 else float("nan")
    ends = (difference.value * scale, difference.low * scale, difference.high * scale)
    return Interval(*ends, difference.n)


@dataclass(frozen=True)
class SeedSpread:
    """A score of one arm by training seed, its mean, and its standard deviation between seeds (ddof 1)."""

    values: tuple[float, ...]
    mean: float
    sd: float


def summarise_seeds(values: Sequence[float]) -> SeedSpread:
    """Summarise the scores of runs that differ in their seed alone; `sd` is NaN for a single run.

    >>> summarise_seeds([0.5, 0.75, 1.0])
    SeedSpread(values=(0.5, 0.75, 1.0), mean=0.75, sd=0.25)
    """
    if not len(values):
        raise XraysynthError("an arm without runs has no spread; train at least one run of it")
    sd = float(np.std(values, ddof=1)) if len(values) > 1 else float("nan")
    return SeedSpread(tuple(map(float, values)), float(np.mean(values)), sd)


@dataclass(frozen=True)
class DifferenceSpread:
    """A difference between two arms, and what it varies by: patients, and training seeds.

    It is distributed as δ + N(0, patients_sd²) + N(0, v), where δ is the true difference and v one of
    the plausible variances of the mean over seeds. If they are those of a sample of seeds, this is the
    Behrens-Fisher distribution. No number of replicates bounds its p-values.

    Attributes:
        difference: The difference d that was found.
        patients_sd: Standard deviation of the difference over draws of patients.
        seeds_variances: Plausible variances `(D,)` of the difference over training seeds.
    """

    difference: float
    patients_sd: float
    seeds_variances: np.ndarray

    def p_value(self, difference: float | None = None) -> float:
        """Compute the two-sided p-value of "there is no difference".

        p = E[2 Φ(-|d| / √(patients_sd² + v))], with the mean taken over the plausible variances.

        Args:
            difference: The difference d; by default the one that was found.

        >>> spread = DifferenceSpread(1.96, 1.0, np.zeros(3))
        >>> round(spread.p_value(), 3), DifferenceSpread(0.3, 0.0, np.zeros(3)).p_value()
        (0.05, 0.0)
        """
        size = abs(self.difference if difference is None else difference)
        return 1.0 if size == 0 else 2 * self._tail(size)

    def equivalence_p_value(self, margin: float) -> float:
        """Compute the p-value of "the true difference is at least as large as `margin`, up or down".

        The larger one of two one-sided tests (Schuirmann 1987).

        Args:
            margin: Largest difference that does not matter, above 0.
        """
        distance = margin - abs(self.difference)
        return self._tail(distance) if distance > 0 else 1 - self._tail(-distance)

    def detectable(self, level: float, power: float = POWER) -> float:
        """Compute the smallest true difference that is found with this power.

        The difference beyond which p < `level`, plus the deviation that a difference stays below with a
        probability of `power`: t(1 - level / 2) + t(power) standard errors, were there no patients.

        Args:
            level: The p-value that a difference must be below to be found, in (0, 1).
            power: Probability of finding it, in (0.5, 1).
        """
        return self.critical_difference(level) + self._exceeded_by(1 - power)

    def critical_difference(self, level: float = 1 - CONFIDENCE_LEVEL) -> float:
        """Compute the difference beyond which p < `level`; by default half the width of the interval.

        Args:
            level: The p-value, in (0, 1).
        """
        return self._exceeded_by(level / 2)

    def _exceeded_by(self, tail: float) -> float:
        """Return the distance beyond which a deviation to one side has this probability."""
        from scipy.optimize import brentq

        widest = 1000 * np.sqrt(self.patients_sd**2 + self.seeds_variances.max())
        if not widest:
            return 0.0
        return float(brentq(lambda distance: self._tail(distance) - tail, 1e-12 * widest, widest))

    def _tail(self, distance: float) -> float:
        """Return the probability of a deviation beyond `distance` to one side."""
        from scipy.special import ndtr

        sds = np.sqrt(self.patients_sd**2 + self.seeds_variances)
        with np.errstate(divide="ignore"):
            return float(np.mean(ndtr(-distance / sds)))


def holm_adjust(p_values: Mapping[str, float]) -> dict[str, float]:
    """Adjust p-values by Holm's step-down method over a family of comparisons.

    Args:
        p_values: p-values by name of the comparison.

    Returns:
        Adjusted p-values by name, in the order of `p_values`.

    Raises:
        XraysynthError: If a p-value is NaN or infinite.

    >>> holm_adjust({"a": 0.01, "b": 0.04, "c": 0.03})
    {'a': 0.03, 'b': 0.06, 'c': 0.06}
    """
    undefined = [str(name) for name, p in p_values.items() if not np.isfinite(p)]
    if undefined:
        raise XraysynthError(
            f"Holm's adjustment needs p-values, but that of {', '.join(undefined)} is not known; "
            "leave comparisons without one out"
        )
    adjusted = dict.fromkeys(p_values, 0.0)
    largest = 0.0
    for rank, name in enumerate(sorted(p_values, key=p_values.__getitem__)):
        largest = max(largest, min(1.0, p_values[name] * (len(p_values) - rank)))
        adjusted[name] = largest
    return adjusted
