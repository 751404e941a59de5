"""Two whole sets of features compared, without splits: one value of each measure.

What depends on the real images alone is worked out once and used for every synthetic set.
"""

from dataclasses import dataclass

import numpy as np

from xraysynth.errors import XraysynthError
from xraysynth.evaluation.metrics.features import Features, require_same
from xraysynth.evaluation.metrics.fidelity import Moments, fd_name, frechet, two_sides
from xraysynth.evaluation.metrics.kernel_distances import affinity, kd_name
from xraysynth.evaluation.metrics.manifold import Balls, hits
from xraysynth.evaluation.metrics.neighbours import nearest, radii

K_PRECISION, K_DENSITY = 3, 5


@dataclass(frozen=True)
class RealSide:
    """What every comparison with one set of real images needs of it, worked out once.

    `neighbours` `(n, 5)` are distances to the nearest other real images, `affinity` the mean of the
    kernel over pairs of different images.
    """

    features: Features
    moments: Moments
    neighbours: np.ndarray
    affinity: float

    @classmethod
    def of(cls, features: Features) -> "RealSide":
        """The real side of at least 6 images."""
        values = _enough(features)
        neighbours = nearest(values, values, k=K_DENSITY, exclude_self=True)[0]
        return cls(features, Moments.of(values), neighbours, affinity(values))


def point_measures(*, real: Features | RealSide, synthetic: Features) -> dict[str, float]:
    """FD, KD, precision, recall, density and coverage of two whole sets, by name.

    KD is the unbiased squared MMD of all images, what a KID is on average over its subsets. No value
    depends on the order of the images. A `RealSide` is used again for another synthetic set.
    """
    real = real if isinstance(real, RealSide) else RealSide.of(real)
    require_same(real.features, synthetic)
    x, y = two_sides(real.features.values, _enough(synthetic))
    return {
        fd_name(synthetic.encoder): frechet(real.moments, Moments.of(y)),
        kd_name(synthetic.encoder): real.affinity + affinity(y) - 2 * affinity(x, y),
        **_manifold(x, y, real.neighbours),
    }


def _manifold(x: np.ndarray, y: np.ndarray, neighbours: np.ndarray) -> dict[str, float]:
    balls = [
        Balls(neighbours[:, K_PRECISION - 1, None], strict=False),
        Balls(radii(y, k=K_PRECISION)[None], strict=False),
        Balls(neighbours[:, K_DENSITY - 1, None], strict=True),
    ]
    precision, recall, dense = hits(x, y, balls)
    return {
        "precision": float(precision.synthetic.mean()),
        "recall": float(recall.real.mean()),
        "density": dense.pairs / (K_DENSITY * len(y)),
        "coverage": float(dense.real.mean()),
    }


def _enough(features: Features) -> np.ndarray:
    values = np.asarray(features.values, np.float64)
    if values.ndim != 2 or len(values) <= K_DENSITY:
        raise XraysynthError(
            f"features of shape {values.shape}: must be (images, dimensions) of at least "
            f"{K_DENSITY + 1} images, as the {K_DENSITY}th neighbour of each is needed"
        )
    return values
