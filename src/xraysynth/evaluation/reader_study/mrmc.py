"""Intervals for readings in which both readers and images are samples.

Another study would have other readers and other images. A statistic of one reader (a rate, d', an
area under the curve) varies by image, which shows within this study, and by reader, which two to six
readers hardly show. As in Obuchowski and Rockette (1995), with the notation of Hillis (2007): of the
values x_j of J readers,

    E var(x_j) = s^2 + w,    var(mean x) = s^2 / J + v,

where s is the spread between readers, v the variance of the mean over images alone, and w what images
add to the variance between readers of the same images (their own variance minus the covariance
of two readers). v and w come from deviations by image; s is weighed over its posterior under a weak
prior, half a t distribution with 4 degrees of freedom, as recommended for spreads between few groups
(Gelman 2006; Roever et al. 2021). The prior's scale, 0.3 for d', is a judgement: readers differ by a
few tenths. A flat prior, or Student's t with J - 1 = 1 degree of freedom, makes two readers'
intervals useless. Being estimated from I images, v brings Student's t with I - 1 besides.
`experiments/reader_simulation` has how often these intervals contain the truth.
"""

import math
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from xraysynth.evaluation.metrics.statistics import Interval

CONFIDENCE_LEVEL = 0.95
PROBIT_PRIOR_SCALE = 0.3
"""Prior spread between readers of a probit of a rate, of d' and of the criterion."""

_NORMAL_QUANTILE = 1.959964  # the normal quantile of LEVEL
_PRIOR_DF = 4
_UNIT_GRID = np.linspace(0, 1, 200) ** 2


@dataclass(frozen=True, kw_only=True)
class Estimate(Interval):
    """A value of `n` images with its 95 % interval over readers and images.

    `note` says in words what qualifies it; `p` is the two-sided p-value of "it is zero", NaN where
    that is no question.
    """

    readers: int
    note: str = ""
    p: float = float("nan")

    @classmethod
    def without_interval(
        cls, value: float = float("nan"), *, readers: int = 0, images: int = 0, note: str
    ) -> "Estimate":
        """A value without an interval, or none at all; `note` says why."""
        nan = float("nan")
        return cls(value, nan, nan, images, readers=readers, note=note)


@dataclass(frozen=True)
class SpreadPosterior:
    """The posterior of the spread between readers: what s may be, and how likely, `(G,)` each."""

    values: np.ndarray
    weights: np.ndarray

    @classmethod
    def from_variances(
        cls, between: float, within: float, *, degrees_of_freedom: int, prior_scale: float
    ) -> "SpreadPosterior":
        """From the variance `between` readers' values, of which images explain `within`.

        `degrees_of_freedom` is the number of readers minus 1; 0 leaves the prior as it is.
        """
        top = 8 * math.sqrt(between + within) + 20 * prior_scale + 1e-12
        s = _UNIT_GRID * top
        log = -(_PRIOR_DF + 1) / 2 * np.log1p((s / prior_scale) ** 2 / _PRIOR_DF)
        if degrees_of_freedom:
            total = s**2 + max(within, 1e-12)
            log = log - degrees_of_freedom / 2 * (np.log(total) + between / total)
        weights = np.exp(log - log.max()) * np.gradient(s)
        return cls(s, weights / weights.sum())

    def coverage(
        self, distances: np.ndarray | float, *, readers: int, image_variance: float
    ) -> np.ndarray:
        """The probability that a mean lies within each of `distances` `(D,)` of the truth."""
        from scipy.special import ndtr

        sd = np.sqrt(self.values**2 / readers + image_variance)
        found: np.ndarray = (2 * ndtr(np.atleast_1d(distances)[:, None] / sd) - 1) @ self.weights
        return found

    def half_width(
        self, *, readers: int, image_variance: float, level: float = CONFIDENCE_LEVEL
    ) -> float:
        """The distance that covers `level`; `over_images` must be above 0."""
        low, high = 0.0, 10 * math.sqrt(self.values[-1] ** 2 / readers + image_variance)
        for _ in range(5):  # each narrows it 31 times
            steps = np.linspace(low, high, 32)
            covered = self.coverage(steps, readers=readers, image_variance=image_variance)
            place = int(np.clip(np.searchsorted(covered, level), 1, 31))
            low, high = float(steps[place - 1]), float(steps[place])
        return (low + high) / 2


