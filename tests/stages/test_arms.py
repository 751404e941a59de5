"""The arms of a study: which there are, that each takes equal steps, and what the judge has seen."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from finished_job import FinishedJob
from PIL import Image
from pytorch_lightning.callbacks import Callback
from small_study import CLASSES, write_image

from xraysynth import compose
from xraysynth.config import Config
from xraysynth.errors import ConfigError, LeakageError, XraysynthError
from xraysynth.evaluation.metrics.pointing_game import CHANCE_DEFINITION, PointingGame
from xraysynth.evaluation.metrics.statistics import Interval
from xraysynth.manifest import Manifest
from xraysynth.records import LEARNING_RECORD_FILE, from_json
from xraysynth.report.content import LeftOutSource
from xraysynth.seeds import derive_seed
from xraysynth.stages import Workspace, _label_fidelity, generate, train
from xraysynth.stages._study import arm_configs, arms, plan, real_data_equivalent, tested_arm
from xraysynth.training import fitting
from xraysynth.training.recipe import Control
from xraysynth.training.run import assign_label_fidelity_splits

STEPS = 6


def write_images(
    folder: Path, per_class: int, *, seed: int, classes: tuple[str, ...] = CLASSES
) -> None:
    """A collection of images of two hospitals, which both have every class."""
    rows = []
    for label in classes:
        for number in range(per_class):
            name = f"{label}-{number:03d}.png"
            write_image(folder / name, label=label, seed=seed + len(rows))
            hospital = "here" if number % 2 else "there"
            row = {"path": name, "label": label, "patient_id": f"{label}{number}"}
            rows.append(row | {"source_dataset": hospital})
    pd.DataFrame(rows).to_csv(folder / "manifest.csv", index=False)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cohort of 96 images, a pool of 160 and an external set of 32, prepared."""
    found = tmp_path_factory.mktemp("arms")
    write_images(found / "cohort", 24, seed=0)
    write_images(found / "archive", 40, seed=1000)
    write_images(found / "outside", 8, seed=2000)
    table = pd.read_csv(found / "outside" / "manifest.csv").assign(source_dataset="clinic")
    table.to_csv(found / "outside" / "manifest.csv", index=False)
    generate.run(Workspace(*composed(found, "generate.per_class=40")))
    return found


def composed(folder: Path, *more: str) -> tuple[Config, list[str]]:
    overrides = [
        *("source=table", f"source.table.path={folder / 'cohort' / 'manifest.csv'}"),
        *("generator=archive", f"generator.archive.folder={folder / 'archive'}"),
        *(f"paths.output={folder / 'outputs'}", "tracking=none", "size_px=32"),
        *("splits.val_fraction=0.2", "splits.test_fraction=0.3", "classifier=test_resnet"),
        *(f"trainer.max_steps={STEPS}", "trainer.val_every_steps=3", "data.batch_size=8"),
        *("evaluate.replicates=20", "study.seeds=[0,1]", "study.synthetic_fractions=[0,0.5,1]"),
        *more,
    ]
    return compose(overrides), overrides


def outside(folder: Path) -> list[str]:
    return ["test_source=table", f"test_source.table.path={folder / 'outside' / 'manifest.csv'}"]


def cohort_of(folder: Path) -> Manifest:
    return Workspace(*composed(folder)).cohort


def key_of(config: Config, real: Manifest) -> str:
    """Key of the training of this configuration on these images."""
    return train.build_job(Workspace(config).with_images(real)).key


def titles(folder: Path, *more: str) -> list[str]:
    config, _ = composed(folder, *more)
    found = arm_configs.build_arms(config, cohort_of(folder))
    assert len({arm.title for arm in found}) == len(found)
    return [arm.title for arm in found]


