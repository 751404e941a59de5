"""What is seen of files, in bounded time and memory."""

import os

import numpy as np
import pytest
from image_trees import save_classes, save_image, toy_radiograph
from PIL import Image

from xraysynth.data.inspection import looking, survey
from xraysynth.data.inspection.copies import digest_of_head, find_copies
from xraysynth.data.sources.folder import FolderSource
from xraysynth.errors import DataNotFoundError


def item(path):
    source = FolderSource(name="folder", root=str(path.parent.parent))
    return looking.Item(source, f"{path.parent.name}/{path.name}", path)


def test_headers_say_size_mode_and_bits(tmp_path):
    grey = save_image(tmp_path / "a/1.png", 1)
    deep = tmp_path / "a/2.png"
    Image.fromarray(toy_radiograph(2).astype(np.uint16) * 256).save(deep)
    jpeg = tmp_path / "a/3.jpg"
    Image.fromarray(toy_radiograph(3)).convert("RGB").save(jpeg)
    headers = [looking.read_header(item(path)) for path in (grey, deep, jpeg)]
    assert [(header.mode, header.bits, header.format) for header in headers] == [
        ("L", 8, "PNG"),
        ("I;16", 16, "PNG"),
        ("RGB", 8, "JPEG"),
    ]
    assert {(header.width, header.height) for header in headers} == {(64, 64)}


def test_a_header_at_the_end_of_a_large_file_is_found(tmp_path):
    path = tmp_path / "a/1.tif"
    path.parent.mkdir()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (400, 400), np.uint8)).save(path)
    data = path.read_bytes()
    assert len(data) > looking.HEAD_BYTES
    assert looking.read_header(item(path)).width == 400


@pytest.mark.parametrize("content", [b"", b"no picture", b"\x89PNG\r\n\x1a\n" + b"\0" * 40])
def test_a_damaged_file_is_an_answer_and_not_an_error(tmp_path, content):
    path = save_image(tmp_path / "a/1.png", 1)
    path.write_bytes(content)
    assert "1.png" in looking.read_header(item(path)).error
    assert "1.png" in looking.look_at(item(path)).error


def test_a_missing_file_is_an_answer(tmp_path):
    assert "No such file" in looking.read_header(item(tmp_path / "a/gone.png")).error


def test_large_collections_are_sampled_by_their_pixels_and_always_alike():
    small = [looking.Header(width=100, height=100)] * 500
    assert looking.choose_looked_at(small) == list(range(500))
    large = [looking.Header(width=3000, height=3000)] * 500
    chosen = looking.choose_looked_at(large)
    assert 9 * len(chosen) <= looking.MAX_MEGAPIXELS_LOOKED_AT < 9 * (len(chosen) + 1)
    assert chosen == looking.choose_looked_at(large) == sorted(set(chosen))
    assert looking.choose_looked_at(large, everything=True) == list(range(500))
    broken = [*large, looking.Header(error="damaged")]
    assert 500 not in looking.choose_looked_at(broken, everything=True)


def test_processes_see_what_one_process_sees(tmp_path, monkeypatch):
    items = list(map(item, save_classes(tmp_path, n_images=3)))
    with looking.Eyes(len(items)) as eyes:
        alone = eyes.map(looking.look_at, items, "look")
    monkeypatch.setattr(looking, "MIN_FILES_FOR_PROCESSES", 1)
    with looking.Eyes(len(items)) as eyes:
        assert eyes.map(looking.look_at, items, "look") == alone


def test_copies_have_the_same_bytes_and_not_only_the_same_size_and_beginning(tmp_path):
    contents = {0: b"a" * 200_000, 1: b"a" * 200_000, 2: b"a" * 199_999 + b"b", 3: b"c"}
    files, heads = {}, {}
    for number, content in contents.items():
        files[number] = tmp_path / str(number)
        files[number].write_bytes(content)
        heads[number] = (len(content), digest_of_head(content[: looking.HEAD_BYTES]))
    assert find_copies(files, heads) == [[0, 1]]
    files[1].unlink()
    assert find_copies(files, heads) == []


def test_a_cycle_of_links_ends(tmp_path):
    save_image(tmp_path / "a/b/1.png", 1)
    (tmp_path / "a/b/back").symlink_to(tmp_path / "a")
    (tmp_path / "a/also").symlink_to(tmp_path / "a/b")
    assert set(survey.survey_folder(tmp_path).files) == {"a/b/1.png", "a/also/1.png"}


def test_a_folder_of_too_many_files_is_refused_by_name(tmp_path, monkeypatch):
    monkeypatch.setattr(survey, "MAX_FILES", 3)
    for number in range(4):
        (tmp_path / str(number)).touch()
    with pytest.raises(DataNotFoundError, match="more than 3 files"):
        survey.survey_folder(tmp_path)


def test_hidden_files_are_not_listed(tmp_path):
    for name in (".hidden.png", "__MACOSX/1.png", ".git/1.png", "1.png"):
        save_image(tmp_path / name, 1)
    assert survey.survey_folder(tmp_path).files == ("1.png",)
    assert os.path.exists(tmp_path / ".hidden.png")
