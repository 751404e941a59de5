from pathlib import Path

import pandas as pd
import pytest

from xraysynth.errors import ManifestError
from xraysynth.manifest import Manifest

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
    assert found.counts() == {"normal": 1, "covid19": 1}
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
    with pytest.raises(ManifestError, match="own folder"):
        found.write(tmp_path.parent / "elsewhere.parquet")


@pytest.mark.parametrize("change", [{"sha256": "1"}, {"label": "covid19"}, {"split": "test"}])
def test_the_digest_changes_with_what_decides_a_result(change):
    assert manifest(row()).digest() != manifest(row(**change)).digest()
