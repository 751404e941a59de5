"""The summary of a W&B run: numbers by name, from a job's result as run.json holds it.

A run is given the same numbers that `export.read_runs` reads from a folder of outputs later.
Results of earlier versions lack entries, which are left out.

    >>> summarize("prepare", {"images": 96, "patients": 90, "near_duplicates": 1, "digest": "b3ce"})
    {'images': 96, 'patients': 90, 'near_duplicates': 1}
"""

import json
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING

from xraysynth.records import JsonObject

if TYPE_CHECKING:
    import pandas as pd

Summary = dict[str, float | int | str | None]
"""Numbers by name; "/" separates the levels of a name."""

COST_FIELDS = ("images_per_hour", "seconds_p50", "cost_usd_per_image", "energy_kwh_per_1000")
"""Entries of a pool's ledger that the summary of a training on this pool has, too."""

_SIZE_FIELDS = ("real_images", "real_repeats", "synthetic_images", "test_images", "fit_seconds")


def summarize(stage: str, result: JsonObject) -> Summary:
    """Returns the summary of a job.

    Args:
        stage: Name of the stage; most stages have summaries, the others an empty one.
        result: The result of the job, also of an earlier version.
    """
    return _SUMMARIES[stage](result) if stage in _SUMMARIES else {}


def summarize_reading(results: "pd.DataFrame") -> Summary:
    """Returns the results of a reader study that count all classes together, with intervals.

    Args:
        results: One row per result: `class` ("" for all), `generator`, `name`, `value`, `low` and
            `high`.
    """
    overall = results[(results["class"] == "") & results["value"].notna()]
    entries: Summary = {}
    for row in json.loads(overall.to_json(orient="records")):
        name = "/".join(filter(None, ("reading", row["generator"], row["name"])))
        entries[name] = row["value"]
        entries[f"{name}/low"] = row["low"]
        entries[f"{name}/high"] = row["high"]
    return entries


def flatten_intervals(scores: Mapping[str, JsonObject], prefix: str) -> Summary:
    """Returns scores with intervals as entries of a summary: value, low, high and n.

    Args:
        scores: By name, the value of a score, the bounds of its interval, and its n.
        prefix: Precedes every name.

    >>> flatten_intervals({"f1": {"value": 0.5, "low": 0.4, "high": 0.6, "n": 9}}, "test/")
    {'test/f1': 0.5, 'test/f1/low': 0.4, 'test/f1/high': 0.6, 'test/f1/n': 9}
    """
    entries: Summary = {}
    for name, score in scores.items():
        entries[f"{prefix}{name}"] = score["value"]
        for key in ("low", "high", "n"):
            entries[f"{prefix}{name}/{key}"] = score[key]
    return entries


def summarize_cost(ledger: JsonObject) -> Summary:
    """Returns the cost entries of a summary: seconds, US dollars, energy and memory.

    Args:
        ledger: The ledger of a pool or a fine-tuning; values that it lacks have no entry.
    """
    entries: Summary = {}
    for name in (*COST_FIELDS, "seconds", "peak_vram_mb"):
        if ledger.get(name) is not None:
            entries[f"cost/{name}"] = ledger[name]
    return entries


def _select_entries(result: JsonObject, *names: str) -> Summary:
    return {name: result[name] for name in names if name in result}


def _summarize_cohort(result: JsonObject) -> Summary:
    return _select_entries(result, "images", "patients", "near_duplicates")


def _summarize_shortcuts(result: JsonObject) -> Summary:
    scores = {}
    for row in result.get("shortcuts", ()):
        target = row.get("target", row.get("question"))  # as earlier versions named it
        scores[f"{target}/{row['view']}"] = row
    return flatten_intervals(scores, "shortcut/")


def _summarize_lora(result: JsonObject) -> Summary:
    return _select_entries(result, "images", "patients") | summarize_cost(result.get("ledger", {}))


def _summarize_pool(result: JsonObject) -> Summary:
    entries = _select_entries(result, "images")
    if "ledger" not in result:
        return entries  # a shard, whose outcomes are not counted by class
    totals: Counter[str] = Counter()
    for class_outcomes in result["outcomes"].values():
        totals.update(class_outcomes)
    for outcome, count in totals.items():
        entries[f"outcome/{outcome}"] = count
    return entries | summarize_cost(result["ledger"])


def _summarize_training(result: JsonObject) -> Summary:
    """Returns losses, test scores, numbers of images, external scores, and probes."""
    entries = _last_metrics(result) | flatten_intervals(result.get("scores", {}), "test/")
    entries |= _select_entries(result, *_SIZE_FIELDS)
    for source, scores in result.get("external", {}).items():
        entries |= flatten_intervals(scores, f"external/{source}/")
    # Earlier versions recorded the probes under other names, which their entries keep.
    probes = result.get("probes") or {}
    auroc = probes.get("real_vs_synthetic_auroc", probes.get("told_synthetic"))
    if auroc:
        entries |= flatten_intervals({"told_synthetic": auroc}, "probe/")
    pointing_game = probes.get("pointing_game", probes.get("pointing"))
    if pointing_game:
        entries |= flatten_intervals({"pointing": pointing_game["hits"]}, "probe/")
    return entries


def _last_metrics(result: JsonObject) -> Summary:
    """Returns losses and scores of the last validation, under the names that Lightning logs."""
    history = result.get("history") or [{}]
    return {name: value for name, value in history[-1].items() if "/" in name}


def _summarize_evaluation(result: JsonObject) -> Summary:
    """Returns the measures of all classes together, and scores with the pool as test set."""
    overall = {}
    for row in result.get("measures", ()):
        if not row["label"]:
            overall[_measure_name(row)] = row
    for row in result.get("faithfulness", ()):
        if not row["label"]:
            overall.setdefault("faithfulness", row)
    tested_on = {}
    for name, score in result.get("tested_on", {}).items():
        if isinstance(score, Mapping):
            tested_on[name] = score
    return flatten_intervals(overall, "") | flatten_intervals(tested_on, "tested_on/")


def _summarize_report(result: JsonObject) -> Summary:
    """Returns the verdict on each difference of an arm, with what was tested of it."""
    entries: Summary = {}
    for row in result.get("verdicts", ()):
        name = f"verdict/{row['arm']} minus {row['minus']}"
        entries[name] = row["verdict"]
        for key in ("value", "low", "high", "p_holm", "detectable", "margin", "p_equivalent"):
            if row[key] is not None:
                entries[f"{name}/{key}"] = row[key]
    return entries


def _measure_name(row: JsonObject) -> str:
    """Returns a name with the encoder, which some metrics have in their name already."""
    metric, encoder = row["metric"], row["encoder"]
    return str(metric if encoder in metric else f"{metric} ({encoder})")


_SUMMARIES = {
    "prepare": _summarize_cohort,
    "probe": _summarize_shortcuts,
    "finetune": _summarize_lora,
    "generate": _summarize_pool,
    "train": _summarize_training,
    "judge": _summarize_training,
    "evaluate": _summarize_evaluation,
    "report": _summarize_report,
}
