"""Trees of folders, laid out as public collections unpack."""

import pickle

import numpy as np
import pytest
from PIL import Image

from xraysynth.data.sources._patterns import match_all
from xraysynth.data.sources.base import map_labels
from xraysynth.data.sources.folder import FolderSource
from xraysynth.errors import ConfigError, DataNotFoundError, ImageError, ManifestError

CLASSES = ("normal", "pneumonia", "covid19", "tuberculosis")


def plant(root, *paths, value=100):
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((6, 4), value, np.uint8)).save(root / path)


def test_one_folder_a_class_without_its_masks(tmp_path):
    plant(tmp_path, "normal/1.png", "normal/masks/1.png", "covid19/images/1.png", "loose.png")
    rows = FolderSource(name="mine", root=str(tmp_path)).rows()
    assert dict(zip(rows["locator"], rows["label"], strict=True)) == {
        "covid19/images/1.png": "covid19",
        "normal/1.png": "normal",
    }
    assert set(rows["source"]) == {"mine"}
    assert set(rows["patient_id"]) == {""}
    assert rows["image_id"].is_unique


def test_split_patient_and_label_come_from_the_path(tmp_path):
    plant(tmp_path, "train/NORMAL/p1_a.png", "test/NORMAL/p2_a.png", "test/SICK/p2_b.png")
    source = FolderSource(
        name="mine",
        root=str(tmp_path),
        pattern=r"(?P<split>train|test)/(?P<label>[^/]+)/[^/]+",
        patient=r"/(?P<patient>p\d+)_",
        labels={"NORMAL": "normal", "SICK": "pneumonia"},
    )
    rows = map_labels(source.rows(), source.labels, CLASSES, name=source.name)
    assert rows[["split", "label", "patient_id"]].to_numpy().tolist() == [
        ["test", "normal", "p2"],
        ["test", "pneumonia", "p2"],
        ["train", "normal", "p1"],
    ]


def test_load_survives_pickling_and_returns_the_pixels(tmp_path):
    plant(tmp_path, "normal/1.png", value=77)
    source = pickle.loads(pickle.dumps(FolderSource(name="mine", root=str(tmp_path))))
    pixels = source.load(source.rows()["locator"][0], 64).pixels
    assert pixels.shape == (6, 4)
    assert (pixels == 77).all()


def test_a_damaged_file_is_listed_and_refused_on_load(tmp_path):
    plant(tmp_path, "normal/1.png")
    (tmp_path / "normal/2.png").write_bytes(b"")
    source = FolderSource(name="mine", root=str(tmp_path))
    assert len(source.rows()) == 2
    with pytest.raises(ImageError, match=r"2\.png: the file is empty"):
        source.load("normal/2.png", 64)


def test_a_path_without_patient_is_refused(tmp_path):
    plant(tmp_path, "normal/p1.png", "normal/other.png")
    source = FolderSource(name="mine", root=str(tmp_path), patient=r"p\d+")
    with pytest.raises(ManifestError, match=r"1 of 2 paths: normal/other\.png"):
        source.rows()


def test_nothing_that_matches_names_what_is_there(tmp_path):
    plant(tmp_path, "deep/er/1.png")
    with pytest.raises(DataNotFoundError, match=r"found deep/er/1\.png"):
        FolderSource(name="mine", root=str(tmp_path)).rows()


@pytest.mark.parametrize("pattern", ["(?P<label>", "[^/]+/.+"])
def test_a_pattern_without_a_label_is_refused(pattern):
    with pytest.raises(ConfigError, match=r"source\.mine\.pattern"):
        FolderSource(name="mine", root=".", pattern=pattern)


@pytest.mark.parametrize(
    "pattern", [r"(?P<label>([a-z0-9]+)+)/[0-9]", r"(?P<label>(a|a|aa)+)/b.png"]
)
def test_a_pattern_that_backtracks_without_end_is_named(tmp_path, monkeypatch, pattern):
    monkeypatch.setattr("xraysynth.data.sources._patterns.TIME_LIMIT_SECONDS", 1)
    plant(tmp_path, "a" * 60 + "/1.png")
    with pytest.raises(ConfigError, match=r"source\.mine\.pattern=.* is not done .* in 1 s"):
        FolderSource(name="mine", root=str(tmp_path), pattern=pattern).rows()


