"""A person's own yaml, in their own folder, is an experiment."""

import json
from pathlib import Path

import pytest
from command import xraysynth

from xraysynth import compose
from xraysynth.errors import ConfigError


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder of one's own, which is the working folder and holds `mine.yaml`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "mine.yaml").write_text(MINE, encoding="utf-8")
    return tmp_path


MINE = """\
experiment: quickstart
source: folder
generator: [sd_lora]
classifier: resnet18
classes: [normal, Lungenentzündung]
study: {name: mine}
"""


@pytest.mark.parametrize("written", ["./mine.yaml", "mine.yaml", "{folder}/mine.yaml"])
def test_a_yaml_in_any_folder_is_an_experiment(folder, written):
    config = compose([f"experiment={written.format(folder=folder)}", "source.folder.root=x"])
    assert list(config.source) == ["folder"]
    assert list(config.generator) == ["sd_lora"]
    assert config.classifier.backbone == "resnet18"
    assert config.classes == ["normal", "Lungenentzündung"]
    assert config.trainer.max_steps == 200  # the quickstart's
    assert config.study.name == "mine"


@pytest.mark.parametrize("name", ["a b (1).yaml", "Röntgen, neu.yml", "it's =[1].yaml"])
def test_its_name_may_have_any_characters(folder, name):
    for path in (folder / name, folder / "home" / name):
        path.parent.mkdir(exist_ok=True)
        path.write_text("seed: 5\n")
    assert compose([f"experiment={name}"]).seed == 5
    assert compose([f"experiment=~/{name}", "seed=6"]).seed == 6


def test_it_may_extend_another_beside_it(folder):
    (folder / "sub").mkdir()
    (folder / "sub" / "base.yaml").write_text("seed: 5\ntrainer: {max_steps: 7}\n")
    (folder / "sub" / "top.yaml").write_text("experiment: base.yaml\nseed: 6\n")
    config = compose(["experiment=sub/top.yaml"])
    assert (config.seed, config.trainer.max_steps) == (6, 7)


@pytest.mark.parametrize(
    "defaults",
    [
        "defaults: [/experiment/quickstart, override /generator: [sd_lora]]",
        "defaults:\n  - quickstart\n  - generator: sd_lora",
        "# @package _global_\ndefaults:\n  - quickstart\n  - override /generator: [sd_lora]",
        "defaults:\n  - override generator: [sd_lora]\n  - experiment: quickstart",
    ],
)
def test_hydras_defaults_work_as_well(folder, defaults):
    (folder / "mine.yaml").write_text(f"{defaults}\nseed: 5\n")
    config = compose(["experiment=mine.yaml"])
    assert list(config.generator) == ["sd_lora"]
    assert (config.seed, config.trainer.max_steps) == (5, 200)


def test_it_may_say_what_the_command_line_says(folder):
    (folder / "mine.yaml").write_text(
        "experiment: quickstart\nsource: folder\nsource.folder.root: ~/x\n"
        "source.folder.labels: {0: normal, yes: pneumonia}\nstudy.name: 2024\nstudy: {workers: 1}\n"
    )
    config = compose(["experiment=mine.yaml"])
    assert config.source["folder"]["root"] == "~/x"
    assert config.source["folder"]["labels"] == {"0": "normal", "yes": "pneumonia"}
    assert (config.study.name, config.study.workers) == ("2024", 1)


def test_texts_are_taken_as_they_are_written(folder):
    labels = (
        '{0: normal, 01: null, yes: Pneumonie, 1.50: "null", "No Finding": normal, 正常: normal}'
    )
    (folder / "mine.yaml").write_text(
        "classes: [0, on, Pneumonie, normal]\nseed: 3\nstudy: {name: 2024}\n"
        f"source:\n  folder: {{root: '~/x ${{', labels: {labels}}}\n"
        "  mine:\n    _target_: xraysynth.data.sources.folder.FolderSource\n"
        "    name: 007\n    root: 12\n    labels: {no: normal}\n"
        "defaults: [{source: [folder]}]\n",
        encoding="utf-8",
    )
    config = compose(["experiment=mine.yaml"])
    folder_source, mine = config.sources()
    expected = {"0": "normal", "01": None, "yes": "Pneumonie", "1.50": "null"}
    assert folder_source.labels == expected | {"No Finding": "normal", "正常": "normal"}
    assert folder_source.root == "~/x ${"
    assert (mine.name, mine.root, mine.labels) == ("007", "12", {"no": "normal"})
    assert config.classes == ["0", "on", "Pneumonie", "normal"]
    assert (config.seed, config.study.name) == (3, "2024")


