"""Statistics of a whole panel of readers, such as kappa, with the jackknife over readers and images."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from xraysynth.evaluation.reader_study.mrmc import (
    Estimate,
    ReaderStatistic,
    SpreadPosterior,
    join_notes,
    small_sample_factor,
    subtract_mean,
)


def jackknife_deviations(
    values: Sequence[float] | np.ndarray, leave_one_out: np.ndarray, strata: np.ndarray
) -> np.ndarray:
    """Deviations `(J, I)` from the statistics `left_out` `(J, I)` without each image, NaN for unseen.

    Their squares sum to the stratified jackknife's variance, sum_h (n_h - 1) / n_h sum (x_i - x_h)^2.
    """
    seen = np.isfinite(leave_one_out)
    filled = np.where(seen, leave_one_out, 0.0)
    deviations = np.zeros(leave_one_out.shape)
    for stratum in np.unique(strata):
        here = seen & (strata == stratum)[None, :]
        n = np.maximum(here.sum(1, keepdims=True), 1)
        deviations -= subtract_mean(filled, here) * (n - 1) / n
    return np.where(np.isfinite(np.asarray(values, float))[:, None], deviations, 0.0)


def panel_statistic(
    answers: np.ndarray,
    strata: np.ndarray,
    statistic: Callable[[np.ndarray], tuple[float, np.ndarray]],
    *,
    prior_scale: float,
) -> tuple[float, ReaderStatistic]:
    """A statistic of a panel of readers, such as kappa, and its jackknife over readers and images.

    `statistic` takes answers `(J, I)` and gives its value and those without each image `(I,)`. The
    readers' values are pseudo-values (Tukey 1958), whose mean corrects the bias of few readers. Two
    readers are one pair: nothing in them says how pairs differ, and the prior stands alone.
    """
    whole, without = statistic(answers)
    deviations = jackknife_deviations([whole], without[None], strata)[0]
    n = len(answers)
    images = int(np.isfinite(answers).any(0).sum())
    if n < 3:
        one = ReaderStatistic(np.array([whole]), deviations[None], np.zeros(1), prior_scale, images)
        return whole, one
    values, rows = [], []
    for reader in range(n):
        value, found = statistic(np.delete(answers, reader, axis=0))
        values.append(n * whole - (n - 1) * value)
        rows.append(
            n * deviations - (n - 1) * jackknife_deviations([value], found[None], strata)[0]
        )
    return whole, ReaderStatistic(
        np.array(values), np.stack(rows), np.zeros(n), prior_scale, images
    )


def panel_estimate(
    value: float, pseudo_values: ReaderStatistic, *, readers: int, note: str = ""
) -> Estimate:
    """The estimate of `panel_statistic`: `value` with the interval around the corrected one."""
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
    half = spread.half_width(
        readers=readers, image_variance=pseudo_values.image_variance
    ) * small_sample_factor(pseudo_values.images)
    low, high = pseudo_values.value - half, min(pseudo_values.value + half, 1.0)
    return replace(blank, low=max(min(low, value), -1.0), high=max(high, value), note=note)
