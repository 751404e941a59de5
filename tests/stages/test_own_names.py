"""Folders, patterns and labels as people have them reach a cohort as the shell passes them on."""

import json
import shlex

import pandas as pd
import pytest
from command import xraysynth
from small_study import write_image

from xraysynth.quoting import quote_override

PER_CLASS = 16
KINDS = ("normal", "pneumonia")


def write_images(folder, names, file="P{:04d}_1.png"):
    """A folder per class, its images named by `file`, one patient each."""
    for kind, name in zip(KINDS, names, strict=True):
        for number in range(PER_CLASS):
            seed = 1000 * KINDS.index(kind) + number
            write_image(folder / name / file.format(seed), label=kind, seed=seed)


def write_table(folder, labels):
    """A table of images with the two labels."""
    write_images(folder, KINDS)
    rows = []
    for kind, label in zip(KINDS, labels, strict=True):
        for file in sorted((folder / kind).iterdir()):
            rows.append({"path": f"{kind}/{file.name}", "label": label, "patient_id": file.stem})
    pd.DataFrame(rows).to_csv(folder / "table.csv", index=False)


def prepared(folder, *words):
    """The cohort of a command line, whose words are typed into a shell."""
    typed = ["classes=[normal,pneumonia]", "size_px=32", *words]
    ended = xraysynth("prepare", *shlex.split(" ".join(typed)), cwd=folder)
    assert ended.returncode == 0, ended.stderr
    result = json.loads(ended.stdout)
    assert result["images"] == 2 * PER_CLASS
    return pd.read_parquet(folder / result["manifest"])


@pytest.mark.parametrize(
    "name",
    [
        "Röntgen (Klinik 1)",
        "site=A, CR[1]",
        "patients' films {2024} #1 & co",
        "胸部 100%, $1 ~",
        "null",
    ],
)
def test_a_folder_may_have_any_name(tmp_path, name):
    write_images(tmp_path / name, KINDS)
    table = prepared(
        tmp_path,
        "source=folder",
        shlex.quote(f"source.folder.root={name}"),
        r"source.folder.patient='P\d+'",
    )
    assert table["label"].value_counts().to_dict() == dict.fromkeys(KINDS, PER_CLASS)


@pytest.mark.parametrize(
    ("file", "pattern"),
    [
        ("P{:04d}_1.png", r"P\d{4}(?=_)"),
        ("img-{:04d},a.png", r"(?<=img-)\d{1,4}"),
        ("x_{:04d}[CR].png", r"_(?P<patient>[0-9]+)\[(?:CR|DX)\]"),
    ],
)
def test_a_pattern_may_have_any_signs(tmp_path, file, pattern):
    write_images(tmp_path / "films", KINDS, file)
    table = prepared(
        tmp_path, "source=folder", "source.folder.root=films", f"source.folder.patient='{pattern}'"
    )
    assert len(set(table["patient_id"])) == 2 * PER_CLASS
    assert all(patient.lstrip("P").isdigit() for patient in table["patient_id"])


@pytest.mark.parametrize(
    ("labels", "typed"),
    [
        (("unauffällig", "Lungenentzündung"), "{unauffällig: normal, Lungenentzündung: pneumonia}"),
        (("ok", "Pneumonia (viral)"), '{ok: normal, "Pneumonia (viral)": pneumonia}'),
        (("No Finding", "COVID-19, ARDS"), '{No Finding: normal, "COVID-19, ARDS": pneumonia}'),
        (("0", "1"), "{0: normal, 1: pneumonia}"),
        (("no", "yes"), "{no: normal, yes: pneumonia}"),
        (("00", "1.50"), '{"00": "normal", "1.50": "pneumonia"}'),
        (("None", "null?"), "{None: normal, null?: pneumonia}"),
        (("正常", "a=b 100%"), "{正常: normal, a=b 100%: pneumonia}"),
    ],
)
def test_a_label_may_be_any_text(tmp_path, labels, typed):
    write_table(tmp_path, labels)
    words = ["source=table", "source.table.path=table.csv"]
    by_hand = prepared(tmp_path, *words, shlex.quote(f"source.table.labels={typed}"))
    assert by_hand["label"].value_counts().to_dict() == dict.fromkeys(KINDS, PER_CLASS)
    printed = quote_override("source.table.labels", dict(zip(labels, KINDS, strict=True)))
    pd.testing.assert_frame_equal(prepared(tmp_path, *words, printed), by_hand)
