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
    """How often each image occurs in each bootstrap replicate, `(R, N)`.

    Patients, not images, are drawn with replacement, so all images of a patient come and go
    together. `patients` is `(N,)`; ids must be unique across data sets. With `targets` `(N,)` the
    draw is stratified by the set of classes a patient has, which keeps the class counts nearly as
    they are and guarantees that no class vanishes from a replicate; the interval is then
    conditional on the class mix of the test set. Drawing n of a stratum's n patients would
    understate its variance by (n - 1) / n, so n - 1 are drawn and each counts n / (n - 1) times (Rao
    & Wu 1988, the rescaled bootstrap): counts are fractions then. A stratum of one patient, which has
    no variance of its own, is drawn together with another that shares a class, where no class can
    vanish by that.
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
    """Stratum of each patient, `(P,)`: patients with the same set of classes."""
    has_class = np.zeros((n_patients, int(np.max(targets)) + 1), bool)
    has_class[patient, targets] = True
    strata = np.unique(has_class, axis=0, return_inverse=True)[1].ravel()
    return _join_single_patients(strata, has_class)


def _join_single_patients(strata: np.ndarray, has_class: np.ndarray) -> np.ndarray:
    """The strata, with each of one patient joined to the smallest other that shares a class with it.

    A class is certain to be in every replicate where all patients of some stratum have it. Strata are
    joined only as far as every class that was certain stays so.
    """
    joined = strata.copy()
    sizes = np.bincount(joined)
    all_have = np.stack([has_class[joined == k].all(0) for k in range(len(sizes))])
    for single in np.flatnonzero(sizes == 1):
        if sizes[single] != 1:  # another single patient has joined it meanwhile
            continue
        both_have = all_have & all_have[single]
        certain = all_have.sum(0)
        after = certain - all_have[single] - all_have + both_have  # (K, C), joined to each of them
        stays = ((after > 0) | (certain == 0)).all(1)
        possible = stays & (sizes > 0) & both_have.any(1)
        possible[single] = False
        if not possible.any():
            continue
        chosen = min(np.flatnonzero(possible), key=lambda k: sizes[k])
        joined[joined == single] = chosen
        sizes[chosen] += 1
        sizes[single] = 0
        all_have[chosen] = both_have[chosen]
        all_have[single] = False
    return joined


def count_draws(draws: np.ndarray, n: int) -> np.ndarray:
    """How often each of `n` items occurs in each row of `draws` `(R, K)`: `(R, n)`."""
    rows = np.arange(len(draws))[:, None] * n
    return np.bincount((draws + rows).ravel(), minlength=len(draws) * n).reshape(len(draws), n)
