"""Two whole sets of features compared, without splits: one value of each measure.

What depends on the real images alone is worked out once and used for every synthetic set.
"""

from dataclasses import dataclass

import numpy as np

from xraysynth.errors import XraysynthError
from xraysynth.evaluation.metrics.features import Features, require_same_encoder
from xraysynth.evaluation.metrics.fidelity import (
    Moments,
    fd_name,
    frechet_from_moments,
    require_comparable_features,
)
from xraysynth.evaluation.metrics.kernel_distances import kd_name, mean_polynomial_kernel
from xraysynth.evaluation.metrics.manifold import Balls, find_hits
from xraysynth.evaluation.metrics.neighbours import kth_neighbour_distances, nearest_neighbours

K_PRECISION, K_DENSITY = 3, 5


@dataclass(frozen=True)
class RealReference:
    """What every comparison with one set of real images needs of it, worked out once.

    `neighbours` `(n, 5)` are distances to the nearest other real images, `affinity` the mean of the
    kernel over pairs of different images.
    """

    features: Features
    moments: Moments
    neighbour_distances: np.ndarray
    mean_kernel: float

    @classmethod
    def from_features(cls, features: Features) -> "RealReference":
        """The real side of at least 6 images."""
        values = _require_enough_images(features)
        neighbours = nearest_neighbours(values, values, k=K_DENSITY, exclude_self=True)[0]
        return cls(
            features, Moments.from_features(values), neighbours, mean_polynomial_kernel(values)
        )


def compute_point_estimates(
    *, real: Features | RealReference, synthetic: Features
) -> dict[str, float]:
    """FD, KD, precision, recall, density and coverage of two whole sets, by name.

    KD is the unbiased squared MMD of all images, what a KID is on average over its subsets. No value
    depends on the order of the images. A `RealReference` is used again for another synthetic set.
    """
    real = real if isinstance(real, RealReference) else RealReference.from_features(real)
    require_same_encoder(real.features, synthetic)
    x, y = require_comparable_features(real.features.values, _require_enough_images(synthetic))
    return {
        fd_name(synthetic.encoder): frechet_from_moments(real.moments, Moments.from_features(y)),
        kd_name(synthetic.encoder): real.mean_kernel
        + mean_polynomial_kernel(y)
        - 2 * mean_polynomial_kernel(x, y),
        **_manifold_scores(x, y, real.neighbour_distances),
    }


def _manifold_scores(
    x: np.ndarray, y: np.ndarray, neighbour_distances: np.ndarray
) -> dict[str, float]:
    balls = [
        Balls(neighbour_distances[:, K_PRECISION - 1, None], strict=False),
        Balls(kth_neighbour_distances(y, k=K_PRECISION)[None], strict=False),
        Balls(neighbour_distances[:, K_DENSITY - 1, None], strict=True),
    ]
    precision, recall, dense = find_hits(x, y, balls)
    return {
        "precision": float(precision.synthetic.mean()),
        "recall": float(recall.real.mean()),
        "density": dense.n_pairs / (K_DENSITY * len(y)),
        "coverage": float(dense.real.mean()),
    }


def _require_enough_images(features: Features) -> np.ndarray:
    values = np.asarray(features.values, np.float64)
    if values.ndim != 2 or len(values) <= K_DENSITY:
        raise XraysynthError(
            f"features of shape {values.shape}: must be (images, dimensions) of at least "
            f"{K_DENSITY + 1} images, as the {K_DENSITY}th neighbour of each is needed"
        )
    return values
