"""Weights & Biases: one closed run per job, inside the job's folder, nothing elsewhere, nothing private."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from small_study import write_cohort, write_image
from wandb_recorder import KEY, Recorder, environment, logged

from xraysynth import compose, tracking
from xraysynth.errors import ConfigError
from xraysynth.evaluation.metrics.classification import score_run
from xraysynth.files import sha256_file
from xraysynth.generation.ledger import Ledger
from xraysynth.jobs.job import Job
from xraysynth.jobs.store import ImageStore
from xraysynth.manifest import Manifest
from xraysynth.tracking.charts import compute_reliability_bins
from xraysynth.tracking.runs import arm_from_options, build_run_config, open_run

STAGES = {"generate": 1, "train": 4, "evaluate": 1}


def runs(folder: Path, stage: str = "*") -> list[Path]:
    return sorted((folder / "outputs").glob(f"{stage}/*/wandb/offline-run-*"))


def records(run: Path) -> list[dict]:
    return [json.loads(line) for line in logged(run).splitlines()]


def sent_rows(run: Path) -> int:
    return sum(record["type"] == "history" for record in records(run))


def pictures(run: Path) -> list[Path]:
    """Images of a run: those shown by themselves, and those in its tables."""
    places = (run / "files" / "media", run.parent / "data")
    files = [path for place in places for path in place.rglob("*") if path.is_file()]
    return [path for path in files if path.read_bytes()[:4] == b"\x89PNG"]


def sync(folder: Path, url: str, home: Path) -> None:
    """The command that the documents name, in a folder of outputs."""
    command = f"{Path(sys.executable).with_name('wandb')} sync */*/wandb"
    told = environment(url, home)
    done = subprocess.run(command, shell=True, cwd=folder, env=told, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_every_job_is_a_run_of_its_own(finished):
    folder, _, _ = finished
    assert {stage: len(runs(folder, stage)) for stage in STAGES} == STAGES
    for run in runs(folder):
        assert len(list(run.glob("run-*.wandb"))) == 1


def test_a_training_run_holds_configuration_scores_with_intervals_and_curves(finished):
    folder, _, _ = finished
    found = {run: records(run) for run in runs(folder, "train")}
    starts = [r["run"] for rows in found.values() for r in rows if r["type"] == "run"]
    configs = [start["config"]["update"] for start in starts]
    assert {(c["arm"]["share"], c["seed"]) for c in configs} == {(0, 0), (0, 1), (0.5, 0), (0.5, 1)}
    assert {(s["run_group"], s["job_type"]) for s in starts} == {("study", "train")}
    assert {config["size_px"] for config in configs} == {32}
    text = json.dumps(next(iter(found.values())))
    assert all(f"test/macro_f1{end}" in text for end in ("", "/low", "/high", "/n"))
    for name in ("test/confusion", "test/pr", "test/calibration", "val/macro_f1", "train/loss"):
        assert name in text, name


def test_the_run_of_a_report_holds_its_verdicts(finished):
    folder, _, _ = finished
    (run,) = runs(folder, "report")
    text, name = json.dumps(records(run)), "verdict/stable_diffusion 50% (replace) minus real only"
    assert all(f"{name}{end}" in text for end in ("", "/value", "/low", "/detectable", "/p_holm"))
    table = json.loads(next(run.glob("files/media/table/verdicts_*.json")).read_text())
    record = json.loads((run.parents[1] / "run.json").read_text())
    assert [dict(zip(table["columns"], row, strict=True)) for row in table["data"]] == record[
        "result"
    ]["verdicts"]
    assert {row["minus"] for row in record["result"]["verdicts"]} >= {"real only"}


def test_a_run_says_nothing_of_the_machine(finished):
    folder, _, _ = finished
    for run in runs(folder):
        text = logged(run)
        assert str(folder) not in text, run
        assert str(Path.home()) + "/" not in text, run
        assert "environment" not in {record["type"] for record in records(run)}
        kept = {path.name for path in run.glob("files/*")}
        assert kept <= {"media", "config.yaml", "wandb-summary.json"}


def test_a_configuration_is_sent_without_paths_and_secrets(tmp_path, monkeypatch):
    monkeypatch.setenv("SOME_API_KEY", 'quoted"-secret')
    write_cohort(tmp_path / "cohort", per_class=1)
    config = compose(
        [
            "source=table",
            f"source.table.path={tmp_path / 'cohort' / 'manifest.csv'}",
            f"paths.output={tmp_path / 'outputs'}",
            "generator.stable_diffusion.model=/elsewhere/models/mine",
            "study.name=kept",
            "prompts.negative='say quoted\"-secret twice'",
        ]
    )
    found = build_run_config(config, Job("train", {}, tmp_path / "outputs"))
    text = json.dumps(found)
    assert found["paths"]["output"] == "outputs"
    assert found["generator"]["stable_diffusion"]["model"] == "…/mine"
    assert found["study"]["name"] == "kept"
    assert found["prompts"]["negative"] == "say … twice"
    assert str(tmp_path) not in text


def test_arms_of_a_series_differ_by_share_and_seed_alone():
    def series(*overrides: str) -> str:
        return arm_from_options(compose(list(overrides)).to_dict()).series

    assert series("data.synthetic_fraction=0") == "real only"
    assert (
        series("data.synthetic_fraction=0.5")
        == series("data.synthetic_fraction=0.25", "seed=3")
        == "stable_diffusion"
    )
    others = ["data.mode=add", "data.control=permuted", "data.control=duplicate"]
    others += ["data.real_fraction=0.5", "data.leave_out=nih"]
    found = {series("data.synthetic_fraction=0.5", other) for other in others}
    assert len(found | {"stable_diffusion"}) == 6


def test_the_images_of_a_pool_are_inside_its_run(finished):
    folder, _, _ = finished
    (run,) = runs(folder, "generate")
    assert list(run.glob("files/media/table/*.table.json"))
    assert len(pictures(run)) == 2 * 24  # 6 of each class, by themselves and in a table


def test_an_evaluation_shows_the_nearest_real_images(finished):
    folder, _, _ = finished
    (run,) = runs(folder, "evaluate")
    (table,) = run.glob("files/media/table/closest*.table.json")
    found = json.loads(table.read_text())
    assert "nearest real" in found["columns"]
    assert len(found["data"]) == 6


def test_a_table_of_a_pool_says_what_was_refused(tmp_path):
    store = ImageStore(tmp_path / "outputs" / "pools", "dalle", {"some": "pool"})
    write_image(tmp_path / "made.png", label="normal", seed=0)
    columns = {"label": "normal", "prompt": "a radiograph", "seed": 1, "source": "dalle"}
    columns |= {"patient_id": "", "is_synthetic": True, "split": "train"}
    with store.writer() as writer:
        writer.add("normal-0", (tmp_path / "made.png").read_bytes(), columns=columns)
        writer.add("normal-1", None, outcome="refused", columns=columns, facts={"reason": "policy"})
    config = compose([f"paths.output={tmp_path / 'outputs'}"])
    outcomes = {"normal": {"image": 1, "refused": 1}}
    with tracking.open_run(config, Job("generate", {}, tmp_path / "outputs")) as run:
        spent = {"outcomes": outcomes, "ledger": Ledger(seconds_p50=2.0)}
        tracking.log_pool(run, store.manifest(), store, **spent, lora_key="abc")
    (run,) = runs(tmp_path, "generate")
    (table,) = run.glob("files/media/table/*.table.json")
    rows = json.loads(table.read_text())["data"]
    assert [row[1:5] for row in rows] == [
        ["normal", "a radiograph", "image", ""],
        ["normal", "a radiograph", "refused", "policy"],
    ]
    text = logged(run)
    assert '"outcome/refused":1' in text
    assert '"cost/seconds_p50":2' in text


@pytest.mark.parametrize("credentialed", [True, False])
def test_images_under_a_use_agreement_are_not_shown(tmp_path, credentialed):
    write_cohort(tmp_path / "cohort", per_class=2)
    path = tmp_path / "cohort" / "manifest.csv"
    overrides = [
        "source=table",
        f"source.table.path={path}",
        f"paths.output={tmp_path / 'outputs'}",
    ]
    config = compose([*overrides, f"source.table.credentialed={str(credentialed).lower()}"])
    manifest = cohort(tmp_path / "cohort")
    with tracking.open_run(config, Job("prepare", {}, tmp_path / "outputs")) as run:
        tracking.log_cohort(run, manifest, patients=8, near_duplicates=0)
        tracking.WandbFinetuneLogger(run).log_samples(
            np.zeros((1, 8, 8)), ["someone's report"], step=1, prefix=""
        )
    (run,) = runs(tmp_path)
    assert len(pictures(run)) == (0 if credentialed else 8 + 1)
    assert ("someone's report" in logged(run)) == (not credentialed)
    assert not list(run.rglob("*normal*"))  # names of files may be ids of patients


def cohort(folder: Path) -> Manifest:
    import pandas as pd

    table = pd.read_csv(folder / "manifest.csv")
    table = table.assign(
        image_id=table["patient_id"],
        source="table",
        split="train",
        is_synthetic=False,
        sha256=[sha256_file(folder / path) for path in table["path"]],
    )
    return Manifest(table, folder, tuple(sorted(set(table["label"]))))


def test_the_calibration_curve_has_the_calibration_error():
    rng = np.random.default_rng(0)
    probabilities, targets = rng.dirichlet(np.ones(3), 500), rng.integers(0, 3, 500)
    rows = np.array(compute_reliability_bins(probabilities, targets))
    error = np.sum(np.abs(rows[:, 0] - rows[:, 1]) * rows[:, 2]) / 500
    scores = score_run(
        probabilities, targets, np.arange(500), classes=["a", "b", "c"], replicates=2
    )
    assert error == pytest.approx(scores["ece"].value)


def test_a_copied_study_is_synced_by_one_command(finished, tmp_path):
    folder, _, _ = finished
    shutil.copytree(folder / "outputs", tmp_path / "elsewhere")
    expected = {run.name.rpartition("-")[2]: run for run in runs(folder)}
    with Recorder() as server:
        sync(tmp_path / "elsewhere", server.url, tmp_path)
    assert set(server.runs) == set(server.exits) == set(expected)
    assert set(server.exits.values()) == {0}
    for name, run in expected.items():
        assert len(server.history[name]) == sent_rows(run) > 0
        media = [p.relative_to(run / "files") for p in (run / "files").rglob("*.*") if p.is_file()]
        assert all(f"run/{name}/{path}" in server.files for path in media)
    arrived = [data for data in server.files.values() if data.startswith(b"\x89PNG")]
    kept = {path.read_bytes() for run in expected.values() for path in pictures(run)}
    assert set(arrived) == kept
    said = b"".join([*server.requests, *server.files.values()])
    assert str(folder).encode() not in said
    assert KEY.encode() not in said
    lineage(server, expected)


def lineage(server: Recorder, expected: dict[str, Path]) -> None:
    """Pools and classifiers are made by their jobs, and a training uses what it was given."""
    of = {
        stage: {name for name, run in expected.items() if run.parts[-4] == stage}
        for stage in STAGES
    }
    by_kind: dict[str, list[dict]] = {}
    for (kind, _, _), found in server.artifacts.items():
        by_kind.setdefault(kind, []).append(found)
    (pool,) = by_kind["pool"]
    prepared = max(by_kind["cohort"], key=lambda found: len(found["used_by"]))
    assert set(pool["made_by"]) == of["generate"]
    assert len(set(pool["used_by"]) & of["train"]) == 2  # of two seeds; the others are real only
    assert set(prepared["used_by"]) >= of["train"]
    for kind in ("classifier", "predictions"):
        assert {name for found in by_kind[kind] for name in found["made_by"]} >= of["train"]


TRACK = """
import sys
import numpy as np
from xraysynth import tracking
from xraysynth import compose
from xraysynth.evaluation.metrics.probes import Shortcut
from xraysynth.jobs.job import Job
config = compose([f"paths.output={sys.argv[1]}"])
row = Shortcut(0.9, 0.8, 1.0, 9, target="class", view="border", chance=0.5)
with tracking.open_run(config, Job("probe", {}, config.output)) as run:
    tracking.WandbFinetuneLogger(run).log_samples(np.zeros((1, 8, 8)), ["a caption"], step=1, prefix="")
    tracking.log_shortcuts(run, [row])
