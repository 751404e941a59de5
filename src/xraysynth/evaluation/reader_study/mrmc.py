"""Intervals for readings in which both readers and images are samples (multi-reader, multi-case).

Another study would have other readers and other images. A statistic of one reader (a rate, d', an area
under the curve) varies by image, which shows within this study, and by reader, which two to six readers
hardly show. As in Obuchowski and Rockette (1995), with the notation of Hillis (2007): of the values x_j
of J readers,

    E var(x_j) = s^2 + w,    var(mean x) = s^2 / J + v,

where s is the spread between readers, v the variance of the mean over images alone, and w what images
add to the variance between readers of the same images (their own variance minus the covariance of two
readers). v and w are computed from the deviations by image; s has the posterior of `SpreadPosterior`.
Because v is estimated from I images, the interval uses Student's t with I - 1 degrees of freedom.
`experiments/reader_simulation` measures how often these intervals contain the truth.
"""

import math
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from xraysynth.evaluation.metrics.statistics import Interval
from xraysynth.evaluation.reader_study.spread_posterior import CONFIDENCE_LEVEL, SpreadPosterior

_NORMAL_QUANTILE = 1.959964  # the two-sided normal quantile of CONFIDENCE_LEVEL


@dataclass(frozen=True, kw_only=True)
class Estimate(Interval):
    """A value of `n` images with its 95 % interval over readers and images.

    Attributes:
        readers: The number of readers.
        note: What qualifies the value, in words.
        p: The two-sided p value of "the value is 0", NaN where this is not tested.
    """

    readers: int
    note: str = ""
    p: float = float("nan")

    @classmethod
    def without_interval(
        cls, value: float = float("nan"), *, readers: int = 0, images: int = 0, note: str
    ) -> "Estimate":
        """Builds an estimate that has no interval, and maybe no value, for the reason in `note`."""
        nan = float("nan")
        return cls(value, nan, nan, images, readers=readers, note=note)


@dataclass(frozen=True)
class ReaderStatistic:
    """One statistic of J readers, and the deviation that each of I images causes in it.

    The products of deviations, summed over images, are the variances and covariances over images.
    Statistics can be added and subtracted where readers and images are the same. In a difference the
    habits of a reader cancel, so its prior spread is that of one term.

    Attributes:
        values: The statistic of each reader, `(J,)`; NaN for a reader without answers.
        deviations: The deviations by reader and image, `(J, I)`; 0 where a reader has not seen an image.
        extra_variance: Variance of each reader's statistic beyond that of the deviations, `(J,)`.
        prior_scale: The prior spread between readers.
        images: The number of different images.
        note: What qualifies the statistic, in words.
    """

    values: np.ndarray
    deviations: np.ndarray
    extra_variance: np.ndarray
    prior_scale: float
    images: int
    note: str = ""

    def __add__(self, other: "ReaderStatistic") -> "ReaderStatistic":
        return self._combine(other, 1, math.hypot(self.prior_scale, other.prior_scale))

    def __sub__(self, other: "ReaderStatistic") -> "ReaderStatistic":
        return self._combine(other, -1, max(self.prior_scale, other.prior_scale))

    def scale_by(self, factor: float | np.ndarray) -> "ReaderStatistic":
        """Returns the statistic multiplied by a number, or by one number per reader `(J,)`."""
        by_reader = np.broadcast_to(np.asarray(factor, float), self.values.shape)
        return replace(
            self,
            values=self.values * by_reader,
            deviations=self.deviations * by_reader[:, None],
            extra_variance=self.extra_variance * by_reader**2,
            prior_scale=self.prior_scale * float(np.mean(np.abs(by_reader))),
        )

    def _combine(
        self, other: "ReaderStatistic", sign: int, prior_scale: float
    ) -> "ReaderStatistic":
        """Returns `self + sign * other`, image by image."""
        has_deviation = (self.deviations != 0).any(0) | (other.deviations != 0).any(0)
        notes = dict.fromkeys((self.note, other.note))
        return ReaderStatistic(
            self.values + sign * other.values,
            self.deviations + sign * other.deviations,
            self.extra_variance + other.extra_variance,
            prior_scale,
            max(self.images, other.images, int(has_deviation.sum())),
            join_notes(*notes),
        )

    @cached_property
    def has_value(self) -> np.ndarray:
        """Whether each reader has a value, `(J,)` bool."""
        is_finite: np.ndarray = np.isfinite(self.values)
        return is_finite

    @property
    def readers(self) -> int:
        """The number of readers who have a value."""
        return int(self.has_value.sum())

    @property
    def value(self) -> float:
        """The mean over readers, NaN if none has a value."""
        return float(self.values[self.has_value].mean()) if self.readers else float("nan")

    @cached_property
    def _covariance(self) -> np.ndarray:
        """Covariances over images of the readers who have a value, `(readers, readers)`."""
        deviations = self.deviations[self.has_value]
        extra = np.diag(self.extra_variance[self.has_value])
        covariance: np.ndarray = deviations @ deviations.T + extra
        return covariance

    @property
    def image_variance(self) -> float:
        """The variance over images of the mean of these readers (v)."""
        return max(float(self._covariance.sum()) / max(self.readers, 1) ** 2, 0.0)

    @property
    def within_variance(self) -> float:
        """The variance that images add between readers of the same images (w)."""
        total, n = float(self._covariance.sum()), self.readers
        if n < 2:
            return total
        trace = float(np.trace(self._covariance))
        mean_variance = trace / n
        mean_covariance = (total - trace) / (n * (n - 1))
        return max(mean_variance - mean_covariance, 0.0)

    @property
    def between_variance(self) -> float:
        """The variance between the values of readers; 0 for a single reader."""
        return float(self.values[self.has_value].var(ddof=1)) if self.readers > 1 else 0.0

    @cached_property
    def spread_posterior(self) -> SpreadPosterior:
        """The posterior of the spread between readers (s)."""
        return SpreadPosterior.from_variances(
            self.between_variance,
            self.within_variance,
            degrees_of_freedom=self.readers - 1,
            prior_scale=self.prior_scale,
        )

    def estimate(self, *, is_proportion: bool = False, test: bool = False) -> Estimate:
        """Returns the mean over readers with its 95 % interval.

        Args:
            is_proportion: Whether the value lies in [0, 1]; its interval is then symmetric on the logit
                scale.
            test: Whether to compute the p value of "the value is 0".
        """
        note = self.note
        if not self.readers:
            return self._without_interval(float("nan"), note or "no answers")
        if self.image_variance <= 0:
            return self._without_interval(
                self.value, note or "all answers alike: no spread to measure"
            )
        if self.readers == 1:
            note = join_notes("one reader: the interval is of this reader alone", note)
        half_width = self._half_width()
        if is_proportion:
            low, high = _logit_interval(self.value, half_width, self.images)
        else:
            low, high = self.value - half_width, self.value + half_width
        p = self._p_value() if test else float("nan")
        return Estimate(self.value, low, high, self.images, readers=self.readers, note=note, p=p)

    def _half_width(self) -> float:
        """Returns half the width of the interval of the mean; of one reader, over images alone."""
        if self.readers == 1:
            half_width = _NORMAL_QUANTILE * math.sqrt(self.image_variance)
        else:
            half_width = self.spread_posterior.half_width(
                readers=self.readers, image_variance=self.image_variance
            )
        return half_width * small_sample_factor(self.images)

    def _without_interval(self, value: float, note: str) -> Estimate:
        return Estimate.without_interval(value, readers=self.readers, images=self.images, note=note)

    def _p_value(self) -> float:
        """Returns the two-sided p value of "the mean is 0"."""
        distance = abs(self.value) / small_sample_factor(self.images)
        if self.readers == 1:
            return math.erfc(distance / math.sqrt(2 * self.image_variance))
        coverage = self.spread_posterior.coverage(
            distance, readers=self.readers, image_variance=self.image_variance
        )
        return 1 - float(coverage[0])


