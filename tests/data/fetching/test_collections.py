"""Whole collections: what is said before the first byte, what is left after a failure, and every preset."""

import errno
import io
import json
import os
import re
import sys
import threading
import zipfile
from pathlib import Path

import pytest
import yaml
from file_server import FileServer, Reply, serve_file
from PIL import Image

import xraysynth.data.fetching.collections as collections
from xraysynth.data.fetching import http
from xraysynth.data.fetching.collections import Collection, fetch_collection
from xraysynth.data.fetching.recipe import Fetch, RemoteFile
from xraysynth.data.sources.folder import FolderSource
from xraysynth.errors import ArchiveError, DamagedArchiveError, DataNotFoundError, DownloadError
from xraysynth.seeds import identity

CONF = Path(__file__).resolve().parents[3] / "conf" / "source"
COLLECTION = Collection(name="site", license="CC BY 4.0", homepage="https://a.org")


def png(value):
    buffer = io.BytesIO()
    Image.new("L", (8, 8), value).save(buffer, "PNG")
    return buffer.getvalue()


def zipped(entries):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return buffer.getvalue()


FILES = {f"set/{label}/{n}.png": png(n) for label in ("normal", "pneumonia") for n in range(3)}


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    monkeypatch.setattr(http, "WAIT_SECONDS", 0.0)
    monkeypatch.setattr(http, "ATTEMPTS", 1)


@pytest.fixture
def server():
    with FileServer(lambda request: serve_file(zipped(FILES), request)) as running:
        yield running


def fetch_of(server, folder, **options):
    remote = RemoteFile(name="set.zip", urls=[f"{server.url}/set.zip"])
    options = {"files": [remote], "inner": "set", **options}
    return Fetch(folder=str(folder), **options)


def test_a_collection_appears_whole_under_its_name(server, tmp_path, capsys):
    fetch_collection(COLLECTION, fetch_of(server, tmp_path / "site", size_bytes=617_000_000))
    names = {
        p.relative_to(tmp_path / "site").as_posix() for p in (tmp_path / "site").rglob("*.png")
    }
    assert names == {name.removeprefix("set/") for name in FILES}
    told = capsys.readouterr().err
    for line in ("licence:   CC BY 4.0", "home page: https://a.org", "about 617 MB", "127.0.0.1"):
        assert line in told
    assert str(tmp_path / "site") in told
    assert told.index("licence") < told.index("set.zip")
    left = sorted(path.name for path in (tmp_path / ".downloads").iterdir())
    assert [name for name in left if not name.endswith(".lock")] == ["site.json"]
    fetch_collection(COLLECTION, fetch_of(server, tmp_path / "site"))
    assert len(server.requests) == 1


def test_the_licence_is_shown_before_the_first_byte(tmp_path, capsys):
    told = []

    def respond(request):
        told.append(capsys.readouterr().err)
        return Reply(b"", 404)

    with FileServer(respond) as server, pytest.raises(DownloadError, match="status 404"):
        fetch_collection(COLLECTION, fetch_of(server, tmp_path / "site"))
    assert "licence:   CC BY 4.0" in told[0]
    assert not (tmp_path / "site").exists()


def test_a_download_without_room_is_refused_before_the_first_byte(server, tmp_path):
    with pytest.raises(DataNotFoundError, match=r"needs about 3e\+03 TB.*set paths.data") as error:
        fetch_collection(COLLECTION, fetch_of(server, tmp_path / "site", size_bytes=3 * 10**15))
    assert str(tmp_path) in str(error.value)
    assert not server.requests


def test_a_file_larger_than_the_disk_is_refused_at_its_first_byte(tmp_path):
    server = FileServer(lambda _: Reply(b"PK", length=10**17))
    with server, pytest.raises(DownloadError, match="make room"):
        fetch_collection(COLLECTION, fetch_of(server, tmp_path / "site"))


def test_a_hostile_archive_leaves_nothing_outside(tmp_path):
    hostile = zipped({**FILES, "../../outside.png": b"x"})
    server = FileServer(lambda request: serve_file(hostile, request))
    with server, pytest.raises(ArchiveError, match="leads out of the folder"):
        fetch_collection(COLLECTION, fetch_of(server, tmp_path / "data" / "site"))
    assert not (tmp_path / "data" / "site").exists()
    assert not list(tmp_path.rglob("outside.png"))


