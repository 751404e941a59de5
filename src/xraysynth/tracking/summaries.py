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

COST = ("images_per_hour", "seconds_p50", "cost_usd_per_image", "energy_kwh_per_1000")
"""What of a pool's ledger stands beside the scores of a classifier trained on it."""

_SIZES = ("real_images", "real_repeats", "synthetic_images", "test_images", "fit_seconds")


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


def flat(scores: Mapping[str, JsonObject], prefix: str) -> Summary:
    """Intervals as entries of a summary: the value by its name, its low, high and n beside it.

    >>> flat({"f1": {"value": 0.5, "low": 0.4, "high": 0.6, "n": 9}}, "test/")
    {'test/f1': 0.5, 'test/f1/low': 0.4, 'test/f1/high': 0.6, 'test/f1/n': 9}
    """
    entries: Summary = {}
    for name, score in scores.items():
        entries[f"{prefix}{name}"] = score["value"]
        entries |= {f"{prefix}{name}/{end}": score[end] for end in ("low", "high", "n")}
    return entries


def cost(ledger: JsonObject) -> Summary:
    """Entries of a summary from a ledger, as far as it has them."""
    known = {name: ledger.get(name) for name in (*COST, "seconds", "peak_vram_mb")}
    return {f"cost/{name}": value for name, value in known.items() if value is not None}


def _entries(result: JsonObject, *names: str) -> Summary:
    return {name: result[name] for name in names if name in result}


def _cohort(result: JsonObject) -> Summary:
    return _entries(result, "images", "patients", "near_duplicates")


def _shortcuts(result: JsonObject) -> Summary:
    rows = result.get("shortcuts", ())
    return flat({f"{row['question']}/{row['view']}": row for row in rows}, "shortcut/")


def _lora(result: JsonObject) -> Summary:
    return _entries(result, "images", "patients") | cost(result.get("ledger", {}))


def _pool(result: JsonObject) -> Summary:
    """Of a shard, whose outcomes are not by class, the images alone."""
    by_class = result["outcomes"].values() if "ledger" in result else ()
    totals: Counter[str] = Counter()
    for counts in by_class:
        totals.update(counts)
    outcomes = {f"outcome/{name}": number for name, number in totals.items()}
    return _entries(result, "images") | outcomes | cost(result.get("ledger", {}))


def _training(result: JsonObject) -> Summary:
    """Test scores, sizes, scores on external test sets, and what the classifier should not tell."""
    entries = _last_step(result) | flat(result.get("scores", {}), "test/")
    entries |= _entries(result, *_SIZES)
    for source, scores in result.get("external", {}).items():
        entries |= flat(scores, f"external/{source}/")
    probes = result.get("probes") or {}
    synthetic, pointing = probes.get("told_synthetic"), probes.get("pointing")
    if synthetic:
        entries |= flat({"told_synthetic": synthetic}, "probe/")
    return entries | (flat({"pointing": pointing["hits"]}, "probe/") if pointing else {})


def _last_step(result: JsonObject) -> Summary:
    """Losses and validation scores, as Lightning logs them."""
    history = result.get("history") or [{}]
    return {name: value for name, value in history[-1].items() if "/" in name}


def _evaluation(result: JsonObject) -> Summary:
    """What holds of all classes."""
    overall = {_measure(row): row for row in result.get("measures", ()) if not row["label"]}
    fidelity = [row for row in result.get("faithfulness", ()) if not row["label"]]
    overall |= {"faithfulness": fidelity[0]} if fidelity else {}
    tested = {k: v for k, v in result.get("tested_on", {}).items() if isinstance(v, Mapping)}
    return flat(overall, "") | flat(tested, "tested_on/")


def _measure(row: JsonObject) -> str:
    """A name that tells encoders apart: some metrics carry theirs, others do not."""
    metric, encoder = row["metric"], row["encoder"]
    return str(metric if encoder in metric else f"{metric} ({encoder})")


_SUMMARIES = {
    "prepare": _cohort,
    "probe": _shortcuts,
    "finetune": _lora,
    "generate": _pool,
    "train": _training,
    "judge": _training,
    "evaluate": _evaluation,
}
