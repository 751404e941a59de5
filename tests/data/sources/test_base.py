"""Label mapping and the file helpers that sources share."""

import doctest
import os
import re

import pandas as pd
import pytest
from PIL import Image

from xraysynth.data.reading import folders
from xraysynth.data.sources import base
from xraysynth.data.sources.folder import FolderSource
from xraysynth.errors import DataNotFoundError, ManifestError
from xraysynth.images import IMAGE_FORMATS

CLASSES = ("normal", "pneumonia")


def table(*labels):
    return pd.DataFrame({"image_id": [f"i{n}" for n in range(len(labels))], "label": list(labels)})


def mapped(*own, labels=()):
    return base.map_labels(table(*own), dict(labels), CLASSES, name="site")


def test_labels_are_translated_and_null_drops():
    rows = mapped("NORM", "0", "skip", labels={"NORM": "normal", 0: "pneumonia", "skip": None})
    assert rows["label"].tolist() == ["normal", "pneumonia"]
    assert rows["image_id"].tolist() == ["i0", "i1"]


def test_a_known_class_outside_the_study_is_dropped():
    assert mapped("covid19", "normal")["label"].tolist() == ["normal"]


def test_an_unknown_label_is_refused_with_the_override_that_maps_it():
    with pytest.raises(ManifestError, match=re.escape("source.site.labels={effusion: null}")):
        mapped("normal", "effusion")


@pytest.mark.parametrize("blank", [None, "", "  ", float("nan")])
def test_an_image_without_a_label_is_unusable(blank):
    assert mapped("normal", blank)["image_id"].tolist() == ["i0"]
    rows = base.screen_labels(table("normal", blank), {}, CLASSES, name="site")
    assert rows["unusable"].tolist() == ["", "no label"]


def test_a_row_that_is_left_out_needs_no_known_label():
    rows = table("normal", "effusion").assign(left_out=["", "lateral view"])
    rows = base.screen_labels(rows, {}, CLASSES, name="site")
    assert rows["left_out"].tolist() == ["", "lateral view"]


def test_a_missing_file_of_another_class_is_left_out_and_not_unusable():
    rows = table("covid19", "normal").assign(unusable="no such file")
    rows = base.screen_labels(rows, {}, CLASSES, name="site")
    assert rows["left_out"].tolist() == ["label of no class: covid19", ""]
    assert rows["unusable"].tolist()[1] == "no such file"


def test_a_stamp_changes_with_the_file(tmp_path):
    file = tmp_path / "a.png"
    file.write_bytes(b"12")
    os.utime(file, ns=(1, 1))
    first = base.file_stamp(file)
    os.utime(file, ns=(2, 2))
    touched = base.file_stamp(file)
    file.write_bytes(b"123")
    os.utime(file, ns=(2, 2))
    assert len({first, touched, base.file_stamp(file)}) == 3


def plant(folder):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "1.png").write_bytes(b"1")


def test_links_to_a_folder_around_them_are_not_followed(tmp_path):
    plant(tmp_path / "data" / "normal")
    for name, target in {"up": ".", "too": ".", "above": "../..", "away": "../other"}.items():
        (tmp_path / "data" / name).symlink_to(target)
    (tmp_path / "data" / "normal" / "back").symlink_to(tmp_path / "data")
    plant(tmp_path / "elsewhere")
    (tmp_path / "data" / "covid19").symlink_to(tmp_path / "elsewhere")
    assert folders.list_files(tmp_path / "data", [".png"]) == ["covid19/1.png", "normal/1.png"]


def test_folders_that_link_to_each_other_end(tmp_path):
    for name, other in (("a", "b"), ("b", "a")):
        plant(tmp_path / name)
        (tmp_path / name / "other").symlink_to(tmp_path / other)
    files = ["a/1.png", "a/other/1.png", "b/1.png", "b/other/1.png"]
    assert folders.list_files(tmp_path, [".png"]) == files


