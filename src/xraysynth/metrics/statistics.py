"""Intervals: patient-clustered bootstrap, percentile intervals, paired differences, Holm."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import ArrayLike

from xraysynth.errors import ManifestError, XraysynthError

REPLICATES = 1000
LEVEL = 0.95


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
    """How often each image occurs in each bootstrap replicate, `(R, N)` int32.

    Patients, not images, are drawn with replacement, so all images of a patient come and go
    together. `patients` is `(N,)`; ids must be unique across data sets. With `targets` `(N,)` the
    draw is stratified by the set of classes a patient has, which keeps the class counts nearly as
    they are and guarantees that no class vanishes from a replicate; the interval is then
    conditional on the class mix of the test set. A stratum of one patient adds no variance.
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
    strata = _strata(patient, len(names), targets)
    rng = np.random.default_rng(seed)
    counts = np.zeros((replicates, len(names)), np.int32)
    for stratum in np.unique(strata):
        members = np.flatnonzero(strata == stratum)
        draws = rng.integers(len(members), size=(replicates, len(members)))
        counts[:, members] = count_draws(draws, len(members))
    return counts[:, patient]


def _strata(patient: np.ndarray, n_patients: int, targets: np.ndarray | None) -> np.ndarray:
    if targets is None:
        return np.zeros(n_patients, np.intp)
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
