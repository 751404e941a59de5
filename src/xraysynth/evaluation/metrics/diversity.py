"""How varied a set of images is: SSIM and MS-SSIM over pairs of one class, and the Vendi score.

The values mean something only beside those of real images of the same class, number and size.
Between unpaired real and synthetic images SSIM means nothing: it is offered within one set, and
between a synthetic image and its nearest real neighbour.
"""

from collections.abc import Sequence

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
    """How many of the five scales an image holds: the last one must hold the 11 px window.

    Scale s has side_px / 2^(s-1) pixels; five scales need more than 160.

    >>> [count_scales(side) for side in (64, 128, 160, 161, 512)]
    [3, 4, 4, 5, 5]
    """
    fitting = [s for s in range(1, 6) if side_px > (WINDOW_PX - 1) * 2 ** (s - 1)]
    if not fitting:
        raise ImageError(f"SSIM needs images of at least {WINDOW_PX} px a side, got {side_px}")
    return fitting[-1]


def ms_ssim_name(side_px: int) -> str:
    """MS-SSIM, with the number of scales where it is not the usual five."""
    scales = count_scales(side_px)
    return "MS-SSIM" if scales == len(MS_SSIM_BETAS) else f"MS-SSIM ({scales} scales)"


def pair_similarity(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """SSIM and MS-SSIM of pairs of images, each `(P, H, W)` uint8: `(P, 2)` float64, at most 1.

    Gaussian window of 11 px and sigma 1.5; data range fixed at 1.0 for images in [0, 1], as a range
    taken from the images would differ between pairs. With fewer than five scales the exponents are
    divided by their sum. Contrast terms below 0 count as 0.
    """
    if first.shape != second.shape or first.dtype != np.uint8 or second.dtype != np.uint8:
        raise ImageError(
            f"pairs of shape {first.shape} {first.dtype} and {second.shape} {second.dtype}: both "
            "must be (P, H, W) uint8"
        )
    size = max(1, _BATCH_PIXELS // (first.shape[1] * first.shape[2]))
    starts = range(0, len(first), size)
    with torch.inference_mode():
        parts = [_batch_similarity(first[at : at + size], second[at : at + size]) for at in starts]
    return np.concatenate([np.zeros((0, 2)), *parts])


def _batch_similarity(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    x, y = (torch.from_numpy(side.astype(np.float32) / 255)[:, None] for side in (first, second))
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


def random_pairs(n: int, max_pairs: int, seed: int) -> np.ndarray:
    """Distinct pairs i < j of `n` items, `(P, 2)`: all, or `max_pairs` of them at random."""
    total = n * (n - 1) // 2
    rng = np.random.default_rng(seed)
    some = total > max_pairs
    chosen = rng.choice(total, max_pairs, replace=False) if some else np.arange(total)
    second = ((1 + np.sqrt(1 + 8 * chosen)) // 2).astype(np.int64)  # pair k = j (j - 1) / 2 + i
    return np.stack([chosen - second * (second - 1) // 2, second], 1)


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
    """Mean SSIM and MS-SSIM over random pairs of images of one class; lower is more diverse.

    `images` is one set, `(N, H, W)` uint8. Keys are `SSIM/<class>` and, for example,
    `MS-SSIM (3 scales)/<class>`; `n` is the number of pairs, and a class without pairs is NaN with
    n 0. Pairs of one patient are left out. The interval draws patients (images where `patients` is
    None) with replacement and weighs a pair by the product of its two counts.
    """
    owners = np.arange(len(images)) if patients is None else np.asarray(patients)
    if images.ndim != 3 or not len(images) == len(targets) == len(owners):
        raise ImageError(
            f"images of shape {images.shape} with {len(targets)} targets and {len(owners)} "
            "patients: must be (N, H, W) and N of each"
        )
    names = ("SSIM", ms_ssim_name(min(images.shape[1:])))
    found: dict[str, Interval] = {}
    for index, label in enumerate(classes):
        rows = np.flatnonzero(np.asarray(targets) == index)
        pairs = rows[random_pairs(len(rows), max_pairs, derive_seed(seed, label))]
        pairs = pairs[owners[pairs[:, 0]] != owners[pairs[:, 1]]]
        values = pair_similarity(images[pairs[:, 0]], images[pairs[:, 1]])
        bounds = _pair_intervals(values, pairs, owners, replicates, seed)
        found |= {f"{name}/{label}": bound for name, bound in zip(names, bounds, strict=True)}
    return found


def _pair_intervals(
    values: np.ndarray, pairs: np.ndarray, owners: np.ndarray, replicates: int, seed: int
) -> list[Interval]:
    if not len(pairs):
        return [Interval(float("nan"), float("nan"), float("nan"), 0)] * values.shape[1]
    rows, place = np.unique(pairs, return_inverse=True)
    counts = cluster_bootstrap_weights(owners[rows], replicates, seed)
    place = place.reshape(pairs.shape)
    weights = counts[:, place[:, 0]] * counts[:, place[:, 1]]  # (R, P)
    with np.errstate(invalid="ignore"):  # a replicate that drew no pair is NaN and left out
        drawn = (weights @ values) / weights.sum(1, keepdims=True)
    means = values.mean(0)
    return [
        percentile_interval(m, column, n=len(pairs))
        for m, column in zip(means, drawn.T, strict=True)
    ]


def nearest_real_similarity(
    synthetic: np.ndarray, real: np.ndarray, rows: np.ndarray
) -> np.ndarray:
    """SSIM and MS-SSIM of each synthetic image to its nearest real neighbour, `(N, 2)` float64.

    `synthetic` is `(N, H, W)` uint8, `real` `(M, H, W)` uint8, and `rows` `(N,)` are the neighbours'
    rows of `real`, by whatever encoder. Near 1 is a copy; otherwise to be read beside the same
    values of held-out real images. See `pair_similarity`.
    """
    if synthetic.shape[1:] != real.shape[1:]:
        raise ImageError(
            f"synthetic images of {synthetic.shape[1:]} px and real ones of {real.shape[1:]} px: "
            "bring both to one size with study_format"
        )
    rows = np.asarray(rows)
    if rows.shape != (len(synthetic),) or (
        rows.size and not 0 <= rows.min() <= rows.max() < len(real)
    ):
        raise ImageError(
            f"rows of shape {rows.shape} for {len(synthetic)} synthetic and {len(real)} real images: "
            f"must be ({len(synthetic)},), each at least 0 and below {len(real)}"
        )
    size = max(1, 8 * _BATCH_PIXELS // max(1, synthetic[:1].size))
    parts = [
        pair_similarity(synthetic[at : at + size], real[rows[at : at + size]])
        for at in range(0, len(rows), size)
    ]
    return np.concatenate([np.zeros((0, 2)), *parts])


def vendi_score(features: np.ndarray, *, q: float = 1.0) -> float:
    """Vendi score of order `q` of features `(N, d)`, from 1 (all alike) to N; higher is more diverse.

    exp of the Renyi entropy of order q of the eigenvalues l of K / N, where K is the cosine
    similarity: (sum l^q)^(1 / (1 - q)), exp(-sum l log l) at q = 1 and 1 / max l at q = inf (Friedman
    & Dieng, arXiv:2210.02410; Pasarkar & Dieng, arXiv:2310.12952). A larger q counts rare images
    less. Sets compare at equal N only, and at most d of them can be told apart.

    >>> round(vendi_score(np.eye(4)), 6), round(vendi_score(np.ones((4, 2))), 6)
    (4.0, 1.0)
    """
    if not q > 0:
        raise XraysynthError(f"Vendi score: q={q} must be above 0; 1 is the usual order")
    values = _kernel_eigenvalues(np.asarray(features))
    if q == np.inf:
        return float(1 / values.max())
    if q == 1:
        return float(np.exp(-np.sum(values * np.log(values))))
    return float(np.sum(values**q) ** (1 / (1 - q)))


def _kernel_eigenvalues(features: np.ndarray) -> np.ndarray:
    """The positive eigenvalues of K / N, which the `(d, d)` mean of x'x shares; they sum to 1."""
    if features.ndim != 2 or not len(features):
        raise XraysynthError(f"Vendi score: features of shape {features.shape} must be (N, d)")
    n, d = features.shape
    if n <= d:
        unit = _unit_vectors(features)
        matrix = unit @ unit.T
    else:
        matrix = np.zeros((d, d))
        for at in range(0, n, _BLOCK_ROWS):
            unit = _unit_vectors(features[at : at + _BLOCK_ROWS])
            matrix += unit.T @ unit
    values = np.linalg.eigvalsh(matrix / n)
    values = values[values > len(values) * np.finfo(np.float64).eps]  # the others are rounding
    return np.asarray(values / values.sum())


def _unit_vectors(features: np.ndarray) -> np.ndarray:
    x = features.astype(np.float64)
    norms = np.linalg.norm(x, axis=1, keepdims=True)
    if not (np.isfinite(norms) & (norms > 0)).all():
        raise XraysynthError(
            "Vendi score: features that are all zero or not finite have no direction; look for images "
            "that the encoder cannot read"
        )
    return np.asarray(x / norms)
