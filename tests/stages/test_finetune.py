import json
import shutil
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import pandas as pd
import pytest
from small_study import overrides_for, write_cohort

from xraysynth import compose
from xraysynth.errors import ConfigError, LeakageError, XraysynthError
from xraysynth.files import read_json_lines
from xraysynth.generation import pool
from xraysynth.jobs.record import RunRecord
from xraysynth.manifest import Manifest
from xraysynth.records import LEARNING_RECORD_FILE, LearningRecord
from xraysynth.stages import Workspace, evaluate, finetune, generate, study, train
from xraysynth.stages._study import forecast

LORA = [
    "generator=sd_lora",
    "generator.sd_lora.steps=1",
    "generator.sd_lora.lora.steps=4",
    "generator.sd_lora.lora.rank=2",
    "generator.sd_lora.lora.targets=[to_q,to_v]",
    "generator.sd_lora.lora.val_every_steps=2",
    "generator.sd_lora.lora.per_class=false",
    "generate.per_class=6",
]
HEAVY = [
    "diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion",
    "xraysynth.generation.lora.training",
    "xraysynth.training.fitting",
]


def overrides_of(folder, tiny_sd, *more):
    plain = overrides_for(folder, tiny_sd)
    kept = [text for text in plain if not text.startswith("generator.")]
    return [*kept, *LORA, f"generator.sd_lora.model={tiny_sd}", *more]


@pytest.fixture(scope="module")
def done(tmp_path_factory, tiny_sd):
    """Folder, overrides and result of a finished study with a LoRA; tests must not change it."""
    folder = tmp_path_factory.mktemp("lora-study")
    write_cohort(folder / "cohort")
    overrides = overrides_of(folder, tiny_sd, "study.workers=2", "study.seeds=[0]")
    # Both processes come from one that has imported what they need, as spawned ones each would.
    context = get_context("forkserver")
    context.set_forkserver_preload(HEAVY)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("multiprocessing.get_context", lambda _: context)
        return folder, overrides, study.run(Workspace(compose(overrides), overrides))


@pytest.fixture
def copy(done, tmp_path, tiny_sd):
    """The same in a folder of its own, to be changed at will."""
    shutil.copytree(done[0], tmp_path / "study")

    def composed(*more):
        overrides = overrides_of(tmp_path / "study", tiny_sd, *more)
        return compose(overrides), overrides

    return composed


def only(folder, pattern):
    (path,) = folder.glob(pattern)
    return path


def test_the_study_teaches_generates_and_compares_in_two_processes(done):
    _, _, result = done
    assert result["state"] == "done"
    assert set(result["macro_f1"]) == {"real only", "sd_lora 50% (replace)"}
    page = Path(result["report"]).read_text()
    assert "fine-tuning, steps" in page
    assert "Stable Diffusion with LoRA" in page


def test_it_records_what_it_saw_and_how_it_went(done):
    folder, overrides, _ = done
    cohort = Workspace(compose(overrides), overrides).cohort
    learned = json.loads(only(folder, f"outputs/finetune/*/{LEARNING_RECORD_FILE}").read_text())
    seen = cohort.split("train").table
    assert learned["sha256"] == sorted(seen["sha256"])
    assert learned["patients"] == sorted(set(seen["source"] + "/" + seen["patient_id"]))
    record = json.loads(only(folder, "outputs/finetune/*/run.json").read_text())["result"]
    assert record["images"] == len(seen)
    assert [entry["step"] for entry in record["history"]] == [1, 2, 3, 4]
    assert [n for n, e in enumerate(record["history"], 1) if "val_loss" in e] == [2, 4]
    assert record["ledger"]["peak_rss_mb"] > 100


def test_the_record_stays_with_the_pool_and_reaches_the_ledger(done):
    _, overrides, _ = done
    config = compose([*overrides, "data.synthetic_fraction=0.5"])
    workspace = Workspace(config, overrides)
    ((name, generator),) = workspace.generators.items()
    store = workspace.pool_store(name)
    assert pool.read_learning_record(store) == generator.learning_record()
    assert pool.read_learning_record(store) is not None
    found = pool.compute_ledger(store)
    assert found.trained_parameters > 0
    assert found.images_per_hour > 0
    assert found.dtype == "float32"


def spoil(config, overrides):
    """Let the pool's record name a test patient: as if it had been made from another split."""
    workspace = Workspace(config, overrides)
    test = workspace.cohort.split("test").table.iloc[0]
    (name,) = workspace.generators
    path = workspace.pool_store(name).folder / LEARNING_RECORD_FILE
    record = LearningRecord.read(path)
    patients = [*record.patients, f"{test['source']}/{test['patient_id']}"]
    replace(record, patients=patients).write(path)
    return test["image_id"]


def test_a_pool_whose_lora_saw_test_patients_is_not_trained_with(copy):
    config, overrides = copy("data.synthetic_fraction=0.5", "data.batch_size=15")
    image_id = spoil(config, overrides)
    with pytest.raises(LeakageError, match=f"fine-tuned on val or test patients: {image_id}"):
        train.run(Workspace(config, overrides))


def test_a_distance_to_images_the_lora_saw_is_refused(copy):
    config, overrides = copy()
    image_id = spoil(config, overrides)
    with pytest.raises(LeakageError, match=f"fine-tuned on val or test patients: {image_id}"):
        evaluate.run(Workspace(config, overrides))


