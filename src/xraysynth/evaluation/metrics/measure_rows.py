"""Rows of the table of measures: means over splits, intervals, p-values, and notes of caution."""

from collections.abc import Sequence

import numpy as np
from scipy.stats import t as student_t

from xraysynth.evaluation.metrics.features import Features
from xraysynth.evaluation.metrics.kernel_distances import cmmd_name, kd_name
from xraysynth.evaluation.metrics.split_halves import SplitPlan
from xraysynth.evaluation.metrics.statistics import Interval
from xraysynth.evaluation.results import Measure

BEST_AT_BASELINE = ("precision", "recall", "density", "coverage", "Vendi", "AuthPct", "C_T")
"""Measures that are best where real images lie: a value above the baseline is as wrong as one below."""

_FRECHET_PREFIXES = ("FD", "FID", "MiFD", "MiFID")


def summarise_splits(
    features: Features,
    label: str,
    splits: Sequence[tuple[dict[str, float], dict[str, float]]],
    plan: SplitPlan,
) -> list[Measure]:
    """Summarise the values of all splits in one row per measure.

    Args:
        features: The real features, which name the encoder and the number of dimensions.
        label: The class that was measured, "" for all.
        splits: For each split, the values of the synthetic images and those of the baseline half,
            by name of the measure. Splits in which either is not finite are left out of a measure.
        plan: How the splits were drawn.
    """
    rows = []
    names = splits[0][0]
    for name in names:
        pairs = []
        for synthetic_values, baseline_values in splits:
            pairs.append((synthetic_values[name], baseline_values[name]))
        values = np.array(pairs)
        values = values[np.isfinite(values).all(1)]
        if len(values):
            rows.append(_summarise_measure(features, name, label, values, plan))
        else:
            note = "no part of the feature space holds enough images of both sets to compare them"
            rows.append(build_missing_measure(features.encoder, name, label, note))
    return rows


def _summarise_measure(
    features: Features, name: str, label: str, values: np.ndarray, plan: SplitPlan
) -> Measure:
    """Build the row of one measure; `values` `(S, 2)` are of synthetic images and of the baseline."""
    encoder = features.encoder
    synthetic, baseline = values[:, 0], values[:, 1]
    excess = synthetic - baseline
    error_factor = 1.0
    if name in (kd_name(encoder), cmmd_name(encoder)):
        error_factor = _kernel_standard_error(plan.drawn_fraction, len(values))
    notes = [plan.note, _bias_warning(name, plan.n, features.values.shape[1])]
    return build_measure(
        encoder,
        name,
        label,
        _split_interval(synthetic, plan.n),
        _split_interval(baseline, plan.n),
        _split_interval(excess, plan.n),
        note="; ".join(filter(None, notes)),
        p=_p_value(excess, error_factor),
    )


def _p_value(excess: np.ndarray, error_factor: float = 1.0) -> float:
    """Two-sided p-value of "the excess is 0" from the excesses `(S,)` of the splits.

    Their mean is divided by `error_factor` times their standard deviation; see `measures`.
    """
    if len(excess) < 2:
        return float("nan")
    mean, deviation = float(excess.mean()), float(excess.std(ddof=1))
    if deviation == 0:
        return float(mean == 0)
    return float(2 * student_t.sf(abs(mean) / (error_factor * deviation), len(excess) - 1))


def _kernel_standard_error(drawn_fraction: float, splits: int) -> float:
    """Standard error of a mean excess of kernel distances, in standard deviations over the splits.

    Between sets of one distribution the excess of a split is |S|^2 - |B|^2 - 2 R.S + 2 R.B, where R, B
    and S are the means of the reference, the baseline and the synthetic images in the kernel's space.
    Each has variance 1 in a dimension of this space, so that the excess has variance 12. Its mean over
    all splits is |X - Y|^2 and a constant, where X and Y are the means of all real and of all synthetic
    images, whose variances add up to c, the `drawn_fraction` of a `SplitPlan`. This mean has variance
    2 c^2, and single splits have the rest: sqrt(c^2 / (6 - c^2) + 1 / S), which is 0.5 for twenty
    splits of halves.
    """
    return float(np.sqrt(drawn_fraction**2 / (6 - drawn_fraction**2) + 1 / splits))


def _split_interval(values: np.ndarray, n: int) -> Interval:
    """Mean and central 95 % of `values` over splits.

    The usual interpolation of quantiles would hold only 90 % of twenty values; Weibull's holds 95 %.
    """
    low, high = np.quantile(values, [0.025, 0.975], method="weibull")
    return Interval(float(values.mean()), float(low), float(high), n)


def _bias_warning(metric: str, n: int, dimensions: int) -> str:
    """Return a note where a Frechet distance is of too few images for its dimensions, else ""."""
    if not metric.startswith(_FRECHET_PREFIXES):
        return ""
    if "∞" in metric and n // 10 <= dimensions:
        return (
            f"few images: the distances of sets of {n // 10} images or more do not lie on a line in "
            f"{dimensions} dimensions"
        )
    if n <= dimensions:
        return (
            f"few images: {n} in {dimensions} dimensions, so the value is biased; compare it with "
            "the baseline only"
        )
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
    """Build the row of a value and its real-vs-real baseline.

    Args:
        encoder: Name of the encoder.
        metric: Name of the measure.
        label: The class that was measured, "" for all.
        value: The measure of the synthetic images.
        baseline: The measure of real images.
        excess: Value minus baseline, paired; its bounds enter the row.
        note: What a reader of the row should be careful about.
        p: p-value of the excess, NaN where there is none.
    """
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
    """Build the row of a measure that cannot be taken; `note` says why."""
    missing = Interval(float("nan"), float("nan"), float("nan"), 0)
    return build_measure(encoder, metric, label, missing, missing, missing, note=note)
