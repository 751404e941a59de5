"""How close a set of synthetic images lies to real ones in the feature space of an encoder.

Both distances depend on the number of images: they are reported at equal N on all sides, beside the
distance between two halves of the real images (the floor), and never averaged over shards.
"""

import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from xraysynth.errors import XraysynthError
from xraysynth.metrics.features import Features, require_same
from xraysynth.metrics.statistics import Interval, interval
from xraysynth.seeds import derive_seed


def fd_name(encoder: str) -> str:
    """What a Frechet distance is called: FID is the name for FID's own Inception alone.

    >>> fd_name("inception"), fd_name("classifier")
    ('FID', 'FD(classifier)')
    """
    return "FID" if encoder == "inception" else f"FD({encoder})"


def kd_name(encoder: str) -> str:
    """What a kernel distance is called, likewise: KID, otherwise KD(<encoder>)."""
    return "KID" if encoder == "inception" else f"KD({encoder})"


def frechet_distance(*, real: np.ndarray, synthetic: np.ndarray) -> float:
    """Frechet distance of Gaussians fitted to features `(n, d)` and `(m, d)`; lower is better.

    |mx - my|^2 + tr(Sx + Sy) - 2 tr((Sx Sy)^1/2), covariances with ddof 1, in float64
    (Heusel et al., arXiv:1706.08500, eq. 6). With Sx = A'A and Sy = B'B, the roots of the
    eigenvalues of Sx Sy are the singular values of AB', which are real and need no d x d root.
    Warns when a side has no more images than dimensions: the bias is large then, and differs by
    generator.

    >>> x = np.random.default_rng(0).normal(size=(50, 3))
    >>> round(frechet_distance(real=x, synthetic=x + [3, 4, 0]), 9)
    25.0
    """
    real, synthetic = _two_sides(real, synthetic)
    if (n := min(len(real), len(synthetic))) <= real.shape[1]:
        warnings.warn(
            f"Frechet distance of {n} images in {real.shape[1]} dimensions is biased; read it only "
            "beside the real-real floor at the same N",
            stacklevel=2,
        )
    return _frechet(real, synthetic)


def _frechet(real: np.ndarray, synthetic: np.ndarray) -> float:
    shift = real.mean(0) - synthetic.mean(0)
    a, b = _root(real), _root(synthetic)
    cross = np.linalg.svd(a @ b.T, compute_uv=False).sum()
    return float(max(shift @ shift + np.sum(a**2) + np.sum(b**2) - 2 * cross, 0.0))


