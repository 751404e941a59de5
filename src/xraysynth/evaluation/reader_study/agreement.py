"""Measures how far readers agree with each other, and with their own earlier answers.

Codes `(J, I)` are the number of the option that each of J readers chose for each of I images, NaN where a
reader has not seen an image. Reported values are those of statsmodels (Fleiss), scikit-learn (Cohen) and
krippendorff. The jackknife needs each statistic hundreds of times; where a package is slow, the same
formula is written for all images at once.
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

MIN_REPEATS = 3
"""The number of images that a reader must have seen twice for a kappa with themselves."""

MeasurementLevel = Literal["nominal", "ordinal"]

_TOO_FEW_READERS_NOTE = "needs two readers of the same images"


def fleiss(codes: np.ndarray, strata: np.ndarray, *, options: int) -> Estimate:
    """Computes Fleiss' kappa (1971) of the images that every reader has seen; 1 is agreement, 0 chance.

    kappa = (P - P_e) / (1 - P_e): P is the proportion of pairs of readers that agree on an image, P_e
    the sum of squared proportions of the options.

    Args:
        codes: The chosen options by reader and image, `(J, I)`.
        strata: The stratum of each image, `(I,)`.
        options: The number of options.
    """
    is_complete = np.isfinite(codes).all(0)
    n_incomplete = int(np.isfinite(codes).any(0).sum()) - int(is_complete.sum())
    note = f"without {n_incomplete} images that not every reader has seen" if n_incomplete else ""
    codes = codes[:, is_complete]
    if len(codes) < 2 or codes.shape[1] < 2:
        return _without_interval(codes, _TOO_FEW_READERS_NOTE)
    _, pseudo_values = panel_statistic(
        codes,
        strata[is_complete],
        lambda panel_codes: _fleiss_loo(panel_codes, options),
        prior_scale=KAPPA_PRIOR_SCALE,
    )
    kappa = _fleiss_by_statsmodels(codes, options)
    return panel_estimate(kappa, pseudo_values, readers=len(codes), note=note)


def _without_interval(codes: np.ndarray, note: str) -> Estimate:
    return Estimate.without_interval(readers=len(codes), images=codes.shape[1], note=note)


def _option_counts(codes: np.ndarray, options: int) -> np.ndarray:
    """Counts the readers who chose each option of each image, `(I, K)`."""
    counts: np.ndarray = (codes[..., None] == np.arange(options)).sum(0)
    return counts


def _fleiss_loo(codes: np.ndarray, options: int) -> tuple[float, np.ndarray]:
    """Computes Fleiss' kappa of all images, and the kappas without each image `(I,)`."""
    counts = _option_counts(codes, options).astype(float)
    n_images, n_readers = len(counts), len(codes)
    agreeing_pairs = (counts * (counts - 1)).sum(1)
    observed = agreeing_pairs / (n_readers * (n_readers - 1))
    totals = counts.sum(0)
    proportions = totals / (n_readers * n_images)
    kappa = _chance_corrected(observed.mean(), (proportions**2).sum())
    observed_loo = (observed.sum() - observed) / (n_images - 1)
    proportions_loo = (totals - counts) / (n_readers * (n_images - 1))
    return float(kappa), _chance_corrected(observed_loo, (proportions_loo**2).sum(1))


def _chance_corrected(observed: Any, expected: Any) -> Any:
    """Computes (observed - expected) / (1 - expected), NaN where chance alone gives full agreement."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(expected < 1 - 1e-12, (observed - expected) / (1 - expected), np.nan)


def _fleiss_by_statsmodels(codes: np.ndarray, options: int) -> float:
    """Computes Fleiss' kappa; NaN where all answers are the same, which gives 0 / 0."""
    try:
        from statsmodels.stats.inter_rater import fleiss_kappa  # type: ignore[import-untyped]
    except ImportError as error:
        raise _missing_package_error("statsmodels") from error
    counts = _option_counts(codes, options)
    if _has_one_option(counts):
        return float("nan")
    return float(fleiss_kappa(counts))


def _has_one_option(counts: np.ndarray) -> bool:
    """Whether everyone chose the same option for every image."""
    return bool((counts.sum(0) > 0).sum() < 2)


def _missing_package_error(package: str) -> DataNotFoundError:
    return DataNotFoundError(
        f"review analyse needs the package {package} to compute the agreement of readers; run pip install "
        "'xraysynth[review]'"
    )


