"""Files are found by the paths that tables list, and no other file in their place."""

import unicodedata

import pytest

from xraysynth.data.reading.paths import MISSING, NO_PATH, FileFinder


def planted(folder, *files):
    for file in files:
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_bytes(b"image")
    return folder


def found(root, *paths, **options):
    return [
        item.path or item.reason or item.fault for item in FileFinder(root, **options).find(paths)
    ]


NFC, NFD = (unicodedata.normalize(form, "Röntgen/ä 1.png") for form in ("NFC", "NFD"))


@pytest.mark.parametrize(
    ("file", "path"),
    [
        ("a/1.png", "a/1.png"),
        ("a/1.png", "a\\1.png"),
        ("a/1.png", ".\\a\\1.png"),
        ("a/1.png", "./a//1.png"),
        ("a/1.png", "b/../a/1.png"),
        ("a/1.png", "films/a/1.png"),
        ("a/1.png", "FILMS\\a\\1.png"),
        ("a/1.png", "a/1"),
        ("a/1.png", "a/1.PNG"),
        ("A/1.PNG", "a/1.png"),
        ("a/1.png", "1.png"),
        ("a/1.png", "1"),
        ("a/b/1.png", "b/1.png"),
        ("a/1.png", "/home/anna/data/a/1.png"),
        ("a/1.png", "D:\\data\\a\\1.png"),
        ("a/1.png", "\\\\server\\share\\a\\1.png"),
        ("a/1.png", "https://host/data/a/1.png"),
        ("1.2.840.113.png", "1.2.840.113"),
        ("2024-01-02T10:20:30.png", "2024-01-02T10:20:30.png"),
        (NFC, NFD),
        (NFD, NFC),
    ],
)
def test_what_carries_no_information_is_taken_as_meant(tmp_path, file, path):
    root = planted(tmp_path / "films", file)
    assert found(root, path) == [file]


def test_absolute_paths_below_the_root_or_its_link_are_found(tmp_path):
    root = planted(tmp_path / "films", "a/1.png")
    (tmp_path / "link").symlink_to("films")
    for folder in (root, tmp_path / "link"):
        assert found(folder, str(root / "a/1.png")) == ["a/1.png"]
        assert found(folder, str(tmp_path / "link" / "a/1.png")) == ["a/1.png"]
        assert found(folder, f"file://{root}/a/1.png") == ["a/1.png"]


def test_a_path_may_start_at_the_folder_of_the_table(tmp_path):
    root = planted(tmp_path / "data", "images/1.png")
    assert found(root, "../images/1.png", table_folder=root / "tables") == ["images/1.png"]
    assert "must stay inside" in found(root, "../images/1.png")[0]


def test_a_missing_file_is_not_replaced_by_one_of_the_same_name(tmp_path):
    root = planted(tmp_path / "films", "a/1.png", "b/2.png", "2.png")
    assert found(root, "a/1.png", "a/2.png") == ["a/1.png", MISSING]
    assert found(root, "siteA/1.png", "siteB/2.png") == [MISSING, MISSING]
    assert found(root, "") == [NO_PATH]


def test_paths_that_begin_with_two_foreign_folders_are_not_joined(tmp_path):
    root = planted(tmp_path / "films", "x/1.png", "x/2.png")
    assert found(root, "siteA/x/1.png", "siteB/x/2.png") == [MISSING, MISSING]
    assert found(root, "site/x/1.png", "site/x/3.png") == ["x/1.png", MISSING]


def test_what_was_recognised_is_noted(tmp_path):
    root = planted(tmp_path / "films", "a/1.png", "b/2.png")
    for paths, note in {
        ("1.png", "2.png"): "2 files are found by their names alone",
        ("/home/anna/a/1.png", "/home/anna/b/2.png"): "taken to be films",
    }.items():
        finder = FileFinder(root)
        assert [item.path for item in finder.find(paths)] == ["a/1.png", "b/2.png"]
        assert note in finder.notes[0]
        assert "anna" not in finder.notes[0]


def test_a_name_of_several_files_is_refused_with_them(tmp_path):
    root = planted(tmp_path / "films", "a/1.png", "b/1.png", "c/2.png")
    faults = found(root, "1.png", "2.png")
    assert "the name of only one file, not of a/1.png, b/1.png" in faults[0]
    assert found(root, "x/1.png", by_name=True)[0] == faults[0]
    assert found(root, "x/2.png", by_name=True) == ["c/2.png"]


def test_upper_and_lower_case_are_told_apart_where_both_are_there(tmp_path):
    root = planted(tmp_path / "films", "a.png", "A.png", "b.jpg", "b.png")
    assert found(root, "a.png", "A.png") == ["a.png", "A.png"]
    assert "only one file" in found(root, "b")[0]


@pytest.mark.parametrize(
    "path", ["../1.png", "/etc/passwd", "a/../../1.png", "link/1.png", "linked.png", "..", "/"]
)
def test_nothing_outside_the_root_is_found(tmp_path, path):
    root = planted(tmp_path / "films", "ok.png")
    planted(tmp_path / "outside", "1.png")
    planted(tmp_path, "1.png")
    (root / "link").symlink_to(tmp_path / "outside")
    (root / "linked.png").symlink_to(tmp_path / "outside" / "1.png")
    result = found(root, "ok.png", path)
    assert result[0] == "ok.png"
    assert "must stay inside" in result[1] or result[1] == NO_PATH


@pytest.mark.parametrize(
    "path", ["a\0b.png", "x" * 5000, "a/" * 3000, "con?*<>|.png", "\udcff.png"]
)
def test_names_that_no_system_has_are_missing(tmp_path, path):
    root = planted(tmp_path / "films", "ok.png")
    assert found(root, "ok.png", path)[1] in (MISSING, NO_PATH)
