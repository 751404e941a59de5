"""Frechet distances of a set of synthetic images to real ones in the feature space of an encoder.

All distances depend on the number of images. They are therefore reported at equal N on all sides, with
the distance between two halves of the real images as the real-vs-real baseline, and never averaged over
shards.
"""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from xraysynth.errors import XraysynthError
from xraysynth.evaluation.metrics.statistics import Interval, percentile_interval

MIFD_EPSILON = 0.1
_BLOCK_BYTES = 2**27


def fd_name(encoder: str) -> str:
    """Return the name of a Frechet distance: FID for FID's own Inception, otherwise FD(<encoder>).

    >>> fd_name("inception"), fd_name("classifier")
    ('FID', 'FD(classifier)')
    """
    return "FID" if encoder == "inception" else f"FD({encoder})"


def fd_infinity_name(encoder: str) -> str:
    """Return the name of an extrapolated Frechet distance: FID∞ or FD∞(<encoder>)."""
    return "FID∞" if encoder == "inception" else f"FD∞({encoder})"


def mifd_name(encoder: str) -> str:
    """Return the name of a memorisation-informed Frechet distance: MiFID or MiFD(<encoder>)."""
    return "MiFID" if encoder == "inception" else f"MiFD({encoder})"


@dataclass(frozen=True)
class Moments:
    """Mean and covariance of n features of d dimensions, in float64.

    Attributes:
        mean: Mean `(d,)`.
        covariance_root: A root `(r, d)` of the covariance (ddof 1), root' root, where r <= d.
        n: Number of images.
    """

    mean: np.ndarray
    covariance_root: np.ndarray
    n: int

    @classmethod
    def from_features(cls, features: np.ndarray) -> "Moments":
        """Compute the moments of features `(n, d)`, n >= 2.

        For up to d images the scaled, centred rows are a root of the covariance. For more, the root
        is the Cholesky factor of the covariance, which is summed in blocks, or scaled eigenvectors
        where the covariance is singular.
        """
        values = np.asarray(features, np.float64)
        n, d = values.shape
        mean = values.mean(0)
        if n <= d:
            return cls(mean, (values - mean) / np.sqrt(n - 1), n)
        covariance = np.zeros((d, d))
        for rows in row_blocks(n, d):
            centred = values[rows] - mean
            covariance += centred.T @ centred
        return cls(mean, _covariance_root(covariance / (n - 1)), n)

    @property
    def variance(self) -> float:
        """Total variance: the trace of the covariance."""
        return float(np.vdot(self.covariance_root, self.covariance_root))


def _covariance_root(covariance: np.ndarray) -> np.ndarray:
    """Return a root `(r, d)` of a covariance `(d, d)`, root' root, where r is its rank or d."""
    try:
        return np.ascontiguousarray(np.linalg.cholesky(covariance).T)
    except np.linalg.LinAlgError:
        values, vectors = np.linalg.eigh(covariance)
        root: np.ndarray = np.sqrt(values.clip(0))[:, None] * vectors.T
        return root[values > 0]


def frechet_from_moments(real: Moments, synthetic: Moments) -> float:
    """Compute the Frechet distance of two Gaussians; symmetric, at least 0, lower is better.

    |mx - my|^2 + tr(Sx + Sy) - 2 tr((Sx Sy)^1/2) (Heusel et al., arXiv:1706.08500, eq. 6). With
    Sx = A'A and Sy = B'B, the roots of the eigenvalues of Sx Sy are the singular values of AB'. These
    are always real, lose no digits by squaring, and need no root of a d x d matrix.
    """
    shift = real.mean - synthetic.mean
    cross_root = real.covariance_root @ synthetic.covariance_root.T
    cross = np.linalg.svd(cross_root, compute_uv=False).sum()
    return float(max(shift @ shift + real.variance + synthetic.variance - 2 * cross, 0.0))


def frechet_distance(*, real: np.ndarray, synthetic: np.ndarray) -> float:
    """Compute the Frechet distance of Gaussians fitted to two feature sets; lower is better.

    Warns when a set has no more images than dimensions: the bias is large then, and differs by
    generator.

    Args:
        real: Real features `(n, d)`.
        synthetic: Synthetic features `(m, d)`.

    Raises:
        XraysynthError: If the sets are not comparable.

    >>> x = np.random.default_rng(0).normal(size=(50, 3))
    >>> round(frechet_distance(real=x, synthetic=x + [3, 4, 0]), 9)
    25.0
    """
    real, synthetic = require_comparable_features(real, synthetic)
    n, d = min(len(real), len(synthetic)), real.shape[1]
    if n <= d:
        warnings.warn(
            f"the Frechet distance of {n} images in {d} dimensions is biased; compare it only with "
            "the real-vs-real baseline at the same N",
            stacklevel=2,
        )
    return frechet_from_moments(Moments.from_features(real), Moments.from_features(synthetic))


def frechet_infinity(
    *, real: np.ndarray, synthetic: np.ndarray, points: int = 15, draws: int = 20, seed: int = 0
) -> Interval:
    """Compute the Frechet distance extrapolated to infinitely many images; lower is better.

    It may be negative. The value is the mean over `draws` of `extrapolate_frechet`, each from its own
    random subsets, and the interval is their central 95 %: the spread due to the images in a subset.

    Args:
        real: Real features `(n, d)`.
        synthetic: Synthetic features `(m, d)`.
        points: Number of sizes that the line is fitted to.
        draws: Number of extrapolations.
        seed: Seed of the subsets.

    Raises:
        XraysynthError: If the sets are not comparable or too small.
    """
    real, synthetic = require_comparable_features(real, synthetic)
    rng = np.random.default_rng(seed)
    distances = np.zeros(draws)
    for draw in range(draws):
        distances[draw] = extrapolate_frechet(real, synthetic, rng, points=points)
    return percentile_interval(distances.mean(), distances, n=min(len(real), len(synthetic)))


