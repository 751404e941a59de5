"""The long table, and the small ones on the page, against the fabricated study."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from xraysynth.evaluation.metrics.statistics import Interval
from xraysynth.records import CLASSES
from xraysynth.report import arm_groups, tables
from xraysynth.report.arm_verdicts import arm_verdicts
from xraysynth.report.content import Arm, Comparison, Content, EncoderAgreement
from xraysynth.report.encoder_agreement import rank_agreement
from xraysynth.report.views import cells, measures, run


def test_results_hold_every_mean_with_its_interval_and_every_seed(content: Content) -> None:
    table = tables.results_table(content)
    assert list(table.columns) == tables.RESULT_COLUMNS
    arm = next(arm for arm in content.arms if arm.over_duplicates.differences)
    own = of_arm(table[table["test_set"] == ""], arm)
    mean = own[own["seed"].isna()].squeeze()
    score, gain = arm.scores["macro_f1"], arm.gains_over_real["macro_f1"]
    assert (mean["value"], mean["low"], mean["high"]) == (score.value, score.low, score.high)
    assert (mean["difference"], mean["difference_low"]) == (gain.value, gain.low)
    over = arm.over_permuted.differences["macro_f1"]
    assert (mean["over_permuted"], mean["over_permuted_high"]) == (over.value, over.high)
    assert mean["p_holm"] == arm.p_holm
    for kind, prefix in (("over_real", ""), ("over_permuted", "over_permuted_")):
        comparison = getattr(arm, kind)
        assert mean[f"{prefix}detectable"] == comparison.detectable == 0.0834
        assert mean[f"{prefix}verdict"] == comparison.primary.word
    assert pd.isna(mean["equivalence_margin"])
    seeds = own[own["seed"].notna()]
    assert seeds["seed"].tolist() == list(arm.seeds)
    assert seeds["value"].tolist() == [scores["macro_f1"] for scores in arm.scores_by_seed]
    assert seeds["low"].isna().all()


def test_real_only_has_no_difference(content: Content) -> None:
    table = tables.results_table(content)
    real = (table["share"] == 0) & (table["left_out"] == "")
    assert table.loc[real, "difference"].isna().all()
    means = table["seed"].isna() & (table["test_set"] == "")
    assert table.loc[~real & means, "difference"].notna().all()


def test_what_was_tested_stands_with_macro_f1_alone_and_controls_have_no_verdict(
    content: Content,
) -> None:
    equivalent = {"p_holm": 0.4, "detectable": 0.08, "margin": 0.05, "p_equivalent": 0.01}
    arms = []
    for arm in content.arms:
        gain = {"macro_f1": Interval(0.01, -0.02, 0.03, 48)} if arm.gains_over_real else {}
        arms.append(replace(arm, over_real=Comparison(gain, (0, 1), 0.4, **equivalent)))
    changed = replace(content, arms=arms)
    table = tables.results_table(changed)
    judged = table[table["verdict"] == "equivalent"]
    assert set(judged["metric"]) == {"macro_f1"}
    assert set(judged["control"]) | set(judged["left_out"]) == {""}
    tested = judged[["detectable", "p_equivalent", "equivalence_margin"]]
    assert tested.drop_duplicates().to_numpy().tolist() == [[0.08, 0.01, 0.05]]
    rows = arm_verdicts(changed.arms)
    real = [row for row in rows if row.minus == "real only"]
    assert len(real) == len(judged) > 0
    assert {(row.verdict, row.value, row.detectable) for row in real} == {
        ("equivalent", 0.01, 0.08)
    }
    named = {row.arm for row in rows if row.minus == "permuted control"}
    assert named == {arm.name for arm in arms if arm.over_permuted.differences}


def test_results_tell_controls_fractions_and_what_was_left_out(content: Content) -> None:
    table = tables.results_table(content)
    key = ["generator", "share", "mode", "control", "real_fraction", "left_out"]
    assert len(table[key].drop_duplicates()) == len(content.arms)
    old = ["simulated", "control", "real_fraction", "left_out", "test_set"]
    place = tables.RESULT_COLUMNS.index("simulated")
    assert tables.RESULT_COLUMNS[place : place + 5] == old  # what came later stands behind them


def test_results_of_external_test_sets_are_rows_of_their_own(content: Content) -> None:
    table = tables.results_table(content)
    arm = next(arm for arm in content.arms if arm.over_duplicates.differences)
    row = of_arm(table[table["test_set"] == "shenzhen"], arm).squeeze()
    score = arm.external["shenzhen"]["macro_f1"]
    assert (row["value"], row["low"], row["high"]) == (score.value, score.low, score.high)
    assert row["n_test"] == 66
    assert pd.isna(row["seed"])
    assert pd.isna(row["difference"])


def of_arm(table: pd.DataFrame, arm: Arm) -> pd.DataFrame:
    """The rows of an arm's macro-F1."""
    names = ("generator", "synthetic_fraction", "mode", "control", "real_fraction")
    key = {name: getattr(arm, name) for name in names} | {"left_out": arm.left_out_source}
    rows = (table[list(key)] == pd.Series(key)).all(axis=1)
    return table[rows & (table["metric"] == "macro_f1")]


