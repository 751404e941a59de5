"""The long table, and the small ones on the page, against the fabricated study."""

from pathlib import Path

import numpy as np
import pandas as pd

from xraysynth.records import CLASSES
from xraysynth.report import tables
from xraysynth.report.content import Content


def test_results_hold_every_mean_with_its_interval_and_every_seed(content: Content) -> None:
    table = tables.results(content)
    assert list(table.columns) == tables.RESULT_COLUMNS
    arm = content.arms[1]
    own = table[
        (table["generator"] == arm.generator)
        & (table["share"] == arm.share)
        & (table["metric"] == "macro_f1")
    ]
    mean = own[own["seed"].isna()].squeeze()
    score, gain = arm.scores["macro_f1"], arm.difference["macro_f1"]
    assert (mean["value"], mean["low"], mean["high"]) == (score.value, score.low, score.high)
    assert (mean["difference"], mean["difference_low"]) == (gain.value, gain.low)
    seeds = own[own["seed"].notna()]
    assert seeds["seed"].tolist() == list(arm.seeds)
    assert seeds["value"].tolist() == [scores["macro_f1"] for scores in arm.scores_by_seed]
    assert seeds["low"].isna().all()


def test_real_only_has_no_difference(content: Content) -> None:
    table = tables.results(content)
    assert table.loc[table["share"] == 0, "difference"].isna().all()
    assert table.loc[(table["share"] > 0) & table["seed"].isna(), "difference"].notna().all()


def test_results_survive_parquet_and_csv(content: Content, tmp_path: Path) -> None:
    table = tables.results(content)
    table.to_parquet(tmp_path / "results.parquet", index=False)
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "results.parquet"), table)
    table.to_csv(tmp_path / "results.csv", index=False)
    dtypes = table.dtypes.to_dict()
    again = pd.read_csv(
        tmp_path / "results.csv", dtype=dtypes, keep_default_na=False, na_values=[""]
    )
    numbers = ["seed", "metric", "value", "low", "high", "difference", "n_test", "simulated"]
    pd.testing.assert_frame_equal(again[numbers], table[numbers])


def test_results_of_no_arms_are_an_empty_table(content: Content) -> None:
    from dataclasses import replace

    table = tables.results(replace(content, arms=[]))
    assert len(table) == 0
    assert list(table.columns) == tables.RESULT_COLUMNS


def test_confusion_counts_every_test_image_once_a_seed(content: Content) -> None:
    arm = content.arms[0]
    counts = tables.confusion(arm, CLASSES)
    assert counts.sum() == tables.test_images(arm) * len(arm.seeds)
    hits = [
        (t[[f"p_{c}" for c in CLASSES]].to_numpy().argmax(1) == t["label"].map(CLASSES.index)).sum()
        for t in arm.predictions
    ]
    assert np.trace(counts) == sum(hits)


def test_shares_of_row_of_a_class_without_images_are_zero() -> None:
    shares = tables.shares_of_row(np.array([[3, 1], [0, 0]]))
    assert shares.tolist() == [[0.75, 0.25], [0.0, 0.0]]


def test_patients_of_two_sources_with_one_id_are_two(content: Content) -> None:
    from dataclasses import replace

    arm = content.arms[0]
    halves = [t.assign(source=["a", "b"] * (len(t) // 2)) for t in arm.predictions]
    assert tables.test_patients(replace(arm, predictions=halves)) == 2 * tables.test_patients(arm)


def test_arms_are_ordered_real_only_first(content: Content) -> None:
    names = [arm.name for arm in tables.ordered(content.arms[::-1])]
    assert names[0] == "real only"
    assert names[1:3] == ["sd_lora 50% (replace)", "sd_lora only"]


def test_stages_add_up_and_name_what_failed(content: Content) -> None:
    train = tables.stages(content.stages)[-1]
    assert train["seconds"] == 61.3
    assert train["memory"] == 1210.0
    assert train["states"] == "1 done, 1 failed"
