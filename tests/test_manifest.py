from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xraysynth import manifest as module
from xraysynth.errors import ManifestError
from xraysynth.manifest import COLUMNS, Manifest, conform_to_schema
from xraysynth.records import require_inside
from xraysynth.seeds import digest

CLASSES = ("normal", "covid19")


def row(**changes):
    base = {
        "image_id": "a",
        "path": "images/a.png",
        "label": "normal",
        "source": "s",
        "patient_id": "p1",
        "split": "train",
        "is_synthetic": False,
        "sha256": "0",
    }
    return base | changes


def manifest(*rows, folder=Path("folder")):
    return Manifest(pd.DataFrame(rows), folder, CLASSES)


def test_a_valid_manifest_counts_and_selects():
    found = manifest(row(), row(image_id="b", label="covid19", patient_id="p2", split="test"))
    assert found.class_counts() == {"normal": 1, "covid19": 1}
    assert found.targets.tolist() == [0, 1]
    assert found.split("test").table["image_id"].tolist() == ["b"]
    assert found.files[0] == Path("folder/images/a.png")


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"image_id": "a"}, "image ids are unique"),
        ({"label": "flu"}, "a label is one of"),
        ({"label": float("nan")}, "a label is one of"),
        ({"split": "dev"}, "a split is one of"),
        ({"is_synthetic": True, "split": "val"}, "synthetic images are for training only"),
        ({"patient_id": ""}, "a real image has a patient id"),
        ({"patient_id": "p1", "split": "test"}, "no patient is in two splits"),
        ({"path": "../b.png"}, "stay inside"),
        ({"path": "/etc/passwd"}, "stay inside"),
        ({"path": "a/../../b.png"}, "stay inside"),
        ({"path": "C:\\b.png"}, "stay inside"),
        ({"path": ""}, "stay inside"),
    ],
)
def test_each_broken_guarantee_is_named(changes, rule):
    second = row(image_id="b", path="images/b.png", patient_id="p2") | changes
    with pytest.raises(ManifestError, match=rule):
        manifest(row(), second)


def test_the_same_patient_id_in_two_sources_is_two_patients():
    found = manifest(row(), row(image_id="b", source="t", split="test"))
    assert len(found) == 2


def test_written_and_read_back_it_is_the_same(tmp_path):
    found = manifest(row(seed=3, prompt="x"), folder=tmp_path)
    found.write(tmp_path / "manifest.parquet")
    again = Manifest.read(tmp_path / "manifest.parquet", classes=CLASSES)
    assert again.digest() == found.digest()
    pd.testing.assert_frame_equal(again.table, found.table)
    with pytest.raises(ManifestError, match="folder of its images"):
        found.write(tmp_path.parent / "elsewhere.parquet")


@pytest.mark.parametrize("change", [{"sha256": "1"}, {"label": "covid19"}, {"split": "test"}])
def test_the_digest_changes_with_what_decides_a_result(change):
    assert manifest(row()).digest() != manifest(row(**change)).digest()


THREE = (
    row(),
    row(image_id='ü"b', label="covid19", patient_id="p2", split="test"),
    row(image_id="c", is_synthetic=True, patient_id=""),
)


@pytest.mark.parametrize("block", [1, 2, 50_000])
def test_the_digest_is_that_of_the_whole_table_whatever_the_blocks(monkeypatch, block):
    monkeypatch.setattr(module, "_BLOCK_ROWS", block)
    found = manifest(*THREE)
    columns = ["image_id", "sha256", "label", "split", "patient_id", "is_synthetic"]
    assert found.digest() == digest([list(CLASSES), found.table[columns].to_numpy().tolist()])
    # the name of every cohort and pool there is hangs on this value
    assert found.digest().startswith("cc769271f7b062332bdd7e6ae7cf59ed5ed037ca9270")


def test_a_manifest_without_rows_has_a_digest_too():
    none = manifest(row()).where([False])
    assert none.digest() == digest([list(CLASSES), []])


@given(st.text("a./\\:", max_size=6))
def test_every_path_that_leaves_the_folder_is_refused(path):
    def refused(make):
        try:
            make()
        except ManifestError:
            return True
        return False

    one_by_one = refused(lambda: require_inside(Path("folder"), path))
    assert refused(lambda: manifest(row(path=path))) == one_by_one


def test_rows_of_a_manifest_are_a_manifest_with_an_index_of_its_own():
    found = manifest(*THREE).where([False, True, True])
    assert found.table["image_id"].tolist() == ['ü"b', "c"]
    assert found.table.index.tolist() == [0, 1]
    pd.testing.assert_frame_equal(found.table, conform_to_schema(found.table))
    with pytest.raises(ManifestError, match="a label is one of covid19"):
        manifest(*THREE).with_classes(["covid19"])


def test_any_table_gets_the_schema_and_a_conforming_one_stays_as_it_is():
    odd = pd.DataFrame(
        {
            "image_id": [1, "b"],
            "label": pd.array(["x", None], dtype="str"),
            "source": [None, np.nan],
            "is_synthetic": [1, 0],
            "seed": [None, 2**62 + 1],
            "age": [50, np.nan],
            "extra": [0, 0],
        },
        index=[7, 9],
    )
    found = conform_to_schema(odd)
    assert {name: str(dtype) for name, dtype in found.dtypes.items()} == dict(COLUMNS)
    assert found["image_id"].tolist() == ["1", "b"]
    assert found["label"].tolist() == ["x", ""]
    assert found["source"].tolist() == found["view"].tolist() == ["", ""]
    assert found["is_synthetic"].tolist() == [True, False]
    assert found["age"].isna().tolist() == [False, True]
    assert found["seed"].isna().tolist() == [True, False]
    assert found.index.tolist() == [0, 1]
    pd.testing.assert_frame_equal(conform_to_schema(found), found)
    changed = conform_to_schema(found)
    changed.loc[0, "label"] = "y"
    assert found.loc[0, "label"] == "x"


def test_patients_in_two_splits_are_named_and_others_are_not():
    rows = [
        row(image_id="a", patient_id="p1", split="train"),
        row(image_id="b", patient_id="p1", split=""),
        row(image_id="c", patient_id="p1", split="val"),
        row(image_id="d", patient_id="p2", split="val"),
    ]
    with pytest.raises(ManifestError, match=r"two splits; broken by 2 of 4 rows: a \(.*c \("):
        manifest(*rows)
    assert len(manifest(*rows[1:])) == 3
