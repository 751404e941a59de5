"""How far readers agree with each other, and with themselves.

Codes are `(J, I)`: the number of the option, NaN where a reader has not seen an image. Reported values
are those of statsmodels (Fleiss), scikit-learn (Cohen) and krippendorff; the jackknife needs
hundreds of each, and takes the same formulas written for all images at once where they are slow.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Literal

import numpy as np

from xraysynth.errors import DataNotFoundError
from xraysynth.evaluation.reader_study.jackknife import (
    jackknife_deviations,
    panel_estimate,
    panel_statistic,
)
from xraysynth.evaluation.reader_study.mrmc import Estimate, ReaderStatistic

KAPPA_PRIOR_SCALE = 0.08
"""Prior spread between readers of an agreement coefficient."""

MeasurementLevel = Literal["nominal", "ordinal"]


def fleiss(codes: np.ndarray, strata: np.ndarray, *, options: int) -> Estimate:
    """Fleiss' kappa (1971) of images that every reader has seen; 1 is agreement, 0 chance.

    kappa = (P - P_e) / (1 - P_e): P is the share of pairs of readers that agree on an image, P_e
    the sum of squared shares of the options.
    """
    complete = np.isfinite(codes).all(0)
    kept = codes[:, complete]
    lost = int(np.isfinite(codes).any(0).sum()) - int(complete.sum())
    note = f"without {lost} images that not every reader has seen" if lost else ""
    if len(codes) < 2 or kept.shape[1] < 2:
        return _without_interval(kept, "needs two readers of the same images")
    _, pseudo = panel_statistic(
        kept, strata[complete], lambda c: _fleiss_loo(c, options), prior_scale=KAPPA_PRIOR_SCALE
    )
    return panel_estimate(
        _fleiss_by_statsmodels(kept, options), pseudo, readers=len(codes), note=note
    )


def _without_interval(codes: np.ndarray, note: str) -> Estimate:
    return Estimate.without_interval(readers=len(codes), images=codes.shape[1], note=note)


def _option_counts(codes: np.ndarray, options: int) -> np.ndarray:
    """How many readers chose each option: `(I, K)`."""
    found: np.ndarray = (codes[..., None] == np.arange(options)).sum(0)
    return found


def _fleiss_loo(codes: np.ndarray, options: int) -> tuple[float, np.ndarray]:
    """Kappa, and without each image `(I,)`."""
    counts = _option_counts(codes, options).astype(float)
    n, readers = len(counts), len(codes)
    agreed = (counts * (counts - 1)).sum(1) / (readers * (readers - 1))
    totals = counts.sum(0)
    whole = _chance_corrected(agreed.mean(), ((totals / (readers * n)) ** 2).sum())
    rest = (totals - counts) / (readers * (n - 1))
    without = _chance_corrected((agreed.sum() - agreed) / (n - 1), (rest**2).sum(1))
    return float(whole), without


def _chance_corrected(observed: Any, expected: Any) -> Any:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(expected < 1 - 1e-12, (observed - expected) / (1 - expected), np.nan)


def _fleiss_by_statsmodels(codes: np.ndarray, options: int) -> float:
    try:
        from statsmodels.stats.inter_rater import fleiss_kappa  # type: ignore[import-untyped]
    except ImportError as error:
        raise _missing_package_error("statsmodels") from error
    counts = _option_counts(codes, options)
    if (counts.sum(0) > 0).sum() < 2:  # 0 / 0: everyone gives the same answer to everything
        return float("nan")
    return float(fleiss_kappa(counts))


def _missing_package_error(package: str) -> DataNotFoundError:
    return DataNotFoundError(
        f"review analyse: agreement of readers needs {package}; pip install 'xraysynth[review]'"
    )


def krippendorff_alpha(
    codes: np.ndarray, strata: np.ndarray, *, options: int, level: MeasurementLevel
) -> Estimate:
    """Krippendorff's alpha (2004) at `level` nominal or ordinal; 1 is agreement, 0 chance.

    Images that one reader has not seen count by those who have.
    """
    read = np.isfinite(codes).sum(0) >= 2
    kept = codes[:, read]
    if len(codes) < 2 or kept.shape[1] < 2:
        return _without_interval(kept, "needs two readers of the same images")
    value, pseudo = panel_statistic(
        kept, strata[read], lambda c: _alpha_loo(c, options, level), prior_scale=KAPPA_PRIOR_SCALE
    )
    return panel_estimate(value, pseudo, readers=len(codes))


def _alpha_loo(
    codes: np.ndarray, options: int, level: MeasurementLevel
) -> tuple[float, np.ndarray]:
    counts = _option_counts(codes, options)
    kinds, place = np.unique(counts, axis=0, return_inverse=True)
    n = np.bincount(place.ravel(), minlength=len(kinds))
    without = np.array(
        [
            _alpha_of_counts(np.repeat(kinds, n - one, axis=0), level)
            for one in np.eye(len(n), dtype=int)
        ]
    )
    return _alpha_of_counts(counts, level), without[place.ravel()]


def _alpha_of_counts(counts: np.ndarray, level: MeasurementLevel) -> float:
    try:
        import krippendorff
    except ImportError as error:
        raise _missing_package_error("krippendorff") from error
    paired = counts[counts.sum(1) >= 2]
    if (paired.sum(0) > 0).sum() < 2:  # undefined: everyone gives the same answer to everything
        return float("nan")
    domain = list(range(counts.shape[1]))
    found = krippendorff.alpha(value_counts=paired, value_domain=domain, level_of_measurement=level)
    return float(found)


def weighted_kappa(codes: np.ndarray, strata: np.ndarray) -> Estimate:
    """Cohen's kappa with quadratic weights, the mean over pairs of readers."""
    if len(codes) < 2:
        return _without_interval(codes, "needs two readers of the same images")
    value, pseudo = panel_statistic(
        codes, strata, _mean_weighted_kappa_loo, prior_scale=KAPPA_PRIOR_SCALE
    )
    return panel_estimate(value, pseudo, readers=len(codes))


