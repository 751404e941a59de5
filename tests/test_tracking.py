"""Weights & Biases: one closed run per job, inside the job's folder, nothing elsewhere."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from small_study import overrides_for, write_cohort

from xraysynth import tracking
from xraysynth.config import compose
from xraysynth.job import Job


def runs(folder: Path, stage: str) -> list[Path]:
    return sorted((folder / "outputs" / stage).glob("*/wandb/offline-run-*"))


def inspect(run: Path, *options: str):
    command = [sys.executable, "-m", "wandb", "leet", "inspect", *options, "--json", str(run)]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def test_every_job_is_a_run_of_its_own(finished):
    folder, _, _ = finished
    assert [len(runs(folder, stage)) for stage in ("generate", "train", "evaluate")] == [1, 4, 1]
    for stage in ("generate", "train", "evaluate"):
        for run in runs(folder, stage):
            assert len(list(run.glob("run-*.wandb"))) == 1


def test_a_training_run_holds_configuration_scores_and_tables(finished):
    folder, _, _ = finished
    run = runs(folder, "train")[0]
    found = inspect(run, "--summary")
    assert found["config"]["size_px"] == 32
    text = json.dumps(found)
    for name in ("macro_f1", "test/confusion", "val/macro_f1"):
        assert name in text, name


def test_the_images_of_a_pool_are_inside_its_run(finished):
    folder, _, _ = finished
    (run,) = runs(folder, "generate")
    assert list(run.glob("files/media/table/*.table.json"))
    staged = [p.read_bytes()[:4] for p in (run.parent / "data").rglob("*") if p.is_file()]
    assert staged.count(b"\x89PNG") == 24  # 6 of each class, all shown


def test_nothing_is_written_to_the_home_folder(tmp_path, tiny_sd):
    write_cohort(tmp_path / "cohort")
    home = tmp_path / "home"
    home.mkdir()
    environment = os.environ | {"HOME": str(home), "XDG_CACHE_HOME": "", "XDG_CONFIG_HOME": ""}
    command = [sys.executable, "-c", "from xraysynth.cli import main; main()", "generate"]
    command += overrides_for(tmp_path, tiny_sd, "generate.per_class=2")
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert list(home.rglob("*wandb*")) == []
    assert len(runs(tmp_path, "generate")) == 1
    assert not (tmp_path / "wandb").exists()


def test_a_run_is_closed_when_the_job_fails(tmp_path):
    import wandb

    config = compose([f"paths.output={tmp_path}"])
    for number in range(2):
        job = Job("train", {"number": number}, tmp_path)
        with pytest.raises(ZeroDivisionError), tracking.tracked(config, job) as run:
            1 / int(run.group != "study" or run.job_type != "train")  # no error if misnamed
        assert wandb.run is None
    assert len(list(tmp_path.glob("train/*/wandb/offline-run-*"))) == 2


def test_disabled_tracking_writes_nothing(tmp_path):
    config = compose([f"paths.output={tmp_path}", "tracking=none"])
    with tracking.tracked(config, Job("train", {}, tmp_path)) as run:
        assert run is None
        assert tracking.lightning_logger(run) is None
    assert list(tmp_path.iterdir()) == []