def test_the_test_sources_can_be_chosen_in_it(folder):
    (folder / "mine.yaml").write_text("test_source: montgomery\n")
    assert list(compose(["experiment=mine.yaml"]).test_source) == ["montgomery"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sede: 1\n", r"did you mean 'seed'\? \(it stands in ./mine.yaml\)"),
        ("trainer: {max_step: 1}\n", r"'trainer.max_steps'\? \(it stands in ./mine.yaml\)"),
        ("seed: abc\n", r"seed must be .*'abc' \(it stands in ./mine.yaml\)"),
        ("source: foldr\n", r"source=foldr.* \(it stands in ./mine.yaml\)"),
        ("defaults: [/experiment/quikstart]\n", "did you mean 'quickstart'"),
        (
            "source: {folder: {root: x}}\n",
            r"select it with 'source=folder'.*it stands in ./mine.yaml",
        ),
        ("seed: 1\nseed: 2\n", "./mine.yaml, line 2: 'seed' stands in it twice"),
        ("seed: [1\n", "./mine.yaml, line 2: this is no yaml"),
        ("a: b: c\n", "./mine.yaml, line 1: this is no yaml"),
        ("just words\n", "experiment=./mine.yaml: a file of options has lines"),
        ("a: !!python/name:os.system x\n", "./mine.yaml, line 1: this is no yaml"),
        ("? [a]\n: b\n", "./mine.yaml, line 1: a key must be a text"),
        ("a: &a [*a]\n", "./mine.yaml"),
        ("paths: {data: '${oc.env:HOME}'}\n", "is refused"),
        ("experiment: mine.yaml\n", "the file extends itself"),
        ("experiment: other.yaml\n", "other.yaml: there is no such file"),
        ("trainer.max_step: 1\n", r"'trainer.max_steps'\? \(it stands in ./mine.yaml\)"),
        ("seed: 1\nseed.x: 2\n", "seed.x cannot be set, as seed is no section"),
        ("defaults: quickstart\n", "defaults must be a list; write 'experiment: quickstart'"),
    ],
)
def test_a_mistake_in_it_is_refused_with_the_name_of_the_file(folder, text, message):
    (folder / "mine.yaml").write_text(text)
    with pytest.raises(ConfigError, match=message):
        compose(["experiment=./mine.yaml"])


def test_what_the_command_line_gives_is_not_blamed_on_the_file(folder):
    with pytest.raises(ConfigError) as raised:
        compose(["experiment=mine.yaml", "source.folder.root=x", "study.name=a/b"])
    assert "mine.yaml" not in str(raised.value)


def test_a_file_that_is_not_there_is_named_with_the_nearest(folder):
    with pytest.raises(ConfigError, match=r"experiment=./mien.yaml: .*did you mean 'mine.yaml'"):
        compose(["experiment=./mien.yaml"])
    with pytest.raises(
        ConfigError, match=r"experiment=mine: .*; write experiment=mine.yaml; choose"
    ):
        compose(["experiment=mine"])


def test_a_file_that_is_no_text_is_refused(folder):
    (folder / "mine.yaml").write_bytes(b"\xff\xfe\x00seed")
    with pytest.raises(ConfigError, match="save it as a text in UTF-8"):
        compose(["experiment=mine.yaml"])


def test_a_run_records_its_words_and_what_the_file_holds(folder, table_of_images):
    (folder / "my files").mkdir()
    (folder / "my files" / "a.yaml").write_text("source: table\nsize_px: 32\n")
    words = ["experiment=my files/a.yaml", f"source.table.path={table_of_images}"]
    ended = xraysynth("prepare", *words, cwd=folder)
    assert ended.returncode == 0, ended.stderr
    record = json.loads(Path(folder, json.loads(ended.stdout)["folder"], "run.json").read_text())
    assert record["overrides"] == words
    assert record["config"]["size_px"] == 32


@pytest.mark.parametrize("launcher", ["basic", "joblib"])
def test_several_files_are_a_multirun(folder, table_of_images, launcher):
    if launcher == "joblib":
        pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    for size in (24, 32):
        (folder / f"size {size}.yaml").write_text(f"source: table\nsize_px: {size}\n")
    words = ["experiment=./size 24.yaml,./size 32.yaml", f"source.table.path={table_of_images}"]
    ended = xraysynth("prepare", "-m", f"hydra/launcher={launcher}", *words, cwd=folder)
    assert ended.returncode == 0, ended.stderr
    results = [json.loads(line) for line in ended.stdout.splitlines()]
    assert len({result["folder"] for result in results}) == 2
    assert sorted(result["overrides"][0] for result in results) == [
        "experiment=./size 24.yaml",
        "experiment=./size 32.yaml",
    ]


def test_a_mistake_in_a_file_of_a_multirun_is_named_as_well(folder, table_of_images):
    (folder / "mine.yaml").write_text("source: tabel\n")
    ended = xraysynth("prepare", "-m", "experiment=mine.yaml", "seed=0,1", cwd=folder)
    assert ended.returncode == 2
    assert "source=tabel" in ended.stderr
    assert "mine.yaml" in ended.stderr
