"""A study's results as long tables: results.csv and measures.csv."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields, replace

import pandas as pd

from xraysynth.evaluation.metrics.statistics import Interval
from xraysynth.report.arm_groups import PRIMARY_METRIC, count_test_images
from xraysynth.report.content import Arm, Content, Evaluation, PoolResults

NAN = float("nan")
MISSING_INTERVAL = Interval(NAN, NAN, NAN, 0)


@dataclass(frozen=True, kw_only=True)
class ResultRow:
    """One score of an arm: the mean over seeds with its interval, or that of one seed.

    The fields are the columns of results.csv, in order. `share` is the former name of
    `synthetic_fraction`, and goes in the next version.
    """

    generator: str
    share: float
    mode: str
    seed: int | None = None
    metric: str = ""
    value: float = NAN
    low: float = NAN
    high: float = NAN
    n_test: int = 0
    n_seeds: int
    real_images: int
    synthetic_images: int
    difference: float = NAN
    difference_low: float = NAN
    difference_high: float = NAN
    simulated: bool = False
    control: str
    real_fraction: float
    left_out: str
    test_set: str = ""
    p_holm: float | None = None
    over_duplicates: float = NAN
    over_duplicates_low: float = NAN
    over_duplicates_high: float = NAN
    over_duplicates_p_holm: float | None = None
    over_permuted: float = NAN
    over_permuted_low: float = NAN
    over_permuted_high: float = NAN
    over_permuted_p_holm: float | None = None
    synthetic_fraction: float


RESULT_COLUMNS = [item.name for item in fields(ResultRow)]


@dataclass(frozen=True, kw_only=True)
class MeasureRow:
    """One number measured on a generator's images, with its real-vs-real baseline.

    The fields are the columns of measures.csv, in order: those of `evaluation.results.Measure`
    behind the generator's name. The baseline of what is no distance is the same number of real
    images.
    """

    generator: str
    encoder: str = ""
    metric: str
    label: str = ""
    value: float
    low: float
    high: float
    n: int
    excess_low: float = NAN
    excess_high: float = NAN
    better: str
    note: str = ""
    p: float = NAN
    baseline_value: float = NAN
    baseline_low: float = NAN
    baseline_high: float = NAN


FORMER_COLUMNS = {
    "floor": "baseline_value",
    "floor_low": "baseline_low",
    "floor_high": "baseline_high",
}
"""Columns of measures.csv that have another name now; the former ones go in the next version."""

_MEASURE_FIELDS = [item.name for item in fields(MeasureRow)]
_N = _MEASURE_FIELDS.index("n") + 1
MEASURE_COLUMNS = [*_MEASURE_FIELDS[:_N], *FORMER_COLUMNS, *_MEASURE_FIELDS[_N:]]


def results_table(content: Content) -> pd.DataFrame:
    """One row per arm, metric and seed, and one for the mean over seeds, whose `seed` is <NA>.

    Only the mean rows have an interval; only those that are compared with real only have a difference
    (arm minus real only, by the seeds that both have finished). `over_duplicates` and `over_permuted`
    are the arm minus its controls. The macro-F1 of arms with a generator's images has the p-value of
    each difference, adjusted after Holm over all of its kind (`p_holm` that of `difference`).
    `test_set` is empty for the study's own test images, and names an external test set in the rows,
    means alone, of its scores.
    """
    rows = [row for arm in content.arms for row in (*_arm_rows(arm), *_external_rows(arm))]
    table = pd.DataFrame(rows, columns=RESULT_COLUMNS).assign(simulated=content.simulated)
    integers = dict.fromkeys(
        ["seed", "n_test", "n_seeds", "real_images", "synthetic_images"], "Int64"
    )
    texts = ("generator", "mode", "metric", "control", "left_out", "test_set", "simulated")
    floats = [name for name in RESULT_COLUMNS if name not in (*texts, *integers)]
    return table.astype(integers | dict.fromkeys(floats, "float64"))


def _base_row(arm: Arm) -> ResultRow:
    """What the rows of one arm have in common."""
    return ResultRow(
        generator=arm.generator,
        share=arm.synthetic_fraction,
        synthetic_fraction=arm.synthetic_fraction,
        mode=arm.mode,
        n_test=count_test_images(arm),
        n_seeds=len(arm.seeds),
        real_images=arm.real_images,
        synthetic_images=arm.synthetic_images,
        control=arm.control,
        real_fraction=arm.real_fraction,
        left_out=arm.left_out_source,
    )


def _arm_rows(arm: Arm) -> Iterator[ResultRow]:
    for metric, interval in arm.scores.items():
        row = _mean_row(arm, metric, interval)
        yield _with_p_values(row, arm) if metric == PRIMARY_METRIC else row
    shared = _base_row(arm)
    for seed, scores in zip(arm.seeds, arm.scores_by_seed, strict=True):
        for metric, value in scores.items():
            yield replace(shared, seed=seed, metric=metric, value=value)


def _mean_row(arm: Arm, metric: str, interval: Interval) -> ResultRow:
    over_real = arm.over_real.differences.get(metric, MISSING_INTERVAL)
    over_duplicates = arm.over_duplicates.differences.get(metric, MISSING_INTERVAL)
    over_permuted = arm.over_permuted.differences.get(metric, MISSING_INTERVAL)
    return replace(
        _base_row(arm),
        metric=metric,
        value=interval.value,
        low=interval.low,
        high=interval.high,
        difference=over_real.value,
        difference_low=over_real.low,
        difference_high=over_real.high,
        over_duplicates=over_duplicates.value,
        over_duplicates_low=over_duplicates.low,
        over_duplicates_high=over_duplicates.high,
        over_permuted=over_permuted.value,
        over_permuted_low=over_permuted.low,
        over_permuted_high=over_permuted.high,
    )


def _with_p_values(row: ResultRow, arm: Arm) -> ResultRow:
    return replace(
        row,
        p_holm=arm.over_real.p_holm,
        over_duplicates_p_holm=arm.over_duplicates.p_holm,
        over_permuted_p_holm=arm.over_permuted.p_holm,
    )


def _external_rows(arm: Arm) -> Iterator[ResultRow]:
    for name, scores in arm.external.items():
        n_test = max((interval.n for interval in scores.values()), default=0)
        shared = replace(_base_row(arm), test_set=name, n_test=n_test)
        for metric, interval in scores.items():
            yield replace(
                shared, metric=metric, value=interval.value, low=interval.low, high=interval.high
            )


def measures_table(content: Content | Evaluation) -> pd.DataFrame:
    """Everything measured on the generators' images, one row each, with its baseline where it has one."""
    pools = content.pools if isinstance(content, Content) else [content]
    rows = [row for pool in pools for row in _measure_rows(pool)]
    table = pd.DataFrame(rows, columns=_MEASURE_FIELDS)
    for former, present in FORMER_COLUMNS.items():
        table[former] = table[present]
    table = table[MEASURE_COLUMNS]
    texts = ["generator", "encoder", "metric", "label", "better", "note"]
    floats = [name for name in MEASURE_COLUMNS if name not in (*texts, "n")]
    table[texts] = table[texts].astype(object)
    return table.astype(dict.fromkeys(floats, "float64") | {"n": "Int64"})


