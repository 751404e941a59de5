"""A study that adds seeds until its differences are known well enough, interrupted or not.

Trainings are made up: an arm's skill and a seed's luck decide what they predict. `test_kills.py` kills
real ones.
"""

import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from small_study import write_cohort

from xraysynth import compose
from xraysynth.errors import XraysynthError
from xraysynth.evaluation.classifier_evaluation import TrainResult
from xraysynth.stages import Workspace, generate, prepare, report, study, train
from xraysynth.stages._study import plan
from xraysynth.stages._study.arms import PRIMARY_METRIC
from xraysynth.stages._study.seed_rounds import SeedRounds

UNTIL, MOST = 0.08, 14
REAL, DUPLICATE, MIXED = "real only", "duplicate 0.5 replace", "archive 0.5 replace"


class Killed(BaseException):
    """What ends a command at once."""


@dataclass
class Trainings:
    """Makes trainings up, and may be killed before or after one.

    Attributes:
        done: Fraction of synthetic images and seed of each, in the order of their ends.
        kill_at: Number of trainings after which the command is killed; None for never.
        failing_seed: Seed of the trainings that fail.
    """

    done: list[tuple[float, int]]
    kill_at: int | None = None
    failing_seed: int | None = None

    def work(self, workspace: Workspace, pools: Any, job: Any) -> TrainResult:
        config = workspace.config
        if config.seed == self.failing_seed:
            raise XraysynthError("out of luck")
        if self.kill_at is not None and len(self.done) >= self.kill_at:
            raise Killed
        fraction, repeats = config.data.synthetic_fraction, config.data.control.value == "duplicate"
        rng = np.random.default_rng([config.seed, int(100 * fraction), repeats])
        images = workspace.cohort.split("test")
        skill = 2 + fraction + 0.6 * (1 + 3 * repeats) * rng.normal()
        logits = rng.normal(size=(len(images), 4)) + skill * np.eye(4)[images.targets]
        raised = np.exp(logits)
        table = images.table[["image_id", "patient_id", "source", "label"]].reset_index(drop=True)
        table[[f"p_{label}" for label in images.classes]] = raised / raised.sum(1, keepdims=True)
        table.to_parquet(job.folder / train.PREDICTIONS)
        (job.folder / train.WEIGHTS_FILE).write_bytes(b"weights")
        self.done.append((fraction + repeats, config.seed))
        return TrainResult(
            accuracy=0.5,
            macro_f1=0.5,
            test_images=len(images),
            test_evaluations=1,
            predictions="",
            scores={},
            kept_step=9,
            optimiser_steps=9,
            weights="",
            history=[],
            real_images=40,
            synthetic_images=40,
            pools=dict(job.input_digests.get("pools", {})),
        )


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cohort of 240 images and a pool, prepared."""
    folder = tmp_path_factory.mktemp("until")
    write_cohort(folder / "cohort", per_class=60)
    write_cohort(folder / "archive", per_class=30)
    workspace = workspace_of(folder)
    prepare.run(workspace)
    generate.run(workspace)
    return folder


@pytest.fixture
def trainings(prepared: Path, monkeypatch: pytest.MonkeyPatch) -> Trainings:
    """Made-up trainings, of which none is done; a study has no other jobs."""
    made_up = Trainings([])
    all_steps = plan.build_steps
    monkeypatch.setattr(train, "work", lambda *given: made_up.work(*given))
    monkeypatch.setattr(
        plan, "build_steps", lambda ws: [s for s in all_steps(ws) if s.stage == "train"]
    )
    return made_up


def workspace_of(folder: Path, *more: str) -> Workspace:
    overrides = [
        *("source=table", f"source.table.path={folder / 'cohort' / 'manifest.csv'}"),
        *("generator=archive", f"generator.archive.folder={folder / 'archive'}"),
        *(f"paths.output={folder / 'outputs'}", "tracking=none", "size_px=32"),
        *("splits.val_fraction=0.2", "splits.test_fraction=0.4", "classifier=test_resnet"),
        *("evaluate.replicates=100", "generate.per_class=25", "study.seeds=[0,1,2]"),
        *("study.synthetic_fractions=[0,0.5]", "study.controls=[duplicate]"),
        *(f"study.until={UNTIL}", f"study.most_seeds={MOST}"),
        *more,
    ]
    return Workspace(compose(overrides), overrides)


def forget(folder: Path) -> None:
    """Takes all trainings away."""
    for record in folder.glob("outputs/train/*/run.json"):
        record.unlink()


def run(folder: Path, *more: str) -> pd.DataFrame:
    """Run the study; returns its table."""
    return pd.read_csv(study.run(workspace_of(folder, *more))["results"])


def seeds_by_arm(folder: Path, *more: str) -> dict[str, list[int]]:
    workspace = plan.with_images_per_class(workspace_of(folder, *more))
    return {title: list(seeds) for title, seeds in SeedRounds(workspace).find().by_arm.items()}


def half_widths(table: pd.DataFrame, metric: str = PRIMARY_METRIC) -> list[float]:
    means = table[table["seed"].isna() & (table["metric"] == metric)]
    mixed = means[means["synthetic_fraction"].eq(0.5) & means["control"].isna()].iloc[0]
    widths = []
    for name in ("difference", "over_duplicates"):
        widths.append((mixed[f"{name}_high"] - mixed[f"{name}_low"]) / 2)
    return widths


def test_seeds_are_added_until_the_intervals_of_the_table_are_narrow_enough(
    prepared: Path, trainings: Trainings, capsys: pytest.CaptureFixture[str]
) -> None:
    forget(prepared)
    fixed = run(prepared, "study.until=null")
    assert max(half_widths(fixed)) > UNTIL
    table = run(prepared)
    assert max(half_widths(table)) <= UNTIL
    seeds = seeds_by_arm(prepared)
    assert seeds[DUPLICATE] == list(range(len(seeds[DUPLICATE])))
    assert 5 <= min(map(len, seeds.values())) < max(map(len, seeds.values())) <= MOST
    assert len(trainings.done) == len(set(trainings.done)) == sum(map(len, seeds.values()))
    numbers = (
        table[table["metric"] == PRIMARY_METRIC]
        .groupby(["generator", "control"], dropna=False)["n_seeds"]
        .first()
    )
    assert sorted(numbers) == sorted(map(len, seeds.values()))
    assert "stopped at " in capsys.readouterr().err
    page = Path(study.run(workspace_of(prepared))["report"]).read_text()
    assert "where the widest interval is ±0.0" in page
    assert f"{min(numbers)}–{max(numbers)} per arm" in page


def test_a_finished_study_trains_nothing_again_and_its_report_finds_the_added_seeds(
    prepared: Path, trainings: Trainings
) -> None:
    forget(prepared)
    first = study.run(workspace_of(prepared))
    table = Path(first["results"]).read_bytes()
    trainings.kill_at = 0
    again = study.run(workspace_of(prepared))
    assert again["skipped"]
    alone = report.run(workspace_of(prepared))
    assert alone["skipped"]
    assert Path(alone["results"]).read_bytes() == table


def test_a_study_that_is_killed_at_any_training_ends_in_the_same_table(
    prepared: Path, trainings: Trainings
) -> None:
    forget(prepared)
    expected = Path(study.run(workspace_of(prepared))["results"]).read_bytes()
    total = len(trainings.done)
    moments = random.Random(0)
    for _ in range(3):
        forget(prepared)
        trainings.done.clear()
        for moment in sorted(moments.sample(range(total), 4)):
            trainings.kill_at = moment
            with pytest.raises(Killed):
                study.run(workspace_of(prepared))
        trainings.kill_at = None
        result = study.run(workspace_of(prepared))
        assert Path(result["results"]).read_bytes() == expected
        assert len(trainings.done) == total


def test_a_smaller_width_goes_on_where_a_larger_one_has_stopped(
    prepared: Path, trainings: Trainings
) -> None:
    forget(prepared)
    run(prepared, "study.until=0.12")
    before = seeds_by_arm(prepared, "study.until=0.12")
    run(prepared)
    after = seeds_by_arm(prepared)
    assert len(trainings.done) == len(set(trainings.done))
    assert all(after[arm][: len(seeds)] == seeds for arm, seeds in before.items())
    assert after != before


def test_the_largest_number_of_seeds_ends_a_study(
    prepared: Path, trainings: Trainings, capsys: pytest.CaptureFixture[str]
) -> None:
    forget(prepared)
    options = ("study.until=0.04", "study.most_seeds=6")
    run(prepared, *options)
    assert set(map(len, seeds_by_arm(prepared, *options).values())) == {6}
    assert "study.most_seeds=6 reached: ±" in capsys.readouterr().err


def test_no_seed_is_added_while_a_training_fails(prepared: Path, trainings: Trainings) -> None:
    forget(prepared)
    trainings.failing_seed = 2
    result = study.run(workspace_of(prepared))
    assert result["state"] == "failed"
    assert {seed for _, seed in trainings.done} == {0, 1}
    assert "not every training is done" in Path(result["report"]).read_text()
    trainings.failing_seed = 4  # one of the next round, after which no other one begins
    result = study.run(workspace_of(prepared))
    assert result["state"] == "failed"
    assert max(seed for _, seed in trainings.done) <= 5  # three seeds are doubled at most
    assert "seed 4: out of luck" in Path(result["report"]).read_text()
    trainings.failing_seed = None
    assert max(half_widths(run(prepared))) <= UNTIL


def test_a_study_of_real_images_alone_adds_no_seed(
    prepared: Path, trainings: Trainings, capsys: pytest.CaptureFixture[str]
) -> None:
    forget(prepared)
    study.run(workspace_of(prepared, "study.synthetic_fractions=[0]", "study.controls=[]"))
    assert len(trainings.done) == 3
    assert "no arm makes a claim" in capsys.readouterr().err


def test_the_plan_names_added_seeds_and_the_power_of_finished_ones(
    prepared: Path, trainings: Trainings, capsys: pytest.CaptureFixture[str]
) -> None:
    forget(prepared)
    published = study.run(workspace_of(prepared, "plan=true"))["power"]
    assert "experiments/quickstart" in published["origin"]
    assert published["wanted"] == UNTIL
    run(prepared)
    capsys.readouterr()
    planned = study.run(workspace_of(prepared, "plan=true"))
    assert planned["missing"] == 0
    assert planned["steps"] > len(trainings.done)  # prepare, too
    own = planned["power"]
    assert f"{len(trainings.done)} finished trainings of 3 arms of this study" in own["origin"]
    found = [row["detectable"] for row in own["rows"]]
    assert [row["seeds"] for row in own["rows"]] == [3, 5, 10, 20]
    assert found == sorted(found, reverse=True)
    shown = capsys.readouterr().err
    assert f"seeds are added until intervals are ±{UNTIL}: up to {MOST} of each arm" in shown
    assert "test patients needed to find ±0.08" in shown
