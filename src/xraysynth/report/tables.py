"""Results of a study as long tables: results.csv and measures.csv."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields, replace

import pandas as pd

from xraysynth.evaluation.metrics.statistics import Interval
from xraysynth.report.arm_groups import PRIMARY_METRIC, count_test_images
from xraysynth.report.arm_verdicts import verdict_word
from xraysynth.report.content import Arm, Content, Evaluation, PoolResults
from xraysynth.report.result_rows import NAN, RESULT_COLUMNS, RESULT_TEXTS, ResultRow

MISSING_INTERVAL = Interval(NAN, NAN, NAN, 0)


@dataclass(frozen=True, kw_only=True)
class MeasureRow:
    """One number measured on a generator's images, with its real-vs-real baseline.

    The fields are the columns of measures.csv, in order: the generator and the fields of
    `evaluation.results.Measure`.

    Attributes:
        generator: Name of the generator.
        label: The class; empty for all classes together.
        n: Number of images behind the value.
        excess_low: Lower end of the interval of the value minus its baseline.
        excess_high: Upper end of that interval.
        better: "lower", "higher", or "floor" where the best value is that of the baseline.
        note: A caveat on the value.
        p: p-value of the excess, not adjusted.
        baseline_value: The real-vs-real baseline of a distance, and the same number of real images for
            all other measures, with its interval in the next two columns.
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
    """Returns one row per arm, metric and seed, and one for the mean over seeds, whose `seed` is <NA>.

    Only the mean rows have an interval; only those that are compared with real only have a difference
    (arm minus real only, means over all seeds of either). `over_duplicates` and `over_permuted`
    are the arm minus its controls. The macro-F1 of arms with a generator's images has the p-value of
    each difference, adjusted after Holm over all of its kind (`p_holm` that of `difference`), the
    verdict on it and the difference that would have been found.
    `test_set` is empty for the study's own test images, and names an external test set in the rows,
    means alone, of its scores.
    """
    rows: list[ResultRow] = []
    for arm in content.arms:
        rows += _arm_rows(arm)
        rows += _external_rows(arm)
    table = pd.DataFrame(rows, columns=RESULT_COLUMNS).assign(simulated=content.simulated)
    integers = dict.fromkeys(
        ["seed", "n_test", "n_seeds", "real_images", "synthetic_images"], "Int64"
    )
    floats = [name for name in RESULT_COLUMNS if name not in (*RESULT_TEXTS, *integers)]
    return table.astype(integers | dict.fromkeys(floats, "float64"))


def _base_row(arm: Arm) -> ResultRow:
    """Returns the columns that all rows of one arm share."""
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
    """Yields the mean of each score, and then the scores of each seed."""
    for metric, interval in arm.scores.items():
        row = _mean_row(arm, metric, interval)
        yield _with_verdicts(row, arm) if metric == PRIMARY_METRIC else row
    base_row = _base_row(arm)
    for seed, scores in zip(arm.seeds, arm.scores_by_seed, strict=True):
        for metric, value in scores.items():
            yield replace(base_row, seed=seed, metric=metric, value=value)


def _mean_row(arm: Arm, metric: str, interval: Interval) -> ResultRow:
    """Returns the mean of one score over seeds, with the differences to other arms."""
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


def _with_verdicts(row: ResultRow, arm: Arm) -> ResultRow:
    """Returns a row with what was tested of its differences, which only the primary score has."""
    return replace(
        row,
        p_holm=arm.over_real.p_holm,
        verdict=verdict_word(arm, arm.over_real),
        detectable=arm.over_real.detectable,
        p_equivalent=arm.over_real.p_equivalent,
        over_duplicates_p_holm=arm.over_duplicates.p_holm,
        over_duplicates_verdict=verdict_word(arm, arm.over_duplicates),
        over_duplicates_detectable=arm.over_duplicates.detectable,
        over_duplicates_p_equivalent=arm.over_duplicates.p_equivalent,
        over_permuted_p_holm=arm.over_permuted.p_holm,
        over_permuted_verdict=verdict_word(arm, arm.over_permuted),
        over_permuted_detectable=arm.over_permuted.detectable,
        over_permuted_p_equivalent=arm.over_permuted.p_equivalent,
        equivalence_margin=arm.over_real.margin,
    )


def _external_rows(arm: Arm) -> Iterator[ResultRow]:
    """Yields the mean of each score on each external test set."""
    for name, scores in arm.external.items():
        n_test = max((interval.n for interval in scores.values()), default=0)
        base_row = replace(_base_row(arm), test_set=name, n_test=n_test)
        for metric, interval in scores.items():
            yield replace(
                base_row, metric=metric, value=interval.value, low=interval.low, high=interval.high
            )


def measures_table(content: Content | Evaluation) -> pd.DataFrame:
    """Returns every number measured on the generators' images in a row of its own, with its baseline.

    The columns are `MEASURE_COLUMNS`.
    """
    pools = content.pools if isinstance(content, Content) else [content]
    rows: list[MeasureRow] = []
    for pool in pools:
        rows += _measure_rows(pool)
    table = pd.DataFrame(rows, columns=_MEASURE_FIELDS)
    for former, present in FORMER_COLUMNS.items():
        table[former] = table[present]
    table = table[MEASURE_COLUMNS]
    texts = ["generator", "encoder", "metric", "label", "better", "note"]
    floats = [name for name in MEASURE_COLUMNS if name not in (*texts, "n")]
    table[texts] = table[texts].astype(object)
    return table.astype(dict.fromkeys(floats, "float64") | {"n": "Int64"})


def _measure_rows(pool: PoolResults | Evaluation) -> Iterator[MeasureRow]:
    """Yields every number measured on the images of one generator."""
    name = pool.generator
    for measure in pool.measures:
        yield MeasureRow(generator=name, **asdict(measure))
    for similarity in pool.nearest_similarity:
        metric = f"{similarity.metric} to the nearest training image"
        yield _row_with_real(name, metric, similarity, similarity.real)
    for pairs in pool.diversity:
        row = _row_with_real(name, f"{pairs.metric} within a class", pairs, pairs.real)
        yield replace(row, label=pairs.label)
    for appearance in pool.appearance:
        yield _row_with_real(name, appearance.measure, appearance, appearance.real)
    if isinstance(pool, PoolResults):
        yield from _fidelity_rows(pool)
        yield from _real_classifier_rows(pool)


def _fidelity_rows(pool: PoolResults) -> Iterator[MeasureRow]:
    """Yields the label fidelity, under the name that earlier versions gave to it."""
    for fidelity in pool.label_fidelity:
        row = _row_with_real(pool.generator, "label faithfulness", fidelity, fidelity.real)
        yield replace(
            row,
            label=fidelity.label,
            baseline_low=fidelity.real_low,
            baseline_high=fidelity.real_high,
            better="higher",
        )


def _row_with_real(generator: str, metric: str, interval: Interval, real: float) -> MeasureRow:
    """Returns a number whose baseline is the same number of real images."""
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
    """Yields the scores of real-only classifiers on the images of a generator."""
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
