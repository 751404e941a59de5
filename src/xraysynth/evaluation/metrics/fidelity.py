"""How close a set of synthetic images lies to real ones in the feature space of an encoder.

All distances depend on the number of images: they are reported at equal N on all sides, beside the
distance between two halves of the real images (the floor), and never averaged over shards.
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
    """What a Frechet distance is called: FID is the name for FID's own Inception alone.

    >>> fd_name("inception"), fd_name("classifier")
    ('FID', 'FD(classifier)')
    """
    return "FID" if encoder == "inception" else f"FD({encoder})"


def fd_infinity_name(encoder: str) -> str:
    """What an extrapolated Frechet distance is called, likewise: FID∞, otherwise FD∞(<encoder>)."""
    return "FID∞" if encoder == "inception" else f"FD∞({encoder})"


def mifd_name(encoder: str) -> str:
    """MiFID is the name for FID's own Inception alone, otherwise MiFD(<encoder>)."""
    return "MiFID" if encoder == "inception" else f"MiFD({encoder})"


@dataclass(frozen=True)
class Moments:
    """Mean `(d,)` and covariance of a feature set, in float64, computed once and used again.

    The covariance (ddof 1) is kept as a `root` `(r, d)` with root' root = covariance, where r <= d.
    """

    mean: np.ndarray
    covariance_root: np.ndarray
    n: int

    @classmethod
    def from_features(cls, features: np.ndarray) -> "Moments":
        """The moments of features `(n, d)`, n >= 2.

        Up to d images the centred rows are themselves a root. Beyond, it is the Cholesky factor of
        the covariance, summed in blocks, or where that is singular its eigenvectors, scaled.
        """
        values = np.asarray(features, np.float64)
        (n, d), mean = values.shape, values.mean(0)
        if n <= d:
            return cls(mean, (values - mean) / np.sqrt(n - 1), n)
        covariance = np.zeros((d, d))
        for rows in row_blocks(n, d):
            centred = values[rows] - mean
            covariance += centred.T @ centred
        return cls(mean, _covariance_root(covariance / (n - 1)), n)

    @property
    def variance(self) -> float:
        """Total variance, the trace of the covariance."""
        return float(np.vdot(self.covariance_root, self.covariance_root))


def _covariance_root(covariance: np.ndarray) -> np.ndarray:
    try:
        return np.ascontiguousarray(np.linalg.cholesky(covariance).T)
    except np.linalg.LinAlgError:
        values, vectors = np.linalg.eigh(covariance)
        root: np.ndarray = np.sqrt(values.clip(0))[:, None] * vectors.T
        return root[values > 0]


def frechet_from_moments(real: Moments, synthetic: Moments) -> float:
    """Frechet distance of two Gaussians; symmetric, lower is better.

    |mx - my|^2 + tr(Sx + Sy) - 2 tr((Sx Sy)^1/2) (Heusel et al., arXiv:1706.08500, eq. 6). With
    Sx = A'A and Sy = B'B, the roots of the eigenvalues of Sx Sy are the singular values of AB',
    which are real, not squared in between, and need no d x d root.
    """
    shift = real.mean - synthetic.mean
    cross = np.linalg.svd(
        real.covariance_root @ synthetic.covariance_root.T, compute_uv=False
    ).sum()
    return float(max(shift @ shift + real.variance + synthetic.variance - 2 * cross, 0.0))


def frechet_distance(*, real: np.ndarray, synthetic: np.ndarray) -> float:
    """Frechet distance of Gaussians fitted to features `(n, d)` and `(m, d)`; lower is better.

    Warns when a side has no more images than dimensions: the bias is large then, and differs by
    generator.

    >>> x = np.random.default_rng(0).normal(size=(50, 3))
    >>> round(frechet_distance(real=x, synthetic=x + [3, 4, 0]), 9)
    25.0
    """
    real, synthetic = require_comparable_features(real, synthetic)
    if (n := min(len(real), len(synthetic))) <= real.shape[1]:
        warnings.warn(
            f"Frechet distance of {n} images in {real.shape[1]} dimensions is biased; read it only "
            "beside the real-real floor at the same N",
            stacklevel=2,
        )
    return frechet_from_moments(Moments.from_features(real), Moments.from_features(synthetic))


def frechet_infinity(
    *, real: np.ndarray, synthetic: np.ndarray, points: int = 15, draws: int = 20, seed: int = 0
) -> Interval:
    """Frechet distance extrapolated to infinitely many images; lower is better, may be negative.

    The mean over `draws` of `extrapolate_frechet`, each from its own random subsets, and their central
    95 %: the spread due to which images are in a subset.
    """
    real, synthetic = require_comparable_features(real, synthetic)
    rng = np.random.default_rng(seed)
    found = np.array(
        [extrapolate_frechet(real, synthetic, rng, points=points) for _ in range(draws)]
    )
    return percentile_interval(found.mean(), found, n=min(len(real), len(synthetic)))