def small_sample_factor(images: int) -> float:
    """Returns how much wider than a normal interval Student's t interval with `images` - 1 df is."""
    from scipy.special import stdtrit

    quantile = float(stdtrit(max(images - 1, 2), (1 + CONFIDENCE_LEVEL) / 2))
    return quantile / _NORMAL_QUANTILE


def join_notes(*notes: str) -> str:
    """Joins the notes that are not empty into one."""
    return "; ".join(filter(None, notes))


def _logit_interval(proportion: float, half_width: float, images: int) -> tuple[float, float]:
    """Returns the interval of a proportion, symmetric around its logit.

    A proportion of 0 or 1 has no logit; half an image more of the rarer answer stands in for it.
    """
    edge = 0.5 / (images + 1)
    inner = min(max(proportion, edge), 1 - edge)
    centre = math.log(inner / (1 - inner))
    logit_half_width = half_width / (inner * (1 - inner))
    low = _logistic(centre - logit_half_width)
    high = _logistic(centre + logit_half_width)
    return min(low, proportion), max(high, proportion)


def _logistic(logit: float) -> float:
    return 1 / (1 + math.exp(-logit)) if logit > -700 else 0.0


def reader_means(answers: np.ndarray, strata: np.ndarray, *, prior_scale: float) -> ReaderStatistic:
    """Computes the mean answer of each reader.

    Deviations are taken from the mean of an image's stratum, because the study has a fixed number of
    images of each stratum.

    Args:
        answers: Numbers by reader and image, `(J, I)`; NaN where there is no answer.
        strata: The stratum of each image, `(I,)`.
        prior_scale: The prior spread between the means of readers.
    """
    is_answered = np.isfinite(answers)
    filled = np.where(is_answered, answers, 0.0)
    counts = is_answered.sum(1)
    means = np.full(len(answers), np.nan)
    np.divide(filled.sum(1), counts, out=means, where=counts > 0)
    deviations = np.zeros(answers.shape)
    for stratum in np.unique(strata):
        deviations += subtract_mean(filled, is_answered & (strata == stratum)[None, :])
    deviations /= np.maximum(counts, 1)[:, None]
    images = int(is_answered.any(0).sum())
    return ReaderStatistic(means, deviations, np.zeros(len(answers)), prior_scale, images)


def subtract_mean(answers: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Subtracts each reader's mean over the images in `mask`, and sets other images to 0.

    The result is scaled by sqrt(n / (n - 1)), so that its squares give the unbiased variance.

    Args:
        answers: Numbers by reader and image, `(J, I)`.
        mask: The images of each reader, `(J, I)` bool.
    """
    n = mask.sum(1, keepdims=True)
    mean = np.where(mask, answers, 0).sum(1, keepdims=True) / np.maximum(n, 1)
    scale = np.sqrt(n / np.maximum(n - 1, 1))
    deviations: np.ndarray = np.where(mask, answers - mean, 0.0) * scale
    return deviations