def krippendorff_alpha(
    codes: np.ndarray, strata: np.ndarray, *, options: int, level: MeasurementLevel
) -> Estimate:
    """Computes Krippendorff's alpha (2004) of images that two readers have seen; 1 is agreement, 0 chance.

    An image that some reader has not seen counts by the answers of the others.

    Args:
        codes: The chosen options by reader and image, `(J, I)`.
        strata: The stratum of each image, `(I,)`.
        options: The number of options.
        level: "nominal", or "ordinal" where the options are in order.
    """
    has_pair = np.isfinite(codes).sum(0) >= 2
    codes = codes[:, has_pair]
    if len(codes) < 2 or codes.shape[1] < 2:
        return _without_interval(codes, _TOO_FEW_READERS_NOTE)
    alpha, pseudo_values = panel_statistic(
        codes,
        strata[has_pair],
        lambda panel_codes: _alpha_loo(panel_codes, options, level),
        prior_scale=KAPPA_PRIOR_SCALE,
    )
    return panel_estimate(alpha, pseudo_values, readers=len(codes))


def _alpha_loo(
    codes: np.ndarray, options: int, level: MeasurementLevel
) -> tuple[float, np.ndarray]:
    """Computes alpha of all images, and the alphas without each image `(I,)`.

    Images with the same counts of options have the same alpha without them, which is computed once.
    """
    counts = _option_counts(codes, options)
    patterns, pattern_of_image = np.unique(counts, axis=0, return_inverse=True)
    pattern_of_image = pattern_of_image.ravel()
    frequencies = np.bincount(pattern_of_image, minlength=len(patterns))
    alphas_loo = []
    for left_out in np.eye(len(patterns), dtype=int):
        remaining = np.repeat(patterns, frequencies - left_out, axis=0)
        alphas_loo.append(_alpha_of_counts(remaining, level))
    return _alpha_of_counts(counts, level), np.array(alphas_loo)[pattern_of_image]


def _alpha_of_counts(counts: np.ndarray, level: MeasurementLevel) -> float:
    """Computes alpha of counts `(I, K)`; NaN where all answers are the same."""
    try:
        import krippendorff
    except ImportError as error:
        raise _missing_package_error("krippendorff") from error
    counts = counts[counts.sum(1) >= 2]
    if _has_one_option(counts):
        return float("nan")
    domain = list(range(counts.shape[1]))
    alpha = krippendorff.alpha(value_counts=counts, value_domain=domain, level_of_measurement=level)
    return float(alpha)


def weighted_kappa(codes: np.ndarray, strata: np.ndarray) -> Estimate:
    """Computes Cohen's kappa with quadratic weights, the mean over pairs of readers.

    Args:
        codes: Steps of a scale by reader and image, `(J, I)`.
        strata: The stratum of each image, `(I,)`.
    """
    if len(codes) < 2:
        return _without_interval(codes, _TOO_FEW_READERS_NOTE)
    kappa, pseudo_values = panel_statistic(
        codes, strata, _mean_weighted_kappa_loo, prior_scale=KAPPA_PRIOR_SCALE
    )
    return panel_estimate(kappa, pseudo_values, readers=len(codes))


def _mean_weighted_kappa_loo(codes: np.ndarray) -> tuple[float, np.ndarray]:
    """Computes the mean kappa of all pairs of readers, and the means without each image `(I,)`."""
    kappas, kappas_loo = [], []
    for first, second in combinations(codes, 2):
        kappa, kappa_loo = _weighted_kappa_loo(first, second)
        if np.isfinite(kappa):
            kappas.append(kappa)
            kappas_loo.append(kappa_loo)
    if not kappas:
        return float("nan"), np.full(codes.shape[1], np.nan)
    return float(np.mean(kappas)), np.mean(kappas_loo, axis=0)


def _weighted_kappa_loo(first: np.ndarray, second: np.ndarray) -> tuple[float, np.ndarray]:
    """Computes the weighted kappa of two readers, and the kappas without each image `(I,)`.

    Quadratic weights make Cohen's kappa 1 - E(x - y)^2 / (var x + var y + (mean x - mean y)^2)
    (Fleiss and Cohen 1973; Lin 1989).
    """
    seen = np.isfinite(first) & np.isfinite(second)
    x, y = first[seen], second[seen]
    terms = np.array([np.ones(len(x)), x, y, x * x, y * y, (x - y) ** 2])
    sums = terms.sum(1)
    kappa = _kappa_from_sums(sums)
    kappas_loo = np.full(len(first), kappa)
    kappas_loo[seen] = _kappa_from_sums(sums[:, None] - terms)
    return float(kappa), kappas_loo


