"""The variance of a score between training seeds, moderated over the arms of a study.

Three seeds say little about how much seeds differ: Student's t with two degrees of freedom makes an
interval twice as wide as a known variance would. Arms that are trained by one recipe on about as many
images have much of their variance in common, so that each arm can borrow from the others (Smyth 2004,
doi:10.2202/1544-6115.1027). In the model, the variance s_a² that arm a shows over its S_a seeds is
distributed as σ_a² χ²(d_a) / d_a with d_a = S_a - 1, and the true variances as d₀ s₀² / χ²(d₀). Given
these two,

    σ_a² is distributed as (d₀ s₀² + d_a s_a²) / χ²(d₀ + d_a),

whose mean moves from the arm's own variance to the common s₀² with the weight w = d₀ / (d₀ + d_a).

Smyth puts the most plausible d₀ into this formula. It is hardly known from a few arms, and intervals
are then too narrow where arms differ. Here, d₀ and s₀² are drawn from what the arms leave plausible:
all s₀² are equally likely before on a logarithmic scale, and so are all √w from 0 (each arm for
itself) to 1 (all alike), which leans towards the arm's own variance. `experiments/interval_coverage`
measures how often the intervals contain the truth.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

VARIANCE_DRAWS = 4000
"""Number of plausible variances that intervals and p-values are averaged over."""

SIMILAR_SIZE = 1.5
"""Arms are of one group if no arm has more than this many times the images of the smallest."""

_WEIGHTS = ((np.arange(12) + 0.5) / 12) ** 2
_LOG_SCALES = np.linspace(-4, 4, 33)


@dataclass(frozen=True)
class SpreadOfSeeds:
    """How much training seeds differ, over a group of arms of about as many training images.

    Attributes:
        arms: Number of arms with two seeds or more.
        runs: Number of their training runs.
        sd: Standard deviation between seeds, pooled over the arms.
        weight: How much the common variance counts for an arm, and its own 1 - weight: the mean of
            what the arms leave plausible. It is 0 for a single arm.
        p: p-value of the hypothesis that all arms have the same variance (Bartlett 1937); NaN for a
            single arm, or if an arm shows no variance at all.
        images: Number of training images of each arm; empty if they are not known.
    """

    arms: int
    runs: int
    sd: float
    weight: float
    p: float
    images: tuple[int, ...] = ()


def draw_variances(
    values: Sequence[np.ndarray], rng: np.random.Generator, draws: int = VARIANCE_DRAWS
) -> np.ndarray:
    """Draw plausible variances between seeds of every arm, `(A, D)`, jointly for all arms.

    Args:
        values: Score of each run, `(S_a,)` per arm. An arm of a single run shows no variance: it gets
            0, and adds nothing to the others.
        rng: Source of the draws.
        draws: Number of draws, D.
    """
    degrees, variances = _sample_variances(values)
    found = np.zeros((len(values), draws))
    (several,) = np.nonzero(degrees)
    if not len(several) or not variances[several].any():
        return found
    prior_degrees, prior_variances = np.zeros(draws), np.zeros(draws)
    if len(several) > 1:
        prior = _Prior.from_arms(degrees[several], variances[several])
        prior_degrees, prior_variances = prior.draw(rng, draws)
    for arm in several:
        sums = prior_degrees * prior_variances + degrees[arm] * variances[arm]
        found[arm] = sums / _draw_chi_square(rng, prior_degrees + degrees[arm])
    return found


def summarise_spread(values: Sequence[np.ndarray]) -> SpreadOfSeeds | None:
    """Summarise how much seeds differ over a group of arms; None if no arm has two runs.

    Args:
        values: Score of each run, `(S_a,)` per arm.
    """
    degrees, variances = _sample_variances(values)
    several = degrees > 0
    degrees, variances = degrees[several], variances[several]
    if not len(degrees):
        return None
    weight = 0.0
    if len(degrees) > 1 and variances.any():
        weight = _Prior.from_arms(degrees, variances).mean_weight
    return SpreadOfSeeds(
        arms=len(degrees),
        runs=int(degrees.sum() + len(degrees)),
        sd=float(np.sqrt(np.average(variances, weights=degrees))),
        weight=weight,
        p=_bartlett_p_value(degrees, variances),
    )


def group_by_size(sizes: Sequence[int]) -> list[list[int]]:
    """Group arms of about as many training images; returns positions in `sizes`, the smallest first.

    >>> group_by_size([180, 90, 200, 100])
    [[1, 3], [0, 2]]
    """
    groups: list[list[int]] = []
    for position in sorted(range(len(sizes)), key=lambda position: sizes[position]):
        if groups and sizes[position] <= SIMILAR_SIZE * sizes[groups[-1][0]]:
            groups[-1].append(position)
        else:
            groups.append([position])
    return groups


@dataclass(frozen=True)
class _Prior:
    """What the arms leave plausible of d₀ and s₀², on a grid of cells.

    Attributes:
        degrees: d₀ by cell, `(K,)`.
        variances: s₀² by cell, `(K,)`.
        probabilities: Probability of each cell, `(K,)`.
        weights: w by cell, `(K,)`.
    """

    degrees: np.ndarray
    variances: np.ndarray
    probabilities: np.ndarray
    weights: np.ndarray

    @classmethod
    def from_arms(cls, degrees: np.ndarray, variances: np.ndarray) -> "_Prior":
        """Compute the probabilities from the variances `(A,)` that arms show on so many `degrees`."""
        centre = np.log(variances[variances > 0]).mean()
        weights, log_scales = (
            axis.ravel() for axis in np.meshgrid(_WEIGHTS, centre + _LOG_SCALES, indexing="ij")
        )
        prior_degrees = np.mean(degrees) * weights / (1 - weights)
        log_likelihood = np.zeros(len(weights))
        for degree, variance in zip(degrees, variances, strict=True):
            log_likelihood += _log_likelihood(degree, variance, prior_degrees, log_scales)
        probabilities = np.exp(log_likelihood - log_likelihood.max())
        return cls(prior_degrees, np.exp(log_scales), probabilities / probabilities.sum(), weights)

    @property
    def mean_weight(self) -> float:
        """The mean of w."""
        return float(self.probabilities @ self.weights)

    def draw(self, rng: np.random.Generator, draws: int) -> tuple[np.ndarray, np.ndarray]:
        """Draw d₀ and s₀², `(D,)` each."""
        ends = np.cumsum(self.probabilities)
        cells = np.searchsorted(ends, _stratified_uniforms(rng, draws) * ends[-1])
        return self.degrees[cells], self.variances[cells]


def _log_likelihood(
    degrees: float, variance: float, prior_degrees: np.ndarray, log_scales: np.ndarray
) -> np.ndarray:
    """Return the log density of a sample variance, s² / s₀² as F(d, d₀), but for a constant."""
    from scipy.special import gammaln

    both = prior_degrees + degrees
    log_density = gammaln(both / 2) - gammaln(prior_degrees / 2)
    log_density -= degrees / 2 * (np.log(prior_degrees) + log_scales)
    ratio = degrees * variance / (prior_degrees * np.exp(log_scales))
    log_density -= both / 2 * np.log1p(ratio)
    result: np.ndarray = log_density
    return result


def _sample_variances(values: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Return degrees of freedom `(A,)` and variances `(A,)` of the arms; 0 for a single run."""
    degrees = np.array([len(scores) - 1 for scores in values])
    variances = np.zeros(len(values))
    for arm, scores in enumerate(values):
        if len(scores) > 1 and np.ptp(scores):
            variances[arm] = np.var(scores, ddof=1)
    return degrees, np.nan_to_num(variances)


