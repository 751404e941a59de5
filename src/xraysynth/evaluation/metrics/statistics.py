"""Intervals: patient-clustered bootstrap, intervals of scores, paired differences, Holm.

`experiments/interval_coverage` has how often these intervals contain the truth.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from xraysynth.errors import XraysynthError

REPLICATES = 1000
CONFIDENCE_LEVEL = 0.95
_NORMAL_QUANTILE = 1.959964  # the normal quantile of LEVEL

MIN_BOOTSTRAP_PATIENTS = 6
"""With fewer, a bootstrap over patients is too narrow, and that of a share stands in for it.

Of one to five patients it covers a recall averaged over classes in 64 to 91 % and their class's AUROC
in 74 to 87 % of test sets (`experiments/interval_coverage`).
"""


@dataclass(frozen=True)
class Interval:
    """A measured value, its 95 % interval, and the number of things it was measured on.

    Records of what was measured inherit from it: their fields stand beside these four in JSON and
    tables, and whatever takes an interval takes them.
    """

    value: float
    low: float
    high: float
    n: int

    def as_tuple(self) -> tuple[float, float, float, int]:
        """The four numbers, for the constructor of a record.

        >>> Interval(0.5, 0.4, 0.6, 20).as_tuple()
        (0.5, 0.4, 0.6, 20)
        """
        return self.value, self.low, self.high, self.n


def percentile_interval(
    value: float, replicates: np.ndarray, *, n: int, level: float = CONFIDENCE_LEVEL
) -> Interval:
    """The percentile interval of bootstrap replicates around a point value.

    Replicates in which the score is undefined (NaN) are left out; none left gives NaN bounds.
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
    """The interval of a score in [0, 1], symmetric on the logit scale.

    logit(value) -+ h, where h is half the width of the central 95 % of the replicates' logits.
    Percentiles themselves lie too high for scores near 1, AUROC above all (Qin & Hotilovac 2008).
    `between_runs` `(R,)` are further deviations, which may leave [0, 1]; they enter by their tangent.
    A value of 0 or 1 has no spread to measure and gets `proportion_interval` for `patients` trials; of fewer
    than `MIN_BOOTSTRAP_PATIENTS` the interval holds that one too.
    """
    defined = ~np.isnan(replicates)
    if not defined.any() or not np.isfinite(value) or not patients:
        return Interval(float(value), float("nan"), float("nan"), n)
    widest = proportion_interval(value, trials=patients, n=n)
    if not 0 < value < 1:
        return widest
    nearest = min(value, 1 - value) / 10  # a replicate without an error would be infinitely far
    logits = _logit(np.clip(replicates, nearest, 1 - nearest))
    logits += np.asarray(between_runs) / (value * (1 - value))
    tails = np.quantile(logits[defined], [(1 - CONFIDENCE_LEVEL) / 2, (1 + CONFIDENCE_LEVEL) / 2])
    ends = _logit(value) + np.array([-1, 1]) * (tails[1] - tails[0]) / 2
    low, high = (float(end) for end in 1 / (1 + np.exp(-ends)))
    if patients < MIN_BOOTSTRAP_PATIENTS:
        low, high = min(low, widest.low), max(high, widest.high)
    return Interval(float(value), low, high, n)


def proportion_interval(value: float, *, trials: int, n: int) -> Interval:
    """The interval of a share of so many independent `trials`.

    Wilson's, (p + z²/2m ± z √(p (1 - p)/m + z²/4m²)) / (1 + z²/m) for m trials (Wilson 1927). Of fewer
    than `MIN_BOOTSTRAP_PATIENTS` that of Clopper & Pearson (1934), by quantiles of Beta(pm, m - pm + 1) and
    Beta(pm + 1, m - pm), which never covers less than it says. A mean over patients of scores in [0, 1]
    varies at most as much as a share of m patients with the same mean, so that this is an upper bound
    of its interval, and the only one where there is a single patient.

    >>> found = proportion_interval(0.8, trials=1, n=5)
    >>> round(found.low, 2), round(found.high, 2)
    (0.01, 1.0)
    >>> found = proportion_interval(1.0, trials=50, n=50)
    >>> round(found.low, 2), found.high
    (0.93, 1.0)
    """
    share = min(max(float(value), 0.0), 1.0)
    ends = _clopper_pearson if trials < MIN_BOOTSTRAP_PATIENTS else _wilson
    low, high = ends(share, trials)
    return Interval(float(value), 0.0 if share == 0 else low, 1.0 if share == 1 else high, n)


def _wilson(proportion: float, trials: int) -> tuple[float, float]:
    centre = proportion + _NORMAL_QUANTILE**2 / (2 * trials)
    half = _NORMAL_QUANTILE * np.sqrt(
        proportion * (1 - proportion) / trials + _NORMAL_QUANTILE**2 / (4 * trials**2)
    )
    scale = 1 + _NORMAL_QUANTILE**2 / trials
    return float((centre - half) / scale), float((centre + half) / scale)


def _clopper_pearson(proportion: float, trials: int) -> tuple[float, float]:
    from scipy.stats import beta

    hits, misses = proportion * trials, (1 - proportion) * trials
    tail = (1 - CONFIDENCE_LEVEL) / 2
    low = 0.0 if not hits else float(beta.ppf(tail, hits, misses + 1))
    high = 1.0 if not misses else float(beta.ppf(1 - tail, hits + 1, misses))
    return low, high


def proportion_sd(value: float, *, trials: int) -> float:
    """The standard deviation of which `proportion_interval` is as wide as 95 % of a normal."""
    found = proportion_interval(value, trials=trials, n=0)
    return (found.high - found.low) / (2 * _NORMAL_QUANTILE)