def extrapolate_frechet(
    real: np.ndarray, synthetic: np.ndarray, rng: np.random.Generator, *, points: int = 15
) -> float:
    """Compute the intercept of a line through Frechet distances at several sizes N, over 1/N.

    The bias of a Frechet distance is linear in 1/N where N is large against d (Chong & Forsyth,
    arXiv:1911.07023). Their reference set is so large that its bias can be neglected; here both sets
    are small, so that both shrink together, and two samples of one distribution come out around 0.

    Args:
        real: Real features `(n, d)`.
        synthetic: Synthetic features `(m, d)`.
        rng: Draws the subsets.
        points: Number of sizes, which run evenly from a tenth of the smaller set, at least 2 images,
            to all of it.

    Raises:
        XraysynthError: If there are too few images or points for two different sizes.
    """
    n = min(len(real), len(synthetic))
    sizes = np.unique(np.linspace(max(n // 10, 2), n, points).astype(int))
    if len(sizes) < 2:
        raise XraysynthError(
            f"extrapolated Frechet distance: {n} images and points={points} leave one size; a line "
            "needs at least 3 images on each side and 2 points"
        )
    distances = []
    for size in sizes:
        real_subset = Moments.from_features(_random_subset(real, size, rng))
        synthetic_subset = Moments.from_features(_random_subset(synthetic, size, rng))
        distances.append(frechet_from_moments(real_subset, synthetic_subset))
    _, intercept = np.polyfit(1 / sizes, distances, 1)
    return float(intercept)


def _random_subset(features: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    return features[rng.permutation(len(features))[:size]]


def mifd(*, train: np.ndarray, synthetic: np.ndarray) -> float:
    """Compute the memorisation-informed Frechet distance to the training images; lower is better.

    Frechet distance / memorisation distance (Bai et al., arXiv:2106.03062): a set that copies has a
    small denominator and so a large distance. torchmetrics exchanges the two sets, and does not
    penalise copies of a few training images; give it the training images as fake to get this value.

    Args:
        train: Training features `(n, d)`.
        synthetic: Synthetic features `(m, d)`.

    Raises:
        XraysynthError: If the sets are not comparable.
    """
    train, synthetic = require_comparable_features(train, synthetic)
    distance = frechet_from_moments(Moments.from_features(train), Moments.from_features(synthetic))
    memorisation = memorisation_distance(train=train, synthetic=synthetic)
    return memorisation_informed_distance(distance, memorisation)


def memorisation_informed_distance(distance: float, memorisation: float) -> float:
    """Divide a Frechet `distance` by a memorisation distance; 0 where `distance` is at most 1e-8."""
    return distance / (memorisation + 1e-14) if distance > 1e-8 else 0.0


def memorisation_distance(*, train: np.ndarray, synthetic: np.ndarray) -> float:
    """Compute the mean over synthetic images of 1 - |cos| to the nearest training image.

    Low means copies; a mean of 0.1 or more counts as 1. The direction matters: if training images
    looked for their nearest synthetic image, copies of a few of them would go unnoticed, and any large
    set would look like copies. Images whose features sum to 0 are left out, as in torchmetrics.

    Args:
        train: Training features `(n, d)`.
        synthetic: Synthetic features `(m, d)`.

    >>> train = np.eye(4)
    >>> memorisation_distance(train=train, synthetic=2 * train[:1])
    0.0
    >>> memorisation_distance(train=train[:1], synthetic=train)
    1.0
    """
    x = unit_vectors(train[train.sum(1) != 0])
    y = unit_vectors(synthetic[synthetic.sum(1) != 0])
    cosines = [np.abs(y[rows] @ x.T).max(1) for rows in row_blocks(len(y), len(x))]
    distance = float((1 - np.concatenate(cosines)).mean())
    return distance if distance < MIFD_EPSILON else 1.0


def unit_vectors(features: np.ndarray) -> np.ndarray:
    """Scale each row of features `(n, d)` to length 1; rows of length 0 stay 0."""
    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    scaled: np.ndarray = features / np.where(lengths > 0, lengths, 1)
    return scaled


def row_blocks(rows: int, width: int) -> Iterator[slice]:
    """Yield slices of `rows` rows such that a block of `width` float64 columns stays below 128 MiB."""
    size = max(1, _BLOCK_BYTES // (8 * max(width, 1)))
    for start in range(0, rows, size):
        yield slice(start, start + size)


def require_comparable_features(
    real: np.ndarray, synthetic: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return both feature sets as float64.

    Raises:
        XraysynthError: If the sets are not `(n, d)` and `(m, d)` with at least 2 images each, or if a
            value is not finite.
    """
    real, synthetic = np.asarray(real, np.float64), np.asarray(synthetic, np.float64)
    are_matrices = real.ndim == synthetic.ndim == 2
    if (
        not are_matrices
        or min(len(real), len(synthetic)) < 2
        or real.shape[1] != synthetic.shape[1]
    ):
        raise XraysynthError(
            f"features have shapes {real.shape} (real) and {synthetic.shape} (synthetic), but both must "
            "be (images, dimensions) of the same encoder, with at least 2 images"
        )
    if not (np.isfinite(real).all() and np.isfinite(synthetic).all()):
        raise XraysynthError("features hold NaN or infinity; check the encoder's weights")
    return real, synthetic
