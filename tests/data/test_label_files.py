"""Labels in a file of their own, and labels that are recognised, misspelt or unknown."""

import json
import shlex
import unicodedata

import pandas as pd
import pytest
from command import xraysynth

from xraysynth import compose
from xraysynth.data.cohort import SourceCollection
from xraysynth.data.label_files import read_labels
from xraysynth.data.sources.base import screen_labels
from xraysynth.data.sources.table import TableSource
from xraysynth.errors import ConfigError, ManifestError
from xraysynth.seeds import identity

LABELS = {
    "unauffällig": "normal",
    "COVID-19, ARDS": "covid19",
    "0": "normal",
    "01": "pneumonia",
    "yes": "pneumonia",
    "1.50": "normal",
    "Pneumonia (viral)": "pneumonia",
    "other: unclear #2": None,
    "None": None,
}
FILES = {
    "labels.yaml": """\
# which label is what
unauffällig: normal
"COVID-19, ARDS": covid19
0: normal
01: pneumonia
yes: pneumonia
1.50: normal
Pneumonia (viral): pneumonia
'other: unclear #2': null
None: ~
""",
    "labels.json": json.dumps(LABELS),
    "labels (1).yml": "\ufeff" + json.dumps(LABELS, ensure_ascii=False),
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The working folder, which holds files of labels."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name, text in FILES.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    rows = [(label, name or "") for label, name in LABELS.items()]
    table = pd.DataFrame(rows, columns=["Label", " class"])
    table.to_csv(tmp_path / "labels.csv", index=False)
    table.to_csv(tmp_path / "labels.tsv", sep="\t", index=False, encoding="utf-16")
    return tmp_path


@pytest.mark.parametrize("name", [*FILES, "labels.csv", "labels.tsv", "~/labels.yaml"])
def test_a_file_holds_the_class_of_each_label(folder, name):
    assert read_labels(name, "source.table.labels") == LABELS
    config = compose(["source=table", "source.table.path=x", f"source.table.labels={name}"])
    assert config.source["table"]["labels"] == LABELS


def test_labels_are_the_same_wherever_they_stand(folder):
    words = ["source=table", "source.table.path=x"]
    inline = compose([*words, f"source.table.labels={json.dumps(LABELS)}"])
    in_file = compose([*words, "source.table.labels=labels.csv"])
    (folder / "mine.yaml").write_text(
        "defaults: [{source: table}]\nsource: {table: {path: x, labels: labels.yaml}}\n"
    )
    in_experiment = compose(["experiment=mine.yaml"])
    identities = [identity(config.sources()[0]) for config in (inline, in_file, in_experiment)]
    assert identities[0] == identities[1] == identities[2]


@pytest.mark.parametrize("source", ["folder", "table", "dicom", "medmnist", "xrv", "nih", "hub"])
def test_every_source_takes_a_file(folder, source):
    given = {
        "folder": ["root=x"], "table": ["path=x"], "dicom": ["root=x"], "hub": ["repo=a/b"],
        "medmnist": ["root=x", "flag=pneumoniamnist"], "xrv": ["imgpath=x", "dataset=NIH_Dataset"],
    }.get(source, [])  # fmt: skip
    words = [f"source.{source}.{word}" for word in given]
    config = compose([f"source={source}", *words, f"source.{source}.labels=labels.yaml"])
    assert config.source[source]["labels"] == LABELS  # in place of those of a preset


def test_an_archive_and_an_external_test_set_take_one_too(folder):
    (folder / "two.yaml").write_text("NORM: normal\nSICK: pneumonia\n")
    words = ["generator=archive", "generator.archive.folder=x", "generator.archive.labels=two.yaml"]
    words += ["test_source=table", "test_source.table.path=x", "test_source.table.labels=two.yaml"]
    config = compose(words)
    expected = {"NORM": "normal", "SICK": "pneumonia"}
    assert config.generator["archive"]["labels"] == expected
    assert config.test_source["table"]["labels"] == expected


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("no.yaml", None, "source.table.labels=no.yaml: there is no such file"),
        ("lables.yaml", None, "did you mean 'labels.yaml'"),
        ("x.yaml", "a: b\na: c\n", "x.yaml, line 2: 'a' stands in it twice"),
        ("x.yaml", "a: [b\n", "x.yaml, line 2: this is no yaml"),
        ("x.yaml", "a: [b]\n", "'a' must have one class, or null"),
        ("x.yaml", "just words\n", "must have lines such as 'No Finding: normal'"),
        ("x.yaml", "", "must have lines such as"),
        ("x.json", '{"a": {"b": "c"}}', "'a' must have one class"),
        ("x.csv", "a,normal\nb,sick\n", "needs the columns label and class"),
        ("x.csv", "label,class\na,normal\na,sick\n", "'a' has two classes, normal and sick"),
    ],
)
def test_a_file_that_is_wrong_is_named(folder, name, text, message):
    if text is not None:
        (folder / name).write_text(text)
    with pytest.raises(ConfigError, match=message):
        compose(["source=table", "source.table.path=x", f"source.table.labels={name}"])


