"""Values over splits as rows of a table: means, intervals, p-values and what to be careful about."""

from collections.abc import Sequence

import numpy as np
from scipy.stats import t as student_t

from xraysynth.evaluation.metrics.features import Features
from xraysynth.evaluation.metrics.kernel_distances import cmmd_name, kd_name
from xraysynth.evaluation.metrics.split_halves import SplitPlan
from xraysynth.evaluation.metrics.statistics import Interval
from xraysynth.evaluation.results import Measure

BEST_AT_BASELINE = ("precision", "recall", "density", "coverage", "Vendi", "AuthPct", "C_T")
"""Measures that are best where real images lie, too much being as wrong as too little."""


def summarise_splits(
    features: Features, label: str, pairs: Sequence[Sequence[dict[str, float]]], plan: SplitPlan
) -> list[Measure]:
    """One row for each measure, of values and baselines by name, a pair of them for each split."""
    rows = []
    for name in pairs[0][0]:
        both = np.array([[values[name] for values in pair] for pair in pairs])
        both = both[np.isfinite(both).all(1)]
        if len(both):
            rows.append(_summarise_measure(features, name, label, both, plan))
        else:
            note = "in no part of the features there are enough images of both sets to compare"
            rows.append(build_missing_measure(features.encoder, name, label, note))
    return rows


def _summarise_measure(
    features: Features, name: str, label: str, both: np.ndarray, plan: SplitPlan
) -> Measure:
    """The row of one measure, of values and baselines `(S, 2)`."""
    encoder = features.encoder
    columns = both[:, 0], both[:, 1], both[:, 0] - both[:, 1]
    value, floor, excess = (_split_interval(column, plan.n) for column in columns)
    notes = plan.note, _bias_warning(name, plan.n, features.values.shape[1])
    is_kernel_distance = name in (kd_name(encoder), cmmd_name(encoder))
    error = _kernel_standard_error(plan.drawn_fraction, len(both)) if is_kernel_distance else 1.0
    note, p = "; ".join(filter(None, notes)), _p_value(columns[2], error)
    return build_measure(encoder, name, label, value, floor, excess, note=note, p=p)


def _p_value(excess: np.ndarray, error_factor: float = 1.0) -> float:
    """Two-sided p-value of "the excess is 0" from the excesses `(S,)` of the splits.

    The standard error is `error` times their standard deviation; see `measures`.
    """
    if len(excess) < 2:
        return float("nan")
    mean, deviation = float(excess.mean()), float(excess.std(ddof=1))
    if deviation == 0:
        return float(mean == 0)
    return float(2 * student_t.sf(abs(mean) / (error_factor * deviation), len(excess) - 1))


def _kernel_standard_error(drawn_fraction: float, splits: int) -> float:
    """Standard error of a mean excess of kernel distances in their standard deviations over splits.

    Between sets of one distribution the excess of a split is |S|^2 - |B|^2 - 2 R.S + 2 R.B, of the
    means R, B and S of its three sides, each of variance 1 in a dimension of the kernel's space: of
    variance 12. Its mean over all splits is |X - Y|^2 and a constant, of the means of all real and
    all synthetic images, whose variances add up to c, `drawn`: the sum of the shares of real patients
    and of synthetic images that are on one side. That has variance 2 c^2, and single splits have the
    rest: sqrt(c^2 / (6 - c^2) + 1 / S), 0.5 of twenty splits of halves.
    """
    return float(np.sqrt(drawn_fraction**2 / (6 - drawn_fraction**2) + 1 / splits))


def _split_interval(values: np.ndarray, n: int) -> Interval:
    """Mean and central 95 % over splits; the usual interpolation holds but 90 % of twenty values."""
    low, high = np.quantile(values, [0.025, 0.975], method="weibull")
    return Interval(float(values.mean()), float(low), float(high), n)


def _bias_warning(metric: str, n: int, dimensions: int) -> str:
    if not metric.startswith(("FD", "FID", "MiFD", "MiFID")):
        return ""
    if "∞" in metric and n // 10 <= dimensions:
        return f"few images: sizes from {n // 10} on in {dimensions} dimensions are not on a line"
    if n <= dimensions:
        return f"few images: {n} in {dimensions} dimensions; biased, read it beside the floor only"
    return ""


def build_measure(
    encoder: str,
    metric: str,
    label: str,
    value: Interval,
    baseline: Interval,
    excess: Interval,
    *,
    note: str = "",
    p: float = float("nan"),
) -> Measure:
    """The row of a value beside its floor."""
    return Measure(
        *value.as_tuple(),
        encoder=encoder,
        metric=metric,
        label=label,
        baseline_value=baseline.value,
        baseline_low=baseline.low,
        baseline_high=baseline.high,
        excess_low=excess.low,
        excess_high=excess.high,
        better="floor" if metric in BEST_AT_BASELINE else "lower",
        note=note,
        p=p,
    )


def build_missing_measure(encoder: str, metric: str, label: str, note: str) -> Measure:
    """The row of what cannot be measured; `note` says why."""
    nan = float("nan")
    nothing = Interval(nan, nan, nan, 0)
    return build_measure(encoder, metric, label, nothing, nothing, nothing, note=note)
