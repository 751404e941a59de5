"""Kernel distances of a set of synthetic images to real ones in the feature space of an encoder.

Like all distances, they are compared at equal N with the real-vs-real baseline (see `fidelity`).
"""

from dataclasses import dataclass

import numpy as np

from xraysynth.errors import XraysynthError
from xraysynth.evaluation.metrics.fidelity import (
    require_comparable_features,
    row_blocks,
    unit_vectors,
)

CMMD_SIGMA = 10.0


def kd_name(encoder: str) -> str:
    """Return the name of a kernel distance: KID for FID's own Inception, otherwise KD(<encoder>)."""
    return "KID" if encoder == "inception" else f"KD({encoder})"


def cmmd_name(encoder: str) -> str:
    """Return the name of a maximum mean discrepancy: CMMD for CLIP, otherwise CMMD(<encoder>)."""
    return "CMMD" if encoder == "clip" else f"CMMD({encoder})"


@dataclass(frozen=True)
class KernelDistance:
    """Mean and standard deviation of the squared MMD over random subsets."""

    mean: float
    sd: float
    subsets: int
    subset_size: int


def kernel_distance(
    *,
    real: np.ndarray,
    synthetic: np.ndarray,
    subsets: int = 100,
    subset_size: int | None = None,
    seed: int = 0,
) -> KernelDistance:
    """Compute the kernel (inception) distance of two feature sets; lower is better.

    Unbiased squared MMD with k(x, y) = (x.y / d + 1)^3 over random subsets (Binkowski et al.,
    arXiv:1801.01401). It may be negative, and is not clipped then.

    Args:
        real: Real features `(n, d)`.
        synthetic: Synthetic features `(m, d)`.
        subsets: Number of random subsets.
        subset_size: Number of images in each; by default the smaller of 1000 and half the smaller
            set. A size as large as a set is an error, because every subset would be the same and the
            standard deviation a meaningless 0.
        seed: Seed of the subsets.

    Raises:
        XraysynthError: If the sets are not comparable, or `subset_size` is out of range.
    """
    real, synthetic = require_comparable_features(real, synthetic)
    n = min(len(real), len(synthetic))
    size = min(1000, n // 2) if subset_size is None else subset_size
    if not 2 <= size < n or subsets < 1:
        raise XraysynthError(
            f"kernel distance: subset_size={size}, subsets={subsets}, but subset_size must be at least 2 "
            f"and smaller than both sets ({len(real)} real, {len(synthetic)} synthetic), and subsets at "
            "least 1"
        )
    rng = np.random.default_rng(seed)
    values = []
    for _ in range(subsets):
        real_rows = rng.choice(len(real), size, replace=False)
        synthetic_rows = rng.choice(len(synthetic), size, replace=False)
        values.append(_squared_mmd(real[real_rows], synthetic[synthetic_rows]))
    return KernelDistance(float(np.mean(values)), float(np.std(values)), subsets, size)


def _squared_mmd(x: np.ndarray, y: np.ndarray) -> float:
    return mean_polynomial_kernel(x) + mean_polynomial_kernel(y) - 2 * mean_polynomial_kernel(x, y)


def mean_polynomial_kernel(x: np.ndarray, y: np.ndarray | None = None) -> float:
    """Compute the mean of (x.y / d + 1)^3 over all pairs of rows of `x` and `y`.

    Without `y`, over all pairs of different rows of `x`.
    """
    other = x if y is None else y
    total = 0.0
    for rows in row_blocks(len(x), len(other)):
        total += _sum_polynomial_kernel(x[rows] @ other.T, x.shape[1])
    if y is None:
        total -= _sum_polynomial_kernel(np.einsum("nd,nd->n", x, x), x.shape[1])
    return total / (len(x) * (len(other) - (y is None)))


def _sum_polynomial_kernel(products: np.ndarray, dimensions: int) -> float:
    """Return the sum of (product / dimensions + 1)^3; `products` are overwritten."""
    products /= dimensions
    products += 1
    return float(np.vdot(np.square(products), products))


def cmmd(*, real: np.ndarray, synthetic: np.ndarray) -> float:
    """Compute the maximum mean discrepancy of directions, times 1000; lower is better, at least 0.

    Features `(n, d)` and `(m, d)` are scaled to length 1; k(x, y) = exp(-|x - y|^2 / (2 s^2)) with
    s = 10; the biased estimate, which keeps i = j (Jayasumana et al., arXiv:2401.09603).

    Raises:
        XraysynthError: If the sets are not comparable, or an image's features are all 0.
    """
    real, synthetic = require_comparable_features(real, synthetic)
    x, y = unit_vectors(real), unit_vectors(synthetic)
    if not (np.any(x, axis=1).all() and np.any(y, axis=1).all()):
        raise XraysynthError("CMMD: an image's features are all 0; check the encoder's weights")
    within_x, within_y = _mean_gaussian_kernel(x, x), _mean_gaussian_kernel(y, y)
    return float(1000 * (within_x + within_y - 2 * _mean_gaussian_kernel(x, y)))


def _mean_gaussian_kernel(x: np.ndarray, y: np.ndarray) -> float:
    """Return the mean of k - 1 over all pairs of unit rows, which loses no digits where k is near 1."""
    total = 0.0
    for rows in row_blocks(len(x), len(y)):
        total += float(np.expm1((x[rows] @ y.T - 1) / CMMD_SIGMA**2).sum())
    return total / (len(x) * len(y))
