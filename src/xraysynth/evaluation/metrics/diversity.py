"""The diversity of a set of images: SSIM and MS-SSIM over pairs of one class, and the Vendi score.

The values have to be compared with those of real images of the same class, number and size. SSIM
between unpaired real and synthetic images has no meaning: it is offered within one set, and between a
synthetic image and its nearest real neighbour.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch.nn.functional import avg_pool2d
from torchmetrics.functional.image import structural_similarity_index_measure

from xraysynth.errors import ImageError, XraysynthError
from xraysynth.evaluation.metrics.resampling import cluster_bootstrap_weights
from xraysynth.evaluation.metrics.statistics import REPLICATES, Interval, percentile_interval
from xraysynth.seeds import derive_seed

MS_SSIM_BETAS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Exponents of the five scales (Wang et al. 2003)."""

WINDOW_PX = 11
_BATCH_PIXELS = 2**20
_BLOCK_ROWS = 4096


def count_scales(side_px: int) -> int:
    """Return how many of the five scales an image holds: the last one must hold the 11 px window.

    Scale s has side_px / 2^(s-1) pixels; five scales need more than 160.

    Raises:
        ImageError: If the image is smaller than the window.

    >>> [count_scales(side) for side in (64, 128, 160, 161, 512)]
    [3, 4, 4, 5, 5]
    """
    scales = 0
    while scales < len(MS_SSIM_BETAS) and side_px > (WINDOW_PX - 1) * 2**scales:
        scales += 1
    if not scales:
        raise ImageError(
            f"SSIM needs images of at least {WINDOW_PX} px on each side, got {side_px}"
        )
    return scales


def ms_ssim_name(side_px: int) -> str:
    """Return "MS-SSIM", with the number of scales where it is not the usual five."""
    scales = count_scales(side_px)
    return "MS-SSIM" if scales == len(MS_SSIM_BETAS) else f"MS-SSIM ({scales} scales)"