def _measure_rows(pool: PoolResults | Evaluation) -> Iterator[MeasureRow]:
    name = pool.generator
    for measure in pool.measures:
        yield MeasureRow(generator=name, **asdict(measure))
    for similarity in pool.nearest_similarity:
        metric = f"{similarity.metric} to the nearest training image"
        yield _row_beside_real(name, metric, similarity, similarity.real)
    for pairs in pool.diversity:
        row = _row_beside_real(name, f"{pairs.metric} within a class", pairs, pairs.real)
        yield replace(row, label=pairs.label)
    for look in pool.appearance:
        yield _row_beside_real(name, look.measure, look, look.real)
    if isinstance(pool, PoolResults):
        for seen in pool.label_fidelity:
            row = _row_beside_real(name, "label faithfulness", seen, seen.real)
            yield replace(
                row,
                label=seen.label,
                baseline_low=seen.real_low,
                baseline_high=seen.real_high,
                better="higher",
            )
        yield from _real_classifier_rows(pool)


def _row_beside_real(generator: str, metric: str, interval: Interval, real: float) -> MeasureRow:
    return MeasureRow(
        generator=generator,
        metric=metric,
        value=interval.value,
        low=interval.low,
        high=interval.high,
        n=interval.n,
        baseline_value=real,
        better="floor",
    )


def _real_classifier_rows(pool: PoolResults) -> Iterator[MeasureRow]:
    for name, interval in pool.real_classifier_scores.items():
        metric, _, label = name.partition("/")
        yield MeasureRow(
            generator=pool.generator,
            metric=f"trained on real, tested on these: {metric}",
            label=label,
            value=interval.value,
            low=interval.low,
            high=interval.high,
            n=interval.n,
            better="lower" if metric in ("ece", "brier") else "higher",
        )