def test_weights_of_one_split_are_refused_on_another(copy, done):
    weights = only(done[0], "outputs/finetune/*/run.json").parent
    config, overrides = copy(f"generator.sd_lora.weights={weights}", "splits.seed=1")
    train.run(Workspace(replace(config, data=config.data.with_real_images_only()), overrides))
    generate.run(Workspace(config, overrides))
    with pytest.raises(LeakageError, match="fine-tuned on val or test patients"):
        evaluate.run(Workspace(config, overrides))
    config, overrides = copy(
        f"generator.sd_lora.weights={weights}", "splits.seed=1", "data.synthetic_fraction=0.5"
    )
    with pytest.raises(LeakageError, match="fine-tuned on val or test patients"):
        train.run(Workspace(config, overrides))


def test_generation_before_fine_tuning_says_what_to_run(copy):
    config, overrides = copy("generator.sd_lora.lora.rank=3")
    with pytest.raises(XraysynthError, match=r"run: xraysynth finetune .*rank=3"):
        generate.run(Workspace(config, overrides))


def test_killed_and_continued_it_ends_the_same(copy, done, monkeypatch):
    config, overrides = copy()
    finished = only(Path(config.paths.output), "finetune/*/run.json").parent
    expected = (
        only(done[0], "outputs/finetune/*") / "pytorch_lora_weights.safetensors"
    ).read_bytes()
    shutil.rmtree(finished)
    from xraysynth import tracking

    class Killed(BaseException):
        pass

    def stop(self, entry, *, prefix):
        if entry["step"] == 3:
            raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(tracking.WandbFinetuneLogger, "log", stop)
        with pytest.raises(Killed):
            finetune.run(Workspace(config, overrides))
    lines = read_json_lines(finished / finetune.SESSIONS_FILE)
    result = finetune.run(Workspace(config, overrides))["generators"]["sd_lora"]
    assert result["state"] == "done"
    spent = result["ledger"]
    assert (spent["sessions"], spent["unmetered_sessions"]) == (2, 0)
    assert spent["seconds"] > lines[-1]["seconds"]  # of which the first session took so many
    weights = Path(result["weights"])
    assert (weights / "pytorch_lora_weights.safetensors").read_bytes() == expected


def test_a_session_that_left_no_measurement_makes_the_total_unknown(copy, monkeypatch):
    config, overrides = copy("generator.sd_lora.lora.steps=2")
    (this,) = finetune.jobs(Workspace(config, overrides))
    this.folder.mkdir(parents=True)
    (this.folder / "checkpoint.partial").touch()  # of an earlier version, which kept no journal
    spent = finetune.run(Workspace(config, overrides))["generators"]["sd_lora"]["ledger"]
    assert spent["seconds"] is None
    assert spent["seconds_at_least"] > 0
    assert spent["unmetered_sessions"] == 1


def test_the_time_a_plan_names_includes_that_before_an_interruption():
    def seconds(**result):
        return forecast._total_seconds(RunRecord(seconds=10.0, result=result))

    assert seconds(ledger={"seconds": 30.0}) == 30.0
    assert seconds(fit_seconds=25.0) == 25.0
    assert seconds(ledger={"seconds": None}) is None
    assert seconds() == 10.0


def test_captions_may_come_from_the_source(tmp_path, tiny_sd):
    write_cohort(tmp_path / "cohort")
    path = tmp_path / "cohort" / "manifest.csv"
    table = pd.read_csv(path)
    table.assign(caption=["film of " + label for label in table["label"]]).to_csv(path, index=False)
    named = ["source.table.columns.prompt=caption", "generator.sd_lora.lora.captions=prompt"]
    overrides = overrides_of(tmp_path, tiny_sd, *named)
    config = compose(overrides)
    workspace = Workspace(config, overrides)
    cohort = workspace.cohort
    (learner,) = workspace.generators_to_finetune.values()
    captions = finetune.build_captions(learner, cohort, config.prompts)
    assert captions[0] == [f"film of {cohort.table['label'].iloc[0]}"]
    empty = Manifest(cohort.table.assign(prompt=""), cohort.folder, cohort.classes)
    with pytest.raises(ConfigError, match=r"lora.captions=prompt: the cohort has no such column"):
        finetune.build_captions(learner, empty, config.prompts)


def test_captions_of_the_bank_differ_and_repeat(done):
    _, overrides, _ = done
    config = compose(overrides)
    workspace = Workspace(config, overrides)
    cohort = workspace.cohort
    (learner,) = workspace.generators_to_finetune.values()
    found = finetune.build_captions(learner, cohort, config.prompts)
    assert found == finetune.build_captions(learner, cohort, config.prompts)
    assert {len(own) for own in found} == {learner.captions_per_image}
    assert len({tuple(own) for own in found}) > len(found) / 2


def test_a_class_without_prompts_is_named(copy):
    config, overrides = copy("prompts.findings.covid19=[]")
    with pytest.raises(ConfigError, match=r"prompts.findings has no phrase for class 'covid19'"):
        finetune.run(Workspace(config, overrides))


def test_a_generator_that_does_not_learn_is_no_reason_to_run(tmp_path):
    config = compose([f"paths.output={tmp_path}"])
    with pytest.raises(ConfigError, match="generator names none that is fine-tuned"):
        finetune.run(Workspace(config, []))
