import json
import re
import shutil
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image
from small_study import overrides_for, write_cohort, write_image

from xraysynth import compose
from xraysynth.data.sources import parallel
from xraysynth.errors import LeakageError, PoolError, XraysynthError
from xraysynth.stages import Workspace, evaluate, generate, prepare, report, study, train
from xraysynth.stages._study import plan


def records(folder, stage):
    return [
        json.loads(p.read_text()) for p in sorted((folder / "outputs" / stage).glob("*/run.json"))
    ]


def files(folder, pattern):
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob(pattern))}


def test_a_study_ends_in_a_report_with_every_arm(finished):
    folder, _, result = finished
    assert result["state"] == "done"
    assert set(result["macro_f1"]) == {"real only", "stable_diffusion 50% (replace)"}
    page = Path(result["report"]).read_text()
    assert "stable_diffusion" in page
    assert not re.search(r'(?:src|href)="https?://', page)
    table = pd.read_csv(result["results"])
    means = table[(table["metric"] == "macro_f1") & table["seed"].isna()]
    assert len(means) == 2
    assert (means["low"] <= means["value"]).all()
    assert len(records(folder, "train")) == 4
    assert "Between seeds: sd" in page
    (hybrid,) = means[means["synthetic_fraction"] > 0].to_dict("records")
    assert hybrid["detectable"] > (hybrid["difference_high"] - hybrid["difference_low"]) / 2
    assert (hybrid["verdict"] == "no difference shown") == ("would have been found" in page)


def test_a_margin_makes_the_report_anew_and_nothing_else(copied, tmp_path):
    config, overrides = copied("study.equivalence_margin=0.25")
    before = records(tmp_path / "study", "train")
    result = study.run(Workspace(config, overrides))
    assert records(tmp_path / "study", "train") == before
    table = pd.read_csv(result["results"])
    tested = table[table["p_equivalent"].notna()]
    assert set(tested["metric"]) == {"macro_f1"}
    assert set(tested["equivalence_margin"]) == {0.25}
    assert "Equivalent within ±0.25" in Path(result["report"]).read_text()


def test_every_job_tells_what_it_was(finished):
    folder, _, _ = finished
    for stage in ("prepare", "generate", "train", "evaluate", "report"):
        for record in records(folder, stage):
            assert record["state"] == "done"
            assert record["command"].startswith(f"xraysynth {stage} ")
            assert record["environment"]["versions"]["torch"]
            assert record["seconds"] > 0
            assert record["peak_memory_mb"] > 1


def test_all_arms_take_the_same_number_of_steps_and_test_once(finished):
    folder, _, _ = finished
    results = [record["result"] for record in records(folder, "train")]
    assert {result["optimiser_steps"] for result in results} == {12}
    assert {result["test_evaluations"] for result in results} == {1}
    assert {result["real_images"] + result["synthetic_images"] for result in results} == {48}
    assert sorted({result["synthetic_images"] for result in results}) == [0, 24]


def test_a_finished_study_is_not_run_again_and_one_new_share_costs_that_share(copied):
    config, overrides = copied()
    before = len(records(Path(config.paths.output).parent, "train"))
    first = study.run(
        Workspace(config, overrides)
    )  # the copy lies elsewhere, so that prepare reads once
    assert study.run(Workspace(config, overrides))["skipped"]
    assert len(records(Path(config.paths.output).parent, "train")) == before
    config, overrides = copied("study.synthetic_fractions=[0,0.25,0.5]")
    result = study.run(Workspace(config, overrides))
    assert len(records(Path(config.paths.output).parent, "train")) == before + 2
    for name, score in first["macro_f1"].items():
        again = result["macro_f1"][name]  # the new arm lends its variance: other bounds, same value
        assert (again["value"], again["n"]) == (score["value"], score["n"])


