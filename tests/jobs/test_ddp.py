"""A classifier trained by two processes: what one alone would get, and one record of it."""

import json
import os
import socket
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command import torchrun
from pytorch_lightning.callbacks import Callback
from small_study import overrides_for, write_cohort
from test_classifier import data, model, trainer, weights
from test_datamodule import shapes
from torch.multiprocessing import start_processes

import xraysynth.training.fitting as fitting
from xraysynth import compose
from xraysynth.errors import ConfigError
from xraysynth.files import exclusive_lock
from xraysynth.jobs.distributed import broadcast, is_main, process_group, receive_broadcast
from xraysynth.jobs.job import Job
from xraysynth.launch import launch
from xraysynth.manifest import Manifest
from xraysynth.stages import Workspace, train
from xraysynth.training.classifier import XrayClassifier
from xraysynth.training.fitting import MONITOR, FitResult, fit
from xraysynth.training.recipe import ClassifierRecipe, KeptWeights, TrainerRecipe
from xraysynth.training.run import POOL_DIGESTS_FILE, restart_if_pools_changed

# Layer norms: statistics over a batch would be those of a process's own images on a CPU.
RECIPE = ClassifierRecipe(
    backbone="test_convnext", learning_rate=1e-3, class_weighting="balanced", label_smoothing=0.1
)
STEPS = trainer(max_steps=12, val_every_steps=4, keep=KeptWeights.best)


class Kill(Callback):
    def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
        if trainer.global_step == 6:
            raise KeyError("killed")


def start() -> XrayClassifier:
    return model(RECIPE, max_steps=12, class_counts=[16, 8])


def trained(real: Manifest, folder: Path, *, killed: bool = False) -> FitResult | None:
    stopping, fitting._early_stopping = (
        fitting._early_stopping,
        lambda _: [Kill()] if killed else [],
    )
    module = start()
    try:
        found = fit(module, data(real, folder.parent), STEPS, folder=folder)
    except KeyError:
        return None
    finally:
        fitting._early_stopping = stopping
    if is_main():
        module.save(folder / "kept.safetensors")
    return found


@pytest.fixture
def real(tmp_path: Path) -> Manifest:
    """24 uneven training images, and 5 for validation: two processes get unequal parts of them."""
    whole = shapes(tmp_path / "real", {"train": 16, "val": 3, "test": 2}, size_px=32)
    rank = whole.table.groupby(["label", "split"]).cumcount()
    few = (whole.table["label"] == "pneumonia") & (whole.table["split"] != "test")
    return whole.where(~few | (rank < whole.table["split"].map({"train": 8, "val": 2})))


def on_two(rank: int, port: str, work: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2"}
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "GLOO_SOCKET_IFNAME": "lo"}
    work(*arguments)