def test_a_study_has_controls_beside_its_arms(folder: Path) -> None:
    assert titles(folder) == [
        "real only",
        "duplicate 0.5 replace",
        "archive 0.5 replace",
        "archive 1 replace",
        "archive 0.5 replace, labels permuted",
    ]


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        (["study.controls=[]", "study.synthetic_fractions=[0]"], ["real only"]),
        (
            ["study.controls=[permuted]", "study.synthetic_fractions=[0.25,0.75]"],
            ["archive 0.75 replace, labels permuted"],
        ),
        (
            ["study.synthetic_fractions=[1]"],
            ["real only", "archive 1 replace", "archive 1 replace, labels permuted"],
        ),
        (
            ["study.modes=[pretrain]", "study.synthetic_fractions=[0.5]"],
            [
                "real only",
                "duplicate 0.5 add",
                "archive 0.5 pretrain",
                "archive 0.5 pretrain, labels permuted",
            ],
        ),
        (
            ["study.modes=[pretrain,replace,add]", "study.controls=[duplicate]"],
            ["duplicate 0.5 replace", "duplicate 0.5 add", "archive 0.5 pretrain"],
        ),
        (
            ["study.real_fractions=[0.25,1]", "study.controls=[duplicate]"],
            [
                "real only",
                "real only, 0.25 of the real images",
                "duplicate 0.5 replace",
                "duplicate 0.5 replace, 0.25 of the real images",
                "archive 0.5 replace",
                "archive 0.5 replace, 0.25 of the real images",
                "archive 1 replace",
            ],
        ),
        (
            [
                "study.leave_one_source_out=true",
                "study.controls=[]",
                "study.synthetic_fractions=[]",
            ],
            [
                "real only",
                "real only, without here",
                "real only, size-matched to leaving out here",
                "real only, without there",
                "real only, size-matched to leaving out there",
            ],
        ),
    ],
)
def test_arms_follow_shares_modes_fractions_and_sources(
    folder: Path, more: list[str], expected: list[str]
) -> None:
    found = titles(folder, *more)
    assert found[0] == "real only"
    assert [title for title in found if title in expected] == expected
    if expected[0] == "real only":
        assert found == expected


def test_a_data_set_that_has_a_class_alone_is_not_left_out(folder: Path) -> None:
    config, _ = composed(folder, "study.leave_one_source_out=true")
    real = cohort_of(folder)
    table = real.table
    torn = table["source"].mask(table["label"] == "covid19", "there")
    torn = Manifest(table.assign(source=torn), real.folder, real.classes)
    assert arm_configs.left_out_sources(config, torn) == ["here"]
    (reason,) = arm_configs.sources_not_left_out(config, torn).values()
    assert reason == (
        "study.leave_one_source_out cannot leave out there, because the other sources have "
        "no covid19 in train and no covid19 in val"
    )
    assert arm_configs.sources_not_left_out(composed(folder)[0], torn) == {}


def test_the_command_of_every_step_can_be_typed(folder: Path) -> None:
    config, overrides = composed(
        folder,
        "study.modes=[add,replace,pretrain]",
        "study.synthetic_fractions=[0,0.3333333,1]",
        "study.real_fractions=[0.5,1]",
        "study.leave_one_source_out=true",
        "study.seeds=[5]",
        "data.synthetic_fraction=0.9",
    )
    real = cohort_of(folder)
    steps = plan.build_steps(Workspace(config, overrides))
    assert [step.stage for step in steps[:2]] == ["probe", "generate"]
    known = {step.title for step in steps}
    keys = set()
    for step in steps:
        assert known.issuperset(step.needs)
        again, own = compose(step.workspace.overrides), step.workspace.config
        assert again.generator == own.generator or step.stage == "train"
        assert again.evaluate == own.evaluate
        if step.stage == "train":
            keys.add(key_of(again, real))
            assert key_of(again, real) == key_of(step.workspace.config, real)
    assert len(keys) == len([step for step in steps if step.stage == "train"])


def test_a_name_with_any_character_is_quoted(folder: Path) -> None:
    for name in ("COVID-19 (Radiography)", "St. John's", "a\\'b", "=,[]{}:"):
        config, _ = composed(folder)
        arm = arm_configs._build_arm(config, leave_out=name)
        assert compose(arm.overrides).data.leave_out == name


