"""Trees of folders, laid out as public collections unpack."""

import pickle

import numpy as np
import pytest
from PIL import Image

from xraysynth.data.sources._patterns import match_all
from xraysynth.data.sources.base import map_labels
from xraysynth.data.sources.folder import FolderSource
from xraysynth.errors import ConfigError, DataNotFoundError, ImageError, ManifestError
from xraysynth.seeds import identity

CLASSES = ("normal", "pneumonia", "covid19", "tuberculosis")


def plant(root, *paths, value=100):
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((6, 4), value, np.uint8)).save(root / path)


def used(rows):
    """Locator -> label of the rows that are used."""
    if "left_out" in rows:
        rows = rows[rows["left_out"] == ""]
    return dict(zip(rows["locator"], rows["label"], strict=True))


def left_out(rows):
    """Locator -> reason of the rows that are left out."""
    return dict(rows.loc[rows["left_out"] != "", ["locator", "left_out"]].to_numpy().tolist())


def test_one_folder_a_class_without_its_masks(tmp_path):
    plant(tmp_path, "normal/1.png", "normal/masks/1.png", "covid19/images/1.png", "loose.png")
    rows = FolderSource(name="mine", root=str(tmp_path)).rows()
    assert used(rows) == {"covid19/images/1.png": "covid19", "normal/1.png": "normal"}
    assert left_out(rows) == {
        "normal/masks/1.png": "mask, no radiograph",
        "loose.png": "in no folder of a class",
    }
    assert set(rows["source"]) == {"mine"}
    assert set(rows["patient_id"]) == {""}
    assert rows["image_id"].is_unique


def test_a_plain_tree_has_the_rows_that_keys_of_finished_work_were_made_of(tmp_path):
    plant(tmp_path, "normal/1.png", "sick/images/2.png")
    rows = FolderSource(name="mine", root=str(tmp_path), license="x").rows()
    assert list(rows) == [
        *("label", "locator", "stamp", "image_id", "patient_id", "source", "license"),
    ]
    assert identity(FolderSource(name="mine", root="here"))["pattern"] == (
        "(?P<label>[^/]+)/(?:images/)?[^/]+"
    )
    pattern = r"(?P<split>[^/]+)/(?P<label>[^/]+)/(?P<sex>[FM])?[^/]+"
    plant(tmp_path / "more", "train/normal/F1.png")
    rows = FolderSource(name="mine", root=str(tmp_path / "more"), pattern=pattern).rows()
    assert list(rows)[:4] == ["split", "label", "sex", "locator"]


def test_folders_within_a_class_are_of_the_class_unless_they_hold_lateral_views(tmp_path):
    plant(tmp_path, "pneumonia/bacterial/1.png", "pneumonia/P2_lateral/2.png", "normal/3.webp")
    plant(tmp_path, "normal/deep/er/4.png", "normal/Seitl. Aufnahmen/5.png")
    rows = FolderSource(name="mine", root=str(tmp_path)).rows()
    assert used(rows) == {
        "normal/3.webp": "normal",
        "normal/deep/er/4.png": "normal",
        "pneumonia/bacterial/1.png": "pneumonia",
    }
    assert left_out(rows) == {
        "normal/Seitl. Aufnahmen/5.png": "lateral view",
        "pneumonia/P2_lateral/2.png": "lateral view",
    }


@pytest.mark.parametrize(
    "folder", ["{split}/{label}", "{label}/{split}", "set/{split}/{label}/png"]
)
def test_folders_of_splits_lie_above_or_below_the_classes(tmp_path, folder):
    splits = {"Train": "train", "valid": "val", "TEST": "test"}
    for word in splits:
        for label in ("normal", "pneumonia"):
            plant(tmp_path, f"{folder.format(split=word, label=label)}/{word}-{label}.png")
    rows = FolderSource(name="mine", root=str(tmp_path)).rows()
    assert "left_out" not in rows
    for locator, split, label in rows[["locator", "split", "label"]].to_numpy():
        word, _, rest = locator.rpartition("/")[2].partition("-")
        assert (splits[word], f"{label}.png") == (split, rest)


def test_one_folder_of_a_split_is_no_split(tmp_path):
    plant(tmp_path, "train/normal/1.png", "train/sick/2.png")
    rows = FolderSource(name="mine", root=str(tmp_path)).rows()
    assert "split" not in rows
    assert set(rows["label"]) == {"normal", "sick"}


def test_folders_of_patients_and_of_frontal_views_are_read(tmp_path):
    plant(tmp_path, "normal/P0001/PA/1.png", "normal/P0001/AP_supine/2.png")
    plant(tmp_path, "sick/patient-7/lateral/3.png", "sick/00012345/4.png", "sick/other/5.png")
    rows = FolderSource(name="mine", root=str(tmp_path)).rows().set_index("locator")
    assert rows["patient_id"].to_dict() == {
        "normal/P0001/AP_supine/2.png": "P0001",
        "normal/P0001/PA/1.png": "P0001",
        "sick/00012345/4.png": "00012345",
        "sick/other/5.png": "",
        "sick/patient-7/lateral/3.png": "",
    }
    assert rows.loc["normal/P0001/AP_supine/2.png", "view"] == "AP"
    assert rows.loc["sick/patient-7/lateral/3.png", "left_out"] == "lateral view"


