"""The summary of a W&B run: numbers by name, from a job's result as run.json holds it.

W&B is given the same numbers while a job runs as `read_runs` finds in a folder of outputs later.
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
"""Numbers by name, which is a path of `/`."""

COST_FIELDS = ("images_per_hour", "seconds_p50", "cost_usd_per_image", "energy_kwh_per_1000")
"""What of a pool's ledger stands beside the scores of a classifier trained on it."""

_SIZE_FIELDS = ("real_images", "real_repeats", "synthetic_images", "test_images", "fit_seconds")


def summarize(stage: str, result: JsonObject) -> Summary:
    """The summary of a finished job; empty for stages whose runs have none."""
    return _SUMMARIES[stage](result) if stage in _SUMMARIES else {}


def summarize_reading(results: "pd.DataFrame") -> Summary:
    """What holds of all classes in the results of a reading."""
    overall = results[(results["class"] == "") & results["value"].notna()]
    entries: Summary = {}
    for row in json.loads(overall.to_json(orient="records")):
        name = "/".join(filter(None, ("reading", row["generator"], row["name"])))
        entries |= {name: row["value"]} | {f"{name}/{end}": row[end] for end in ("low", "high")}
    return entries


def flatten_intervals(scores: Mapping[str, JsonObject], prefix: str) -> Summary:
    """Intervals as entries of a summary: the value by its name, its low, high and n beside it.

    >>> flatten_intervals({"f1": {"value": 0.5, "low": 0.4, "high": 0.6, "n": 9}}, "test/")
    {'test/f1': 0.5, 'test/f1/low': 0.4, 'test/f1/high': 0.6, 'test/f1/n': 9}
    """
    entries: Summary = {}
    for name, score in scores.items():
        entries[f"{prefix}{name}"] = score["value"]
        entries |= {f"{prefix}{name}/{end}": score[end] for end in ("low", "high", "n")}
    return entries


def summarize_cost(ledger: JsonObject) -> Summary:
    """Entries of a summary from a ledger, as far as it has them."""
    known = {name: ledger.get(name) for name in (*COST_FIELDS, "seconds", "peak_vram_mb")}
    return {f"cost/{name}": value for name, value in known.items() if value is not None}


def _select_entries(result: JsonObject, *names: str) -> Summary:
    return {name: result[name] for name in names if name in result}


def _summarize_cohort(result: JsonObject) -> Summary:
    return _select_entries(result, "images", "patients", "near_duplicates")


def _summarize_shortcuts(result: JsonObject) -> Summary:
    rows = result.get("shortcuts", ())
    return flatten_intervals({_probe_name(row): row for row in rows}, "shortcut/")


def _probe_name(row: JsonObject) -> str:
    return f"{row.get('target', row.get('question'))}/{row['view']}"


def _summarize_lora(result: JsonObject) -> Summary:
    return _select_entries(result, "images", "patients") | summarize_cost(result.get("ledger", {}))


def _summarize_pool(result: JsonObject) -> Summary:
    """Of a shard, whose outcomes are not by class, the images alone."""
    by_class = result["outcomes"].values() if "ledger" in result else ()
    totals: Counter[str] = Counter()
    for counts in by_class:
        totals.update(counts)
    outcomes = {f"outcome/{name}": number for name, number in totals.items()}
    return _select_entries(result, "images") | outcomes | summarize_cost(result.get("ledger", {}))


def _summarize_training(result: JsonObject) -> Summary:
    """Test scores, sizes, scores on external test sets, and what the classifier should not tell."""
    entries = _last_metrics(result) | flatten_intervals(result.get("scores", {}), "test/")
    entries |= _select_entries(result, *_SIZE_FIELDS)
    for source, scores in result.get("external", {}).items():
        entries |= flatten_intervals(scores, f"external/{source}/")
    probes = result.get("probes") or {}
    synthetic = probes.get("real_vs_synthetic_auroc", probes.get("told_synthetic"))
    pointing = probes.get("pointing_game", probes.get("pointing"))
    if synthetic:
        entries |= flatten_intervals({"told_synthetic": synthetic}, "probe/")
    return entries | (
        flatten_intervals({"pointing": pointing["hits"]}, "probe/") if pointing else {}
    )


def _last_metrics(result: JsonObject) -> Summary:
    """Losses and validation scores, as Lightning logs them."""
    history = result.get("history") or [{}]
    return {name: value for name, value in history[-1].items() if "/" in name}


def _summarize_evaluation(result: JsonObject) -> Summary:
    """What holds of all classes."""
    overall = {_measure_name(row): row for row in result.get("measures", ()) if not row["label"]}
    fidelity = [row for row in result.get("faithfulness", ()) if not row["label"]]
    overall |= {"faithfulness": fidelity[0]} if fidelity else {}
    tested = {k: v for k, v in result.get("tested_on", {}).items() if isinstance(v, Mapping)}
    return flatten_intervals(overall, "") | flatten_intervals(tested, "tested_on/")


def _measure_name(row: JsonObject) -> str:
    """A name that tells encoders apart: some metrics carry theirs, others do not."""
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
}
