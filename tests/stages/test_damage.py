"""What happens to a finished study when files are lost or altered: mended, or refused by name."""

import json
import shlex
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from command import xraysynth

from xraysynth.data.pixels import load_cached_pixels
from xraysynth.errors import DamageError, PoolError
from xraysynth.records import LearningRecord
from xraysynth.stages import Workspace, evaluate, prepare, report, study, train
from xraysynth.training.callbacks import find_checkpoint
from xraysynth.training.run import restart_if_pools_changed


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def zero(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def make_unreadable(path: Path) -> None:
    path.unlink()
    path.mkdir()  # root may read every file


DAMAGES = [flip, cut, empty, zero, make_unreadable]
each_damage = pytest.mark.parametrize("damage", DAMAGES)

Composed = Callable[..., tuple]


def workspace(copied: Composed, *more: str) -> Workspace:
    return Workspace(*copied("tracking=none", *more))


def only(folder: Path, pattern: str) -> Path:
    return sorted(folder.glob(pattern))[0]


def empty_pool(pool: Path) -> None:
    """What is left of a pool whose process was killed before its first image."""
    shutil.rmtree(pool)
    for name in ("images", "journal"):
        (pool / name).mkdir(parents=True)
    (pool / "journal" / "shard-0-of-1.jsonl").touch()


def test_a_study_killed_before_the_first_image_of_a_pool_continues(copied):
    expected = study.run(workspace(copied))
    (pool,) = workspace(copied).output.glob("pools/*")
    empty_pool(pool)
    with pytest.raises(PoolError, match=r"too few images.*xraysynth generate"):
        train.run(workspace(copied, "data.synthetic_fraction=0.5", "seed=7"))
    planned = study.run(workspace(copied, "plan=true"))
    assert planned["missing"] == 2  # the pool, and its measures
    assert "too few images" in Path(report.run(workspace(copied))["report"]).read_text()
    continued = study.run(workspace(copied))
    assert continued["state"] == "done"
    assert continued["macro_f1"] == expected["macro_f1"]


def macro_f1_of(outputs: Path) -> float:
    (table,) = outputs.glob("studies/*/results.csv")
    return pd.read_csv(table).query("metric == 'macro_f1'")["value"].max()


@each_damage
def test_predictions_that_were_altered_are_left_out_of_the_report(copied, damage, capsys):
    study.run(workspace(copied))  # the copy lies elsewhere
    path = only(workspace(copied).output, "train/*/predictions.parquet")
    damage(path)
    result = report.run(workspace(copied))
    assert result["state"] == "failed"
    assert str(path) in result["failures"][0]
    assert "xraysynth study" in result["failures"][0]


def test_altered_predictions_and_numbers_are_made_again_by_the_study(copied, capsys):
    before = study.run(workspace(copied))
    outputs = workspace(copied).output
    predictions = only(outputs, "train/*/predictions.parquet")
    original = predictions.read_bytes()
    flip(predictions)
    record = sorted(outputs.glob("train/*/run.json"))[1]
    values = json.loads(record.read_text())
    values["result"]["scores"]["macro_f1"]["value"] = 0.99
    record.write_text(json.dumps(values))
    after = study.run(workspace(copied))
    told = capsys.readouterr().err
    assert f"{predictions} is altered" in told
    assert f"{record} was altered" in told
    assert predictions.read_bytes() == original
    assert (after["state"], after["macro_f1"]) == ("done", before["macro_f1"])


@each_damage
def test_weights_that_were_altered_measure_nothing(copied, damage):
    study.run(workspace(copied))
    outputs = workspace(copied).output
    shutil.rmtree(outputs / "evaluate")
    (record,) = [p for p in outputs.glob("train/*/run.json") if is_first_real_only(p)]
    weights = record.with_name("classifier.safetensors")
    damage(weights)
    with pytest.raises(DamageError, match=rf"{weights} .*xraysynth train .*fraction=0"):
        evaluate.run(workspace(copied))


def is_first_real_only(record: Path) -> bool:
    values = json.loads(record.read_text())
    return values["result"]["synthetic_images"] == 0 and values["identity"]["seed"] == 0


@each_damage
@pytest.mark.parametrize("name", ["cohort", "audit"])
def test_a_damaged_cohort_is_prepared_again(copied, damage, name, capsys):
    prepare.run(workspace(copied))
    outputs = {
        path.stem.split("-")[0]: path for path in prepare.build_job(workspace(copied)).outputs
    }
    path = outputs[name]
    original = path.read_bytes()
    damage(path)
    assert len(workspace(copied).cohort) == 96
    assert workspace(copied).audit is not None
    assert path.read_bytes() == original
    assert str(path) in capsys.readouterr().err


@each_damage
def test_a_damaged_run_json_is_said_and_the_job_done_again(copied, damage, capsys):
    prepare.run(workspace(copied))
    job = prepare.build_job(workspace(copied))
    damage(job.folder / "run.json")
    assert not job.done
    assert not prepare.run(workspace(copied))["skipped"]
    assert str(job.folder / "run.json") in capsys.readouterr().err
    assert job.done


@each_damage
def test_a_damaged_image_of_the_cohort_is_read_again_by_prepare(copied, damage):
    prepare.run(workspace(copied))
    cohort = workspace(copied).cohort
    image, folder = cohort.files[0], workspace(copied).cache / "new"
    original = image.read_bytes()
    damage(image)
    with pytest.raises(Exception, match=image.name):
        load_cached_pixels(cohort, size_px=32, folder=folder)
    assert prepare.run(workspace(copied))["skipped"]
    assert image.read_bytes() == original
    assert len(load_cached_pixels(cohort, size_px=32, folder=folder)) == 96


@each_damage
@pytest.mark.parametrize("memory_mapped", [False, True])
def test_decoded_pixels_that_were_altered_are_decoded_again(copied, damage, memory_mapped):
    cohort, folder = workspace(copied).cohort, workspace(copied).cache / "new"
    pixels = load_cached_pixels(cohort, size_px=32, folder=folder)
    damage(only(folder, "pixels-*.npy"))
    again = load_cached_pixels(cohort, size_px=32, folder=folder, memory_mapped=memory_mapped)
    assert np.array_equal(again, pixels)


@each_damage
def test_a_record_of_what_was_learned_is_refused_when_damaged(tmp_path, damage):
    path = tmp_path / "learned.json"
    LearningRecord(["nih/1", "nih/2"], ["ab", "cd"]).write(path)
    damage(path)
    with pytest.raises(DamageError, match=r"learned\.json .*delete it"):
        LearningRecord.read(path)


def test_a_record_that_names_nothing_is_refused_and_one_of_earlier_versions_is_not(tmp_path):
    path = tmp_path / "learned.json"
    path.write_text('{"patients": [], "sha256": []}')
    with pytest.raises(DamageError, match="names no image and no patient"):
        LearningRecord.read(path)
    path.write_text('{"patients": ["a/1"], "sha256": []}')
    assert LearningRecord.read(path) == LearningRecord(["a/1"], [])


@each_damage
def test_a_damaged_checkpoint_is_refused_with_the_words_that_remove_it(tmp_path, damage):
    import torch

    for is_digest_known in (True, False):
        path = tmp_path / f"{is_digest_known} run" / "last.ckpt"
        path.parent.mkdir()
        torch.save({"step": torch.arange(1000)}, path)
        if is_digest_known:
            from xraysynth.files import sha256_file

            path.with_name("last.ckpt.sha256").write_text(f"{'0' * 64}\n{sha256_file(path)}")
        elif damage is flip:
            continue  # torch itself does not see it
        assert find_checkpoint(path.parent) == path
        damage(path)
        with pytest.raises(DamageError, match="is damaged") as refused:
            find_checkpoint(path.parent)
        remedy = f"rm {shlex.quote(str(path))}"
        assert f"({remedy})" in str(refused.value)
        if path.is_file():  # what stands for a file that may not be read is a folder
            subprocess.run(remedy, shell=True, check=True)
            assert find_checkpoint(path.parent) is None


@pytest.mark.parametrize("damage", [cut, empty, zero])
def test_a_training_whose_record_of_pools_is_damaged_begins_anew(tmp_path, damage):
    restart_if_pools_changed(tmp_path, {"archive": "ab"})
    (tmp_path / "last.ckpt").touch()
    damage(tmp_path / "pools.json")
    restart_if_pools_changed(tmp_path, {"archive": "ab"})
    assert not (tmp_path / "last.ckpt").exists()
    assert json.loads((tmp_path / "pools.json").read_text()) == {"archive": "ab"}


def test_a_report_without_the_measures_of_a_damaged_pool_ends_with_exit_code_1(copied):
    study.run(workspace(copied))
    image = only(workspace(copied).output, "pools/*/images/*.png")
    flip(image)
    _, overrides = copied("tracking=none")
    ended = xraysynth("report", *overrides)
    assert ended.returncode == 1
    assert image.name in json.loads(ended.stdout.splitlines()[-1])["failures"][0]


def test_a_moved_folder_of_outputs_is_used_from_anywhere(copied, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = study.run(workspace(copied, "paths.output=study/outputs"))
    moved = tmp_path / "elsewhere" / "renamed"
    moved.parent.mkdir()
    Path("study/outputs").rename(moved)
    monkeypatch.chdir("/")
    planned = study.run(workspace(copied, f"paths.output={moved}", "plan=true"))
    assert planned["missing"] == 0
    shutil.rmtree(moved / "report")
    shutil.rmtree(moved / "evaluate")
    again = study.run(workspace(copied, f"paths.output={moved}"))
    assert again["macro_f1"] == before["macro_f1"]
    assert prepare.run(workspace(copied, f"paths.output={moved}"))["manifest"].startswith(
        str(moved)
    )
    assert not (tmp_path / "study" / "outputs").exists()