def test_names_of_classes_may_have_umlauts_in_either_form_and_spaces(tmp_path):
    plant(tmp_path, "Lungenentzu\u0308ndung (links)/1.png", "unauffällig/2.png")
    rows = FolderSource(name="mine", root=str(tmp_path)).rows()
    assert set(rows["label"]) == {"Lungenentz\u00fcndung (links)", "unauffällig"}
    source = FolderSource(name="mine", root=str(tmp_path))
    assert source.load(rows["locator"][0], 64).pixels.shape == (6, 4)


def test_a_label_that_is_mapped_is_a_class_whatever_it_is_called(tmp_path):
    plant(tmp_path, "test/1.png", "masks/2.png", "normal/3.png")
    labels = {"test": "pneumonia", "masks": "covid19"}
    rows = FolderSource(name="mine", root=str(tmp_path), labels=labels).rows()
    assert sorted(rows["label"]) == ["masks", "normal", "test"]
    rows = FolderSource(name="mine", root=str(tmp_path)).rows()
    assert used(rows) == {"normal/3.png": "normal"}


def test_trees_without_any_class_name_are_read_by_their_first_folder(tmp_path):
    plant(tmp_path, "train/1.png", "P0001/2.png", "images/3.png")
    rows = FolderSource(name="mine", root=str(tmp_path)).rows()
    assert sorted(rows["label"]) == ["P0001", "images", "train"]


def test_images_are_told_by_any_suffix_or_their_content(tmp_path):
    plant(
        tmp_path, "normal/1.JPEG", "normal/2.gif", "normal/3.jp2", "normal/4.jfif", "normal/5.PGM"
    )
    plant(tmp_path, "normal/6.png", "normal/7.tif")
    (tmp_path / "normal/6.png").rename(tmp_path / "normal/IM000001")
    (tmp_path / "normal/7.tif").rename(tmp_path / "normal/7.png_old")
    (tmp_path / "normal/readme.txt").write_text("viewer 1.0")
    (tmp_path / "normal/Thumbs.db").write_bytes(bytes(600))
    plant(tmp_path, "normal/@eaDir/1.jpg", "__MACOSX/normal/2.png", "normal/._3.png")
    source = FolderSource(name="mine", root=str(tmp_path))
    rows = source.rows()
    assert "left_out" not in rows
    assert len(rows) == 7
    for locator in rows["locator"]:
        assert source.load(locator, 64).pixels.shape == (6, 4)


def test_a_link_to_nothing_is_one_unusable_image(tmp_path):
    plant(tmp_path, "normal/1.png")
    (tmp_path / "normal/2.png").symlink_to("nowhere.png")
    rows = FolderSource(name="mine", root=str(tmp_path)).rows()
    assert rows["unusable"].map(bool).tolist() == [False, True]
    assert "2.png: No such file" in rows["unusable"][1]


def test_a_folder_of_dicom_files_names_the_source_that_reads_them(tmp_path):
    (tmp_path / "normal").mkdir()
    (tmp_path / "normal/IM1").write_bytes(bytes(128) + b"DICM" + bytes(90))
    with pytest.raises(
        DataNotFoundError,
        match=r"but 1 DICOM files; read them with source=dicom source\.dicom\.root=/",
    ):
        FolderSource(name="mine", root=str(tmp_path)).rows()
    (tmp_path / "normal/IM1").write_bytes(b"notes")
    with pytest.raises(
        DataNotFoundError, match=r"no images, but 1 no suffix files; check source\.mine\.ro"
    ):
        FolderSource(name="mine", root=str(tmp_path)).rows()


def test_a_lateral_view_and_a_word_for_a_split_of_a_pattern_are_taken_as_meant(tmp_path):
    plant(tmp_path, "valid/normal/1_PA.png", "valid/normal/2_LAT.png", "x/normal/3_PA.png", "4.png")
    pattern = r"(?P<split>[^/]+)/(?P<label>[^/]+)/\d_(?P<view>[A-Z]+)\.png"
    rows = FolderSource(name="mine", root=str(tmp_path), pattern=pattern).rows()
    assert rows["split"].tolist() == ["val", "x", "", "val"]
    assert left_out(rows) == {
        "4.png": "path does not match the pattern",
        "valid/normal/2_LAT.png": "lateral view",
    }


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
    pattern = "(?P<label>[^/]+)/[^/]+"
    with pytest.raises(DataNotFoundError, match=r"found deep/er/1\.png \(1 path does not match"):
        FolderSource(name="mine", root=str(tmp_path), pattern=pattern).rows()
    plant(tmp_path / "flat", "1.png")
    with pytest.raises(
        DataNotFoundError, match=r"1 in no folder of a class\); put each image into a"
    ):
        FolderSource(name="mine", root=str(tmp_path / "flat")).rows()


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