def test_links_that_multiply_are_refused_with_the_folder(tmp_path):
    for number in range(40):
        for link in ("left", "right"):
            (tmp_path / str(number)).mkdir(exist_ok=True)
            (tmp_path / str(number) / link).symlink_to(f"../{number + 1}")
    plant(tmp_path / "40")
    with pytest.raises(
        DataNotFoundError, match=r"in more than 16 ways, the last is .*remove links"
    ):
        folders.list_files(tmp_path / "0", [".png"])


def test_pipes_are_no_images_and_a_link_to_nothing_is_named(tmp_path):
    plant(tmp_path)
    os.mkfifo(tmp_path / "pipe.png")
    assert folders.list_files(tmp_path, [".png"]) == ["1.png"]
    (tmp_path / "lost.png").symlink_to("nowhere")
    assert folders.list_files(tmp_path, [".png"]) == ["1.png", "lost.png"]
    with pytest.raises(
        DataNotFoundError, match=r"lost\.png: No such file.*remove this file or link"
    ):
        base.file_stamp(tmp_path / "lost.png")


def test_file_ids_are_unique_and_safe():
    paths = ["a b/1.png", "a_b/1.png", "a/b/1.png", "a/b/1.jpg", "ü/" + "x" * 300 + ".png", ".."]
    ids = [base.build_image_id("site", path) for path in paths]
    assert len(set(ids)) == len(paths)
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{1,64}", image) for image in ids)
    assert base.build_image_id("site", "a") != base.build_image_id("other", "a")


def test_the_suffixes_of_images_are_those_of_the_formats_that_are_read():
    Image.init()
    known = {
        suffix for suffix, name in Image.registered_extensions().items() if name in IMAGE_FORMATS
    }
    assert set(folders.IMAGE_SUFFIXES) == known


@pytest.mark.parametrize("file_format", IMAGE_FORMATS)
def test_every_format_is_told_by_its_first_bytes(tmp_path, file_format):
    Image.new("L", (30, 20), 100).save(tmp_path / "IM0", format=file_format)
    assert folders.sniff_kind(tmp_path / "IM0") == "image"


def test_other_files_are_counted_by_kind_within_bounds(tmp_path, monkeypatch):
    for name in (
        "a/1.png",
        "a/x.txt",
        "a/Thumbs.db",
        "a/IM1",
        ".DS_Store",
        "a/._1.png",
        "@eaDir/1.jpg",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"P5 is no grey map, P5 9 9" if name == "a/x.txt" else b"1")
    (tmp_path / "a/IM1").write_bytes(bytes(128) + b"DICM")
    listing = folders.list_images(tmp_path)
    assert listing.images == ["a/1.png"]
    assert listing.other_files == {".db": 1, ".txt": 1, "DICOM": 1}
    assert listing.hidden == 3
    monkeypatch.setattr(folders, "MAX_SNIFFED_FILES", 0)
    assert folders.list_images(tmp_path).other_files == {".db": 1, ".txt": 1, "no suffix": 1}


def test_hidden_files_and_archive_debris_are_not_listed(tmp_path):
    for path in ("b/2.PNG", "b/1.png", "b/._1.png", "__MACOSX/3.png", ".git/4.png", "b/n.txt"):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).touch()
    assert folders.list_files(tmp_path, folders.IMAGE_SUFFIXES) == ["b/1.png", "b/2.PNG"]


def test_data_that_is_not_there_names_path_and_steps(tmp_path):
    source = FolderSource(
        name="site", root=str(tmp_path / "no"), homepage="https://a.b", how_to_get="Unzip c."
    )
    with pytest.raises(DataNotFoundError) as error:
        source.rows()
    for part in (str(tmp_path / "no"), "source.site.root", "Unzip c.", "https://a.b"):
        assert part in str(error.value)


def test_examples():
    assert doctest.testmod(base).failed == 0
