"""A study's results as tables: the long one for files, and the small ones on the page."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd

from xraysynth.metrics import classification
from xraysynth.report.content import Arm, Content, PoolView

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
]


ACCESS = {
    "access": "access",
    "licence": "licence",
    "offline": "offline",
    "seeds_reproducible": "seeds reproducible",
    "prompt_control": "prompt control",
    "fine_tunable": "fine-tunable",
    "hardware": "hardware",
    "set_up": "set-up",
    "price": "price",
}
"""Fields of a generator's card, with their titles."""

LEDGER = {
    "images": ("images", "count"),
    "attempts": ("requests, retries included", "count"),
    "seconds_p50": ("time per image, median", "time"),
    "seconds_p95": ("time per image, 95th percentile", "time"),
    "images_per_hour": ("images per hour", "count"),
    "load_seconds": ("loading the model", "time"),
    "finetune_seconds": ("fine-tuning", "time"),
    "finetune_steps": ("fine-tuning steps", "count"),
    "peak_rss_mb": ("peak memory, MB", "count"),
    "peak_vram_mb": ("peak GPU memory, MB", "count"),
    "energy_wh_per_1000": ("energy per 1,000 images, Wh", "number"),
    "energy_method": ("energy is", "text"),
    "cost_usd": ("paid, US dollars", "number"),
    "possible_usd": ("possibly billed besides, US dollars", "number"),
    "parameters": ("parameters", "count"),
    "trained_parameters": ("parameters trained here", "count"),
    "bytes_on_disk": ("weights on disk, bytes", "count"),
    "device": ("device", "text"),
    "engine": ("engine", "text"),
    "dtype": ("precision", "text"),
    "steps": ("denoising steps", "count"),
}
"""Entries of a generator's ledger, with their titles and kinds."""


def access(pools: Sequence[PoolView]) -> list[tuple[str, list[str]]]:
    """Rows of the access table: a title, and a value per generator."""
    cards = [asdict(pool.card) for pool in pools]
    words = {True: "yes", False: "no"}
    return [
        (title, [str(words.get(card[name], card[name])) for card in cards])
        for name, title in ACCESS.items()
    ]


def ledger(pools: Sequence[PoolView]) -> list[tuple[str, str, list[Any]]]:
    """Rows of the cost table: a title, a kind and a value per generator; none without any value."""
    entries = [_entries(pool) for pool in pools]
    rows = [
        (title, kind, [entry.get(name) for entry in entries])
        for name, (title, kind) in LEDGER.items()
    ]
    return [row for row in rows if any(value not in (None, 0, 0.0) for value in row[2])]


def _entries(pool: PoolView) -> dict[str, Any]:
    found = dict(pool.ledger)
    per_thousand = found.get("energy_kwh_per_1000")
    found["energy_wh_per_1000"] = None if per_thousand is None else per_thousand * 1000
    found["finetune_seconds"] = pool.taught.get("seconds")
    found["finetune_steps"] = pool.taught.get("steps")
    return found


def results(content: Content) -> pd.DataFrame:
    """One row per arm, metric and seed, and one for the mean over seeds, whose `seed` is <NA>.

    Only the mean rows have an interval; only those of arms with synthetic images have a difference
    (arm minus real only).
    """
    rows = [row for arm in content.arms for row in _arm_rows(arm)]
    table = pd.DataFrame(rows, columns=RESULT_COLUMNS).assign(simulated=content.simulated)
    integers = dict.fromkeys(
        ["seed", "n_test", "n_seeds", "real_images", "synthetic_images"], "Int64"
    )
    floats = ["share", "value", "low", "high", "difference", "difference_low", "difference_high"]
    return table.astype(integers | dict.fromkeys(floats, "float64"))


def _arm_rows(arm: Arm) -> Iterator[dict[str, Any]]:
    shared = {
        "generator": arm.generator,
        "share": arm.share,
        "mode": arm.mode,
        "n_test": test_images(arm),
        "n_seeds": len(arm.seeds),
        "real_images": arm.real_images,
        "synthetic_images": arm.synthetic_images,
    }
    for metric, interval in arm.scores.items():
        row = shared | {"seed": pd.NA, "metric": metric}
        row |= {"value": interval.value, "low": interval.low, "high": interval.high}
        if (gain := arm.difference.get(metric)) is not None:
            row |= {
                "difference": gain.value,
                "difference_low": gain.low,
                "difference_high": gain.high,
            }
        yield row
    for seed, scores in zip(arm.seeds, arm.scores_by_seed, strict=True):
        for metric, value in scores.items():
            yield shared | {"seed": seed, "metric": metric, "value": value}


def test_images(arm: Arm) -> int:
    """Test images of an arm, the same for each of its seeds."""
    return len(arm.predictions[0]) if arm.predictions else 0


def test_patients(arm: Arm) -> int:
    """Patients behind the test images; a patient is known by source and id together."""
    if not arm.predictions:
        return 0
    return len(arm.predictions[0][["source", "patient_id"]].drop_duplicates())


def ordered(arms: Sequence[Arm]) -> list[Arm]:
    """Real only first, then generator by generator as they come, by mode and share."""
    generators = list(dict.fromkeys(arm.generator for arm in arms))
    return sorted(
        arms,
        key=lambda a: (a.share > 0, generators.index(a.generator), a.share == 1, a.mode, a.share),
    )


def confusion(arm: Arm, classes: Sequence[str]) -> np.ndarray:
    """Test images by true (row) and most probable class (column), `(C, C)`, summed over seeds."""
    counts = np.zeros((len(classes), len(classes)), np.int64)
    for table in arm.predictions:
        targets = pd.Categorical(table["label"], categories=list(classes)).codes.astype(np.int64)
        counts += classification.confusion(table[[f"p_{c}" for c in classes]].to_numpy(), targets)
    return counts


def shares_of_row(counts: np.ndarray) -> np.ndarray:
    """Each row of a table of counts divided by its sum; a row of zeros stays zero."""
    total = counts.sum(axis=1, keepdims=True)
    return counts / np.where(total, total, 1)


def crossed(
    rows: Sequence[Mapping[str, Any]], row: str, column: str, *, order: Sequence[str]
) -> tuple[list[str], list[tuple[str, list[Mapping[str, Any] | None]]]]:
    """Records as a table: the column names, and per value of `row` the records in that order."""
    columns = list(dict.fromkeys(str(record[column]) for record in rows))
    columns.sort(key=lambda name: order.index(name) if name in order else len(order))
    cells = {(str(record[row]), str(record[column])): record for record in rows}
    names = dict.fromkeys(str(record[row]) for record in rows)
    return columns, [(name, [cells.get((name, c)) for c in columns]) for name in names]


def stages(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Per stage: jobs, their states, total and longest seconds, and the peak of memory in MB."""
    found = []
    for name, jobs in table.groupby("stage", sort=False):
        states = jobs["state"].value_counts().to_dict()
        found.append(
            {
                "stage": name,
                "jobs": len(jobs),
                "states": ", ".join(f"{count} {state}" for state, count in states.items()),
                "seconds": float(jobs["seconds"].sum()),
                "longest": float(jobs["seconds"].max()),
                "memory": _maximum(jobs["peak_memory_mb"]),
            }
        )
    return found


def _maximum(values: pd.Series) -> float:
    known = [float(value) for value in values if value is not None and not pd.isna(value)]
    return max(known, default=math.nan)
