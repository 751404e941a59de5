"""Precision, recall, density and coverage: how far two sets lie within each other's manifold.

A manifold is the union of balls around the images of a set, each of which reaches to its image's k-th
neighbour within the set. Whether a ball contains its own surface matters where images repeat: with
k + 1 exact duplicates the radius is 0, and a further duplicate lies inside by `<=` but outside by `<`.
Precision and recall follow Kynkäänniemi et al. (k = 3, `<=`), density and coverage Naeem et al.
(k = 5, `<`), each as in its reference implementation.
"""

from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np

from xraysynth.evaluation.metrics.neighbours import (
    MEMORY_BYTES,
    DistanceBounds,
    iterate_distance_bounds,
    kth_neighbour_distances,
    nearest_neighbours,
    paired_distances,
    require_finite_features,
)


@dataclass(frozen=True)
class ManifoldScores:
    """The four scores, at least 0; higher is better, and density alone may exceed 1."""

    precision: float
    recall: float
    density: float
    coverage: float


@dataclass(frozen=True)
class Balls:
    """Balls around all images of one set.

    Attributes:
        radii: Radii `(n, 1)` of balls around n real images, or `(1, m)` around m synthetic ones.
        strict: An image at distance d lies inside if d < radius, otherwise if d <= radius.
    """

    radii: np.ndarray
    strict: bool

    @cached_property
    def squared_radii(self) -> np.ndarray:
        """The squared radii in single precision, for whose rounding the distance bounds leave room."""
        return (self.radii**2).astype(np.float32)


@dataclass
class BallHits:
    """Pairs of a ball around an image of one set and an image of the other set inside it.

    Attributes:
        real: Which real images are in such a pair, as centre or inside, `(n,)` bool.
        synthetic: Which synthetic images are in such a pair, `(m,)` bool.
        n_pairs: Number of pairs.
    """

    real: np.ndarray
    synthetic: np.ndarray
    n_pairs: int = 0


def precision_recall(*, real: np.ndarray, synthetic: np.ndarray, k: int = 3) -> tuple[float, float]:
    """Compute improved precision and recall, in [0, 1]; higher is better.

    Precision is the proportion of synthetic images that lie in a real ball, recall the proportion of
    real images that lie in a synthetic ball, both with d <= radius (Kynkäänniemi et al.,
    arXiv:1904.06991, eq. 1 and 2).

    Args:
        real: Real features `(n, d)`.
        synthetic: Synthetic features `(m, d)`.
        k: The neighbour that a ball reaches to.

    >>> x = np.arange(8.0)[:, None]
    >>> precision_recall(real=x, synthetic=x[:4] + 0.1)
    (1.0, 0.875)
    """
    real, synthetic = require_finite_features(real, synthetic)
    around_real = Balls(kth_neighbour_distances(real, k=k)[:, None], strict=False)
    around_synthetic = Balls(kth_neighbour_distances(synthetic, k=k)[None], strict=False)
    to_real, to_synthetic = find_hits(real, synthetic, [around_real, around_synthetic])
    return float(to_real.synthetic.mean()), float(to_synthetic.real.mean())


def density_coverage(*, real: np.ndarray, synthetic: np.ndarray, k: int = 5) -> tuple[float, float]:
    """Compute density, at least 0, and coverage, in [0, 1]; higher is better.

    Density is the mean number of real balls that contain a synthetic image, over k; it is near 1 for
    two samples of one distribution, and may exceed 1. Coverage is the proportion of real balls that
    contain a synthetic image. Both count with d < radius (Naeem et al., arXiv:2002.09797, eq. 3 and 4).

    Args:
        real: Real features `(n, d)`.
        synthetic: Synthetic features `(m, d)`.
        k: The neighbour that a ball reaches to.

    >>> x = np.arange(8.0)[:, None]
    >>> density_coverage(real=x, synthetic=x[:4] + 0.1, k=2)
    (1.125, 0.625)
    """
    real, synthetic = require_finite_features(real, synthetic)
    around_real = Balls(kth_neighbour_distances(real, k=k)[:, None], strict=True)
    (hits,) = find_hits(real, synthetic, [around_real])
    return hits.n_pairs / (k * len(synthetic)), float(hits.real.mean())


def compute_manifold_scores(
    *,
    real: np.ndarray,
    synthetic: np.ndarray,
    k_pr: int = 3,
    k_dc: int = 5,
    memory_bytes: int = MEMORY_BYTES,
) -> ManifoldScores:
    """Compute `precision_recall` and `density_coverage` at once, and each distance only once.

    Args:
        real: Real features `(n, d)`.
        synthetic: Synthetic features `(m, d)`.
        k_pr: The neighbour that a ball reaches to for precision and recall.
        k_dc: The neighbour that a ball reaches to for density and coverage.
        memory_bytes: Approximate memory beyond the inputs.
    """
    real, synthetic = require_finite_features(real, synthetic)
    neighbours_within = partial(nearest_neighbours, exclude_self=True, memory_bytes=memory_bytes)
    real_distances, _ = neighbours_within(real, real, k=max(k_pr, k_dc))
    synthetic_distances, _ = neighbours_within(synthetic, synthetic, k=k_pr)
    balls = [
        Balls(real_distances[:, k_pr - 1, None], strict=False),
        Balls(synthetic_distances[None, :, -1], strict=False),
        Balls(real_distances[:, k_dc - 1, None], strict=True),
    ]
    precision, recall, density = find_hits(real, synthetic, balls, memory_bytes)
    return ManifoldScores(
        precision=float(precision.synthetic.mean()),
        recall=float(recall.real.mean()),
        density=density.n_pairs / (k_dc * len(synthetic)),
        coverage=float(density.real.mean()),
    )


def find_hits(
    real: np.ndarray,
    synthetic: np.ndarray,
    balls: list[Balls],
    memory_bytes: int = MEMORY_BYTES,
) -> list[BallHits]:
    """Find the images inside each set of balls, in one pass over the distances."""
    hits = [BallHits(np.zeros(len(real), bool), np.zeros(len(synthetic), bool)) for _ in balls]
    for block in iterate_distance_bounds(real, synthetic, memory_bytes=memory_bytes):
        for ball_set, ball_hits in zip(balls, hits, strict=True):
            inside = _is_inside_ball(real, synthetic, ball_set, block)
            ball_hits.real[block.rows] |= inside.any(1)
            ball_hits.synthetic[block.columns] |= inside.any(0)
            ball_hits.n_pairs += int(np.count_nonzero(inside))
    return hits


def _is_inside_ball(
    real: np.ndarray, synthetic: np.ndarray, balls: Balls, block: DistanceBounds
) -> np.ndarray:
    """Return which pairs of a block `(q, r)` are of a ball and an image inside it, bool.

    The bounds decide all pairs but those near a ball's surface, whose distances are computed exactly.
    """
    shape, block_index = (len(real), len(synthetic)), (block.rows, block.columns)
    radii = np.broadcast_to(balls.radii, shape)[block_index]
    inside: np.ndarray = block.lower <= np.broadcast_to(balls.squared_radii, shape)[block_index]
    rows, columns = np.nonzero(inside)
    radii = radii[rows, columns]
    upper = block.lower[rows, columns] + block.row_slack[rows] + block.column_slack[columns]
    near_surface = upper >= radii**2
    rows, columns, radii = rows[near_surface], columns[near_surface], radii[near_surface]
    exact = paired_distances(real[block.rows], rows, synthetic[block.columns], columns)
    inside[rows, columns] = exact < radii if balls.strict else exact <= radii
    return inside
