"""How far encoders rank the generators alike."""

from collections.abc import Sequence
from itertools import combinations

from xraysynth.report.content import EncoderAgreement, PoolResults


def rank_agreement(pools: Sequence[PoolResults]) -> list[EncoderAgreement]:
    """Of every two encoders, by the Fréchet distance of all classes; none of fewer than two generators.

    Encoders that did not measure every generator are left out.
    """
    from scipy.stats import kendalltau

    if len(pools) < 2:
        return []
    distances: dict[str, list[float]] = {}
    for pool in pools:
        for row in pool.measures:
            if not row.label and (row.metric == "FID" or row.metric.startswith("FD(")):
                distances.setdefault(row.encoder, []).append(row.value)
    complete = {name: values for name, values in distances.items() if len(values) == len(pools)}
    return [
        EncoderAgreement(
            first,
            second,
            float(kendalltau(complete[first], complete[second]).statistic),
            len(pools),
        )
        for first, second in combinations(complete, 2)
    ]