def test_what_was_never_the_file_comes_again(tmp_path):
    """A server that calls its notice a file: nothing of it is trusted."""
    bodies = [b"busy, come back later", zipped(FILES)[:-30], zipped(FILES)]
    with FileServer(lambda request: Reply(bodies[request.number])) as server:
        for _ in range(2):
            with pytest.raises(DamagedArchiveError, match=r"no zip, tar|breaks off"):
                fetch_collection(COLLECTION, fetch_of(server, tmp_path / "site"))
        fetch_collection(COLLECTION, fetch_of(server, tmp_path / "site"))
    assert (tmp_path / "site" / "normal" / "0.png").exists()


def test_a_full_disk_keeps_the_download(server, tmp_path, monkeypatch):
    opened = Path.open

    def full(self, mode="r", *args, **options):
        if mode == "xb":
            raise OSError(errno.ENOSPC, "No space left on device")
        return opened(self, mode, *args, **options)

    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(ArchiveError, match="No space left"):
        fetch_collection(COLLECTION, fetch_of(server, tmp_path / "site"))
    monkeypatch.setattr(Path, "open", opened)
    fetch_collection(COLLECTION, fetch_of(server, tmp_path / "site"))
    assert len(server.requests) == 1


def test_another_layout_is_said_and_kept(tmp_path):
    archive = zipped({"other/a.png": b"1"})
    server = FileServer(lambda request: serve_file(archive, request))
    with (
        server,
        pytest.raises(ArchiveError, match="holds other, not the folder set; move the right"),
    ):
        fetch_collection(COLLECTION, fetch_of(server, tmp_path / "site"))
    assert (tmp_path / ".downloads" / "site" / "unpacked" / "other" / "a.png").exists()


def test_of_several_at_once_one_downloads(server, tmp_path):
    errors = []

    def run():
        try:
            fetch_collection(COLLECTION, fetch_of(server, tmp_path / "site"))
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert len(server.requests) == 1


def test_what_has_been_unpacked_is_not_downloaded_again(server, tmp_path):
    """As after a kill between unpacking and renaming."""
    unpacked = tmp_path / ".downloads" / "site" / "unpacked"
    (unpacked / "set" / "normal").mkdir(parents=True)
    fetch_collection(COLLECTION, fetch_of(server, tmp_path / "site"))
    assert not server.requests
    assert (tmp_path / "site" / "normal").is_dir()


def test_several_archives_are_unpacked_side_by_side(server, tmp_path):
    remotes = [RemoteFile(name=f"{n}.zip", urls=[f"{server.url}/{n}.zip"]) for n in "ab"]
    fetch_collection(COLLECTION, Fetch(folder=str(tmp_path / "site"), files=remotes))
    assert (tmp_path / "site" / "a" / "set" / "normal" / "0.png").exists()
    assert (tmp_path / "site" / "b" / "set" / "pneumonia" / "2.png").exists()


def test_a_source_downloads_only_when_asked(server, tmp_path):
    options = {"name": "site", "root": str(tmp_path / "site"), "license": "CC BY 4.0"}
    fetch = fetch_of(server, tmp_path / "site", size_bytes=1000)
    with pytest.raises(DataNotFoundError, match=r"Add source\.site\.download=true .*about 1 kB"):
        FolderSource(fetch=fetch, **options).rows()
    assert not server.requests
    source = FolderSource(fetch=fetch, download=True, **options)
    assert source.rows()["label"].tolist() == ["normal"] * 3 + ["pneumonia"] * 3
    assert identity(source) == identity(FolderSource(**options))


def test_a_source_of_which_nothing_is_known_says_so(tmp_path):
    with pytest.raises(DataNotFoundError, match=r"source\.mine\.download=true: it is not known"):
        FolderSource(name="mine", root=str(tmp_path), download=True).rows()


