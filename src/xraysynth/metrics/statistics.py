"""Intervals: patient-clustered bootstrap, intervals of scores, paired differences, Holm.

`experiments/interval_coverage` has how often these intervals contain the truth.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import ArrayLike

from xraysynth.errors import ManifestError, XraysynthError

REPLICATES = 1000
LEVEL = 0.95
_Z = 1.959964  # the normal quantile of LEVEL


@dataclass(frozen=True)
class Interval:
    """A measured value, its 95 % interval, and the number of things it was measured on."""

    value: float
    low: float
    high: float
    n: int

    def as_dict(self) -> dict[str, float]:
        """The four fields, for JSON."""
        return asdict(self)


def cluster_weights(
    patients: ArrayLike,
    replicates: int = REPLICATES,
    seed: int = 0,
    *,
    targets: np.ndarray | None = None,
) -> np.ndarray:
    """How often each image occurs in each bootstrap replicate, `(R, N)`.

    Patients, not images, are drawn with replacement, so all images of a patient come and go
    together. `patients` is `(N,)`; ids must be unique across data sets. With `targets` `(N,)` the
    draw is stratified by the set of classes a patient has, which keeps the class counts nearly as
    they are and guarantees that no class vanishes from a replicate; the interval is then
    conditional on the class mix of the test set. Drawing n of a stratum's n patients would
    understate its variance by (n - 1) / n, so n - 1 are drawn and each counts n / (n - 1) times (Rao
    & Wu 1988, the rescaled bootstrap): counts are fractions then. A stratum of one patient adds no
    variance.
    """
    ids = np.asarray(patients)
    if replicates < 1 or ids.ndim != 1 or not len(ids):
        raise XraysynthError(
            f"bootstrap: needs at least one image and one replicate, got patients of shape "
            f"{ids.shape} and replicates={replicates}"
        )
    if targets is not None and len(targets) != len(ids):
        raise XraysynthError(
            f"bootstrap: {len(ids)} patient ids for {len(targets)} targets; give one each an image"
        )
    if (blank := int(np.sum(ids.astype(str) == ""))) > 0:
        raise ManifestError(
            f"bootstrap: {blank} of {len(ids)} images have no patient id, so their images cannot "
            "be resampled by patient; fill in patient_id"
        )
    names, patient = np.unique(ids.astype(str), return_inverse=True)
    rng = np.random.default_rng(seed)
    if targets is None:
        return count_draws(rng.integers(len(names), size=(replicates, len(names))), len(names))[
            :, patient
        ]
    strata = _strata(patient, len(names), targets)
    counts = np.ones((replicates, len(names)))
    for stratum in np.unique(strata):
        members = np.flatnonzero(strata == stratum)
        if (n := len(members)) > 1:
            draws = rng.integers(n, size=(replicates, n - 1))
            counts[:, members] = count_draws(draws, n) * (n / (n - 1))
    return counts[:, patient]


def _strata(patient: np.ndarray, n_patients: int, targets: np.ndarray) -> np.ndarray:
    seen = np.zeros((n_patients, int(np.max(targets)) + 1), bool)
    seen[patient, targets] = True
    return np.unique(seen, axis=0, return_inverse=True)[1].ravel()


def count_draws(draws: np.ndarray, n: int) -> np.ndarray:
    """How often each of `n` items occurs in each row of `draws` `(R, K)`: `(R, n)`."""
    rows = np.arange(len(draws))[:, None] * n
    return np.bincount((draws + rows).ravel(), minlength=len(draws) * n).reshape(len(draws), n)


def interval(value: float, replicates: np.ndarray, *, n: int, level: float = LEVEL) -> Interval:
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
    A value of 0 or 1 has no spread to measure and gets Wilson's interval for `patients` trials.
    """
    defined = ~np.isnan(replicates)
    if not defined.any() or not np.isfinite(value) or not patients:
        return Interval(float(value), float("nan"), float("nan"), n)
    if not 0 < value < 1:
        edge = _Z**2 / (patients + _Z**2)
        low, high = (0.0, edge) if value <= 0 else (1 - edge, 1.0)
        return Interval(float(value), low, high, n)
    nearest = min(value, 1 - value) / 10  # a replicate without an error would be infinitely far
    logits = _logit(np.clip(replicates, nearest, 1 - nearest))
    logits += np.asarray(between_runs) / (value * (1 - value))
    tails = np.quantile(logits[defined], [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    ends = _logit(value) + np.array([-1, 1]) * (tails[1] - tails[0]) / 2
    bounds = 1 / (1 + np.exp(-ends))
    return Interval(float(value), float(bounds[0]), float(bounds[1]), n)


def _logit(share: np.ndarray | float) -> np.ndarray:
    logit: np.ndarray = np.log(share) - np.log1p(-np.asarray(share))
    return logit


def bootstrap_mean(values: np.ndarray, replicates: int = REPLICATES, seed: int = 0) -> Interval:
    """Mean of independent values `(N,)`, with its percentile bootstrap interval."""
    n = len(values)
    draws = np.random.default_rng(seed).integers(n, size=(replicates, n))
    return interval(float(values.mean()), values[draws].mean(axis=1), n=n)


def paired_difference(
    arm: np.ndarray, reference: np.ndarray, *, n: int, level: float = LEVEL
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
    return interval(difference[0], difference[1:], n=n, level=level)


def errors_removed(arm: np.ndarray, reference: np.ndarray, *, n: int) -> Interval:
    """Share of the reference's errors that the arm avoids, (arm - reference) / (1 - reference).

    Both are `(1 + R,)` replicates of a score that is 1 at best, as in `paired_difference`; negative is
    worse. The reference's error is taken as measured, so that the interval covers 0 exactly when that
    of the difference does. NaN if the reference makes no errors.
    """
    found = paired_difference(arm, reference, n=n)
    error = 1 - float(reference[0])
    scale = 1 / error if error > 0 else float("nan")
    return Interval(found.value * scale, found.low * scale, found.high * scale, n)


@dataclass(frozen=True)
class Spread:
    """A score of one arm, seed by seed, and its standard deviation (n - 1) between seeds."""

    values: tuple[float, ...]
    mean: float
    sd: float


def between_seeds(values: Sequence[float]) -> Spread:
    """Summary of the scores of runs that differ in their seed alone; `sd` is NaN for a single one.

    >>> between_seeds([0.5, 0.75, 1.0])
    Spread(values=(0.5, 0.75, 1.0), mean=0.75, sd=0.25)
    """
    if not len(values):
        raise XraysynthError("an arm without runs has no spread; train at least one run of it")
    sd = float(np.std(values, ddof=1)) if len(values) > 1 else float("nan")
    return Spread(tuple(float(value) for value in values), float(np.mean(values)), sd)


def p_value(replicates: np.ndarray) -> float:
    """Two-sided bootstrap p-value of "the difference is zero", never below 2 / (R + 1).

    p = 2 (1 + min(#{d <= 0}, #{d >= 0})) / (R + 1), at most 1 (Davison & Hinkley 1997, section 4).
    """
    defined = replicates[~np.isnan(replicates)]
    tail = min(np.sum(defined <= 0), np.sum(defined >= 0))
    return float(min(1.0, 2 * (1 + tail) / (len(defined) + 1)))


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Holm's step-down adjustment over a family of comparisons.

    >>> holm({"a": 0.01, "b": 0.04, "c": 0.03})
    {'a': 0.03, 'b': 0.06, 'c': 0.06}
    """
    adjusted, largest = {}, 0.0
    for rank, name in enumerate(sorted(p_values, key=lambda key: p_values[key])):
        largest = max(largest, min(1.0, p_values[name] * (len(p_values) - rank)))
        adjusted[name] = largest
    return {name: adjusted[name] for name in p_values}