def test_the_same_study_in_another_folder_gives_the_same_bytes(finished, tmp_path, tiny_sd):
    folder, _, result = finished
    write_cohort(tmp_path / "cohort")
    overrides = overrides_for(tmp_path, tiny_sd)
    again = study.run(Workspace(compose(overrides), overrides))
    assert again["macro_f1"] == result["macro_f1"]
    pools = [files(f / "outputs" / "pools", "*.png") for f in (folder, tmp_path)]
    assert pools[0] == pools[1]
    assert len(pools[0]) == 24
    tables = [files(f / "outputs" / "pools", "*.parquet") for f in (folder, tmp_path)]
    assert tables[0] == tables[1]


def test_a_failed_job_does_not_stop_the_others_and_is_reported(copied, monkeypatch):
    config, overrides = copied("study.seeds=[0,1,2]")
    original = train.run

    def run(workspace):
        if workspace.config.seed == 2 and workspace.config.data.synthetic_fraction:
            raise XraysynthError("out of luck")
        return original(workspace)

    monkeypatch.setattr(train, "run", run)
    result = study.run(Workspace(config, overrides))
    assert result["state"] == "failed"
    assert result["failures"] == ["train stable_diffusion 0.5 replace, seed 2: out of luck"]
    assert "out of luck" in Path(result["report"]).read_text()


def test_training_names_the_command_that_makes_a_missing_pool(copied):
    config, overrides = copied("data.synthetic_fraction=0.5", "generate.seed=9")
    with pytest.raises(PoolError, match=r"xraysynth generate .*generate.seed=9"):
        train.run(Workspace(config, overrides))


def test_training_refuses_a_pool_with_a_flipped_byte(copied):
    config, overrides = copied("data.synthetic_fraction=0.5", "seed=7")
    path = next(Path(config.paths.output).glob("pools/*/images/*.png"))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(PoolError, match=path.name):
        train.run(Workspace(config, overrides))


def test_a_deleted_pool_is_made_again(copied):
    config, overrides = copied()
    study.run(Workspace(config, overrides))
    (pool,) = Path(config.paths.output).glob("pools/*")
    before = files(pool, "*.png")
    shutil.rmtree(pool)
    config, overrides = copied("generate.per_class=6")
    generate.run(Workspace(config, overrides))
    assert files(pool, "*.png") == before


def test_a_pool_with_a_recompressed_test_image_is_refused(copied, tmp_path):
    config, overrides = copied()
    cohort = Workspace(config, overrides).cohort
    archive = tmp_path / "archive"
    rows = []
    for label in cohort.classes:
        for number in range(6):
            write_image(archive / f"{label}-{number}.png", label=label, seed=1000 + len(rows))
            rows.append({"path": f"{label}-{number}.png", "label": label})
    pd.DataFrame(rows).to_csv(archive / "manifest.csv", index=False)
    chosen = [
        "generator=archive",
        f"generator.archive.folder={archive}",
        "data.synthetic_fraction=0.5",
    ]
    settings = [text for text in overrides if not text.startswith("generator")] + chosen
    config = compose(settings)
    generate.run(Workspace(config, settings))
    assert train.run(Workspace(config, settings))["synthetic_images"] == 24
    stolen = cohort.split("test").where(cohort.split("test").table["label"] == "covid19").files[0]
    Image.open(stolen).save(archive / "covid19-0.png", format="JPEG", quality=80)
    generate.run(Workspace(config, settings))
    with pytest.raises(
        LeakageError, match=r"pool archive holds 1 near-duplicates .*covid19-000000"
    ):
        train.run(Workspace(config, settings))


def test_evaluation_needs_the_real_only_classifier_and_says_so(copied):
    config, overrides = copied("seed=8", "generate.per_class=6")
    with pytest.raises(XraysynthError, match=r"xraysynth train .*data.synthetic_fraction=0"):
        evaluate.run(Workspace(config, overrides))


def test_fidelity_is_never_called_fid_without_inception(finished):
    folder, _, _ = finished
    (record,) = records(folder, "evaluate")
    metrics = [row["metric"] for row in record["result"]["measures"]]
    assert {"FD(classifier)", "KD(classifier)", "FD(embedded)", "CMMD(embedded)"} <= set(metrics)
    assert not {"FID", "KID", "MiFID", "CMMD"} & set(metrics)
    for row in record["result"]["measures"]:
        assert row["n"] > 0 or row["note"]


