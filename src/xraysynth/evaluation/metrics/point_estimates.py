"""Two whole sets of features compared, without splits: one value of each measure.

Quantities of the real images alone are computed once and used for every synthetic set.
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
"""The neighbour that a manifold's balls reach to: for precision and recall, for density and coverage."""


@dataclass(frozen=True)
class RealReference:
    """Quantities of a set of n real images that every comparison with it needs, computed once.

    Attributes:
        features: The real features.
        moments: Their mean and covariance.
        neighbour_distances: Distances `(n, 5)` of each image to its nearest other images, ascending.
        mean_kernel: Mean of the polynomial kernel over pairs of different images.
    """

    features: Features
    moments: Moments
    neighbour_distances: np.ndarray
    mean_kernel: float

    @classmethod
    def from_features(cls, features: Features) -> "RealReference":
        """Compute all quantities of at least 6 real images."""
        values = _require_enough_images(features)
        distances, _ = nearest_neighbours(values, values, k=K_DENSITY, exclude_self=True)
        moments = Moments.from_features(values)
        return cls(features, moments, distances, mean_polynomial_kernel(values))


def compute_point_estimates(
    *, real: Features | RealReference, synthetic: Features
) -> dict[str, float]:
    """Compute FD, KD, precision, recall, density and coverage of two whole sets, by name.

    KD is the unbiased squared MMD of all images, the expectation of a KID over its subsets. No value
    depends on the order of the images.

    Args:
        real: Real features, or their `RealReference`, which may be used for several synthetic sets.
        synthetic: Synthetic features of the same encoder.

    Raises:
        XraysynthError: If the encoders differ, or if a set has fewer than 6 images.
    """
    real = real if isinstance(real, RealReference) else RealReference.from_features(real)
    require_same_encoder(real.features, synthetic)
    x, y = require_comparable_features(real.features.values, _require_enough_images(synthetic))
    frechet = frechet_from_moments(real.moments, Moments.from_features(y))
    kernel = real.mean_kernel + mean_polynomial_kernel(y) - 2 * mean_polynomial_kernel(x, y)
    return {
        fd_name(synthetic.encoder): frechet,
        kd_name(synthetic.encoder): kernel,
        **_manifold_scores(x, y, real.neighbour_distances),
    }


def _manifold_scores(
    x: np.ndarray, y: np.ndarray, neighbour_distances: np.ndarray
) -> dict[str, float]:
    """Compute the four manifold scores; `neighbour_distances` are those of the real images `x`."""
    balls = [
        Balls(neighbour_distances[:, K_PRECISION - 1, None], strict=False),
        Balls(kth_neighbour_distances(y, k=K_PRECISION)[None], strict=False),
        Balls(neighbour_distances[:, K_DENSITY - 1, None], strict=True),
    ]
    precision, recall, density = find_hits(x, y, balls)
    return {
        "precision": float(precision.synthetic.mean()),
        "recall": float(recall.real.mean()),
        "density": density.n_pairs / (K_DENSITY * len(y)),
        "coverage": float(density.real.mean()),
    }


def _require_enough_images(features: Features) -> np.ndarray:
    values = np.asarray(features.values, np.float64)
    if values.ndim != 2 or len(values) <= K_DENSITY:
        raise XraysynthError(
            f"features have shape {values.shape}, but must be (images, dimensions) of at least "
            f"{K_DENSITY + 1} images, because the {K_DENSITY}th neighbour of each image is needed"
        )
    return values
