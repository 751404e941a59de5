"""Real-data equivalents: the number of real images that score as much as an arm with synthetic ones.

The number is read off the learning curve of real images alone, which is inverted for it.
"""

from dataclasses import dataclass

import numpy as np

from xraysynth.errors import XraysynthError
from xraysynth.evaluation.metrics.statistics import CONFIDENCE_LEVEL, Interval


@dataclass(frozen=True)
class LearningCurve:
    """Scores of training on real images alone, by the number of images; higher is better.

    Arms of one study with the same number of runs share the drawn patients, so that replicates match
    column by column.

    Attributes:
        sizes: At least two numbers of real images, ascending, `(K,)`.
        scores: `BootstrapScores.replicates` of one score at each size: the value, then its
            replicates, `(K, 1 + R)`.

    Raises:
        XraysynthError: If sizes do not ascend, or if `scores` has not one row per size.
    """

    sizes: np.ndarray
    scores: np.ndarray

    def __post_init__(self) -> None:
        sizes, shape = np.asarray(self.sizes), np.shape(self.scores)
        if len(sizes) < 2 or sizes[0] <= 0 or (np.diff(sizes) <= 0).any():
            raise XraysynthError(
                f"learning curve: sizes {sizes.tolist()} must be two or more ascending numbers of "
                "images; train on several values of data.real_fraction"
            )
        if len(shape) != 2 or shape[0] != len(sizes):
            raise XraysynthError(
                f"learning curve: got {len(sizes)} sizes for scores of shape {shape}; give one row of "
                "replicates for each size"
            )


@dataclass(frozen=True, kw_only=True)
class RealDataEquivalent(Interval):
    """A real-data equivalent with its 95 % interval.

    A number below the smallest size of the learning curve is -inf, and one above the largest size is
    inf, because the curve does not extend beyond. `censored` then says so in words; else it is empty.
    """

    censored: str = ""


def equivalent_real_images(curve: LearningCurve, scores: np.ndarray) -> RealDataEquivalent:
    """Estimate how many real images alone score as much as an arm.

    Replicate by replicate, the curve is made non-decreasing (least squares), taken as linear in log n
    between its sizes, and inverted: the fewest real images that reach the score.

    Args:
        curve: Scores of real images alone.
        scores: The arm's score, then its replicates, `(1 + R,)`.

    Returns:
        The number of real images; `n` is the number of sizes on the curve.

    Raises:
        XraysynthError: If the numbers of replicates differ.

    >>> curve = LearningCurve(np.array([100, 400]), np.array([[0.6, 0.6, 0.6], [0.8, 0.8, 0.8]]))
    >>> equivalent_real_images(curve, np.array([0.7, 0.7, 0.9])).high
    inf
    """
    if np.shape(scores) != curve.scores.shape[1:]:
        raise XraysynthError(
            f"real-data equivalent: the scores have shape {np.shape(scores)}, but those of the curve "
            f"{curve.scores.shape[1:]}; score the arm with as many replicates as the curve"
        )
    sizes = np.asarray(curve.sizes, float)
    images = _invert_curve(sizes, _isotonic_fit(curve.scores), np.asarray(scores))
    return _summarise_replicates(images, n=len(sizes))


def equivalent_per_synthetic_image(
    curve: LearningCurve, scores: np.ndarray, *, real_images: int, synthetic_images: int
) -> RealDataEquivalent:
    """Estimate how many real images each synthetic image of an arm replaces: 1 is as good as a real one.

    (equivalent real images - real images of the arm) / synthetic images of the arm.

    Args:
        curve: Scores of real images alone.
        scores: The arm's score, then its replicates, `(1 + R,)`.
        real_images: Number of real images that the arm is trained on.
        synthetic_images: Number of synthetic images that the arm is trained on, which is `n`.

    Raises:
        XraysynthError: If the arm has no synthetic images.
    """
    if synthetic_images < 1:
        raise XraysynthError(
            "real-data equivalent: the arm has no synthetic images, so there are none to be compared "
            "with real ones; leave it out"
        )
    total = equivalent_real_images(curve, scores)
    return RealDataEquivalent(
        (total.value - real_images) / synthetic_images,
        (total.low - real_images) / synthetic_images,
        (total.high - real_images) / synthetic_images,
        synthetic_images,
        censored=total.censored,
    )


def _isotonic_fit(scores: np.ndarray) -> np.ndarray:
    """Fit non-decreasing values to each column of `scores` `(K, R)` by least squares.

    The fit at i is the max over j <= i of the min over k >= i of the mean from j to k (Robertson,
    Wright & Dykstra 1988, theorem 1.4.4).
    """
    n_sizes = len(scores)
    cumulated = np.concatenate([np.zeros_like(scores[:1]), scores.cumsum(0)])
    fit = np.full(scores.shape, -np.inf)
    for j in range(n_sizes):
        smallest_mean = np.full(scores.shape[1], np.inf)
        for i in reversed(range(j, n_sizes)):  # of the means from j to k over all k >= i
            mean = (cumulated[i + 1] - cumulated[j]) / (i + 1 - j)
            smallest_mean = np.minimum(smallest_mean, mean)
            fit[i] = np.maximum(fit[i], smallest_mean)
    return fit


def _invert_curve(sizes: np.ndarray, curve: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Return the fewest images at which each column of a rising `curve` `(K, R)` reaches `scores` `(R,)`.

    -inf where the smallest of `sizes` `(K,)` scores more, inf where the largest scores less.
    """
    slack = 1e-12  # the fit's rounding must not push an end of the curve off it
    n_too_small = np.sum(curve < scores - slack, axis=0)
    right = np.clip(n_too_small, 1, len(sizes) - 1)
    left = right - 1
    columns = np.arange(len(scores))
    low, high = curve[left, columns], curve[right, columns]
    step = np.divide(scores - low, high - low, out=np.zeros_like(low), where=high > low)
    log_sizes = np.log(sizes)
    log_images = log_sizes[left] + np.clip(step, 0, 1) * (log_sizes[right] - log_sizes[left])
    images: np.ndarray = np.exp(log_images)
    images[scores < curve[0] - slack] = -np.inf
    images[n_too_small == len(sizes)] = np.inf
    images[np.isnan(scores) | np.isnan(curve).any(0)] = np.nan
    return images


def _summarise_replicates(replicates: np.ndarray, *, n: int) -> RealDataEquivalent:
    """Summarise the value and its replicates, `(1 + R,)`."""
    value, draws = float(replicates[0]), replicates[1:]
    defined = draws[~np.isnan(draws)]
    if not len(defined):
        return RealDataEquivalent(value, float("nan"), float("nan"), n)
    # Order statistics: infinities cannot be interpolated.
    low = float(np.quantile(defined, (1 - CONFIDENCE_LEVEL) / 2, method="lower"))
    high = float(np.quantile(defined, (1 + CONFIDENCE_LEVEL) / 2, method="higher"))
    ends = []
    if -np.inf in (value, low):
        ends.append("below the smallest")
    if np.inf in (value, high):
        ends.append("above the largest")
    censored = f"reaches {' and '.join(ends)} number of real images" if ends else ""
    return RealDataEquivalent(value, low, high, n, censored=censored)