@dataclass(frozen=True)
class ReaderStatistic:
    """A statistic of each reader `(J,)`, and what each image adds to it by chance `(J, I)`.

    The products of deviations, summed over images, are the variances and covariances over images;
    an image that a reader has not seen deviates by 0. `own` `(J,)` is variance of a reader beyond that.
    `scale` is the prior spread between readers and `images` the number of different images. A
    reader without a value has NaN. Sums and differences are those of the same readers and images; in
    a difference, habits of a reader cancel, so that its prior spread is that of one.
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
        """Multiplied by a number, or by one for each reader."""
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
        seen = (self.deviations != 0).any(0) | (other.deviations != 0).any(0)
        return ReaderStatistic(
            self.values + sign * other.values,
            self.deviations + sign * other.deviations,
            self.extra_variance + other.extra_variance,
            prior_scale,
            max(self.images, other.images, int(seen.sum())),
            "; ".join(dict.fromkeys(n for n in (self.note, other.note) if n)),
        )

    @cached_property
    def has_value(self) -> np.ndarray:
        """Which readers have a value."""
        found: np.ndarray = np.isfinite(self.values)
        return found

    @property
    def readers(self) -> int:
        """How many readers have a value."""
        return int(self.has_value.sum())

    @property
    def value(self) -> float:
        """The mean over readers, NaN without any."""
        return float(self.values[self.has_value].mean()) if self.readers else float("nan")

    @cached_property
    def _covariance(self) -> np.ndarray:
        kept = self.deviations[self.has_value]
        found: np.ndarray = kept @ kept.T + np.diag(self.extra_variance[self.has_value])
        return found

    @property
    def image_variance(self) -> float:
        """Variance of the mean over images, for these readers."""
        return max(float(self._covariance.sum()) / max(self.readers, 1) ** 2, 0.0)

    @property
    def within_variance(self) -> float:
        """What images add to the variance between readers of the same images."""
        found, n = self._covariance, self.readers
        if n < 2:
            return float(found.sum())
        trace = float(np.trace(found))
        return max(trace / n - (float(found.sum()) - trace) / (n * (n - 1)), 0.0)

    @property
    def between_variance(self) -> float:
        """Variance of the values of readers; 0 for one."""
        return float(self.values[self.has_value].var(ddof=1)) if self.readers > 1 else 0.0

    @cached_property
    def spread_posterior(self) -> SpreadPosterior:
        """The posterior of the spread between readers."""
        return SpreadPosterior.from_variances(
            self.between_variance,
            self.within_variance,
            degrees_of_freedom=self.readers - 1,
            prior_scale=self.prior_scale,
        )

    def estimate(self, *, is_proportion: bool = False, test: bool = False) -> Estimate:
        """Mean and interval; of a `share` in [0, 1] symmetric on the logit scale; `test` asks for p."""
        note = self.note
        if not self.readers:
            return self._without_interval(float("nan"), note or "no answers")
        if self.image_variance <= 0:
            return self._without_interval(
                self.value, note or "all answers alike: no spread to measure"
            )
        if self.readers == 1:
            half = _NORMAL_QUANTILE * math.sqrt(self.image_variance)
            note = join_notes("one reader, this one alone", note)
        else:
            half = self.spread_posterior.half_width(
                readers=self.readers, image_variance=self.image_variance
            )
        half *= small_sample_factor(self.images)
        low, high = (
            _logit_interval(self.value, half, self.images)
            if is_proportion
            else self._symmetric_interval(half)
        )
        p = self._p_value() if test else float("nan")
        return Estimate(self.value, low, high, self.images, readers=self.readers, note=note, p=p)

    def _symmetric_interval(self, half: float) -> tuple[float, float]:
        return self.value - half, self.value + half

    def _without_interval(self, value: float, note: str) -> Estimate:
        return Estimate.without_interval(value, readers=self.readers, images=self.images, note=note)

    def _p_value(self) -> float:
        distance = abs(self.value) / small_sample_factor(self.images)
        if self.readers == 1:
            return math.erfc(distance / math.sqrt(2 * self.image_variance))
        found = self.spread_posterior.coverage(
            distance, readers=self.readers, image_variance=self.image_variance
        )
        return 1 - float(found[0])


def small_sample_factor(images: int) -> float:
    """How much wider than the normal interval Student's is whose variance comes from so many images."""
    from scipy.special import stdtrit

    return float(stdtrit(max(images - 1, 2), (1 + CONFIDENCE_LEVEL) / 2)) / _NORMAL_QUANTILE


def join_notes(*notes: str) -> str:
    """The notes that say something, as one."""
    return "; ".join(note for note in notes if note)


def _logit_interval(proportion: float, half: float, images: int) -> tuple[float, float]:
    """The interval of a share, symmetric around its logit; 0 and 1 count as half an image off."""
    edge = 0.5 / (images + 1)
    inner = min(max(proportion, edge), 1 - edge)
    centre, reach = math.log(inner / (1 - inner)), half / (inner * (1 - inner))
    low, high = (_logistic(centre + sign * reach) for sign in (-1, 1))
    return min(low, proportion), max(high, proportion)


def _logistic(logit: float) -> float:
    return 1 / (1 + math.exp(-logit)) if logit > -700 else 0.0


def reader_means(answers: np.ndarray, strata: np.ndarray, *, prior_scale: float) -> ReaderStatistic:
    """The mean of each reader's `answers` `(J, I)`, NaN where there is none.

    Deviations are around the mean of an image's stratum, of which the study has a fixed number.
    """
    seen = np.isfinite(answers)
    filled = np.where(seen, answers, 0.0)
    count = seen.sum(1)
    values = np.divide(filled.sum(1), count, out=np.full(len(answers), np.nan), where=count > 0)
    deviations = np.zeros(answers.shape)
    for stratum in np.unique(strata):
        deviations += subtract_mean(filled, seen & (strata == stratum)[None, :])
    deviations /= np.maximum(count, 1)[:, None]
    return ReaderStatistic(
        values, deviations, np.zeros(len(answers)), prior_scale, int(seen.any(0).sum())
    )


def subtract_mean(filled: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Answers minus their mean, of the images `here`, with the variance that n - 1 gives."""
    n = mask.sum(1, keepdims=True)
    centre = np.where(mask, filled, 0).sum(1, keepdims=True) / np.maximum(n, 1)
    inflated = np.sqrt(n / np.maximum(n - 1, 1))
    found: np.ndarray = np.where(mask, filled - centre, 0.0) * inflated
    return found