def test_measures_of_every_kind_stand_in_one_table_beside_their_floor(content: Content) -> None:
    table = tables.measures_table(content)
    assert list(table.columns) == tables.MEASURE_COLUMNS
    own = table[table["generator"] == "stable_diffusion"].set_index(["metric", "label", "encoder"])
    assert own.loc[("FD(classifier)", "", "classifier"), ["value", "floor"]].tolist() == [40.0, 8.0]
    faithful = own.loc[("label faithfulness", "normal", "")]
    assert faithful[["value", "floor", "floor_low", "n"]].tolist() == [0.62, 0.81, 0.75, 200]
    assert faithful["better"] == "higher"
    tested = own.loc[("trained on real, tested on these: macro_f1", "", "")]
    assert tested[["value", "n", "better"]].tolist() == [0.71, 200, "higher"]
    assert own.loc[("SSIM to the nearest training image", "", ""), "floor"] == 0.45
    assert own.loc[("MS-SSIM within a class", "covid19", ""), ["floor", "n"]].tolist() == [
        0.36,
        300,
    ]
    assert own.loc[("colour_cast", "", ""), "value"] == 0.1
    assert not table[["encoder", "metric", "label", "better", "note"]].isna().any().any()


def test_measures_of_nothing_are_an_empty_table(content: Content) -> None:
    table = tables.measures_table(replace(content, pools=[]))
    assert len(table) == 0
    assert list(table.columns) == tables.MEASURE_COLUMNS


def test_encoders_stand_side_by_side_whatever_the_metric_is_called_there(content: Content) -> None:
    names = {"FD(embedded)": "FID", "embedded": "inception"}
    fid = [
        replace(
            row,
            metric=names.get(row.metric, row.metric),
            encoder=names.get(row.encoder, row.encoder),
        )
        for row in content.pools[0].measures
    ]
    pools = [replace(content.pools[0], measures=fid), content.pools[1]]
    table = measures.measure_table(pools, memorisation=False)
    assert [heading.name for heading in table.headings[1:]] == [
        "classifier",
        "inception",
        "embedded",
    ]
    found = table.families[0]
    assert (found.name, found.direction) == ("FD", "lower is better")
    cells = [[cell.raw for cell in row.cells] for row in found.rows]
    assert cells == [["40.0", "300.0", ""], ["40.0", "", "300.0"]]


def test_encoders_that_order_generators_alike_agree_in_full(content: Content) -> None:
    near = [replace(row, value=row.value / 2) for row in content.pools[0].measures]
    pools = [content.pools[0], replace(content.pools[1], measures=near)]
    assert rank_agreement(pools) == [EncoderAgreement("classifier", "embedded", 1.0, 2)]
    mixed = [
        replace(row, value=row.value * (1 if row.encoder == "classifier" else 4)) for row in near
    ]
    pools[1] = replace(pools[1], measures=mixed)
    assert rank_agreement(pools) == [EncoderAgreement("classifier", "embedded", -1.0, 2)]
    assert rank_agreement(pools[:1]) == []


def test_measures_by_class_keep_encoders_apart(content: Content) -> None:
    found = measures.class_table(content.pools[0], CLASSES).rows
    assert [(row.metric, row.encoder) for row in found] == [
        ("FD(classifier)", "classifier"),
        ("precision", "classifier"),
        ("FD(embedded)", "embedded"),
        ("precision", "embedded"),
    ]
    assert [bool(cell.raw) for cell in found[1].cells] == [True, True, False, False]


def test_results_survive_parquet_and_csv(content: Content, tmp_path: Path) -> None:
    table = tables.results_table(content)
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
    table = tables.results_table(replace(content, arms=[]))
    assert len(table) == 0
    assert list(table.columns) == tables.RESULT_COLUMNS


def test_confusion_counts_every_test_image_once_a_seed(content: Content) -> None:
    arm = content.arms[0]
    counts = arm_groups.confusion_matrix(arm, CLASSES)
    assert counts.sum() == arm_groups.count_test_images(arm) * len(arm.seeds)
    hits = [
        (t[[f"p_{c}" for c in CLASSES]].to_numpy().argmax(1) == t["label"].map(CLASSES.index)).sum()
        for t in arm.predictions
    ]
    assert np.trace(counts) == sum(hits)


def test_shares_of_a_class_without_images_are_zero() -> None:
    found = cells.build_matrix(["a", "b"], [[3, 1], [0, 0]])
    assert [[(cell.count, cell.share) for cell in row.cells] for row in found.rows] == [
        [(3, "0.75"), (1, "0.25")],
        [(0, "0.0"), (0, "0.0")],
    ]


def test_patients_of_two_sources_with_one_id_are_two(content: Content) -> None:
    arm = content.arms[0]
    halves = [t.assign(source=["a", "b"] * (len(t) // 2)) for t in arm.predictions]
    assert arm_groups.count_test_patients(
        replace(arm, predictions=halves)
    ) == 2 * arm_groups.count_test_patients(arm)


def test_arms_are_ordered_real_only_first(content: Content) -> None:
    names = [arm.name for arm in arm_groups.sort_arms(content.arms[::-1])]
    assert names[0] == "real only"
    assert names[1:3] == ["sd_lora 50% (replace)", "sd_lora only"]
    kinds = [arm_groups.group_key(arm) for arm in arm_groups.sort_arms(content.arms[::-1])]
    assert kinds == sorted(kinds, key=list(arm_groups.GROUP_TITLES).index)
    assert set(kinds) == set(arm_groups.GROUP_TITLES)


def test_stages_add_up_and_name_what_failed(content: Content) -> None:
    train = run.stage_rows(content.jobs)[-1]
    assert (train.time, train.longest) == ("1 min 1 s", "31 s")
    assert train.peak_memory == "1210"
    assert train.states == "1 done, 1 failed"