def test_the_remedy_of_a_missing_file_can_be_pasted(folder):
    with pytest.raises(ConfigError) as raised:
        compose(["source=table", "source.table.path=x", "source.table.labels=no.yaml"])
    (remedy,) = shlex.split(str(raised.value).partition("or write them: ")[2])
    assert compose(["source=table", "source.table.path=x", remedy])


def test_a_file_and_keys_together_are_refused(folder):
    words = ["source=table", "source.table.path=x", "source.table.labels=labels.yaml"]
    with pytest.raises(ConfigError, match=r"source\.table\.labels is given as a file and by"):
        compose([*words, "source.table.labels.x=normal"])


CLASSES = ("normal", "pneumonia", "covid19", "tuberculosis")


def screened(*labels, mapped=(), classes=CLASSES):
    rows = pd.DataFrame({"image_id": list(map(str, range(len(labels)))), "label": labels})
    return screen_labels(rows, dict(mapped), classes, name="site")


@pytest.mark.parametrize(
    "label",
    ["NORMAL", " normal ", "No Finding", "no  finding", "unauffällig", "Unauffällig",
     unicodedata.normalize("NFD", "unauffällig")],
)  # fmt: skip
def test_what_carries_no_information_is_passed_over(label):
    assert screened(label, mapped={"NO FINDING": "normal"})["label"].tolist() == ["normal"]


def test_an_exact_label_counts_before_one_in_another_case():
    mapped = {"a": "normal", "A": "pneumonia"}
    assert screened("a", "A", mapped=mapped)["label"].tolist() == ["normal", "pneumonia"]
    with pytest.raises(ManifestError, match="unknown label 'Ä'"):
        screened("Ä", mapped={"ä": "normal", " ä": "pneumonia"})


def test_a_misspelt_class_is_refused_with_the_override_that_corrects_it():
    mapped = {"CXR, sick": "pnuemonia"}
    with pytest.raises(ManifestError, match="'pnuemonia', which is no class") as raised:
        screened("CXR, sick", mapped=mapped)
    (remedy,) = shlex.split(str(raised.value).rpartition(" write ")[2])
    name, _, value = remedy.partition("=")
    assert name == "source.site.labels"
    assert value == '{"CXR, sick": pneumonia}'


def test_classes_of_other_studies_are_left_out():
    rows = screened("a", "b", mapped={"a": "cardiomegaly", "b": "normal"})
    assert rows["left_out"].tolist() == ["label of no class: a", ""]


AWKWARD = [
    "Pneumonia (viral)",
    "COVID-19, ARDS",
    "it's",
    'a "b"',
    "$HOME `x`",
    "x: y",
    "~",
    "{a}",
    "正常",
]


def test_the_remedy_of_unknown_labels_survives_the_shell_and_works(tmp_path):
    from small_study import write_image

    rows = []
    for number in range(24):
        for label in ("normal", "pneumonia"):
            write_image(tmp_path / f"{label}{number}.png", label=label, seed=len(rows))
            rows.append((f"{label}{number}.png", label, f"P{len(rows)}"))
    for number, label in enumerate(AWKWARD):
        write_image(tmp_path / f"other{number}.png", label="covid19", seed=1000 + number)
        rows.append((f"other{number}.png", label, f"Q{number}"))
    table = pd.DataFrame(rows, columns=["path", "label", "patient_id"])
    table.to_csv(tmp_path / "table.csv", index=False)
    words = [
        "source=table",
        "source.table.path=table.csv",
        "classes=[normal,pneumonia]",
        "size_px=32",
    ]
    refused = xraysynth("prepare", *words, cwd=tmp_path)
    assert refused.returncode == 1
    assert "unknown label" in refused.stderr
    (remedy,) = shlex.split(_quoted_part(refused.stderr))
    ended = xraysynth("prepare", *words, remedy, cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout)["images"] == 48


def _quoted_part(message):
    return message[
        message.index("pneumonia. ") + len("pneumonia. ") : message.index(" leaves their")
    ]


def test_more_labels_than_a_command_should_hold_are_sent_to_a_file():
    with pytest.raises(
        ManifestError, match=r"all 30 labels in a file: source.site.labels=labels.yaml"
    ):
        screened(*[f"label {number}" for number in range(30)])


def test_the_audit_says_which_labels_were_recognised(tmp_path):
    table = pd.DataFrame(
        {"path": ["a.png", "b.png", "c.png", "d.png"], "patient_id": list("abcd"),
         "label": ["No Finding", "TB", "normal", "x"]}
    )  # fmt: skip
    table.to_csv(tmp_path / "t.csv", index=False)
    for path in table["path"]:
        (tmp_path / path).touch()
    source = TableSource(name="site", path=str(tmp_path / "t.csv"), labels={"x": "normal"})
    collection = SourceCollection.from_sources([source], CLASSES)
    (note,) = collection.notes
    assert "'No Finding' as normal (1), 'TB' as tuberculosis (1)" in note
    assert "'x'" not in note
    assert list(collection.rows["site"]["label"]) == ["normal", "tuberculosis", "normal", "normal"]
    assert "listed_label" not in collection.rows["site"]