def _root(features: np.ndarray) -> np.ndarray:
    """A `(min(n, d), d)` with A'A = covariance."""
    centred: np.ndarray = (features - features.mean(0)) / np.sqrt(len(features) - 1)
    if len(centred) <= centred.shape[1]:
        return centred
    return np.asarray(np.linalg.qr(centred, mode="r"))


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
    """Kernel (inception) distance of features `(n, d)` and `(m, d)`; lower is better.

    Unbiased squared MMD with k(x, y) = (x.y / d + 1)^3 over random subsets (Binkowski et al.,
    arXiv:1801.01401). May be negative, which is not clipped. `subset_size` defaults to the smaller
    of 1000 and half the smaller side; as large as a side it is refused, for then every subset is
    the same and the standard deviation a meaningless 0.
    """
    real, synthetic = _two_sides(real, synthetic)
    n = min(len(real), len(synthetic))
    size = min(1000, n // 2) if subset_size is None else subset_size
    if not 2 <= size < n or subsets < 1:
        raise XraysynthError(
            f"kernel distance: subset_size={size}, subsets={subsets}: subset_size must be at "
            f"least 2 and smaller than both sets ({len(real)} real, {len(synthetic)} synthetic)"
        )
    rng = np.random.default_rng(seed)
    values = [
        _mmd2(
            real[rng.choice(len(real), size, replace=False)],
            synthetic[rng.choice(len(synthetic), size, replace=False)],
        )
        for _ in range(subsets)
    ]
    return KernelDistance(float(np.mean(values)), float(np.std(values)), subsets, size)


def _mmd2(x: np.ndarray, y: np.ndarray) -> float:
    n = len(x)
    xx, yy, xy = ((a @ b.T / x.shape[1] + 1) ** 3 for a, b in ((x, x), (y, y), (x, y)))
    within = xx.sum() - np.trace(xx) + yy.sum() - np.trace(yy)
    return float(within / (n * (n - 1)) - 2 * xy.sum() / n**2)


@dataclass(frozen=True)
class Fidelity:
    """Distances of synthetic from real images and of real from other real images (the floor).

    All at the same number of images a side, `n` of each interval. `excess` and `kernel_excess` are
    distance minus floor, paired: an interval around 0 means no difference from real images shown.
    `few_images` says that n is at most the number of `dimensions`.
    """

    name: str
    kernel_name: str
    distance: Interval
    floor: Interval
    excess: Interval
    kernel: Interval
    kernel_floor: Interval
    kernel_excess: Interval
    dimensions: int
    few_images: bool


def fidelity(
    *, real: Features, synthetic: Features, patients: ArrayLike, splits: int = 20, seed: int = 0
) -> Fidelity:
    """Frechet and kernel distance at matched N, each beside its real-real floor.

    The real images are split at random by patient into a reference and a floor half, `splits`
    times. In each split the floor half and as many synthetic images, drawn without replacement, are
    measured against the same reference half, all cut to one size n. Values are means over the
    splits and intervals their central 95 %: the spread due to which images are compared. They are
    not bootstrap intervals, as drawing with replacement repeats images and so raises a Frechet
    distance. Both sets should have the same class mix, and `real` must hold nothing that the
    generator was trained on.
    """
    require_same(real, synthetic)
    x, y = _two_sides(real.values, synthetic.values)
    halves = _halves(patients, len(x), splits, seed)
    n = int(min(halves.sum(1).min(), (~halves).sum(1).min(), len(y)))
    if n < 2:
        raise XraysynthError(
            f"fidelity of {len(x)} real and {len(y)} synthetic images: two halves of the real "
            f"patients leave {n} images a side, 2 are needed; take more images"
        )
    rng = np.random.default_rng(derive_seed(seed, "drawn"))
    measured = [_measure(_matched(half, x, y, n, rng)) for half in halves]
    fd, fd_floor, kd, kd_floor = np.array(measured).T
    return Fidelity(
        name=fd_name(real.encoder),
        kernel_name=kd_name(real.encoder),
        distance=interval(fd.mean(), fd, n=n),
        floor=interval(fd_floor.mean(), fd_floor, n=n),
        excess=interval((fd - fd_floor).mean(), fd - fd_floor, n=n),
        kernel=interval(kd.mean(), kd, n=n),
        kernel_floor=interval(kd_floor.mean(), kd_floor, n=n),
        kernel_excess=interval((kd - kd_floor).mean(), kd - kd_floor, n=n),
        dimensions=x.shape[1],
        few_images=n <= x.shape[1],
    )


def _halves(patients: ArrayLike, n_images: int, splits: int, seed: int) -> np.ndarray:
    """Which images are in the reference half of each split, `(splits, N)` bool, by patient."""
    names, patient = np.unique(np.asarray(patients).astype(str), return_inverse=True)
    if len(patient) != n_images or len(names) < 2 or splits < 2:
        raise XraysynthError(
            f"fidelity: needs one patient id for each of the {n_images} real images, at least 2 "
            f"patients and 2 splits; got {len(patient)} ids, {len(names)} patients, {splits} splits"
        )
    rng = np.random.default_rng(derive_seed(seed, "halves"))
    return np.stack([_half(np.bincount(patient), rng)[patient] for _ in range(splits)])


def _half(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Patients of one half, `(P,)` bool: each goes to the smaller half, those with most first."""
    order = rng.permutation(len(images))
    held = [0, 0]
    side = np.full(len(images), rng.integers(2))
    for patient in order[np.argsort(-images[order], kind="stable")]:
        if held[0] != held[1]:
            side[patient] = int(held[1] < held[0])
        held[side[patient]] += images[patient]
    return np.equal(side, 1)


def _matched(
    half: np.ndarray, x: np.ndarray, y: np.ndarray, n: int, rng: np.random.Generator
) -> list[np.ndarray]:
    """Reference, floor and synthetic features, `(n, d)` each."""
    return [rows[rng.choice(len(rows), n, replace=False)] for rows in (x[half], x[~half], y)]


def _measure(sides: list[np.ndarray]) -> list[float]:
    reference, floor, drawn = sides
    distances = [_frechet(reference, drawn), _frechet(reference, floor)]
    return [*distances, _mmd2(reference, drawn), _mmd2(reference, floor)]


def _two_sides(real: np.ndarray, synthetic: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
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