def _kappa_from_sums(sums: np.ndarray) -> np.ndarray:
    """Computes the weighted kappa from the sums of 1, x, y, x^2, y^2 and (x - y)^2, `(6, ...)`."""
    with np.errstate(divide="ignore", invalid="ignore"):
        n = sums[0]
        x, y, xx, yy, squared_difference = sums[1:] / n
        expected = xx - x**2 + yy - y**2 + (x - y) ** 2
        is_defined = (n > 1) & (expected > 1e-12)
        kappa: np.ndarray = np.where(is_defined, 1 - squared_difference / expected, np.nan)
    return kappa


@dataclass(frozen=True)
class ReaderPair:
    """Cohen's kappa of two readers, over the `images` that both have seen."""

    reader: str
    other: str
    value: float
    images: int


def pairwise_kappas(
    codes: np.ndarray, readers: Sequence[str], *, ordinal: bool
) -> list[ReaderPair]:
    """Computes Cohen's kappa of every two readers, with quadratic weights for an `ordinal` scale.

    Args:
        codes: The chosen options by reader and image, `(J, I)`.
        readers: The J names of the readers.
        ordinal: Whether the options are steps of a scale.
    """
    pairs = []
    for a, b in combinations(range(len(readers)), 2):
        seen = np.isfinite(codes[a]) & np.isfinite(codes[b])
        kappa = _cohen_by_sklearn(codes[a, seen], codes[b, seen], ordinal=ordinal)
        pairs.append(ReaderPair(readers[a], readers[b], kappa, int(seen.sum())))
    return pairs


def _cohen_by_sklearn(first: np.ndarray, second: np.ndarray, *, ordinal: bool) -> float:
    """Computes Cohen's kappa of the answers of two readers `(I,)`; NaN where all are the same."""
    from sklearn.metrics import cohen_kappa_score

    labels = np.union1d(first, second)
    if len(labels) < 2:
        return float("nan")
    if ordinal:  # steps that nobody chose count as distance between those that were chosen
        labels = np.arange(labels.min(), labels.max() + 1)
    kappa = cohen_kappa_score(
        first.astype(int),
        second.astype(int),
        labels=labels.astype(int),
        weights="quadratic" if ordinal else None,
    )
    return float(kappa)


def intra_reader_kappa(
    first: np.ndarray, second: np.ndarray, strata: np.ndarray, *, ordinal: bool
) -> ReaderStatistic:
    """Computes Cohen's kappa of each reader's first and second answers to the same images.

    Args:
        first: The first answers by reader and image, `(J, I)`; NaN where there is none.
        second: The second answers, `(J, I)`.
        strata: The stratum of each image, `(I,)`.
        ordinal: Whether the answers are steps of a scale, which gives quadratic weights.

    Returns:
        The kappa of each reader; NaN for a reader with fewer than `MIN_REPEATS` repeats.
    """
    kappa_loo: Callable[[np.ndarray, np.ndarray], tuple[float, np.ndarray]] = (
        _weighted_kappa_loo if ordinal else _cohen_kappa_loo
    )
    kappas, kappas_loo = np.full(len(first), np.nan), np.full(first.shape, np.nan)
    is_repeated = np.isfinite(first) & np.isfinite(second)
    for reader, repeats in enumerate(is_repeated):
        if repeats.sum() >= MIN_REPEATS:
            kappas[reader], kappas_loo[reader, repeats] = kappa_loo(
                first[reader, repeats], second[reader, repeats]
            )
    deviations = jackknife_deviations(kappas, kappas_loo, strata)
    images = int(is_repeated.any(0).sum())
    return ReaderStatistic(kappas, deviations, np.zeros(len(first)), KAPPA_PRIOR_SCALE, images)


def _cohen_kappa_loo(first: np.ndarray, second: np.ndarray) -> tuple[float, np.ndarray]:
    """Computes Cohen's kappa of two series of answers `(I,)`, and the kappas without each image."""
    options = np.union1d(first, second)
    x = first[:, None] == options
    y = second[:, None] == options
    is_same, n = first == second, len(first)
    x_totals, y_totals = x.sum(0), y.sum(0)
    kappa = _chance_corrected(is_same.mean(), (x_totals * y_totals).sum() / n**2)
    observed_loo = (is_same.sum() - is_same) / (n - 1)
    x_proportions_loo = (x_totals - x) / (n - 1)
    y_proportions_loo = (y_totals - y) / (n - 1)
    expected_loo = (x_proportions_loo * y_proportions_loo).sum(1)
    return float(kappa), _chance_corrected(observed_loo, expected_loo)
