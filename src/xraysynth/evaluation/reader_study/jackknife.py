"""Statistics of a whole panel of readers, such as kappa, with the jackknife over readers and images."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from xraysynth.evaluation.reader_study.mrmc import (
    Crossed,
    Estimate,
    Spread,
    centred,
    few,
    joined_notes,
)


def jackknifed(
    values: Sequence[float] | np.ndarray, left_out: np.ndarray, strata: np.ndarray
) -> np.ndarray:
    """Deviations `(J, I)` from the statistics `left_out` `(J, I)` without each image, NaN for unseen.

    Their squares sum to the stratified jackknife's variance, sum_h (n_h - 1) / n_h sum (x_i - x_h)^2.
    """
    seen = np.isfinite(left_out)
    filled = np.where(seen, left_out, 0.0)
    deviations = np.zeros(left_out.shape)
    for stratum in np.unique(strata):
        here = seen & (strata == stratum)[None, :]
        n = np.maximum(here.sum(1, keepdims=True), 1)
        deviations -= centred(filled, here) * (n - 1) / n
    return np.where(np.isfinite(np.asarray(values, float))[:, None], deviations, 0.0)


def panel_statistic(
    answers: np.ndarray,
    strata: np.ndarray,
    statistic: Callable[[np.ndarray], tuple[float, np.ndarray]],
    *,
    scale: float,
) -> tuple[float, Crossed]:
    """A statistic of a panel of readers, such as kappa, and its jackknife over readers and images.

    `statistic` takes answers `(J, I)` and gives its value and those without each image `(I,)`. The
    readers' values are pseudo-values (Tukey 1958), whose mean corrects the bias of few readers. Two
    readers are one pair: nothing in them says how pairs differ, and the prior stands alone.
    """
    whole, without = statistic(answers)
    deviations = jackknifed([whole], without[None], strata)[0]
    n = len(answers)
    images = int(np.isfinite(answers).any(0).sum())
    if n < 3:
        one = Crossed(np.array([whole]), deviations[None], np.zeros(1), scale, images)
        return whole, one
    values, rows = [], []
    for reader in range(n):
        value, found = statistic(np.delete(answers, reader, axis=0))
        values.append(n * whole - (n - 1) * value)
        rows.append(n * deviations - (n - 1) * jackknifed([value], found[None], strata)[0])
    return whole, Crossed(np.array(values), np.stack(rows), np.zeros(n), scale, images)


def panel_estimate(value: float, pseudo: Crossed, *, readers: int, note: str = "") -> Estimate:
    """The estimate of `panel_statistic`: `value` with the interval around the corrected one."""
    blank = Estimate.undefined(value, readers=readers, images=pseudo.images, note="")
    if not math.isfinite(value):
        return replace(blank, note=note or "not defined: all answers alike, or too few")
    if pseudo.over_images <= 0 or not pseudo.readers:
        return replace(blank, note=note or "all images alike: no spread to measure")
    spread = pseudo.spread
    if readers == 2:
        note = joined_notes(
            note, "two readers: how pairs of readers differ is assumed, not measured"
        )
        spread = Spread.of(0.0, pseudo.within, freedom=0, scale=pseudo.scale)
    half = spread.half_width(readers=readers, over_images=pseudo.over_images) * few(pseudo.images)
    low, high = pseudo.value - half, min(pseudo.value + half, 1.0)
    return replace(blank, low=max(min(low, value), -1.0), high=max(high, value), note=note)