def test_a_judge_of_other_patients_and_the_real_only_classifiers_see_the_pool(finished):
    folder, _, _ = finished
    (record,) = records(folder, "evaluate")
    (judge,) = records(folder, "judge")
    result = record["result"]
    whole, *by_class = result["faithfulness"]
    assert whole["label"] == ""
    assert whole["n"] == sum(map(sum, result["confusion_matrix"])) == result["images"]
    assert [row["n"] for row in by_class] == [sum(row) for row in result["confusion_matrix"]]
    assert whole["real_n"] == judge["result"]["test_images"] == 48  # the train split's
    assert "28 other patients" in result["fidelity_classifier"]
    assert result["tested_on"]["seeds"] == 2


def test_controls_stand_beside_the_arms_and_are_no_finding(copied):
    config, overrides = copied(
        "study.controls=[duplicate,permuted]", "evaluate.encoders=[embedded]"
    )
    result = study.run(Workspace(config, overrides))
    table = pd.read_csv(result["results"], keep_default_na=False)
    controls = table[table["control"] != ""]
    assert set(controls["control"]) == {"duplicate", "permuted"}
    page = Path(result["report"]).read_text()
    (headline,) = re.findall(r"<li data-generator=.*?</strong>", page, re.DOTALL)
    assert "permuted" not in headline
    assert "duplicate" in page


def test_a_generator_with_a_name_of_its_own_is_called_by_it_throughout(copied, tmp_path):
    write_cohort(tmp_path / "mine", per_class=12)
    _, given = copied("evaluate.encoders=[embedded]", "study.seeds=[0]")
    overrides = [text for text in given if not text.startswith("generator.stable_diffusion")]
    overrides += [
        "generator=archive",
        f"generator.archive.folder={tmp_path / 'mine'}",
        "generator.archive.name=mine",
    ]
    page = Path(study.run(Workspace(compose(overrides), overrides))["report"]).read_text()
    assert "mine 50% (replace)" in page.replace("<wbr>", "")
    assert "no classifier was trained with it" not in page


def test_a_page_of_an_earlier_version_is_written_anew(copied, monkeypatch):
    config, overrides = copied()
    study.run(Workspace(config, overrides))
    assert report.run(Workspace(config, overrides))["skipped"]
    monkeypatch.setattr(report, "PAGE_VERSION", report.PAGE_VERSION + 1)
    assert not report.run(Workspace(config, overrides))["skipped"]
    assert report.run(Workspace(config, overrides))["skipped"]


def test_a_report_without_any_training_says_what_to_run(copied):
    config, overrides = copied("study.seeds=[5]")
    with pytest.raises(XraysynthError, match="xraysynth study"):
        report.run(Workspace(config, overrides))


def test_prepared_images_are_read_once(copied, monkeypatch):
    config, overrides = copied()
    prepare.run(Workspace(config, overrides))
    config, overrides = copied("splits.seed=1")  # other splits of the same images
    monkeypatch.setattr(parallel, "_load_image", lambda *_: pytest.fail("read again"))
    prepare.run(Workspace(config, overrides))


def test_the_command_of_every_job_of_a_study_can_be_typed(copied):
    config, overrides = copied(
        "generator=[stable_diffusion,sd_lora]",
        "generator.sd_lora.lora.rank=2",
        "study.synthetic_fractions=[0,0.5,1]",
    )
    steps = plan.build_steps(Workspace(config, overrides))
    assert [step.stage for step in steps[:4]] == ["probe", "finetune", "generate", "generate"]
    for step in steps:
        own = step.workspace
        again = own.with_config(compose(own.overrides))
        if step.stage == "train":
            assert train.build_job(again).key == train.build_job(own).key
        else:
            assert again.config.generator == own.config.generator
