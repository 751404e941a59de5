"""Agreement of the encoders about the order of the generators."""

from collections.abc import Sequence
from itertools import combinations

from xraysynth.report.content import EncoderAgreement, PoolResults


def rank_agreement(pools: Sequence[PoolResults]) -> list[EncoderAgreement]:
    """Returns Kendall's tau of the generators' Fréchet distances for each pair of encoders.

    Encoders that did not measure every generator are left out, and with fewer than two generators
    the list is empty.
    """
    from scipy.stats import kendalltau

    if len(pools) < 2:
        return []
    agreements = []
    distances = _frechet_distances(pools)
    complete = [encoder for encoder, values in distances.items() if len(values) == len(pools)]
    for first, second in combinations(complete, 2):
        tau = float(kendalltau(distances[first], distances[second]).statistic)
        agreements.append(EncoderAgreement(first, second, tau, len(pools)))
    return agreements


def _frechet_distances(pools: Sequence[PoolResults]) -> dict[str, list[float]]:
    """Returns the Fréchet distances of all classes together, pool by pool, by encoder."""
    distances: dict[str, list[float]] = {}
    for pool in pools:
        for row in pool.measures:
            if not row.label and (row.metric == "FID" or row.metric.startswith("FD(")):
                distances.setdefault(row.encoder, []).append(row.value)
    return distances
