"""Classes may be called as their owner calls them: every stage takes spaces, umlauts and any script."""

import csv
import json
import re
import shlex
from pathlib import Path

import pandas as pd
import pytest
from small_study import CLASSES, overrides_for, write_image

from xraysynth import compose
from xraysynth.class_names import class_file_name
from xraysynth.evaluation.reader_study import simulated_exports, simulated_readers
from xraysynth.evaluation.reader_study.key import AnswerKey
from xraysynth.stages import Workspace, dashboard, release, review_analyse, review_build, study

NAMES = ("Lungenentzündung", "No finding", "COVID-19 (severe), 50 %", "正常")
LORA = "generator.sd_lora"


def write_named_cohort(folder, per_class=24):
    """The images of a small study, in a table whose labels are `NAMES`."""
    rows = []
    for label, name in zip(CLASSES, NAMES, strict=True):
        for number in range(per_class):
            path = f"{label}/{number:03d}.png"
            write_image(folder / path, label=label, seed=len(rows))
            rows.append({"path": path, "label": name, "patient_id": f"{label}{number}"})
    pd.DataFrame(rows).to_csv(folder / "manifest.csv", index=False)


@pytest.fixture(scope="module")
def made(tmp_path_factory, tiny_sd):
    """Folder, overrides and result of a whole study with a LoRA per class."""
    folder = tmp_path_factory.mktemp("named")
    write_named_cohort(folder / "cohort")
    small = [word for word in overrides_for(folder, tiny_sd) if not word.startswith("generator.")]
    overrides = [
        *(*small, f"classes={json.dumps(NAMES, ensure_ascii=False)}", "generator=sd_lora"),
        *(f"{LORA}.model={tiny_sd}", f"{LORA}.steps=1", f"{LORA}.lora.steps=1"),
        *(f"{LORA}.lora.rank=2", f"{LORA}.lora.batch_size=2", f"{LORA}.lora.samples_per_class=0"),
        *("generate.per_class=6", "study.seeds=[0]", "source.table.license=CC BY 4.0"),
    ]
    return folder, overrides, study.run(Workspace(compose(overrides), overrides))


def workspace(made, *more):
    overrides = [*made[1], *more]
    return Workspace(compose(overrides), overrides)


def test_a_study_ends_in_a_report_that_names_the_classes(made):
    folder, _, result = made
    assert result["state"] == "done"
    page = Path(result["report"]).read_text(encoding="utf-8")
    assert all(name in page for name in NAMES)
    with Path(result["results"]).open(encoding="utf-8", newline="") as file:
        metrics = {row["metric"] for row in csv.DictReader(file)}
    assert {f"f1/{name}" for name in NAMES} <= metrics | {f"recall/{name}" for name in NAMES}
    (cohort,) = (folder / "outputs" / "cohorts").glob("cohort-*.parquet")
    assert set(pd.read_parquet(cohort)["label"]) == set(NAMES)


def test_files_and_ids_have_names_that_any_file_system_takes(made):
    outputs = made[0] / "outputs"
    paths = [path.relative_to(outputs).as_posix() for path in outputs.rglob("*")]
    paths = [path for path in paths if "/wandb/" not in path]  # W&B names its files itself
    assert [path for path in paths if re.search(r"[^\w./=@:-]", path, re.ASCII)] == []
    pools = [path for path in paths if path.startswith("pools/") and path.endswith(".png")]
    assert len(pools) == 4 * 6
    loras = {path.split("/")[2] for path in paths if path.endswith("lora_weights.safetensors")}
    assert loras == set(map(class_file_name, NAMES))


def test_a_release_has_them_too(made):
    parts = Path(release.run(workspace(made))["release"])
    table = pd.read_csv(parts / "data-sd_lora" / "train" / "metadata.csv")
    assert set(table["label"]) == set(NAMES)
    assert all((parts / "data-sd_lora" / "train" / name).is_file() for name in table["file_name"])
    card = (parts / "data-sd_lora" / "README.md").read_text(encoding="utf-8")
    assert all(name in card for name in NAMES)


def test_a_reader_study_has_them_too(made, tmp_path):
    built = review_build.run(workspace(made, "review.per_cell=2", "review.session_size=48"))
    kit = Path(built["send"][0]).read_text(encoding="utf-8")
    assert all(json.dumps(name) in kit for name in NAMES)
    key = AnswerKey.read(Path(built["keep"]))
    assert {case.label for case in key.cases.values()} == set(NAMES)
    population = simulated_readers.ReaderPopulation(
        {"sd_lora": 1.0}, d_prime_spread=0.1, criterion_spread=0.1
    )
    simulated_exports.write_exports(key, population, tmp_path)
    analysed = review_analyse.run(workspace(made, f"review.exports={tmp_path}"))
    assert analysed["state"] == "done"
    assert all(name in Path(analysed["page"]).read_text(encoding="utf-8") for name in NAMES)


def test_the_dashboard_is_written(made):
    dashboard_file = Path(dashboard.run(workspace(made))["dashboard"])
    assert json.loads(dashboard_file.read_text(encoding="utf-8"))["report"]


def test_the_command_of_a_job_can_be_pasted(made):
    (file,) = (made[0] / "outputs" / "prepare").glob("*/run.json")
    record = json.loads(file.read_text(encoding="utf-8"))
    assert shlex.split(record["command"]) == ["xraysynth", "prepare", *record["overrides"]]
    assert compose(record["overrides"]).classes == list(NAMES)


@pytest.mark.parametrize(
    ("label", "name"),
    [
        ("normal", "normal"),
        ("COVID-19", "COVID-19"),
        ("No finding", "No-finding-"),
        ("Lungenentzündung", "Lungenentzundung-"),
        ("正常", "class-"),
        ("a" * 300, "a" * 40 + "-"),
        ("=1+1", "1-1-"),
    ],
)
def test_a_class_in_a_file_name(label, name):
    assert class_file_name(label).startswith(name)
    assert re.fullmatch(r"[A-Za-z0-9._-]{1,100}", class_file_name(label))


def test_two_classes_never_share_a_file_name():
    labels = ["a b", "a-b", "a (b)", "ä b", "a  b", "正", "常"]
    assert len(set(map(class_file_name, labels))) == len(labels)
