"""Estimates how far readers differ from one another, from two to a few of them.

The spread s between readers has a weak prior, half a t distribution with 4 degrees of freedom, as
recommended for spreads between few groups (Gelman 2006; Roever et al. 2021). Its scale is a judgement:
readers differ by a few tenths of d'. A flat prior, or Student's t with J - 1 = 1 degree of freedom, makes
the intervals of two readers useless.
"""

import math
from dataclasses import dataclass

import numpy as np

CONFIDENCE_LEVEL = 0.95
PROBIT_PRIOR_SCALE = 0.3
"""Prior spread between readers of a probit of a rate, of d' and of the criterion."""

_PRIOR_DF = 4
_UNIT_GRID = np.linspace(0, 1, 200) ** 2  # denser near 0, where the posterior changes fastest
_TINY_VARIANCE = 1e-12
_SEARCH_STEPS = 32


@dataclass(frozen=True)
class SpreadPosterior:
    """The posterior of the spread between readers on a grid.

    Attributes:
        values: Possible spreads, `(G,)`.
        weights: The probability of each, `(G,)`; the sum is 1.
    """

    values: np.ndarray
    weights: np.ndarray

    @classmethod
    def from_variances(
        cls, between: float, within: float, *, degrees_of_freedom: int, prior_scale: float
    ) -> "SpreadPosterior":
        """Computes the posterior from an analysis of variance.

        Args:
            between: The variance between the values of readers.
            within: The part of it that images explain.
            degrees_of_freedom: The number of readers minus 1; 0 leaves the prior unchanged.
            prior_scale: The scale of the half t prior.
        """
        largest = 8 * math.sqrt(between + within) + 20 * prior_scale + _TINY_VARIANCE
        s = _UNIT_GRID * largest
        log_density = -(_PRIOR_DF + 1) / 2 * np.log1p((s / prior_scale) ** 2 / _PRIOR_DF)
        if degrees_of_freedom:
            total = s**2 + max(within, _TINY_VARIANCE)
            log_density = log_density - degrees_of_freedom / 2 * (np.log(total) + between / total)
        weights = np.exp(log_density - log_density.max()) * np.gradient(s)
        return cls(s, weights / weights.sum())

    def coverage(
        self, distances: np.ndarray | float, *, readers: int, image_variance: float
    ) -> np.ndarray:
        """Returns the probability that a mean lies within each distance of the truth, `(D,)`.

        Args:
            distances: D distances.
            readers: The number of readers that the mean is over.
            image_variance: The variance of this mean over images.
        """
        from scipy.special import ndtr

        sd = np.sqrt(self.values**2 / readers + image_variance)
        by_spread = 2 * ndtr(np.atleast_1d(distances)[:, None] / sd) - 1
        probability: np.ndarray = by_spread @ self.weights
        return probability

    def half_width(
        self, *, readers: int, image_variance: float, level: float = CONFIDENCE_LEVEL
    ) -> float:
        """Returns the distance within which a mean lies of the truth with probability `level`.

        Args:
            readers: The number of readers that the mean is over.
            image_variance: The variance of this mean over images, above 0.
            level: The probability.
        """
        low, high = 0.0, 10 * math.sqrt(self.values[-1] ** 2 / readers + image_variance)
        for _ in range(5):  # each pass narrows the range 31 times
            distances = np.linspace(low, high, _SEARCH_STEPS)
            coverage = self.coverage(distances, readers=readers, image_variance=image_variance)
            upper = int(np.clip(np.searchsorted(coverage, level), 1, _SEARCH_STEPS - 1))
            low, high = float(distances[upper - 1]), float(distances[upper])
        return (low + high) / 2