def _logit(proportion: np.ndarray | float) -> np.ndarray:
    logit: np.ndarray = np.log(proportion) - np.log1p(-np.asarray(proportion))
    return logit


def bootstrap_mean(values: np.ndarray, replicates: int = REPLICATES, seed: int = 0) -> Interval:
    """Mean of independent values `(N,)`, with its percentile bootstrap interval.

    One value has no spread, and its interval NaN bounds.
    """
    n = len(values)
    if n < 2:
        mean = float(values.mean()) if n else float("nan")
        return Interval(mean, float("nan"), float("nan"), n)
    draws = np.random.default_rng(seed).integers(n, size=(replicates, n))
    return percentile_interval(float(values.mean()), values[draws].mean(axis=1), n=n)


def paired_difference(
    arm: np.ndarray, reference: np.ndarray, *, n: int, level: float = CONFIDENCE_LEVEL
) -> Interval:
    """Arm minus reference, both `(1 + R,)`: the point value, then replicates on the same weights.

    Subtracting replicate by replicate removes what the shared test set contributes to both arms.
    """
    if arm.shape != reference.shape:
        raise XraysynthError(
            f"paired difference: the arms have {arm.shape} and {reference.shape} replicates; score "
            "both with the same weights"
        )
    difference = arm - reference
    return percentile_interval(difference[0], difference[1:], n=n, level=level)


def errors_removed(difference: Interval, *, reference: float) -> Interval:
    """Share of the reference's errors that an arm avoids, difference / (1 - reference).

    `difference` is the arm's score minus the `reference`'s, of a score that is 1 at best; negative is
    worse. The reference's error is taken as measured, so that the interval covers 0 exactly when that
    of the difference does. NaN if the reference makes no errors.

    >>> errors_removed(Interval(0.1, 0.0, 0.2, 9), reference=0.6)
    Interval(value=0.25, low=0.0, high=0.5, n=9)
    """
    scale = 1 / (1 - reference) if reference < 1 else float("nan")
    ends = (difference.value * scale, difference.low * scale, difference.high * scale)
    return Interval(*ends, difference.n)


@dataclass(frozen=True)
class SeedSpread:
    """A score of one arm, seed by seed, and its standard deviation (n - 1) between seeds."""

    values: tuple[float, ...]
    mean: float
    sd: float


def summarise_seeds(values: Sequence[float]) -> SeedSpread:
    """Summary of the scores of runs that differ in their seed alone; `sd` is NaN for a single one.

    >>> summarise_seeds([0.5, 0.75, 1.0])
    SeedSpread(values=(0.5, 0.75, 1.0), mean=0.75, sd=0.25)
    """
    if not len(values):
        raise XraysynthError("an arm without runs has no spread; train at least one run of it")
    sd = float(np.std(values, ddof=1)) if len(values) > 1 else float("nan")
    return SeedSpread(tuple(float(value) for value in values), float(np.mean(values)), sd)


def difference_p_value(
    difference: float, *, patients_sd: float, seeds_se: float, seeds: int
) -> float:
    """Two-sided p-value of "the difference is zero", smooth: no number of replicates bounds it.

    The tail beyond zero of difference + N(0, patients_sd²) + seeds_se · t(seeds - 1), whose
    quantiles are the interval of the difference (the Behrens-Fisher distribution of a bootstrap over
    patients and the standard error of the seeds' own differences). Given a chi-square draw x for the
    seeds the sum is normal, p = E[2 Φ(-|d| / √(patients_sd² + seeds_se² (seeds - 1) / x))], and the
    mean is taken over quantiles of x. Needs two seeds or more.

    >>> difference_p_value(0.3, patients_sd=0.0, seeds_se=0.0, seeds=3)
    0.0
    >>> round(difference_p_value(4.303, patients_sd=0.0, seeds_se=1.0, seeds=3), 3)
    0.05
    """
    from scipy.special import ndtr

    if seeds < 2:
        raise XraysynthError(
            f"p-value of a difference: seeds={seeds}, but one seed says nothing of how seeds differ; "
            "train at least two of each arm"
        )
    if difference == 0:
        return 1.0
    sd = np.sqrt(patients_sd**2 + seeds_se**2 * (seeds - 1) / _chi_square_quantiles(seeds - 1))
    with np.errstate(divide="ignore"):
        return float(np.mean(2 * ndtr(-abs(difference) / sd)))


@cache
def _chi_square_quantiles(degrees: int) -> np.ndarray:
    """As many quantiles as resolve p-values of 1 in 10,000, at the middle of equal parts."""
    from scipy.stats import chi2

    nodes = 20_000
    quantiles: np.ndarray = chi2.ppf((np.arange(nodes) + 0.5) / nodes, degrees)
    return quantiles


def holm_adjust(p_values: Mapping[str, float]) -> dict[str, float]:
    """Holm's step-down adjustment over a family of comparisons.

    >>> holm_adjust({"a": 0.01, "b": 0.04, "c": 0.03})
    {'a': 0.03, 'b': 0.06, 'c': 0.06}
    """
    if unknown := [name for name, p in p_values.items() if not np.isfinite(p)]:
        raise XraysynthError(
            f"Holm's adjustment needs p-values, but that of {', '.join(map(str, unknown))} is not known; "
            "leave comparisons without one out"
        )
    adjusted, largest = {}, 0.0
    for rank, name in enumerate(sorted(p_values, key=lambda key: p_values[key])):
        largest = max(largest, min(1.0, p_values[name] * (len(p_values) - rank)))
        adjusted[name] = largest
    return {name: adjusted[name] for name in p_values}