def test_a_pool_is_measured_by_the_real_only_runs_of_all_seeds(folder: Path) -> None:
    config, overrides = composed(folder)
    workspace = Workspace(config, overrides)
    step = plan.build_steps(workspace)[-1]
    assert step.stage == "evaluate"
    measuring = plan.evaluation_workspace(plan.with_images_per_class(workspace), "archive")
    assert step.workspace.config == measuring.config
    assert measuring.config.evaluate.classifier_seeds == [0, 1]
    assert step.needs == (
        "generate archive",
        "train real only, seed 0",
        "train real only, seed 1",
    )


def test_pools_are_made_for_the_most_demanding_arm(folder: Path) -> None:
    def count(*more: str) -> int | None:
        workspace = Workspace(*composed(folder, *more))
        return plan.with_images_per_class(workspace).config.generate.per_class

    real = max(cohort_of(folder).split("train").class_counts().values())
    assert count("study.synthetic_fractions=[0.5]") == -(-real // 2)
    assert count("study.synthetic_fractions=[0,1]") == real
    assert count("study.synthetic_fractions=[0.75]", "study.modes=[replace,pretrain]") == 3 * real
    fraction = count(
        "study.synthetic_fractions=[0.5]", "study.modes=[add]", "study.real_fractions=[0.5]"
    )
    assert fraction == -(-real // 2)
    assert count("study.synthetic_fractions=[0]") == real
    assert count("generate.per_class=3") == 3


def test_every_arm_takes_the_same_number_of_steps_and_tests_once(folder: Path) -> None:
    config, overrides = composed(
        folder,
        "study.modes=[replace,pretrain]",
        "study.real_fractions=[0.5,1]",
        "study.leave_one_source_out=true",
        "study.seeds=[0]",
    )
    found = {
        step.title.removeprefix("train ").removesuffix(", seed 0"): train.run(step.workspace)
        for step in plan.build_steps(Workspace(config, overrides))
        if step.stage == "train"
    }
    assert {result["optimiser_steps"] for result in found.values()} == {STEPS}
    assert {result["kept_step"] for result in found.values()} == {STEPS}
    assert {result["test_evaluations"] for result in found.values()} == {1}
    assert len({json.dumps(result["scores"]) for result in found.values()}) > len(found) / 2
    sizes = {
        title: tuple(result[name] for name in ("real_images", "real_repeats", "synthetic_images"))
        for title, result in found.items()
    }
    assert sizes == {
        "real only": (48, 0, 0),
        "real only, 0.5 of the real images": (24, 0, 0),
        "duplicate 0.5 replace": (24, 24, 0),
        "duplicate 0.5 add": (48, 48, 0),
        "duplicate 0.5 replace, 0.5 of the real images": (12, 12, 0),
        "duplicate 0.5 add, 0.5 of the real images": (24, 24, 0),
        "archive 0.5 replace": (24, 0, 24),
        "archive 0.5 pretrain": (48, 0, 48),
        "archive 0.5 replace, 0.5 of the real images": (12, 0, 12),
        "archive 0.5 pretrain, 0.5 of the real images": (24, 0, 24),
        "archive 1 replace": (0, 0, 48),
        "archive 0.5 replace, labels permuted": (24, 0, 24),
        "real only, without here": (sizes["real only, without here"][0], 0, 0),
        "real only, without there": (sizes["real only, without there"][0], 0, 0),
        "real only, size-matched to leaving out here": sizes["real only, without here"],
        "real only, size-matched to leaving out there": sizes["real only, without there"],
    }
    assert sum(sizes[f"real only, without {name}"][0] for name in ("here", "there")) == 48
    for title, result in found.items():
        control = any(word in title for word in ("duplicate", "permuted", "size-matched"))
        probed = set() if control else {"real_vs_synthetic_auroc", "pointing_game"}
        assert set(result["probes"] or ()) == probed


def test_a_share_of_zero_is_one_arm_whatever_the_mode(folder: Path) -> None:
    real = cohort_of(folder)
    keys = {
        key_of(composed(folder, f"data.mode={mode}", f"data.pretrain_fraction={part}")[0], real)
        for mode in ("replace", "add", "pretrain")
        for part in (0.3, 0.5)
    }
    assert len(keys) == 1
    chosen = ["data.synthetic_fraction=0.5", "data.mode=pretrain"]
    parts = [
        key_of(composed(folder, *chosen, f"data.pretrain_fraction={part}")[0], real)
        for part in (0.3, 0.5)
    ]
    assert len({*parts, *keys}) == 3


class Kill(Callback):
    def __init__(self, step: int) -> None:
        self._step = step

    def on_train_batch_end(self, trainer, *_) -> None:  # type: ignore[no-untyped-def]
        if trainer.global_step == self._step:
            raise XraysynthError("killed")


@pytest.mark.parametrize("step", [2, 5])
def test_pretraining_killed_in_either_part_ends_as_if_it_had_not_been(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    chosen = [
        "data.synthetic_fraction=0.5",
        "data.mode=pretrain",
        "trainer.val_every_steps=1",
        "seed=3",
    ]
    whole = train.run(Workspace(*composed(folder, *chosen)))
    more = [*chosen, f"seed={3}", f"paths.output={tmp_path}"]
    generate.run(Workspace(*composed(folder, *more, "generate.per_class=40")))
    with monkeypatch.context() as patch:
        patch.setattr(fitting, "_early_stopping", lambda recipe: [Kill(step)])
        with pytest.raises(XraysynthError, match="killed"):
            train.run(Workspace(*composed(folder, *more)))
    resumed = train.run(Workspace(*composed(folder, *more)))
    pair = [pd.read_parquet(result["predictions"]) for result in (whole, resumed)]
    pd.testing.assert_frame_equal(*pair)
    losses = [[entry["val/loss"] for entry in result["history"]] for result in (whole, resumed)]
    assert losses[0] == pytest.approx(losses[1])


def test_external_images_are_tested_on_once_more_and_only_then_name_the_job(folder: Path) -> None:
    alone, _ = composed(folder)
    config, overrides = composed(folder, *outside(folder))
    real = cohort_of(folder)
    external = Workspace(config, overrides).external_test_set
    assert external is not None
    assert key_of(config, real) == key_of(alone, real)
    this = train.build_job(Workspace(config).with_images(real, external))
    assert this.key != key_of(alone, real)
    result = train.run(Workspace(config, overrides))
    assert result["key"] == this.key
    assert result["external_test_evaluations"] == result["test_evaluations"] == 1
    table = pd.read_parquet(this.folder / train.EXTERNAL_PREDICTIONS)
    assert table["image_id"].tolist() == external.table["image_id"].tolist()
    assert np.allclose(table[[f"p_{name}" for name in CLASSES]].sum(axis=1), 1, atol=1e-5)
    assert set(result["external"]) == {"clinic"}
    assert result["external"]["clinic"]["macro_f1"]["n"] == 32
    assert pd.read_parquet(this.folder / train.PREDICTIONS)["source"].isin(["here", "there"]).all()
    assert train.run(Workspace(config, overrides))["skipped"]
    (this.folder / train.EXTERNAL_PREDICTIONS).unlink()
    assert not train.build_job(Workspace(config).with_images(real, external)).done


def test_a_pool_with_an_external_test_image_or_patient_is_refused(
    folder: Path, tmp_path: Path
) -> None:
    write_images(tmp_path / "archive", 12, seed=5000)
    chosen = [f"generator.archive.folder={tmp_path / 'archive'}", "data.synthetic_fraction=0.5"]
    external = Workspace(*composed(folder, *outside(folder))).external_test_set
    assert external is not None
    (stolen,) = external.where(external.table["patient_id"] == "covid193").files
    with Image.open(stolen) as image:
        image.save(tmp_path / "archive" / "covid19-000.png", compress_level=1)
    generate.run(Workspace(*composed(folder, *chosen, "generate.per_class=12")))
    train.run(Workspace(*composed(folder, *chosen)))
    with pytest.raises(LeakageError, match=r"near-duplicates .*external-table-covid19-003"):
        train.run(Workspace(*composed(folder, *chosen, *outside(folder))))
    write_images(tmp_path / "archive", 12, seed=5000)
    taught = {"patients": ["clinic/covid193"], "sha256": []}
    (tmp_path / "archive" / LEARNING_RECORD_FILE).write_text(json.dumps(taught))
    generate.run(Workspace(*composed(folder, *chosen, "generate.per_class=12")))
    with pytest.raises(
        LeakageError, match=r"fine-tuned on val or test patients: external-table-covid19-003"
    ):
        train.run(Workspace(*composed(folder, *chosen, *outside(folder))))


def test_scores_that_mean_over_absent_classes_are_left_out(folder: Path, tmp_path: Path) -> None:
    write_images(tmp_path, 6, seed=3000, classes=("normal", "tuberculosis"))
    chosen = ["test_source=table", f"test_source.table.path={tmp_path / 'manifest.csv'}"]
    table = pd.read_csv(tmp_path / "manifest.csv")
    table["source_dataset"] += "-abroad"
    table.to_csv(tmp_path / "manifest.csv", index=False)
    result = train.run(Workspace(*composed(folder, *chosen)))
    assert set(result["external"]) == {"here-abroad", "there-abroad"}
    scores = result["external"]["here-abroad"]
    assert {"accuracy", "balanced_accuracy", "macro_auroc", "recall/normal"} <= set(scores)
    assert not {"macro_f1", "recall/covid19"} & set(scores)
    assert scores["accuracy"]["n"] == 6


def test_the_judge_has_seen_no_patient_that_a_generator_may_have_learned_from(folder: Path) -> None:
    config, overrides = composed(
        folder, "trainer.keep=best", "data.synthetic_fraction=0.5", "seed=4"
    )
    workspace, real = Workspace(config, overrides), cohort_of(folder)
    this, roles = (
        _label_fidelity.build_job(workspace),
        assign_label_fidelity_splits(real, None, min_per_class=15),
    )
    assert this.stage == "judge"
    assert set(roles.split("train").table["sha256"]) == set(real.split("test").table["sha256"])
    assert set(roles.split("test").table["sha256"]) == set(real.split("train").table["sha256"])
    assert roles.split("val").digest() == real.split("val").digest()
    result = _label_fidelity.run(workspace)
    assert Path(result.weights).parent == this.folder
    assert Path(result.weights).exists()
    table = pd.read_parquet(result.predictions)
    assert set(table["image_id"]) == set(real.split("train").table["image_id"])
    assert result.kept_step == STEPS
    assert result.scores["accuracy"].n == len(real.split("train"))
    n = len(real.split("test"))
    assert result.trained_on == f"{n} real images of {n} other patients (here, there)"
    record = this.record()
    assert _label_fidelity.run(workspace) == result
    assert this.record() == record  # it was not trained again
    same, _ = composed(folder, "seed=4", "data.real_fraction=0.5", "trainer.patience=2")
    assert _label_fidelity.build_job(Workspace(same).with_images(real)).key == this.key


def test_an_external_set_with_enough_of_every_class_trains_the_judge(folder: Path) -> None:
    config, overrides = composed(folder, *outside(folder))
    real, external = cohort_of(folder), Workspace(config, overrides).external_test_set
    assert external is not None
    few = _label_fidelity.build_job(
        Workspace(config, overrides)
    )  # 8 of a class, where 15 are asked for
    assert few.key == _label_fidelity.build_job(Workspace(config).with_images(real)).key
    config, overrides = composed(folder, *outside(folder), "splits.minimum_per_class=8")
    workspace = Workspace(config, overrides)
    assert _label_fidelity.build_job(workspace).key != few.key
    roles = assign_label_fidelity_splits(real, external, min_per_class=8)
    assert set(roles.split("train").table["source"]) == {"clinic"}
    assert len(roles) == len(external) + len(real) - len(real.split("test"))
    result = _label_fidelity.run(workspace)
    assert result.trained_on == "32 real images of 32 other patients (clinic)"


def test_what_is_left_out_comes_back_through_no_generator(folder: Path, tmp_path: Path) -> None:
    write_images(tmp_path / "archive", 12, seed=4000)
    taught = {"patients": ["elsewhere/1"], "sha256": []}
    (tmp_path / "archive" / LEARNING_RECORD_FILE).write_text(json.dumps(taught))
    chosen = [f"generator.archive.folder={tmp_path / 'archive'}", "data.synthetic_fraction=0.5"]
    generate.run(Workspace(*composed(folder, *chosen, "generate.per_class=12")))
    with pytest.raises(LeakageError, match=r"leave_out=here, but the generator of pool archive"):
        train.run(Workspace(*composed(folder, *chosen, "data.leave_out=here")))
    result = train.run(
        Workspace(*composed(folder, "data.synthetic_fraction=0.5", "data.leave_out=here"))
    )
    assert result["real_images"] + result["synthetic_images"] < 48
    with pytest.raises(
        ConfigError, match="'hree' is no data set of this cohort; choose one of here"
    ):
        train.run(Workspace(*composed(folder, "data.leave_out=hree")))


def test_the_chance_of_a_pointing_record_of_an_earlier_version_is_not_known() -> None:
    hits = {"value": 0.4, "low": 0.3, "high": 0.5, "n": 50}
    earlier = {"hits": hits, "energy": hits, "chance": 0.109, "elsewhere": 0.2, "n": 50}
    shown = from_json(PointingGame, earlier).with_comparable_chance
    assert np.isnan(shown.chance)
    assert np.isnan(shown.best_fixed)
    assert (shown.hits, shown.elsewhere) == (Interval(**hits), 0.2)
    now = earlier | {"chance": 0.149, "best_fixed": 0.176, "chance_of": CHANCE_DEFINITION}
    shown = from_json(PointingGame, now).with_comparable_chance
    assert (shown.hits, shown.elsewhere) == (Interval(**hits), 0.2)
    assert (shown.chance, shown.best_fixed) == (0.149, 0.176)


def test_trainings_without_a_data_set_keep_their_keys_beside_size_matched_ones(
    folder: Path,
) -> None:
    real = cohort_of(folder)
    config, _ = composed(folder, "study.leave_one_source_out=true", "study.controls=[]")
    jobs = {
        arm.title: train.build_job(Workspace(arm.config).with_images(real))
        for arm in arm_configs.build_arms(config, real)
    }
    without = jobs["real only, without here"]
    matched = jobs["real only, size-matched to leaving out here"]
    assert jobs["real only"].identity["mix"] == without.identity["mix"] == {}
    assert matched.identity["mix"] == {"control": "size_matched"}
    rest = [{k: v for k, v in job.identity.items() if k != "mix"} for job in (without, matched)]
    assert rest[0] == rest[1]


def dealt(seed: int, *, n: int = 600) -> Manifest:
    """Patients of one distribution, each dealt at random to one of three data sets."""
    rng = np.random.default_rng(seed)
    labels = np.array(CLASSES)[np.arange(n) % len(CLASSES)]
    names = [f"p{number}" for number in range(n)]
    table = pd.DataFrame({"image_id": names, "path": names, "patient_id": names, "label": labels})
    places = {"source": rng.choice(["a", "b", "c"], n, p=[0.6, 0.2, 0.2])}
    places["split"] = rng.choice(["train", "val", "test"], n, p=[0.4, 0.1, 0.5])
    return Manifest(table.assign(**places), Path("data"), CLASSES)


def learned(config: Config, real: Manifest, seed: int) -> pd.DataFrame:
    """What a classifier whose accuracy depends on its number of training images alone would predict."""
    data = config.data
    own = derive_seed(seed, real.digest(), data.control.value, data.leave_out)
    rng = np.random.default_rng(own)
    n = len(train.build_training(replace(config, seed=seed)).select_cohort(real).split("train"))
    test = real.split("test")
    right = rng.random(len(test)) < 0.25 + 0.7 * (1 - np.exp(-n / 100))
    wrong = (test.targets + rng.integers(1, len(CLASSES), len(test))) % len(CLASSES)
    seen = np.eye(len(CLASSES))[np.where(right, test.targets, wrong)] * 0.9 + 0.025
    columns = test.table[["image_id", "patient_id", "source", "label"]]
    return columns.assign(**{f"p_{name}": p for name, p in zip(CLASSES, seen.T, strict=True)})


def left_out_of(config: Config, real: Manifest) -> list[LeftOutSource]:
    """Rows of the leave-one-out table, of simulated classifiers."""
    tested = []
    for arm in arm_configs.build_arms(config, real):
        tables = [learned(arm.config, real, seed) for seed in config.study.seeds]
        jobs = {seed: FinishedJob() for seed in config.study.seeds}
        tested.append(tested_arm.TestedArm(arm, jobs, tables))  # type: ignore[arg-type]
    return real_data_equivalent.compare_left_out_sources(arms.Scorer(config, tested), tested)


def test_data_sets_dealt_at_random_cost_nothing_to_leave_out_at_equal_size(folder: Path) -> None:
    more = ["study.leave_one_source_out=true", "study.controls=[]", "study.synthetic_fractions=[]"]
    config, _ = composed(folder, *more, "evaluate.replicates=100")
    rows = [row for seed in range(12) for row in left_out_of(config, dealt(seed))]
    assert len(rows) == 36
    at_equal_size = [row.drop.value for row in rows]
    from_all = [row.drop_from_all.value for row in rows if row.source == "a"]
    assert np.mean(at_equal_size) == pytest.approx(0, abs=0.025)
    assert np.mean(from_all) < -0.1  # the loss that a smaller training set makes by itself
    covering = [row.drop.low <= 0 <= row.drop.high for row in rows]
    assert np.mean(covering) > 0.85
    assert all(row.seeds == [0, 1] for row in rows)


def test_without_a_size_matched_arm_no_drop_at_equal_size_is_given(folder: Path) -> None:
    more = ["study.leave_one_source_out=true", "study.controls=[]", "study.synthetic_fractions=[]"]
    config, _ = composed(folder, *more)
    real, found = dealt(0), arm_configs.build_arms(config, dealt(0))
    tested = [
        tested_arm.TestedArm(arm, {0: FinishedJob()}, [learned(arm.config, real, 0)])  # type: ignore[dict-item]
        for arm in found
        if arm.config.data.control is Control.none
    ]
    for row in real_data_equivalent.compare_left_out_sources(arms.Scorer(config, tested), tested):
        assert row.matched is None
        assert row.drop is None
        assert row.drop_from_all.value == row.outside.value - row.inside.value


def test_left_out_arms_are_compared_whatever_seeds_they_have_finished(folder: Path) -> None:
    more = ["study.leave_one_source_out=true", "study.controls=[]", "study.synthetic_fractions=[]"]
    config, _ = composed(folder, *more)
    real = dealt(0)
    tested = []
    for arm in arm_configs.build_arms(config, real):
        is_matched = arm.config.data.control is Control.size_matched
        seeds = [1] if is_matched else [0, 1]
        tables = [learned(arm.config, real, seed) for seed in seeds]
        jobs = {seed: FinishedJob() for seed in seeds}
        tested.append(tested_arm.TestedArm(arm, jobs, tables))  # type: ignore[arg-type]
    rows = real_data_equivalent.compare_left_out_sources(arms.Scorer(config, tested), tested)
    assert len(rows) == 3
    for row in rows:
        assert row.seeds == [1]
        assert row.drop_from_all.value == pytest.approx(row.outside.value - row.inside.value)
        assert row.drop.value == pytest.approx(row.outside.value - row.matched.value)
