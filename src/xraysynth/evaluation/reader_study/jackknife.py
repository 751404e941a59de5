"""Statistics of a whole panel of readers, such as kappa, with the jackknife over readers and images."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from xraysynth.evaluation.reader_study.mrmc import (
    Estimate,
    ReaderStatistic,
    join_notes,
    small_sample_factor,
    subtract_mean,
)
from xraysynth.evaluation.reader_study.spread_posterior import SpreadPosterior

Statistic = Callable[[np.ndarray], tuple[float, np.ndarray]]
"""Takes answers `(J, I)`, and returns a value of the panel and the values without each image `(I,)`."""


def jackknife_deviations(
    values: Sequence[float] | np.ndarray, leave_one_out: np.ndarray, strata: np.ndarray
) -> np.ndarray:
    """Computes the deviations `(J, I)` that images cause in statistics of J readers.

    Their squares sum to the stratified jackknife's variance, sum_h (n_h - 1) / n_h sum (x_i - x_h)^2.

    Args:
        values: The statistic of each reader, `(J,)`; deviations are 0 where it is not finite.
        leave_one_out: The statistics without each image, `(J, I)`; NaN where an image was not seen.
        strata: The stratum h of each image, `(I,)`.
    """
    seen = np.isfinite(leave_one_out)
    filled = np.where(seen, leave_one_out, 0.0)
    deviations = np.zeros(leave_one_out.shape)
    for stratum in np.unique(strata):
        in_stratum = seen & (strata == stratum)[None, :]
        n = np.maximum(in_stratum.sum(1, keepdims=True), 1)
        deviations -= subtract_mean(filled, in_stratum) * (n - 1) / n
    has_value = np.isfinite(np.asarray(values, float))
    return np.where(has_value[:, None], deviations, 0.0)


def panel_statistic(
    answers: np.ndarray, strata: np.ndarray, statistic: Statistic, *, prior_scale: float
) -> tuple[float, ReaderStatistic]:
    """Computes a statistic of a panel of readers and its jackknife over readers and images.

    Args:
        answers: The answers by reader and image, `(J, I)`.
        strata: The stratum of each image, `(I,)`.
        statistic: The statistic of any answers.
        prior_scale: The prior spread between readers.

    Returns:
        The statistic, and the pseudo-values of the readers (Tukey 1958), whose mean corrects the bias
        of few readers. Two readers are one pair, which cannot show how pairs differ; they have one
        pseudo-value, the statistic itself.
    """
    value, leave_one_out = statistic(answers)
    deviations = _image_deviations(value, leave_one_out, strata)
    n = len(answers)
    images = int(np.isfinite(answers).any(0).sum())
    if n < 3:
        pair = ReaderStatistic(
            np.array([value]), deviations[None], np.zeros(1), prior_scale, images
        )
        return value, pair
    pseudo_values, pseudo_deviations = [], []
    for reader in range(n):
        reduced_value, reduced_loo = statistic(np.delete(answers, reader, axis=0))
        reduced_deviations = _image_deviations(reduced_value, reduced_loo, strata)
        pseudo_values.append(n * value - (n - 1) * reduced_value)
        pseudo_deviations.append(n * deviations - (n - 1) * reduced_deviations)
    return value, ReaderStatistic(
        np.array(pseudo_values), np.stack(pseudo_deviations), np.zeros(n), prior_scale, images
    )


def _image_deviations(value: float, leave_one_out: np.ndarray, strata: np.ndarray) -> np.ndarray:
    """Computes the deviations `(I,)` of one statistic from its values without each image `(I,)`."""
    deviations: np.ndarray = jackknife_deviations([value], leave_one_out[None], strata)[0]
    return deviations


def panel_estimate(
    value: float, pseudo_values: ReaderStatistic, *, readers: int, note: str = ""
) -> Estimate:
    """Returns a statistic of `panel_statistic` with its 95 % interval, which lies within [-1, 1].

    Args:
        value: The statistic of all readers.
        pseudo_values: The pseudo-values of the readers; the interval is around their mean.
        readers: The number of readers.
        note: What qualifies the statistic, in words.
    """
    blank = Estimate.without_interval(value, readers=readers, images=pseudo_values.images, note="")
    if not math.isfinite(value):
        return replace(blank, note=note or "not defined: all answers alike, or too few")
    if pseudo_values.image_variance <= 0 or not pseudo_values.readers:
        return replace(blank, note=note or "all images alike: no spread to measure")
    spread = pseudo_values.spread_posterior
    if readers == 2:
        note = join_notes(note, "two readers: how pairs of readers differ is assumed, not measured")
        spread = SpreadPosterior.from_variances(
            0.0,
            pseudo_values.within_variance,
            degrees_of_freedom=0,
            prior_scale=pseudo_values.prior_scale,
        )
    half_width = spread.half_width(readers=readers, image_variance=pseudo_values.image_variance)
    half_width *= small_sample_factor(pseudo_values.images)
    low = pseudo_values.value - half_width
    high = min(pseudo_values.value + half_width, 1.0)
    return replace(blank, low=max(min(low, value), -1.0), high=max(high, value), note=note)