def test_kaggle_is_asked_by_its_package_and_leaves_no_second_copy(tmp_path, monkeypatch):
    import kaggle_stand_in

    package = kaggle_stand_in.build(FILES)
    monkeypatch.setitem(sys.modules, "kagglehub", package)
    monkeypatch.delenv("KAGGLEHUB_CACHE", raising=False)
    fetch = Fetch(folder=str(tmp_path / "site"), kaggle="owner/set", inner="set")
    fetch_collection(COLLECTION, fetch)
    assert package.asked == [("datasets", "owner/set")]
    assert (tmp_path / "site" / "normal" / "0.png").exists()
    assert not (tmp_path / ".downloads" / "site").exists()
    fetch_collection(COLLECTION, Fetch(folder=str(tmp_path / "b"), kaggle="a-competition"))
    assert package.asked[1:] == [("competitions", "a-competition")]
    assert "KAGGLEHUB_CACHE" not in os.environ


def test_terms_of_kaggle_are_for_the_user_to_accept(tmp_path, monkeypatch):
    import kaggle_stand_in

    for error in (kaggle_stand_in.UnauthenticatedError("no login"), refused_by_kaggle()):
        monkeypatch.setitem(sys.modules, "kagglehub", kaggle_stand_in.build({}, error))
        with pytest.raises(
            DownloadError, match=r"accept them yourself at https://a\.org, log in with"
        ):
            fetch_collection(COLLECTION, Fetch(folder=str(tmp_path / "site"), kaggle="rules"))
    monkeypatch.setitem(sys.modules, "kagglehub", kaggle_stand_in.build({}, OSError("reset")))
    with pytest.raises(DownloadError, match="reset; run the same command again"):
        fetch_collection(COLLECTION, Fetch(folder=str(tmp_path / "site"), kaggle="rules"))


def refused_by_kaggle():
    error = Exception("403 Client Error")
    error.response = type("Response", (), {"status_code": 403})()
    return error


SERIES = [
    ("midrc_ricord_1c", "CR", "P1", "1.2", 2),
    ("midrc_ricord_1c", "DX", "P2", "1.3", 1),
    ("midrc_ricord_1c", "CT", "P3", "1.4", 9),
    ("other", "DX", "P4", "1.5", 1),
]


def test_radiographs_of_the_imaging_data_commons_come_by_patient(tmp_path, monkeypatch):
    import idc_stand_in

    package = idc_stand_in.build(SERIES, lost=1)
    monkeypatch.setitem(sys.modules, "idc_index", package)
    fetch = Fetch(folder=str(tmp_path / "ricord1c" / "covid19"), idc="midrc_ricord_1c")
    with pytest.raises(DownloadError, match="1 of 3 files are there; run the same command again"):
        fetch_collection(COLLECTION, fetch)
    fetch_collection(COLLECTION, fetch)
    folder = tmp_path / "ricord1c" / "covid19"
    assert len(list(folder.rglob("*.dcm"))) == 3
    assert {path.name for path in folder.iterdir()} == {"P1", "P2"}
    assert package.downloads == [["1.2", "1.3"]] * 2
    with pytest.raises(DownloadError, match="0 of 0 files"):
        fetch_collection(COLLECTION, Fetch(folder=str(tmp_path / "none"), idc="no_such"))