def pair_similarity(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Compute SSIM and MS-SSIM of P pairs of images; at most 1, higher is more alike.

    Gaussian window of 11 px and sigma 1.5. The data range is fixed at 1.0 for images in [0, 1],
    because a range taken from the images would differ between pairs. With fewer than five scales the
    exponents are divided by their sum. Contrast terms below 0 count as 0 (Wang et al. 2003).

    Args:
        first: First image of each pair, `(P, H, W)` uint8.
        second: Second image of each pair, `(P, H, W)` uint8.

    Returns:
        SSIM and MS-SSIM of each pair, `(P, 2)` float64.

    Raises:
        ImageError: If shapes or types differ, or if images are smaller than 11 px.

    >>> images = np.random.default_rng(0).integers(0, 256, (1, 32, 32)).astype(np.uint8)
    >>> pair_similarity(images, images).tolist()
    [[1.0, 1.0]]
    """
    if first.shape != second.shape or first.dtype != np.uint8 or second.dtype != np.uint8:
        raise ImageError(
            f"pairs have shapes {first.shape} {first.dtype} and {second.shape} {second.dtype}, but "
            "both must be the same (P, H, W) uint8"
        )
    batch_size = max(1, _BATCH_PIXELS // (first.shape[1] * first.shape[2]))
    batches = [np.zeros((0, 2))]
    with torch.inference_mode():
        for rows in _batch_slices(len(first), batch_size):
            batches.append(_batch_similarity(first[rows], second[rows]))
    return np.concatenate(batches)


def _batch_slices(n: int, batch_size: int) -> Iterator[slice]:
    for start in range(0, n, batch_size):
        yield slice(start, start + batch_size)


def _batch_similarity(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Compute `pair_similarity` of one batch: over the scales, each of half the size of the one before."""
    x, y = _to_unit_range(first), _to_unit_range(second)
    exponents = np.array(MS_SSIM_BETAS[: count_scales(min(first.shape[1:]))])
    exponents /= exponents.sum()
    ms_ssim = torch.ones(len(x))
    for scale, exponent in enumerate(exponents):
        similarity, contrast = structural_similarity_index_measure(
            x, y, data_range=1.0, reduction="none", return_contrast_sensitivity=True
        )
        if scale == 0:
            ssim = similarity
        term = similarity if scale == len(exponents) - 1 else contrast
        ms_ssim *= term.clamp(min=0) ** exponent
        x, y = avg_pool2d(x, 2), avg_pool2d(y, 2)
    return torch.stack([ssim, ms_ssim], 1).double().numpy()


def _to_unit_range(images: np.ndarray) -> torch.Tensor:
    """Convert `(P, H, W)` uint8 to `(P, 1, H, W)` float32 in [0, 1]."""
    return torch.from_numpy(images.astype(np.float32) / 255)[:, None]


def random_pairs(n: int, max_pairs: int, seed: int) -> np.ndarray:
    """Return distinct pairs i < j of `n` items, `(P, 2)`: all, or `max_pairs` of them at random."""
    total = n * (n - 1) // 2
    if total > max_pairs:
        pairs = np.random.default_rng(seed).choice(total, max_pairs, replace=False)
    else:
        pairs = np.arange(total)
    second = ((1 + np.sqrt(1 + 8 * pairs)) // 2).astype(np.int64)  # pair k = j (j - 1) / 2 + i
    first = pairs - second * (second - 1) // 2
    return np.stack([first, second], 1)


def intra_class_similarity(
    images: np.ndarray,
    targets: np.ndarray,
    *,
    classes: Sequence[str],
    patients: ArrayLike | None = None,
    max_pairs: int = 500,
    replicates: int = REPLICATES,
    seed: int = 0,
) -> dict[str, Interval]:
    """Compute the mean SSIM and MS-SSIM over random pairs of images of one class; lower is more diverse.

    Pairs of one patient are left out. The interval draws patients with replacement and weighs a pair
    by the product of the counts of its two patients.

    Args:
        images: One set of images, `(N, H, W)` uint8.
        targets: Index of the class of each image, `(N,)`.
        classes: Names of the classes.
        patients: Patient id of each image, `(N,)`; by default each image is of its own patient.
        max_pairs: Number of pairs of a class above which pairs are drawn at random.
        replicates: Number of bootstrap replicates.
        seed: Seed of all draws.

    Returns:
        Intervals under `SSIM/<class>` and, for example, `MS-SSIM (3 scales)/<class>`. `n` is the
        number of pairs; a class without pairs is NaN with n 0.

    Raises:
        ImageError: If the arguments are not of the same number of images.
    """
    owners = np.arange(len(images)) if patients is None else np.asarray(patients)
    if images.ndim != 3 or not len(images) == len(targets) == len(owners):
        raise ImageError(
            f"images have shape {images.shape}, with {len(targets)} targets and {len(owners)} "
            "patients, but must be (N, H, W) with N of each"
        )
    ms_ssim = ms_ssim_name(min(images.shape[1:]))
    intervals: dict[str, Interval] = {}
    for index, label in enumerate(classes):
        rows = np.flatnonzero(np.asarray(targets) == index)
        pairs = rows[random_pairs(len(rows), max_pairs, derive_seed(seed, label))]
        pairs = pairs[owners[pairs[:, 0]] != owners[pairs[:, 1]]]
        values = pair_similarity(images[pairs[:, 0]], images[pairs[:, 1]])
        weights = _pair_weights(pairs, owners, replicates, seed)
        ssim_interval, ms_ssim_interval = _mean_intervals(values, weights)
        intervals[f"SSIM/{label}"] = ssim_interval
        intervals[f"{ms_ssim}/{label}"] = ms_ssim_interval
    return intervals


def _pair_weights(pairs: np.ndarray, owners: np.ndarray, replicates: int, seed: int) -> np.ndarray:
    """Return how much each pair counts in each draw of patients, `(R, P)`."""
    if not len(pairs):
        return np.zeros((replicates, 0))
    rows, positions = np.unique(pairs, return_inverse=True)
    counts = cluster_bootstrap_weights(owners[rows], replicates, seed)
    first, second = positions.reshape(pairs.shape).T
    weights: np.ndarray = counts[:, first] * counts[:, second]
    return weights


def _mean_intervals(values: np.ndarray, weights: np.ndarray) -> list[Interval]:
    """Return the mean of each column of `values` `(P, K)`, with intervals under `weights` `(R, P)`."""
    n_pairs, n_columns = values.shape
    if not n_pairs:
        return [Interval(float("nan"), float("nan"), float("nan"), 0)] * n_columns
    with np.errstate(invalid="ignore"):  # a replicate that drew no pair is NaN and left out
        replicates = (weights @ values) / weights.sum(1, keepdims=True)
    intervals = []
    for mean, column in zip(values.mean(0), replicates.T, strict=True):
        intervals.append(percentile_interval(mean, column, n=n_pairs))
    return intervals


def nearest_real_similarity(
    synthetic: np.ndarray, real: np.ndarray, rows: np.ndarray
) -> np.ndarray:
    """Compute SSIM and MS-SSIM of each synthetic image to its nearest real neighbour.

    A value near 1 is a copy; other values are compared with those of held-out real images. See
    `pair_similarity`.

    Args:
        synthetic: Synthetic images `(N, H, W)` uint8.
        real: Real images `(M, H, W)` uint8.
        rows: Rows of `real` that are the neighbours, by whatever encoder, `(N,)`.

    Returns:
        SSIM and MS-SSIM of each synthetic image, `(N, 2)` float64.

    Raises:
        ImageError: If the sizes of the images differ, or if `rows` are no rows of `real`.
    """
    if synthetic.shape[1:] != real.shape[1:]:
        raise ImageError(
            f"synthetic images have {synthetic.shape[1:]} px, but real ones {real.shape[1:]} px; "
            "bring both to one size with study_format"
        )
    rows = np.asarray(rows)
    if rows.shape != (len(synthetic),) or (
        rows.size and not 0 <= rows.min() <= rows.max() < len(real)
    ):
        raise ImageError(
            f"rows of {len(synthetic)} synthetic and {len(real)} real images have shape {rows.shape}, "
            f"but must be ({len(synthetic)},), each at least 0 and below {len(real)}"
        )
    batch_size = max(1, 8 * _BATCH_PIXELS // max(1, synthetic[:1].size))
    batches = [np.zeros((0, 2))]
    for batch in _batch_slices(len(rows), batch_size):
        batches.append(pair_similarity(synthetic[batch], real[rows[batch]]))
    return np.concatenate(batches)


def vendi_score(features: np.ndarray, *, q: float = 1.0) -> float:
    """Compute the Vendi score of order `q`, from 1 (all alike) to N; higher is more diverse.

    exp of the Renyi entropy of order q of the eigenvalues l of K / N, where K is the cosine
    similarity: (sum l^q)^(1 / (1 - q)), exp(-sum l log l) at q = 1 and 1 / max l at q = inf (Friedman
    & Dieng, arXiv:2210.02410; Pasarkar & Dieng, arXiv:2310.12952). A larger q counts rare images
    less. Sets can be compared at equal N only. The score is at most d, the number of dimensions.

    Args:
        features: Features `(N, d)`, none of which may be all zero.
        q: Order above 0.

    Raises:
        XraysynthError: If `q` is not positive, or if features are zero or not finite.

    >>> round(vendi_score(np.eye(4)), 6), round(vendi_score(np.ones((4, 2))), 6)
    (4.0, 1.0)
    """
    if not q > 0:
        raise XraysynthError(f"Vendi score: q={q} must be above 0; 1 is the usual order")
    eigenvalues = _kernel_eigenvalues(np.asarray(features))
    if q == np.inf:
        return float(1 / eigenvalues.max())
    if q == 1:
        return float(np.exp(-np.sum(eigenvalues * np.log(eigenvalues))))
    return float(np.sum(eigenvalues**q) ** (1 / (1 - q)))


def _kernel_eigenvalues(features: np.ndarray) -> np.ndarray:
    """Return the positive eigenvalues of K / N, which sum to 1.

    The mean `(d, d)` of x'x has the same ones, and is smaller where N > d.
    """
    if features.ndim != 2 or not len(features):
        raise XraysynthError(f"Vendi score: features of shape {features.shape} must be (N, d)")
    n, d = features.shape
    if n <= d:
        unit = _unit_vectors(features)
        matrix = unit @ unit.T
    else:
        matrix = np.zeros((d, d))
        for rows in _batch_slices(n, _BLOCK_ROWS):
            unit = _unit_vectors(features[rows])
            matrix += unit.T @ unit
    eigenvalues = np.linalg.eigvalsh(matrix / n)
    rounding = len(eigenvalues) * np.finfo(np.float64).eps
    eigenvalues = eigenvalues[eigenvalues > rounding]
    return np.asarray(eigenvalues / eigenvalues.sum())


def _unit_vectors(features: np.ndarray) -> np.ndarray:
    """Scale each row to length 1, or raise where a row has no direction."""
    x = features.astype(np.float64)
    norms = np.linalg.norm(x, axis=1, keepdims=True)
    if not (np.isfinite(norms) & (norms > 0)).all():
        raise XraysynthError(
            "Vendi score: features that are all zero or not finite have no direction; look for images "
            "that the encoder cannot read"
        )
    return np.asarray(x / norms)
