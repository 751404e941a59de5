"""Archives and tables of a collection on the Hub, as the preset of NIH ChestX-ray14 gets them."""

import io
import zipfile

import pytest
from hub_server import Hub

from xraysynth.data.fetching.collections import Collection, fetch_collection
from xraysynth.data.fetching.recipe import Fetch
from xraysynth.errors import ArchiveError, DownloadError

COLLECTION = Collection(name="nih", license="public")
TABLE = b"Image Index,Finding Labels\n00000001_000.png,No Finding\n"


@pytest.fixture
def hub(monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.delenv("HF_TOKEN", raising=False)
    with Hub() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        yield server


def zipped(name):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(name, b"pixels")
    return buffer.getvalue()


def files_of(**changed):
    files = {"README.md": b"x", "data/Data_Entry_2017_v2020.csv": TABLE}
    for number in (1, 2):
        name = f"images_{number:03d}"
        files[f"data/images/{name}.zip"] = zipped(f"images/0000000{number}_000.png")
    return files | changed


def fetch_of(tmp_path, revision):
    hub_files = {
        "data/Data_Entry_2017_v2020.csv": "Data_Entry_2017.csv",
        "data/images/images_*.zip": "",
    }
    folder = str(tmp_path / "nih")
    return Fetch(folder=folder, hub="o/nih", revision=revision, hub_files=hub_files)


def test_tables_and_archives_become_the_layout_of_the_preset(hub, tmp_path):
    commit = hub.publish("o/nih", files_of())
    hub.publish("o/nih", {"other.txt": b"a later commit"})
    fetch_collection(COLLECTION, fetch_of(tmp_path, commit))
    folder = tmp_path / "nih"
    assert (folder / "Data_Entry_2017.csv").read_bytes() == TABLE
    assert sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.png")) == [
        "images_001/images/00000001_000.png",
        "images_002/images/00000002_000.png",
    ]
    assert not list(tmp_path.rglob("*.zip"))


def test_what_has_come_is_kept_when_one_archive_fails(hub, tmp_path):
    commit = hub.publish("o/nih", files_of())
    hub.alter = lambda path, data: data[:-1] + b"x" if "002" in path else data
    with pytest.raises(DownloadError, match=r"images_002\.zip is damaged"):
        fetch_collection(COLLECTION, fetch_of(tmp_path, commit))
    assert not (tmp_path / "nih").exists()
    hub.alter = lambda path, data: data
    fetch_collection(COLLECTION, fetch_of(tmp_path, commit))
    reads = [read.partition("@")[0] for read in hub.reads]
    assert reads.count("data/images/images_001.zip") == 1
    assert (tmp_path / "nih" / "images_002" / "images" / "00000002_000.png").exists()


def test_a_hostile_archive_of_the_hub_is_refused(hub, tmp_path):
    changed = {"data/images/images_002.zip": zipped("../../../evil.png")}
    commit = hub.publish("o/nih", files_of(**changed))
    with pytest.raises(ArchiveError, match="leads out of the folder"):
        fetch_collection(COLLECTION, fetch_of(tmp_path, commit))
    assert not list(tmp_path.rglob("evil.png"))


def test_a_file_that_is_not_there_is_named(hub, tmp_path):
    commit = hub.publish("o/nih", {"README.md": b"x"})
    with pytest.raises(DownloadError, match=r"it has no file data/Data_Entry_2017_v2020\.csv"):
        fetch_collection(COLLECTION, fetch_of(tmp_path, commit))
