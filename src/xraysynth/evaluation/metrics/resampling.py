"""Bootstrap draws of patients: how often each image counts in each replicate."""

import numpy as np
from numpy.typing import ArrayLike

from xraysynth.errors import ManifestError, XraysynthError
from xraysynth.evaluation.metrics.statistics import REPLICATES


def cluster_bootstrap_weights(
    patients: ArrayLike,
    replicates: int = REPLICATES,
    seed: int = 0,
    *,
    targets: np.ndarray | None = None,
) -> np.ndarray:
    """Count how often each image occurs in each bootstrap replicate over patients.

    Patients, not images, are drawn with replacement, so that all images of a patient are drawn
    together. With `targets` the draw is stratified by the set of classes a patient has, which keeps
    the class counts nearly constant and guarantees that no class vanishes from a replicate. The
    interval is then conditional on the class mix of the test set. Drawing n of a stratum's n patients
    would understate its variance by (n - 1) / n, so n - 1 are drawn and each counts n / (n - 1) times
    (Rao & Wu 1988, the rescaled bootstrap): counts are fractions then. A stratum of one patient has no
    variance; it is drawn together with another stratum that shares a class, where no class can vanish
    by that.

    Args:
        patients: Patient id of each image, `(N,)`; ids must be unique across data sets.
        replicates: Number of replicates, R.
        seed: Seed of the draws.
        targets: Index of the class of each image, `(N,)`.

    Returns:
        Counts `(R, N)`.

    Raises:
        XraysynthError: If there is no image or replicate, or if `targets` is not one per image.
        ManifestError: If an image has no patient id.
    """
    ids = np.asarray(patients)
    _require_patient_per_image(ids, replicates, targets)
    names, patient = np.unique(ids.astype(str), return_inverse=True)
    n_patients = len(names)
    rng = np.random.default_rng(seed)
    if targets is None:
        draws = rng.integers(n_patients, size=(replicates, n_patients))
        return count_draws(draws, n_patients)[:, patient]
    strata = _assign_strata(patient, n_patients, targets)
    counts = np.ones((replicates, n_patients))
    for stratum in np.unique(strata):
        members = np.flatnonzero(strata == stratum)
        n = len(members)
        if n > 1:
            draws = rng.integers(n, size=(replicates, n - 1))
            counts[:, members] = count_draws(draws, n) * (n / (n - 1))
    return counts[:, patient]


def _require_patient_per_image(
    ids: np.ndarray, replicates: int, targets: np.ndarray | None
) -> None:
    if replicates < 1 or ids.ndim != 1 or not len(ids):
        raise XraysynthError(
            f"a bootstrap needs at least one image and one replicate, but got patients of shape "
            f"{ids.shape} and replicates={replicates}"
        )
    if targets is not None and len(targets) != len(ids):
        raise XraysynthError(
            f"bootstrap: got {len(ids)} patient ids for {len(targets)} targets; give one of each per image"
        )
    n_blank = int(np.sum(ids.astype(str) == ""))
    if n_blank:
        raise ManifestError(
            f"bootstrap: {n_blank} of {len(ids)} images have no patient id and cannot be resampled "
            "by patient; fill in patient_id"
        )


def _assign_strata(patient: np.ndarray, n_patients: int, targets: np.ndarray) -> np.ndarray:
    """Return the stratum of each patient `(P,)`: patients with the same set of classes."""
    has_class = np.zeros((n_patients, int(np.max(targets)) + 1), bool)
    has_class[patient, targets] = True
    strata = np.unique(has_class, axis=0, return_inverse=True)[1].ravel()
    return _join_single_patients(strata, has_class)


def _join_single_patients(strata: np.ndarray, has_class: np.ndarray) -> np.ndarray:
    """Join each stratum of one patient to the smallest other stratum that shares a class with it.

    A class is certain to be in every replicate where all patients of some stratum have it. Strata are
    joined only as far as every class that was certain stays so.

    Args:
        strata: Stratum of each patient, `(P,)`.
        has_class: Which classes each patient has, `(P, C)`.
    """
    joined = strata.copy()
    sizes = np.bincount(joined)
    # Which classes all patients of a stratum have, (K, C).
    all_have = np.stack([has_class[joined == stratum].all(0) for stratum in range(len(sizes))])
    for single in np.flatnonzero(sizes == 1).tolist():
        if sizes[single] != 1:  # another single patient has joined it meanwhile
            continue
        both_have = all_have & all_have[single]
        possible = _keeps_certain_classes(all_have, single) & (sizes > 0) & both_have.any(1)
        possible[single] = False
        if not possible.any():
            continue
        candidates = np.flatnonzero(possible)
        target = candidates[np.argmin(sizes[candidates])]
        joined[joined == single] = target
        sizes[target] += 1
        sizes[single] = 0
        all_have[target] = both_have[target]
        all_have[single] = False
    return joined


def _keeps_certain_classes(all_have: np.ndarray, single: int) -> np.ndarray:
    """Return to which strata `(K,)` the stratum `single` can be joined without losing a certain class.

    `all_have` `(K, C)` are the classes that all patients of a stratum have.
    """
    n_certain = all_have.sum(0)
    both_have = all_have & all_have[single]
    n_after = n_certain - all_have[single] - all_have + both_have  # (K, C), joined to each of them
    keeps: np.ndarray = ((n_after > 0) | (n_certain == 0)).all(1)
    return keeps


def count_draws(draws: np.ndarray, n: int) -> np.ndarray:
    """Count how often each of `n` items occurs in each row of `draws` `(R, K)`: `(R, n)`."""
    rows = np.arange(len(draws))[:, None] * n
    return np.bincount((draws + rows).ravel(), minlength=len(draws) * n).reshape(len(draws), n)
