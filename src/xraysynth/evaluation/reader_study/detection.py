"""Whether readers tell synthetic images from real ones.

Signals are synthetic images: a hit is a synthetic image called synthetic, a false alarm a real one
called synthetic. Per reader, with the log-linear correction of Hautus (1995), which adds half an
answer of either kind,

    d' = z(H) - z(F),    c = -(z(H) + z(F)) / 2,    z the normal quantile:

d' = 0 is guessing; a positive c leans towards "real" (Green and Swets 1966; Macmillan and Creelman 2005).
"""

import math
from dataclasses import replace

import numpy as np

from xraysynth.evaluation.reader_study.mrmc import PROBIT_PRIOR_SCALE, ReaderStatistic, reader_means


def proportion(answers: np.ndarray, strata: np.ndarray) -> ReaderStatistic:
    """The share of ones of each reader's `answers` `(J, I)` of 0 and 1, NaN for none.

    Who answered all alike gets the binomial variance of the corrected rate instead of none.
    """
    found = reader_means(answers, strata, prior_scale=1.0)
    corrected, n = _loglinear_rates(answers)
    alike = (found.values == 0) | (found.values == 1)
    own = np.where(alike, corrected * (1 - corrected) / (n + 1), 0.0)
    scale = _proportion_prior_scale(corrected[n > 0])
    return ReaderStatistic(found.values, found.deviations, own, scale, found.images)


def _proportion_prior_scale(proportions: np.ndarray) -> float:
    """The prior spread of a probit as that of a share around these."""
    from scipy.stats import norm

    centre = float(np.clip(proportions.mean(), 0.01, 0.99)) if len(proportions) else 0.5
    return float(norm.pdf(norm.ppf(centre))) * PROBIT_PRIOR_SCALE


def probit(answers: np.ndarray, strata: np.ndarray) -> ReaderStatistic:
    """z of the corrected rate of each reader; deviations by the delta method."""
    from scipy.stats import norm

    found = proportion(answers, strata)
    corrected, n = _loglinear_rates(answers)
    z = np.where(n > 0, norm.ppf(corrected), np.nan)
    slope = n / (n + 1) / norm.pdf(norm.ppf(corrected))
    scaled = found.scale_by(slope)
    return ReaderStatistic(
        z, scaled.deviations, scaled.extra_variance, PROBIT_PRIOR_SCALE, found.images
    )


def _loglinear_rates(answers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    n = np.isfinite(answers).sum(1)
    return (np.nansum(answers, axis=1) + 0.5) / (n + 1), n


def d_prime(
    called_synthetic: np.ndarray, *, synthetic: np.ndarray, real: np.ndarray, strata: np.ndarray
) -> ReaderStatistic:
    """d' of each reader; `said` `(J, I)` is 1 for "synthetic", the masks `(I,)` are the truth."""
    return probit(_mask_answers(called_synthetic, synthetic), strata) - probit(
        _mask_answers(called_synthetic, real), strata
    )


def criterion(
    called_synthetic: np.ndarray, *, synthetic: np.ndarray, real: np.ndarray, strata: np.ndarray
) -> ReaderStatistic:
    """c of each reader: above 0 for who is slow to call an image synthetic."""
    both = probit(_mask_answers(called_synthetic, synthetic), strata) + probit(
        _mask_answers(called_synthetic, real), strata
    )
    return replace(both.scale_by(-0.5), prior_scale=PROBIT_PRIOR_SCALE)


def accuracy(
    called_synthetic: np.ndarray, *, synthetic: np.ndarray, real: np.ndarray, strata: np.ndarray
) -> ReaderStatistic:
    """The mean of sensitivity and specificity: 0.5 is guessing however many images are real."""
    right = proportion(_mask_answers(called_synthetic, synthetic), strata) + proportion(
        _mask_answers(1 - called_synthetic, real), strata
    )
    return right.scale_by(0.5)


def roc_auc(
    rating: np.ndarray, *, synthetic: np.ndarray, real: np.ndarray, strata: np.ndarray
) -> ReaderStatistic:
    """Area under the ROC curve of each reader's `rating` `(J, I)`, higher for more surely synthetic.

    Mann and Whitney's, ties count half; deviations are placements (DeLong et al. 1988).
    """
    values, own = np.full(len(rating), np.nan), np.zeros(len(rating))
    deviations = np.zeros(rating.shape)
    for reader, ratings in enumerate(rating):
        ones, zeros = (np.flatnonzero(m & np.isfinite(ratings)) for m in (synthetic, real))
        if not len(ones) or not len(zeros):
            continue
        above = np.sign(ratings[ones][:, None] - ratings[zeros][None]) / 2 + 0.5
        values[reader] = above.mean()
        for places, placement in ((ones, above.mean(1)), (zeros, above.mean(0))):
            part = reader_means(placement[None], strata[places], prior_scale=1.0)
            deviations[reader, places] = part.deviations[0]
        own[reader] = _perfect_auc_variance(values[reader], min(len(ones), len(zeros)))
    seen = (np.isfinite(rating) & (synthetic | real)).any(0)
    scale = _proportion_prior_scale(values[np.isfinite(values)]) / math.sqrt(
        2
    )  # z(A) is d' / sqrt(2)
    return ReaderStatistic(values, deviations, own, scale, int(seen.sum()))


def _perfect_auc_variance(value: float, n: int) -> float:
    if 0 < value < 1:
        return 0.0
    corrected = (n + 0.5) / (n + 1)
    return corrected * (1 - corrected) / (n + 1)


def _mask_answers(answers: np.ndarray, mask: np.ndarray) -> np.ndarray:
    return np.where(mask[None], answers, np.nan)
