"""Measures whether readers can tell synthetic images from real ones.

Signals are synthetic images: a hit is a synthetic image called synthetic, a false alarm a real image
called synthetic. With H and F the rates of hits and false alarms of one reader, after the log-linear
correction of Hautus (1995), which adds half an answer of either kind,

    d' = z(H) - z(F),    c = -(z(H) + z(F)) / 2,    z the normal quantile:

d' = 0 is guessing; a positive c leans towards "real" (Green and Swets 1966; Macmillan and Creelman 2005).

Arguments that all functions share: `called_synthetic` `(J, I)` is 1 where a reader called an image
synthetic, 0 where real, NaN without an answer; `synthetic` and `real` `(I,)` bool are the truth; `strata`
`(I,)` are the groups of which the study has a fixed number of images.
"""

import math
from dataclasses import replace

import numpy as np

from xraysynth.evaluation.reader_study.mrmc import ReaderStatistic, reader_means
from xraysynth.evaluation.reader_study.spread_posterior import PROBIT_PRIOR_SCALE


def proportion(answers: np.ndarray, strata: np.ndarray) -> ReaderStatistic:
    """Computes the proportion of ones among each reader's answers.

    A reader who gave the same answer to all images gets the binomial variance of the corrected rate
    instead of none.

    Args:
        answers: 0 or 1 by reader and image, `(J, I)`; NaN where there is no answer.
        strata: The stratum of each image, `(I,)`.
    """
    rates = reader_means(answers, strata, prior_scale=1.0)
    corrected, n = _loglinear_rates(answers)
    all_equal = (rates.values == 0) | (rates.values == 1)
    extra_variance = np.where(all_equal, corrected * (1 - corrected) / (n + 1), 0.0)
    prior_scale = _proportion_prior_scale(corrected[n > 0])
    return replace(rates, extra_variance=extra_variance, prior_scale=prior_scale)


def _proportion_prior_scale(proportions: np.ndarray) -> float:
    """Converts the prior spread of a probit to that of a proportion, at the mean of `proportions`."""
    from scipy.stats import norm

    centre = float(np.clip(proportions.mean(), 0.01, 0.99)) if len(proportions) else 0.5
    return float(norm.pdf(norm.ppf(centre))) * PROBIT_PRIOR_SCALE


def probit(answers: np.ndarray, strata: np.ndarray) -> ReaderStatistic:
    """Computes z of the corrected rate of ones of each reader; deviations by the delta method.

    Args:
        answers: 0 or 1 by reader and image, `(J, I)`; NaN where there is no answer.
        strata: The stratum of each image, `(I,)`.
    """
    from scipy.stats import norm

    rates = proportion(answers, strata)
    corrected, n = _loglinear_rates(answers)
    z = np.where(n > 0, norm.ppf(corrected), np.nan)
    slope = n / (n + 1) / norm.pdf(norm.ppf(corrected))
    return replace(rates.scale_by(slope), values=z, prior_scale=PROBIT_PRIOR_SCALE)


def _loglinear_rates(answers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns each reader's corrected rate of ones, and the number of answers, `(J,)` each."""
    n = np.isfinite(answers).sum(1)
    return (np.nansum(answers, axis=1) + 0.5) / (n + 1), n


def d_prime(
    called_synthetic: np.ndarray, *, synthetic: np.ndarray, real: np.ndarray, strata: np.ndarray
) -> ReaderStatistic:
    """Computes d' of each reader: 0 is guessing, higher is better detection."""
    z_hits = probit(_mask_answers(called_synthetic, synthetic), strata)
    z_false_alarms = probit(_mask_answers(called_synthetic, real), strata)
    return z_hits - z_false_alarms


def criterion(
    called_synthetic: np.ndarray, *, synthetic: np.ndarray, real: np.ndarray, strata: np.ndarray
) -> ReaderStatistic:
    """Computes c of each reader: above 0 for a reader who is slow to call an image synthetic."""
    z_hits = probit(_mask_answers(called_synthetic, synthetic), strata)
    z_false_alarms = probit(_mask_answers(called_synthetic, real), strata)
    c = (z_hits + z_false_alarms).scale_by(-0.5)
    return replace(c, prior_scale=PROBIT_PRIOR_SCALE)


def accuracy(
    called_synthetic: np.ndarray, *, synthetic: np.ndarray, real: np.ndarray, strata: np.ndarray
) -> ReaderStatistic:
    """Computes the mean of sensitivity and specificity: 0.5 is guessing at any mix of images."""
    sensitivity = proportion(_mask_answers(called_synthetic, synthetic), strata)
    specificity = proportion(_mask_answers(1 - called_synthetic, real), strata)
    return (sensitivity + specificity).scale_by(0.5)


def roc_auc(
    ratings: np.ndarray, *, synthetic: np.ndarray, real: np.ndarray, strata: np.ndarray
) -> ReaderStatistic:
    """Computes the area under each reader's ROC curve: 0.5 is guessing, 1 perfect detection.

    The area is Mann and Whitney's, in which ties count half; deviations are placements (DeLong et al.
    1988).

    Args:
        ratings: Ratings by reader and image, `(J, I)`, higher for more surely synthetic; NaN where
            there is none.
        synthetic: Which images are synthetic, `(I,)` bool.
        real: Which images are real, `(I,)` bool.
        strata: The stratum of each image, `(I,)`.
    """
    values, extra_variance = np.full(len(ratings), np.nan), np.zeros(len(ratings))
    deviations = np.zeros(ratings.shape)
    for reader, rating in enumerate(ratings):
        is_rated = np.isfinite(rating)
        signals = np.flatnonzero(synthetic & is_rated)
        non_signals = np.flatnonzero(real & is_rated)
        if not len(signals) or not len(non_signals):
            continue
        is_above = np.sign(rating[signals][:, None] - rating[non_signals][None]) / 2 + 0.5
        values[reader] = is_above.mean()
        signal_placements = is_above.mean(1)
        non_signal_placements = is_above.mean(0)
        deviations[reader, signals] = _placement_deviations(signal_placements, strata[signals])
        deviations[reader, non_signals] = _placement_deviations(
            non_signal_placements, strata[non_signals]
        )
        n = min(len(signals), len(non_signals))
        extra_variance[reader] = _perfect_auc_variance(values[reader], n)
    seen = (np.isfinite(ratings) & (synthetic | real)).any(0)
    # The probit of an area is d' / sqrt(2), so its prior spread is narrower by as much.
    prior_scale = _proportion_prior_scale(values[np.isfinite(values)]) / math.sqrt(2)
    return ReaderStatistic(values, deviations, extra_variance, prior_scale, int(seen.sum()))


def _placement_deviations(placements: np.ndarray, strata: np.ndarray) -> np.ndarray:
    """Returns the deviations that the placements `(N,)` of one reader cause in the area."""
    means = reader_means(placements[None], strata, prior_scale=1.0)
    deviations: np.ndarray = means.deviations[0]
    return deviations


def _perfect_auc_variance(value: float, n: int) -> float:
    """Returns a binomial variance for an area of 0 or 1, whose placements have none."""
    if 0 < value < 1:
        return 0.0
    corrected = (n + 0.5) / (n + 1)
    return corrected * (1 - corrected) / (n + 1)


def _mask_answers(answers: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Returns answers `(J, I)` with NaN for the images outside a mask `(I,)`."""
    return np.where(mask[None], answers, np.nan)