def _mean_weighted_kappa_loo(codes: np.ndarray) -> tuple[float, np.ndarray]:
    pairs = [_weighted_kappa_loo(*codes[[a, b]]) for a, b in combinations(range(len(codes)), 2)]
    defined = [(value, without) for value, without in pairs if np.isfinite(value)]
    if not defined:
        return float("nan"), np.full(codes.shape[1], np.nan)
    return float(np.mean([v for v, _ in defined])), np.mean([w for _, w in defined], axis=0)


def _weighted_kappa_loo(first: np.ndarray, second: np.ndarray) -> tuple[float, np.ndarray]:
    """1 - E(x - y)^2 / (var x + var y + (mean x - mean y)^2), and without each image.

    Quadratic weights make Cohen's kappa this (Fleiss and Cohen 1973; Lin 1989).
    """
    seen = np.isfinite(first) & np.isfinite(second)
    x, y = first[seen], second[seen]
    sums = np.array([np.ones(len(x)), x, y, x * x, y * y, (x - y) ** 2])
    whole = sums.sum(1)
    value = _kappa_from_sums(whole)
    without = np.full(len(first), value)
    without[seen] = _kappa_from_sums(whole[:, None] - sums)
    return float(value), without


def _kappa_from_sums(sums: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore", invalid="ignore"):
        n, x, y, xx, yy, apart = sums[0], *(part / sums[0] for part in sums[1:])
        chance = xx - x**2 + yy - y**2 + (x - y) ** 2
        found: np.ndarray = np.where((n > 1) & (chance > 1e-12), 1 - apart / chance, np.nan)
    return found


@dataclass(frozen=True)
class ReaderPair:
    """Cohen's kappa of two readers, of the images that both have seen."""

    reader: str
    other: str
    value: float
    images: int


def pairwise_kappas(
    codes: np.ndarray, readers: Sequence[str], *, ordinal: bool
) -> list[ReaderPair]:
    """Cohen's kappa of every two readers, with quadratic weights for an `ordinal` scale."""
    kappas = []
    for a, b in combinations(range(len(readers)), 2):
        seen = np.isfinite(codes[a]) & np.isfinite(codes[b])
        value = _cohen_by_sklearn(codes[a, seen], codes[b, seen], ordinal=ordinal)
        kappas.append(ReaderPair(readers[a], readers[b], value, int(seen.sum())))
    return kappas


def _cohen_by_sklearn(first: np.ndarray, second: np.ndarray, *, ordinal: bool) -> float:
    from sklearn.metrics import cohen_kappa_score

    values = np.union1d(first, second)
    if len(values) < 2:
        return float("nan")
    labels = (
        np.arange(values.min(), values.max() + 1).astype(int) if ordinal else values.astype(int)
    )
    weights = "quadratic" if ordinal else None
    return float(
        cohen_kappa_score(first.astype(int), second.astype(int), labels=labels, weights=weights)
    )


def intra_reader_kappa(
    first: np.ndarray, second: np.ndarray, strata: np.ndarray, *, ordinal: bool
) -> ReaderStatistic:
    """Cohen's kappa of each reader's first and second answers to the same image."""
    kappa: Callable[[np.ndarray, np.ndarray], tuple[float, np.ndarray]] = (
        _weighted_kappa_loo if ordinal else _cohen_kappa_loo
    )
    values, without = np.full(len(first), np.nan), np.full(first.shape, np.nan)
    both = np.isfinite(first) & np.isfinite(second)
    for reader, seen in enumerate(both):
        if seen.sum() >= 3:
            values[reader], found = kappa(first[reader, seen], second[reader, seen])
            without[reader, seen] = found
    deviations = jackknife_deviations(values, without, strata)
    own = np.zeros(len(first))
    return ReaderStatistic(values, deviations, own, KAPPA_PRIOR_SCALE, int(both.any(0).sum()))


def _cohen_kappa_loo(first: np.ndarray, second: np.ndarray) -> tuple[float, np.ndarray]:
    options = np.union1d(first, second)
    x, y = (part[:, None] == options for part in (first, second))
    same, n = first == second, len(first)
    sums = x.sum(0), y.sum(0)
    value = _chance_corrected(same.mean(), (sums[0] * sums[1]).sum() / n**2)
    left = [(total - part) / (n - 1) for total, part in zip(sums, (x, y), strict=True)]
    without = _chance_corrected((same.sum() - same) / (n - 1), (left[0] * left[1]).sum(1))
    return float(value), without
