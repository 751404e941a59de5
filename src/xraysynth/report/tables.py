"""A study's results as tables: the long ones for files, and what the arms are to each other."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd

from xraysynth.evaluation.metrics.scores import confusion as count_confusion
from xraysynth.evaluation.metrics.statistics import Interval
from xraysynth.manifest import patient_keys
from xraysynth.report.content import Arm, Comparison, Content, Evaluation, PoolView

PRIMARY = "macro_f1"
"""The metric that arms are compared by."""

SUMMARY = {
    "macro_f1": "macro-F1",
    "balanced_accuracy": "balanced accuracy",
    "accuracy": "accuracy",
    "macro_auroc": "AUROC",
    "macro_auprc": "AUPRC",
    "ece": "ECE",
}
"""Metrics of the table of arms, in order; lower is better for the calibration error ECE only."""

RESULT_COLUMNS = [
    *("generator", "share", "mode", "seed", "metric", "value", "low", "high"),
    *("n_test", "n_seeds", "real_images", "synthetic_images"),
    *("difference", "difference_low", "difference_high", "simulated"),
    *("control", "real_fraction", "left_out", "test_set", "p_holm"),
    *("over_duplicates", "over_duplicates_low", "over_duplicates_high", "over_duplicates_p_holm"),
    *("over_permuted", "over_permuted_low", "over_permuted_high", "over_permuted_p_holm"),
]

MEASURE_COLUMNS = [
    *("generator", "encoder", "metric", "label", "value", "low", "high", "n"),
    *("floor", "floor_low", "floor_high", "excess_low", "excess_high", "better", "note", "p"),
]

GROUPS = {
    "": "",
    "control": "Controls: repeats of real images, or synthetic images under permuted labels, "
    "in place of the synthetic ones",
    "fraction": "A fraction of the real images",
    "left out": "Trained without one data set",
}
"""Groups of arms in order, with their titles."""


def results(content: Content) -> pd.DataFrame:
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


def _shared(arm: Arm) -> dict[str, Any]:
    """What the rows of one arm have in common."""
    return {
        "generator": arm.generator,
        "share": arm.share,
        "mode": arm.mode,
        "n_seeds": len(arm.seeds),
        "real_images": arm.real_images,
        "synthetic_images": arm.synthetic_images,
        "control": arm.control,
        "real_fraction": arm.real_fraction,
        "left_out": arm.left_out,
    }


def _arm_rows(arm: Arm) -> Iterator[dict[str, Any]]:
    shared = _shared(arm) | {"n_test": test_images(arm), "test_set": ""}
    for metric, interval in arm.scores.items():
        row = shared | {"seed": pd.NA, "metric": metric}
        row |= {"value": interval.value, "low": interval.low, "high": interval.high}
        for name, compared in _comparisons(arm).items():
            row |= _bounds(name, compared.differences.get(metric))
        if metric == PRIMARY:
            row |= {
                "p_holm": arm.over_real.p_holm,
                "over_duplicates_p_holm": arm.over_duplicates.p_holm,
                "over_permuted_p_holm": arm.over_permuted.p_holm,
            }
        yield row
    for seed, scores in zip(arm.seeds, arm.scores_by_seed, strict=True):
        for metric, value in scores.items():
            yield shared | {"seed": seed, "metric": metric, "value": value}


def _comparisons(arm: Arm) -> dict[str, Comparison]:
    """What an arm is compared with, by the names of the columns."""
    return {
        "difference": arm.over_real,
        "over_duplicates": arm.over_duplicates,
        "over_permuted": arm.over_permuted,
    }


def _bounds(name: str, found: Interval | None) -> dict[str, float]:
    """A value and its interval in three columns; nothing where it was not measured."""
    if found is None:
        return {}
    return {name: found.value, f"{name}_low": found.low, f"{name}_high": found.high}


def _external_rows(arm: Arm) -> Iterator[dict[str, Any]]:
    for name, scores in arm.external.items():
        n_test = max((interval.n for interval in scores.values()), default=0)
        for metric, interval in scores.items():
            row = _shared(arm) | {"test_set": name, "n_test": n_test, "seed": pd.NA}
            row |= {"metric": metric, "value": interval.value}
            yield row | {"low": interval.low, "high": interval.high}


def measures(content: Content | Evaluation) -> pd.DataFrame:
    """Everything measured on the generators' images, a row each, with its floor where it has one.

    Columns are `MEASURE_COLUMNS`: those of `metrics.measures.Measure` behind the generator's name.
    The floor of what is no distance is the same of real images.
    """
    pools = content.pools if isinstance(content, Content) else [content]
    rows = [{"generator": pool.generator} | row for pool in pools for row in _measured(pool)]
    table = pd.DataFrame(rows, columns=MEASURE_COLUMNS)
    texts = ["generator", "encoder", "metric", "label", "better", "note"]
    floats = [name for name in MEASURE_COLUMNS if name not in (*texts, "n")]
    table[texts] = table[texts].astype(object).fillna("")
    return table.astype(dict.fromkeys(floats, "float64") | {"n": "Int64"})


def _measured(pool: PoolView | Evaluation) -> Iterator[dict[str, Any]]:
    for measure in pool.measures:
        yield asdict(measure)
    for similarity in pool.nearest_similarity:
        metric = f"{similarity.metric} to the nearest training image"
        yield _beside_real(similarity, metric, similarity.real)
    for pairs in pool.diversity:
        row = _beside_real(pairs, f"{pairs.metric} within a class", pairs.real)
        yield row | {"label": pairs.label}
    for look in pool.appearance:
        yield _beside_real(look, look.measure, look.real)
    if isinstance(pool, PoolView):
        for seen in pool.faithfulness:
            row = _beside_real(seen, "label faithfulness", seen.real)
            bounds = {"floor_low": seen.real_low, "floor_high": seen.real_high}
            yield row | bounds | {"label": seen.label, "better": "higher"}
        yield from _tested_on(pool)


def _beside_real(measured: Interval, metric: str, real: float) -> dict[str, Any]:
    numbers = {name: getattr(measured, name) for name in ("value", "low", "high", "n")}
    return numbers | {"metric": metric, "floor": real, "better": "floor"}


def _tested_on(pool: PoolView) -> Iterator[dict[str, Any]]:
    for name, interval in pool.tested_on.items():
        metric, _, label = name.partition("/")
        better = "lower" if metric in ("ece", "brier") else "higher"
        row = {"metric": f"trained on real, tested on these: {metric}", "label": label}
        yield row | interval.as_dict() | {"better": better}


def group(arm: Arm) -> str:
    """The key in `GROUPS` of an arm; "" where its gain is of interest for its own sake."""
    if arm.left_out:
        return "left out"
    if arm.control:
        return "control"
    return "fraction" if arm.real_fraction != 1 else ""


def grouped(arms: Sequence[Arm]) -> list[tuple[str, list[Arm]]]:
    """The arms in order, by the title of their group; groups without arms are left out."""
    found = [(title, [arm for arm in arms if group(arm) == key]) for key, title in GROUPS.items()]
    return [(title, own) for title, own in found if own]


def test_images(arm: Arm) -> int:
    """Test images of an arm, the same for each of its seeds."""
    return len(arm.predictions[0]) if arm.predictions else 0


def test_patients(arm: Arm) -> int:
    """Patients behind the test images; a patient is known by source and id together."""
    if not arm.predictions:
        return 0
    return int(patient_keys(arm.predictions[0]).nunique())


def ordered(arms: Sequence[Arm]) -> list[Arm]:
    """By group; real only first, then generator by generator as they come, by mode and share."""
    generators, groups = list(dict.fromkeys(arm.generator for arm in arms)), list(GROUPS)
    return sorted(
        arms,
        key=lambda a: (
            *(groups.index(group(a)), a.control, -a.real_fraction, a.share > 0),
            *(generators.index(a.generator), a.share == 1, a.mode, a.share),
        ),
    )


def confusion(arm: Arm, classes: Sequence[str]) -> np.ndarray:
    """Test images by true (row) and most probable class (column), `(C, C)`, summed over seeds."""
    counts = np.zeros((len(classes), len(classes)), np.int64)
    for table in arm.predictions:
        targets = pd.Categorical(table["label"], categories=list(classes)).codes.astype(np.int64)
        counts += count_confusion(table[[f"p_{c}" for c in classes]].to_numpy(), targets)
    return counts