def _draw_chi_square(rng: np.random.Generator, degrees: np.ndarray) -> np.ndarray:
    """Draw one χ² per entry of `degrees` `(D,)`; evenly, if all of them are equal."""
    if degrees.min() == degrees.max():
        return rng.permutation(_chi_square_quantiles(int(degrees[0]), len(degrees)))
    return rng.chisquare(degrees)


@cache
def _chi_square_quantiles(degrees: int, number: int) -> np.ndarray:
    """Return equally spaced quantiles of χ²."""
    from scipy.special import gammaincinv

    quantiles: np.ndarray = 2 * gammaincinv(degrees / 2, (np.arange(number) + 0.5) / number)
    return quantiles


def _stratified_uniforms(rng: np.random.Generator, draws: int) -> np.ndarray:
    """Draw one number from each of D equal parts of (0, 1), in random order."""
    return (rng.permutation(draws) + rng.uniform(size=draws)) / draws


def _bartlett_p_value(degrees: np.ndarray, variances: np.ndarray) -> float:
    """Return the p-value of Bartlett's test that all variances are equal (Bartlett 1937)."""
    from scipy.stats import chi2

    if len(degrees) < 2 or not variances.all():
        return float("nan")
    total = degrees.sum()
    pooled = degrees @ variances / total
    statistic = total * np.log(pooled) - degrees @ np.log(variances)
    correction = 1 + (np.sum(1 / degrees) - 1 / total) / (3 * (len(degrees) - 1))
    return float(chi2.sf(statistic / correction, len(degrees) - 1))