@pytest.mark.parametrize(
    ("way", "package", "extra"),
    [("kaggle", "kagglehub", "xraysynth[kaggle]"), ("idc", "idc_index", "xraysynth[idc]")],
)
def test_a_missing_package_is_named_with_the_command(way, package, extra, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(DataNotFoundError, match=re.escape(f"pip install '{extra}'")):
        fetch_collection(COLLECTION, Fetch(folder=str(tmp_path / "site"), **{way: "a/b"}))


def test_the_next_way_is_tried_and_all_reasons_are_named(tmp_path, monkeypatch):
    import kaggle_stand_in

    monkeypatch.setitem(sys.modules, "kagglehub", kaggle_stand_in.build(FILES))
    with FileServer(lambda _: Reply(b"", 404)) as server:
        fetch_collection(COLLECTION, fetch_of(server, tmp_path / "site", kaggle="a/b"))
        assert (tmp_path / "site").is_dir()
        monkeypatch.setitem(sys.modules, "kagglehub", None)
        with pytest.raises(DownloadError, match=r"(?s)status 404.*xraysynth\[kaggle\]"):
            fetch_collection(COLLECTION, fetch_of(server, tmp_path / "other", kaggle="a/b"))


def presets():
    for path in sorted(CONF.glob("*.yaml")):
        (node,) = yaml.safe_load(path.read_text()).values()
        if "fetch" in node:
            yield path.stem


DOWNLOADED = (
    *("cohen", "covid_qu_ex", "covid_radiography", "kermany", "montgomery", "nih", "ny_sbu"),
    *("ricord1c", "rsna_pneumonia", "shenzhen", "tb_radiography"),
)


def test_presets_that_can_be_downloaded():
    assert tuple(presets()) == DOWNLOADED


@pytest.mark.parametrize("name", DOWNLOADED)
def test_a_preset_without_data_names_the_option(name, preset, tmp_path):
    source = preset(name)
    assert Path(source.fetch.folder).is_relative_to(tmp_path)
    with pytest.raises(DataNotFoundError) as error:
        source.rows()
    assert f"Add source.{name}.download=true to download it from" in str(error.value)


def test_the_named_option_downloads(preset, tmp_path, monkeypatch):
    """The option that the message prints, on a preset whose addresses lead to this machine."""
    entries = {f"MontgomerySet/CXR_png/MCUCXR_{n:04d}_{n % 2}.png": png(n) for n in range(4)}
    with FileServer(lambda request: serve_file(zipped(entries), request)) as server:
        remote = {"name": "a.zip", "urls": [f"{server.url}/a.zip"]}
        options = {"fetch": {"files": [remote]}}
        with pytest.raises(DataNotFoundError) as error:
            preset("montgomery", **options).rows()
        printed = re.search(r"source\.montgomery\.(download)=(true)", str(error.value))
        source = preset("montgomery", **options, **{printed[1]: yaml.safe_load(printed[2])})
        rows = source.rows()
    assert rows["label"].tolist() == ["0", "1", "0", "1"]
    assert rows["patient_id"].tolist() == ["0000", "0001", "0002", "0003"]
    assert json.loads((tmp_path / ".downloads" / "MontgomerySet.json").read_text())["a.zip"]


def test_another_root_is_where_it_is_downloaded(preset, tmp_path):
    source = preset("shenzhen", root=str(tmp_path / "elsewhere" / "mine"))
    assert source.fetch.folder == str(tmp_path / "elsewhere" / "mine")


def write_dicom(path):
    """A frontal chest radiograph as the Commons have it."""
    pytest.importorskip("pydicom", reason="needs the package pydicom")
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian

    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = DigitalXRayImageStorageForPresentation
    meta.MediaStorageSOPInstanceUID = f"1.2.{abs(hash(str(path)))}"
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = FileDataset(str(path), {}, file_meta=meta, preamble=bytes(128))
    dataset.SOPClassUID = meta.MediaStorageSOPClassUID
    dataset.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    dataset.Modality, dataset.BodyPartExamined, dataset.ViewPosition = "DX", "CHEST", "AP"
    dataset.PatientID = path.parts[-4]
    dataset.Rows = dataset.Columns = 64
    dataset.SamplesPerPixel, dataset.PixelRepresentation = 1, 0
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 8, 8, 7
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.PixelData = bytes(range(64)) * 64
    dataset.save_as(path, enforce_file_format=True)


def test_a_set_of_the_commons_is_read_with_its_patients(preset, monkeypatch):
    import idc_stand_in

    package = idc_stand_in.build(SERIES, write=write_dicom)
    monkeypatch.setitem(sys.modules, "idc_index", package)
    rows = preset("ricord1c", download=True).rows()
    assert rows["label"].tolist() == ["covid19"] * 3
    assert rows["patient_id"].tolist() == ["P1", "P1", "P2"]
    assert set(rows["license"]) == {"CC BY-NC 4.0"}


def test_covid_sets_of_the_commons_have_one_class(preset, tmp_path):
    for name in ("ricord1c", "ny_sbu"):
        source = preset(name)
        assert source.labels == {"covid19": "covid19"}
        assert source.fetch.folder == str(tmp_path / name / "covid19")


def test_ways_are_described_in_their_order():
    fetch = Fetch(folder="a", hub="o/n", revision="0" * 40, kaggle="k/s", idc="c")
    expected = "Hugging Face Hub (o/n), then Kaggle (k/s), then Imaging Data Commons (c)"
    assert collections.describe_ways(fetch) == expected