def together(work: Callable[..., None], *arguments: Any) -> None:
    """Run `work` in two processes, as torchrun would."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    start_processes(on_two, (port, work, arguments), nprocs=2, start_method="fork")


def train_three(folder: Path, real: Manifest) -> None:
    for name, killed in (("two", False), ("one-two", False), ("two-one", True)):
        with process_group("cpu"):  # one for each: the last one must not be in the way
            found = trained(real, folder / name, killed=killed)
        if found and is_main():
            assert found.processes == 2
            (folder / name / "history.json").write_text(json.dumps(found.history))


def test_two_processes_do_what_one_does_and_go_on_where_the_other_was_killed(
    real: Manifest, tmp_path: Path
) -> None:
    one = trained(real, tmp_path / "one")
    assert one
    assert one.processes == 1
    assert trained(real, tmp_path / "one-two", killed=True) is None
    together(train_three, tmp_path, real)
    rest = trained(real, tmp_path / "two-one")
    assert rest
    histories = {"two-one": rest.history}
    for name in ("two", "one-two"):
        histories[name] = json.loads((tmp_path / name / "history.json").read_text())
    expected = weights(XrayClassifier.load(tmp_path / "one" / "kept.safetensors"))
    for name, history in histories.items():
        for score in ("step", MONITOR, "val/loss", "train/loss"):
            found, alone = ([entry[score] for entry in h] for h in (history, one.history))
            np.testing.assert_allclose(found, alone, rtol=1e-4, err_msg=f"{name} {score}")
        found = weights(XrayClassifier.load(tmp_path / name / "kept.safetensors"))
        np.testing.assert_allclose(found, expected, atol=1e-5)
        assert not list((tmp_path / name).glob("*.partial"))
    assert np.abs(expected - weights(start())).max() > 1e-3


def small(folder: Path, *more: str) -> list[str]:
    found = overrides_for(folder, folder, "trainer.max_steps=40", "trainer.val_every_steps=20")
    found = [text for text in found if "stable_diffusion" not in text]
    return [*found, "trainer.accelerator=cpu", "classifier.learning_rate=0.003", *more]


def run_again(overrides: list[str]) -> None:
    found = train.run(Workspace(compose(overrides), overrides))
    assert found["skipped"]
    assert ("macro_f1" in found) == is_main()


def test_torchrun_trains_one_classifier_and_keeps_one_record(tmp_path: Path) -> None:
    write_cohort(tmp_path / "cohort")
    overrides = small(tmp_path)
    done = torchrun("train", *overrides)
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()
    result = json.loads(line)
    assert result["processes"] == 2
    (record,) = (tmp_path / "outputs" / "train").glob("*/run.json")
    assert json.loads(record.read_text())["result"]["processes"] == 2
    assert len(list(record.parent.rglob("*.wandb"))) == 1
    assert not list(record.parent.glob("*.ckpt"))
    assert train.run(Workspace(compose(overrides), overrides))[
        "skipped"
    ]  # in however many processes
    together(run_again, overrides)
    alone = [*overrides, f"paths.output={tmp_path / 'alone'}", "tracking=none"]
    one = train.run(Workspace(compose(alone), alone))
    assert one["key"] == result["key"]
    assert result["macro_f1"] == pytest.approx(one["macro_f1"], abs=0.1)
    assert result["macro_f1"] > 0.85


def waits_for_the_first(folder: Path) -> None:
    job = Job("train", {}, folder)
    made = folder / f"by-{os.environ['RANK']}"

    def work() -> dict[str, int]:
        made.touch()
        return {"answer": 42}

    with exclusive_lock(job.folder / ".lock") if is_main() else nullcontext():
        time.sleep(0.2)
    for skipped in (False, True):
        found = job.run(work, config={}, overrides=(), on_other_ranks=work)
        assert found["skipped"] == skipped


def test_the_first_process_says_whether_there_is_work(tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    Job("train", {}, tmp_path).folder.mkdir()
    together(waits_for_the_first, tmp_path)
    assert {path.name for path in tmp_path.glob("by-*")} == {"by-0", "by-1"}
    assert Job("train", {}, tmp_path).record().result == {"answer": 42}


def finds_what_the_first_left(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # As over NCCL, where a group is made without a word between the processes.
    monkeypatch.setattr("torch.distributed.init_process_group", lambda *_, **__: None)
    monkeypatch.setattr("torch.distributed.destroy_process_group", lambda: None)
    broadcast("work", "do") if is_main() else receive_broadcast(
        "work"
    )  # they know each other already
    if is_main():
        time.sleep(0.5)
        restart_if_pools_changed(folder, {"pool": "now"})
    with process_group("cpu"):
        left = (folder / "last.ckpt").exists()
    (folder / f"found-{os.environ['RANK']}").write_text(str(left))


def test_no_process_resumes_what_the_first_one_has_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pools of an interrupted training have changed, so that it starts over in all processes."""
    (tmp_path / POOL_DIGESTS_FILE).write_text('{"pool": "before"}')
    (tmp_path / "last.ckpt").touch()
    together(finds_what_the_first_left, tmp_path, monkeypatch)
    assert {path.read_text() for path in tmp_path.glob("found-*")} == {"False"}


def test_what_processes_cannot_share_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ConfigError, match=r"devices=2.*torchrun --nproc_per_node 2 --no-python"):
        TrainerRecipe(devices=2)
    monkeypatch.setenv("WORLD_SIZE", "3")
    monkeypatch.setenv("RANK", "0")
    assert TrainerRecipe(devices=3).devices == 3
    overrides = small(tmp_path)
    with pytest.raises(
        ConfigError, match=r"data\.batch_size=16.*divisible.*3; set data.batch_size=15"
    ):
        train.run(Workspace(compose(overrides), overrides))
    assert launch("study", ["experiment=smoke", f"paths.output={tmp_path / 'outputs'}"]) == 2
    assert "torchrun" in capsys.readouterr().err
    assert not (tmp_path / "outputs").exists()
