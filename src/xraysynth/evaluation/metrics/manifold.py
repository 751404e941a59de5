"""Precision, recall, density and coverage: how far two sets lie within each other's manifold.

A manifold is the union of balls around the images of a set, each reaching to its image's k-th
neighbour within the set. Whether a ball holds its own rim matters where images repeat: with k + 1
exact duplicates the radius is 0, and a further duplicate lies inside by `<=` but outside by `<`.
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
    """The four scores; higher is better, and density alone may exceed 1."""

    precision: float
    recall: float
    density: float
    coverage: float


@dataclass(frozen=True)
class Balls:
    """Balls around all images of one set; `radii` is `(n, 1)` for real, `(1, m)` for synthetic ones.

    An image at distance d lies inside if d < radius where `strict`, otherwise if d <= radius.
    """

    radii: np.ndarray
    strict: bool

    @cached_property
    def squared_radii(self) -> np.ndarray:
        """The squared radii in single precision, whose rounding the bounds have room for."""
        return (self.radii**2).astype(np.float32)


@dataclass
class BallHits:
    """Which real `(n,)` and synthetic `(m,)` images are in a ball-and-inside pair, and all pairs."""

    real: np.ndarray
    synthetic: np.ndarray
    n_pairs: int = 0


def precision_recall(*, real: np.ndarray, synthetic: np.ndarray, k: int = 3) -> tuple[float, float]:
    """Improved precision and recall of features `(n, d)` and `(m, d)`, in [0, 1]; higher is better.

    Precision is the share of synthetic images with d <= the radius of any real ball, recall the
    share of real ones with d <= the radius of any synthetic ball (Kynkäänniemi et al.,
    arXiv:1904.06991, eq. 1 and 2).

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
    """Density, at least 0, and coverage, in [0, 1], of features `(n, d)` and `(m, d)`.

    Density is the number of real balls with d < radius around a synthetic image, over k, on average;
    near 1 for two samples of one distribution and not bounded by it. Coverage is the share of real
    balls with a synthetic image at d < radius (Naeem et al., arXiv:2002.09797, eq. 3 and 4). Higher
    is better.

    >>> x = np.arange(8.0)[:, None]
    >>> density_coverage(real=x, synthetic=x[:4] + 0.1, k=2)
    (1.125, 0.625)
    """
    real, synthetic = require_finite_features(real, synthetic)
    (found,) = find_hits(
        real, synthetic, [Balls(kth_neighbour_distances(real, k=k)[:, None], strict=True)]
    )
    return found.n_pairs / (k * len(synthetic)), float(found.real.mean())


def compute_manifold_scores(
    *,
    real: np.ndarray,
    synthetic: np.ndarray,
    k_pr: int = 3,
    k_dc: int = 5,
    memory_bytes: int = MEMORY_BYTES,
) -> ManifoldScores:
    """`precision_recall` and `density_coverage` at once, with each distance worked out only once."""
    real, synthetic = require_finite_features(real, synthetic)
    within = partial(nearest_neighbours, exclude_self=True, memory_bytes=memory_bytes)
    to_own = within(real, real, k=max(k_pr, k_dc))[0]
    balls = [
        Balls(to_own[:, k_pr - 1, None], strict=False),
        Balls(within(synthetic, synthetic, k=k_pr)[0][None, :, -1], strict=False),
        Balls(to_own[:, k_dc - 1, None], strict=True),
    ]
    precision, recall, dense = find_hits(real, synthetic, balls, memory_bytes)
    return ManifoldScores(
        precision=float(precision.synthetic.mean()),
        recall=float(recall.real.mean()),
        density=dense.n_pairs / (k_dc * len(synthetic)),
        coverage=float(dense.real.mean()),
    )


def find_hits(
    real: np.ndarray,
    synthetic: np.ndarray,
    balls: list[Balls],
    memory_bytes: int = MEMORY_BYTES,
) -> list[BallHits]:
    """What each set of balls holds, all from one pass over the distances."""
    found = [BallHits(np.zeros(len(real), bool), np.zeros(len(synthetic), bool)) for _ in balls]
    for block in iterate_distance_bounds(real, synthetic, memory_bytes=memory_bytes):
        for ball, held in zip(balls, found, strict=True):
            inside = _is_inside_ball(real, synthetic, ball, block)
            held.real[block.rows] |= inside.any(1)
            held.synthetic[block.columns] |= inside.any(0)
            held.n_pairs += int(np.count_nonzero(inside))
    return found


def _is_inside_ball(
    real: np.ndarray, synthetic: np.ndarray, balls: Balls, block: DistanceBounds
) -> np.ndarray:
    """Which pairs of a block are of a ball and an image inside it, `(q, r)` bool.

    The bounds decide all pairs but those near a rim, whose distances are worked out exactly.
    """
    shape, place = (len(real), len(synthetic)), (block.rows, block.columns)
    reach = np.broadcast_to(balls.radii, shape)[place]
    inside: np.ndarray = block.lower <= np.broadcast_to(balls.squared_radii, shape)[place]
    rows, columns = np.nonzero(inside)
    reach = reach[rows, columns]
    upper = block.lower[rows, columns] + block.row_slack[rows] + block.column_slack[columns]
    rim = upper >= reach**2
    rows, columns, reach = rows[rim], columns[rim], reach[rim]
    exact = paired_distances(real[block.rows], rows, synthetic[block.columns], columns)
    inside[rows, columns] = exact < reach if balls.strict else exact <= reach
    return inside
