"""Records of what was measured, as the entries of run.json and back."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from xraysynth.errors import ManifestError
from xraysynth.evaluation.metrics.arm_probes import ArmProbes
from xraysynth.evaluation.metrics.pointing_game import CHANCE_DEFINITION, PointingGame
from xraysynth.evaluation.metrics.probes import Shortcut
from xraysynth.evaluation.metrics.statistics import Interval
from xraysynth.evaluation.results import (
    Appearance,
    ClosestPair,
    Diversity,
    LabelFidelity,
    Measure,
    PoolEvaluation,
    Similarity,
    UsableShare,
)
from xraysynth.records import from_json, to_json

INTERVAL = (0.5, 0.4, 0.6, 40)
MEASURE = Measure(
    *INTERVAL,
    encoder="embedded",
    metric="FD(embedded)",
    label="",
    baseline_value=0.2,
    baseline_low=0.1,
    baseline_high=0.3,
    excess_low=0.2,
    excess_high=0.4,
    better="lower",
    p=0.01,
)
POOL = PoolEvaluation(
    pool="/data/pools/dalle-1",
    not_assessable_reason="",
    images=40,
    measures=[MEASURE],
    diversity=[Diversity(*INTERVAL, metric="SSIM", label="normal", real=0.5)],
    nearest_similarity=[Similarity(*INTERVAL, metric="SSIM", real=0.5)],
    closest=[ClosestPair(Path("/a.png"), Path("/b.png"), 0.3, 0.5, True)],
    appearance=[Appearance(*INTERVAL, measure="aspect", meaning="width / height", real=1.0)],
    faithfulness=[
        LabelFidelity(*INTERVAL, label="", real=0.8, real_low=0.7, real_high=0.9, real_n=60)
    ],
    confusion_matrix=[[20, 0], [5, 15]],
    fidelity_classifier="60 real images",
    tested_on={
        "accuracy": Interval(*INTERVAL),
        "accuracy of real images": Interval(*INTERVAL),
        "seeds": 2,
        "without": ["covid19"],
    },
    usable=UsableShare(*INTERVAL, copies_looked_for=True),
)


def through_json(record):
    return json.loads(json.dumps(to_json(record)))


def test_what_is_measured_of_a_pool_comes_back_from_its_run_json():
    assert from_json(PoolEvaluation, through_json(POOL)) == POOL
    assert list(POOL.real_classifier_scores) == ["accuracy", "accuracy of real images"]


def test_the_keys_of_run_json_are_flat():
    values = through_json(POOL)
    assert set(values["measures"][0]) == {
        *("encoder", "metric", "label", "value", "low", "high", "n", "baseline_value"),
        *("baseline_low", "baseline_high", "excess_low", "excess_high", "better", "note", "p"),
    }
    paths = {"synthetic", "train", "synthetic_sha256", "train_sha256"}
    assert set(values["closest"][0]) == paths | {"distance", "threshold", "flagged"}
    faithful = {"label", "value", "low", "high", "n", "real", "real_low", "real_high", "real_n"}
    assert set(values["faithfulness"][0]) == faithful
    assert values["usable"]["copies_looked_for"] is True
    assert values["tested_on"]["seeds"] == 2


def test_records_of_earlier_versions_get_defaults():
    values = through_json(POOL)
    del values["usable"], values["measures"][0]["p"], values["measures"][0]["note"]
    for name in ("real", "real_low", "real_high", "real_n"):
        del values["faithfulness"][0][name]
    pool = from_json(PoolEvaluation, values | {"skipped": False})
    assert pool.usable is None
    assert pool.measures[0].note == ""
    assert math.isnan(pool.measures[0].p)
    assert math.isnan(pool.faithfulness[0].real_interval.value)


def test_a_record_that_is_no_number_is_named():
    values = through_json(POOL)
    values["measures"][0]["value"] = "many"
    with pytest.raises(ManifestError, match=r"measures\.0\.value"):
        from_json(PoolEvaluation, values)


def test_nan_and_infinity_survive():
    unknown = replace(MEASURE, value=math.nan, low=-math.inf)
    again = from_json(Measure, through_json(unknown))
    assert math.isnan(again.value)
    assert again.low == -math.inf


def test_the_baseline_and_the_excess_are_intervals():
    assert MEASURE.baseline == Interval(0.2, 0.1, 0.3, 40)
    assert MEASURE.excess == Interval(0.3, 0.2, 0.4, 40)


def test_records_are_the_rows_of_a_table():
    table = pd.DataFrame([MEASURE, MEASURE])
    assert table["metric"].tolist() == ["FD(embedded)"] * 2
    assert table["value"].sum() == 1


def test_the_chance_of_an_earlier_pointing_game_is_not_compared():
    hits = to_json(Interval(*INTERVAL))
    early = {"hits": hits, "energy": hits, "chance": 0.3, "elsewhere": 0.2, "n": 40}
    probes = from_json(ArmProbes, {"real_vs_synthetic_auroc": None, "pointing_game": early})
    assert probes.pointing_game.chance == 0.3
    assert math.isnan(probes.pointing_game.with_comparable_chance.chance)
    known = PointingGame(
        Interval(*INTERVAL), Interval(*INTERVAL), 0.3, 0.2, chance_of=CHANCE_DEFINITION
    )
    assert known.with_comparable_chance.chance == 0.3
    assert from_json(ArmProbes, {}) == ArmProbes()


def test_a_shortcut_is_an_interval_with_what_it_is_of():
    row = Shortcut(*INTERVAL, target="source", view="borders", chance=0.5)
    assert from_json(Shortcut, through_json(row)) == row