"""


def test_nothing_is_written_to_the_home_folder(tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    told = os.environ | {"HOME": str(home), "XDG_CACHE_HOME": "", "XDG_CONFIG_HOME": ""}
    command = [sys.executable, "-c", TRACK, str(tmp_path / "outputs")]
    done = subprocess.run(command, capture_output=True, text=True, env=told, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""  # no address, no hints
    assert {path.name for path in tmp_path.iterdir()} == {"home", "outputs"}
    assert list(home.iterdir()) == []
    (run,) = runs(tmp_path, "probe")
    assert len(pictures(run)) == 1


def test_a_run_is_closed_when_the_job_fails(tmp_path):
    import wandb

    config = compose([f"paths.output={tmp_path}"])
    for number in range(2):
        job = Job("train", {"number": number}, tmp_path)
        with pytest.raises(ZeroDivisionError), tracking.open_run(config, job) as run:
            1 / int(run.group != "study" or run.job_type != "train")  # no error if misnamed
        assert wandb.run is None
    assert len(list(tmp_path.glob("train/*/wandb/offline-run-*"))) == 2


def test_disabled_tracking_writes_nothing(tmp_path):
    config = compose([f"paths.output={tmp_path}", "tracking=none"])
    with tracking.open_run(config, Job("train", {}, tmp_path)) as run:
        assert run is None
        assert tracking.lightning_logger(run) is None
    assert list(tmp_path.iterdir()) == []


def test_wandb_gets_no_key_by_plain_http(tmp_path, monkeypatch):
    monkeypatch.delenv("WANDB_MODE")  # which keeps runs offline
    monkeypatch.setenv("WANDB_BASE_URL", "http://wandb.example.org")
    config = compose(["tracking=wandb", f"paths.output={tmp_path}"])
    with (
        pytest.raises(ConfigError, match=r"WANDB_BASE_URL calls wandb.example.org by plain http"),
        open_run(config, Job("probe", {}, config.output)),
    ):
        pass


def test_a_run_holds_no_key_of_a_variable_of_any_name(tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI", "of-a-plain-variable")
    words = ["generator=dalle", "generator.dalle.api_key_env=OPENAI", f"paths.output={tmp_path}"]
    config = compose(words)
    config.generator["dalle"]["extra_body"] = {"user": "of-a-plain-variable"}
    job = Job("probe", {}, config.output)
    assert "of-a-plain-variable" not in json.dumps(build_run_config(config, job))