def test_a_search_that_backtracks_without_end_is_named(monkeypatch):
    monkeypatch.setattr("xraysynth.data.sources._patterns.TIME_LIMIT_SECONDS", 1)
    with pytest.raises(ConfigError, match=r"source\.mine\.patient=.* is not done .* in 1 s"):
        match_all(r"(a*)*(a*)*X", "search", ["a" * 60], "source.mine.patient")


@pytest.mark.parametrize("pattern", ["a{99999999999999999999}", "(" * 50_000])
def test_a_pattern_too_large_to_compile_is_named(pattern):
    for option in ("pattern", "patient"):
        with pytest.raises(ConfigError, match=rf"source\.mine\.{option}="):
            FolderSource(name="mine", root=".", **{option: pattern})


def test_paths_of_any_characters_match(tmp_path):
    plant(tmp_path, "ü ß/1 €.png", "normal/new\nline.png")
    rows = FolderSource(name="mine", root=str(tmp_path), patient=r"[^/]+$").rows()
    assert rows["patient_id"].tolist() == ["new\nline.png", "1 €.png"]
    assert match_all("a(.)", "fullmatch", ["a\udce4", "b"], "x") == [("a\udce4", {}), None]


@pytest.mark.parametrize(
    ("name", "files", "expected"),
    [
        (
            "covid_radiography",
            [
                "COVID-19_Radiography_Dataset/COVID/images/COVID-1.png",
                "COVID-19_Radiography_Dataset/COVID/masks/COVID-1.png",
                "COVID-19_Radiography_Dataset/Lung_Opacity/images/Lung_Opacity-1.png",
                "COVID-19_Radiography_Dataset/Normal/images/Normal-1.png",
                "COVID-19_Radiography_Dataset/Viral Pneumonia/images/Viral Pneumonia-1.png",
            ],
            [("covid19", ""), ("normal", ""), ("pneumonia", "")],
        ),
        (
            "tb_radiography",
            [
                "TB_Chest_Radiography_Database/Normal/Normal-1.png",
                "TB_Chest_Radiography_Database/Tuberculosis/Tuberculosis-1.png",
            ],
            [("normal", ""), ("tuberculosis", "")],
        ),
        (
            "montgomery",
            [
                "MontgomerySet/CXR_png/MCUCXR_0001_0.png",
                "MontgomerySet/CXR_png/MCUCXR_0104_1.png",
                "MontgomerySet/ManualMask/leftMask/MCUCXR_0001_0.png",
            ],
            [("normal", "0001"), ("tuberculosis", "0104")],
        ),
        (
            "shenzhen",
            [
                "ChinaSet_AllFiles/CXR_png/CHNCXR_0001_0.png",
                "ChinaSet_AllFiles/CXR_png/CHNCXR_0327_1.png",
            ],
            [("normal", "0001"), ("tuberculosis", "0327")],
        ),
        (
            "kermany",
            [
                "chest_xray/__MACOSX/train/NORMAL/._IM-0115-0001.jpeg",
                "chest_xray/test/NORMAL/NORMAL2-IM-0115-0001.jpeg",
                "chest_xray/test/PNEUMONIA/person1_virus_6.jpeg",
                "chest_xray/train/NORMAL/IM-0115-0001.jpeg",
                "chest_xray/train/PNEUMONIA/BACTERIA-7422-0002.jpeg",
                "chest_xray/train/PNEUMONIA/person1_bacteria_1.jpeg",
            ],
            [
                ("normal", "IM-0115"),
                ("pneumonia", "person1"),
                ("normal", "IM-0115"),
                ("pneumonia", "7422"),
                ("pneumonia", "person1"),
            ],
        ),
    ],
)
def test_presets_read_the_published_layout(tmp_path, preset, name, files, expected):
    plant(tmp_path, *files)
    source = preset(name)
    rows = map_labels(source.rows(), source.labels, CLASSES, name=name)
    assert list(zip(rows["label"], rows["patient_id"], strict=True)) == expected
    assert "split" not in rows


@pytest.mark.parametrize(
    "name", ["covid_radiography", "tb_radiography", "montgomery", "shenzhen", "kermany"]
)
def test_presets_without_data_give_the_steps(preset, name):
    source = preset(name)
    with pytest.raises(DataNotFoundError) as error:
        source.rows()
    assert source.homepage.startswith("https://")
    assert source.homepage in str(error.value)
    assert source.how_to_get in str(error.value)
    assert source.license


def test_the_plain_folder_config_needs_a_root(tmp_path, preset):
    plant(tmp_path, "normal/1.png")
    assert len(preset("folder", root=str(tmp_path)).rows()) == 1
