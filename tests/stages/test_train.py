"""Trainings: which are done, what their keys hold, and that the seeds of an arm see one content."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from pytorch_lightning.callbacks import Callback
from small_study import CLASSES, write_image

from xraysynth import compose
from xraysynth.config import Config
from xraysynth.errors import XraysynthError
from xraysynth.generation.generators.archive import Archive
from xraysynth.jobs.job import Job
from xraysynth.records import GenerationResult, Request
from xraysynth.stages import Workspace, generate, train
from xraysynth.stages._study import forecast, plan
from xraysynth.training import fitting

HALF = ("data.synthetic_fraction=0.5", "generate.per_class=30")


def write_images(folder: Path, per_class: int, *, seed: int) -> None:
    """A collection of images of every class, each of a patient of its own."""
    rows = []
    for label in CLASSES:
        for number in range(per_class):
            name = f"{label}-{number:03d}.png"
            write_image(folder / name, label=label, seed=seed + len(rows))
            rows.append({"path": name, "label": label, "patient_id": f"{label}{number}"})
    pd.DataFrame(rows).to_csv(folder / "manifest.csv", index=False)


def composed(folder: Path, *more: str) -> tuple[Config, list[str]]:
    overrides = [
        *("source=table", f"source.table.path={folder / 'cohort' / 'manifest.csv'}"),
        *("generator=archive", f"generator.archive.folder={folder / 'archive'}"),
        *(f"paths.output={folder / 'outputs'}", "tracking=none", "size_px=32"),
        *("splits.val_fraction=0.2", "splits.test_fraction=0.3", "classifier=test_resnet"),
        *("trainer.max_steps=6", "trainer.val_every_steps=3", "data.batch_size=8"),
        *("evaluate.replicates=20", *more),
    ]
    return compose(overrides), overrides


def fill_without_the_first_image(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pool of which the first image of every class has failed, and may be made another time."""
    make = Archive.generate

    def failing(self: Archive, requests: Sequence[Request]) -> Iterator[GenerationResult]:
        for result in make(self, requests):
            failed = result.request.index == 0
            yield GenerationResult(result.request, "failed", reason="torn") if failed else result

    with monkeypatch.context() as patch:
        patch.setattr(Archive, "generate", failing)
        generate.run(Workspace(*composed(folder, "generate.per_class=39")))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write_images(tmp_path / "cohort", 24, seed=0)
    write_images(tmp_path / "archive", 40, seed=1000)
    fill_without_the_first_image(tmp_path, monkeypatch)
    return tmp_path


def arm(folder: Path, seed: int) -> tuple[Config, list[str]]:
    return composed(folder, "data.synthetic_fraction=0.5", f"seed={seed}")


def job_of(folder: Path, seed: int) -> Job:
    return train.build_unchecked_job(Workspace(*arm(folder, seed)))


def test_the_seeds_of_an_arm_see_one_content_also_when_an_image_is_made_later(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = train.run(Workspace(*arm(folder, 0)))
    assert train.run(Workspace(*arm(folder, 0)))["skipped"]
    generate.run(Workspace(*composed(folder, "generate.per_class=40")))
    second = train.run(Workspace(*arm(folder, 1)))
    assert first["pools"] != second["pools"]
    assert train.trained_pool_digests(job_of(folder, 0)) == first["pools"]
    capsys.readouterr()
    again = train.run(Workspace(*arm(folder, 0)))
    assert not again["skipped"]
    assert again["pools"] == second["pools"] == train.trained_pool_digests(job_of(folder, 0))
    said = [line for line in capsys.readouterr().err.splitlines() if "trained again" in line]
    assert len(said) == 1
    assert f"train job {again['key']}" in said[0]
    assert train.run(Workspace(*arm(folder, 0)))["skipped"]


def test_more_images_than_an_arm_takes_change_nothing(folder: Path) -> None:
    generate.run(Workspace(*composed(folder, "generate.per_class=12")))
    train.run(Workspace(*arm(folder, 0)))
    generate.run(Workspace(*composed(folder, "generate.per_class=30")))
    assert train.run(Workspace(*arm(folder, 0)))["skipped"]


def test_a_record_without_contents_counts_as_done_and_so_does_one_without_its_pool(
    folder: Path,
) -> None:
    train.run(Workspace(*arm(folder, 0)))
    generate.run(Workspace(*composed(folder, "generate.per_class=40")))
    this = job_of(folder, 0)
    record = json.loads((this.folder / "run.json").read_text())
    del record["result"]["pools"], record["checksum"]  # earlier versions wrote neither
    (this.folder / "run.json").write_text(json.dumps(record))
    assert train.trained_pool_digests(this) == {}
    assert train.run(Workspace(*arm(folder, 0)))["skipped"]
    train.run(Workspace(*arm(folder, 1)))
    for pool in (folder / "outputs" / "pools").iterdir():
        pool.rename(folder / pool.name)
    assert train.run(Workspace(*arm(folder, 1)))["skipped"]


def test_what_a_missing_step_makes_may_open_those_that_need_it(folder: Path) -> None:
    config, overrides = composed(
        folder, *HALF, "study.synthetic_fractions=[0,0.5]", "study.seeds=[0]"
    )
    steps = plan.build_steps(Workspace(config, overrides))
    for step in steps:
        if step.stage == "train":
            train.run(step.workspace)
    titles = {step.title for step in forecast.missing_steps(steps)}
    assert {"generate archive", "train archive 0.5 replace, seed 0"} <= titles
    assert "train real only, seed 0" not in titles


class Kill(Callback):
    def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
        if trainer.global_step == 5:
            raise XraysynthError("killed")


def test_a_training_is_not_resumed_on_other_images(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(fitting, "_early_stopping", lambda recipe: [Kill()])
        with pytest.raises(XraysynthError, match="killed"):
            train.run(Workspace(*arm(folder, 0)))
    assert (job_of(folder, 0).folder / "last.ckpt").exists()
    generate.run(Workspace(*composed(folder, "generate.per_class=40")))
    starts: list[int] = []

    class Start(Callback):
        def on_train_start(self, trainer: Any, module: Any) -> None:
            starts.append(trainer.global_step)

    monkeypatch.setattr(fitting, "_early_stopping", lambda recipe: [Start()])
    train.run(Workspace(*arm(folder, 0)))
    assert starts == [0]


@pytest.mark.parametrize(
    ("options", "trained_again"),
    [
        (["data.mode=pretrain", "classifier.class_weighting=balanced"], True),
        (["data.mode=pretrain", "trainer.patience=3", "trainer.keep=best"], False),
        (["data.mode=add", "classifier.class_weighting=balanced"], False),
        (
            [
                "data.mode=pretrain",
                "data.synthetic_fraction=0",
                "classifier.class_weighting=balanced",
            ],
            False,
        ),
    ],
)
def test_only_trainings_that_were_balanced_by_other_images_have_another_key(
    folder: Path, options: list[str], trained_again: bool
) -> None:
    identity = train.build_job(
        Workspace(*composed(folder, "data.synthetic_fraction=0.5", *options))
    ).identity
    assert ("balanced_by" in identity) is trained_again