def extrapolate_frechet(
    real: np.ndarray, synthetic: np.ndarray, rng: np.random.Generator, *, points: int = 15
) -> float:
    """Intercept of a line through Frechet distances at `points` sizes N, over 1/N.

    The bias of a Frechet distance is linear in 1/N where N is large against d (Chong & Forsyth,
    arXiv:1911.07023). Sizes run evenly from n/10, at least 2, to n, the smaller side's number of
    images. Their reference is so large that its own bias may be left; here both sides are small, so
    both shrink together, and two samples of one distribution come out around 0.
    """
    n = min(len(real), len(synthetic))
    sizes = np.unique(np.linspace(max(n // 10, 2), n, points).astype(int))
    if len(sizes) < 2:
        raise XraysynthError(
            f"extrapolated Frechet distance: {n} images and points={points} leave one size; a line "
            "needs at least 3 images a side and 2 points"
        )
    distances = [
        frechet_from_moments(
            *(
                Moments.from_features(side[rng.permutation(len(side))[:size]])
                for side in (real, synthetic)
            )
        )
        for size in sizes
    ]
    return float(np.polyfit(1 / sizes, distances, 1)[1])


def mifd(*, train: np.ndarray, synthetic: np.ndarray) -> float:
    """Memorisation-informed Frechet distance to the training images; lower is better.

    Frechet distance / memorisation distance (Bai et al., arXiv:2106.03062): a set that copies has a
    small denominator and is punished. torchmetrics defines it with the sides exchanged, where a set
    of copies of a few training images is not; give it the training images as fake to get this value.
    """
    train, synthetic = require_comparable_features(train, synthetic)
    distance = frechet_from_moments(Moments.from_features(train), Moments.from_features(synthetic))
    return memorisation_informed_distance(
        distance, memorisation_distance(train=train, synthetic=synthetic)
    )


def memorisation_informed_distance(distance: float, memorisation: float) -> float:
    """A Frechet `distance` over a memorisation distance; 0 where the former is at most 1e-8."""
    return distance / (memorisation + 1e-14) if distance > 1e-8 else 0.0


def memorisation_distance(*, train: np.ndarray, synthetic: np.ndarray) -> float:
    """Mean over synthetic images of 1 - |cos| to the nearest training one; 1 where it is >= 0.1.

    The direction matters: were training images to look for their nearest synthetic one, a set of
    copies of a few of them would not be seen, and any large set would look like copies. Images whose
    features sum to 0 are left out, as torchmetrics does.

    >>> train = np.eye(4)
    >>> memorisation_distance(train=train, synthetic=2 * train[:1])
    0.0
    >>> memorisation_distance(train=train[:1], synthetic=train)
    1.0
    """
    x, y = (unit_vectors(side[side.sum(1) != 0]) for side in (train, synthetic))
    nearest = [np.abs(y[rows] @ x.T).max(1) for rows in row_blocks(len(y), len(x))]
    found = float((1 - np.concatenate(nearest)).mean())
    return found if found < MIFD_EPSILON else 1.0


def unit_vectors(features: np.ndarray) -> np.ndarray:
    """Features `(n, d)` scaled to length 1; those of length 0 stay 0."""
    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    scaled: np.ndarray = features / np.where(lengths > 0, lengths, 1)
    return scaled


def row_blocks(rows: int, width: int) -> Iterator[slice]:
    """Slices of `rows` such that a block of `width` float64 columns stays below 128 MB."""
    size = max(1, _BLOCK_BYTES // (8 * max(width, 1)))
    return (slice(at, at + size) for at in range(0, rows, size))


def require_comparable_features(
    real: np.ndarray, synthetic: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Both feature sets as float64, once they are known to be comparable and finite."""
    sides = np.asarray(real, np.float64), np.asarray(synthetic, np.float64)
    shapes = [side.shape for side in sides]
    if any(len(shape) != 2 or shape[0] < 2 for shape in shapes) or shapes[0][1] != shapes[1][1]:
        raise XraysynthError(
            f"features of shape {shapes[0]} (real) and {shapes[1]} (synthetic): both must be "
            "(images, dimensions) of the same encoder, with at least 2 images"
        )
    if not all(np.isfinite(side).all() for side in sides):
        raise XraysynthError("features hold NaN or infinity; check the encoder's weights")
    return sides
