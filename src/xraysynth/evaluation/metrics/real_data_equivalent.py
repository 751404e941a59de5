"""How many real images a synthetic one is worth: the learning curve of real images, inverted."""

from dataclasses import dataclass

import numpy as np

from xraysynth.errors import XraysynthError
from xraysynth.evaluation.metrics.statistics import CONFIDENCE_LEVEL, Interval


@dataclass(frozen=True)
class LearningCurve:
    """Scores of training on real images alone, by their number; higher is better.

    `sizes` `(K,)` are at least two numbers of real images, ascending; `scores` `(K, 1 + R)` are
    `classification.BootstrapScores.replicates` of one score: the value, then its replicates. Arms
    of one study with one number of runs share the drawn patients, so that replicates match column
    by column.
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
                f"learning curve: {len(sizes)} sizes for scores of shape {shape}; give one row of "
                "replicates each size"
            )


@dataclass(frozen=True, kw_only=True)
class RealDataEquivalent(Interval):
    """A real-data equivalent with its 95 % interval.

    What lies off the learning curve is infinite, -inf below its smallest and inf above its largest
    size: only that much is known of it. `censored` says so in words, and is empty otherwise.
    """

    censored: str = ""


def equivalent_real_images(curve: LearningCurve, scores: np.ndarray) -> RealDataEquivalent:
    """How many real images alone score as much as an arm with `scores` `(1 + R,)`.

    Replicate by replicate, the curve is made non-decreasing (least squares), taken as linear in log n
    between its sizes, and inverted: the fewest real images that reach the score. `n` is the number of
    sizes on the curve.

    >>> curve = LearningCurve(np.array([100, 400]), np.array([[0.6, 0.6, 0.6], [0.8, 0.8, 0.8]]))
    >>> equivalent_real_images(curve, np.array([0.7, 0.7, 0.9])).high
    inf
    """
    if np.shape(scores) != curve.scores.shape[1:]:
        raise XraysynthError(
            f"real-data equivalent: scores of shape {np.shape(scores)} for a curve of "
            f"{curve.scores.shape[1:]}; score both with as many replicates"
        )
    found = _invert_curve(
        np.asarray(curve.sizes, float), _isotonic_fit(curve.scores), np.asarray(scores)
    )
    return _summarise_replicates(found, n=len(curve.sizes))


def equivalent_per_synthetic_image(
    curve: LearningCurve, scores: np.ndarray, *, real_images: int, synthetic_images: int
) -> RealDataEquivalent:
    """How many real images each synthetic image of an arm stands for: 1 is as good as a real one.

    (equivalent real images - the arm's own real images) / its synthetic images, which are `n`.
    """
    if synthetic_images < 1:
        raise XraysynthError("real-data equivalent: the arm has no synthetic images to value")
    whole = equivalent_real_images(curve, scores)
    value, low, high = (
        (images - real_images) / synthetic_images for images in (whole.value, whole.low, whole.high)
    )
    return RealDataEquivalent(value, low, high, synthetic_images, censored=whole.censored)


def _isotonic_fit(scores: np.ndarray) -> np.ndarray:
    """The non-decreasing fit to each column of `(K, R)`: max over j <= i of min over k >= i of the
    mean from j to k (Robertson, Wright & Dykstra 1988, theorem 1.4.4)."""
    size = len(scores)
    total = np.concatenate([np.zeros_like(scores[:1]), scores.cumsum(0)])
    return np.stack(
        [
            np.max(
                [
                    np.min([(total[k + 1] - total[j]) / (k + 1 - j) for k in range(i, size)], 0)
                    for j in range(i + 1)
                ],
                axis=0,
            )
            for i in range(size)
        ]
    )


def _invert_curve(sizes: np.ndarray, curve: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """The fewest images at which each column of the rising `curve` `(K, R)` reaches `scores` `(R,)`."""
    slack = 1e-12  # the fit's rounding must not push an end of the curve off it
    above = np.sum(curve < scores - slack, axis=0)  # sizes that are too few
    right = np.clip(above, 1, len(sizes) - 1)
    columns, log = np.arange(len(scores)), np.log(sizes)
    low, high = curve[right - 1, columns], curve[right, columns]
    step = np.divide(scores - low, high - low, out=np.zeros_like(low), where=high > low)
    found: np.ndarray = np.exp(log[right - 1] + np.clip(step, 0, 1) * (log[right] - log[right - 1]))
    found[scores < curve[0] - slack] = -np.inf
    found[above == len(sizes)] = np.inf
    found[np.isnan(scores) | np.isnan(curve).any(0)] = np.nan
    return found


def _summarise_replicates(replicates: np.ndarray, *, n: int) -> RealDataEquivalent:
    defined = replicates[1:][~np.isnan(replicates[1:])]
    if not len(defined):
        return RealDataEquivalent(float(replicates[0]), float("nan"), float("nan"), n)
    # Order statistics: infinities cannot be interpolated.
    low = float(np.quantile(defined, (1 - CONFIDENCE_LEVEL) / 2, method="lower"))
    high = float(np.quantile(defined, (1 + CONFIDENCE_LEVEL) / 2, method="higher"))
    ends = [
        text
        for text, off in (
            ("below the smallest", -np.inf in (replicates[0], low)),
            ("above the largest", np.inf in (replicates[0], high)),
        )
        if off
    ]
    censored = f"reaches {' and '.join(ends)} number of real images" if ends else ""
    return RealDataEquivalent(float(replicates[0]), low, high, n, censored=censored)
