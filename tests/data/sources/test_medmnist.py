"""MedMNIST files: splits, labels and pixels."""

import hashlib
import pickle
from pathlib import Path

import numpy as np
import pytest
from file_server import FileServer, serve_file

from xraysynth.data.sources.base import map_labels
from xraysynth.data.sources.medmnist import MedMnistSource
from xraysynth.errors import DataNotFoundError, ImageError, ManifestError
from xraysynth.manifest import Manifest
from xraysynth.records import SPLITS

MEDMNIST = Path(__file__).resolve().parents[4] / "shared" / "data" / "medmnist"
COUNTS = {"train": 5, "val": 2, "test": 3}


def write(folder, *, labels=1, channels=(), name="toy.npz"):
    rng = np.random.default_rng(0)
    arrays = {}
    for split, count in COUNTS.items():
        arrays[f"{split}_images"] = rng.integers(0, 256, (count, 28, 28, *channels), dtype=np.uint8)
        arrays[f"{split}_labels"] = np.arange(count * labels, dtype=np.uint8).reshape(count, -1) % 2
    np.savez_compressed(folder / name, **arrays)
    return arrays


def source_of(folder, **options):
    options = {"labels": {0: "normal", 1: "pneumonia"}, **options}
    return MedMnistSource(name="toy", root=str(folder), flag="toy", **options)


def test_official_splits_and_one_patient_an_image(tmp_path):
    write(tmp_path)
    source = source_of(tmp_path)
    rows = map_labels(source.rows(), source.labels, ("normal", "pneumonia"), name="toy")
    assert rows["split"].value_counts().to_dict() == COUNTS
    assert rows["patient_id"].is_unique
    assert rows["label"].tolist()[:3] == ["normal", "pneumonia", "normal"]
    rows["path"] = rows["image_id"] + ".png"
    assert len(Manifest(rows, tmp_path, ("normal", "pneumonia"))) == sum(COUNTS.values())


def test_each_locator_loads_its_own_pixels(tmp_path):
    arrays = write(tmp_path)
    source = pickle.loads(pickle.dumps(source_of(tmp_path)))
    rows = source.rows()
    stacked = np.concatenate([arrays[f"{split}_images"] for split in SPLITS])
    for locator, expected in zip(rows["locator"], stacked, strict=True):
        assert np.array_equal(source.load(locator, 64).pixels, expected)


def test_the_size_is_part_of_the_file_name(tmp_path):
    write(tmp_path, name="toy_64.npz")
    assert len(source_of(tmp_path, size_px=64).rows()) == sum(COUNTS.values())
    with pytest.raises(DataNotFoundError, match=r"toy\.npz"):
        source_of(tmp_path).rows()


def test_an_absent_file_gives_path_and_steps(tmp_path, preset):
    source = preset("pneumoniamnist")
    with pytest.raises(DataNotFoundError) as error:
        source.rows()
    for part in (str(tmp_path / "medmnist" / "pneumoniamnist.npz"), "download=true", "zenodo.org"):
        assert part in str(error.value)


def test_a_missing_file_is_downloaded_and_checked(tmp_path, monkeypatch, capsys):
    medmnist = pytest.importorskip("medmnist", reason="needs the package medmnist")
    (tmp_path / "published").mkdir()
    write(tmp_path / "published", name="toy_64.npz")
    data = (tmp_path / "published" / "toy_64.npz").read_bytes()
    with FileServer(lambda request: serve_file(data, request)) as server:
        info = {"url_64": f"{server.url}/toy_64.npz", "MD5_64": hashlib.md5(data).hexdigest()}
        monkeypatch.setitem(medmnist.INFO, "toy", info)
        source = source_of(tmp_path / "new", size_px=64, download=True, license="CC BY 4.0")
        assert len(source.rows()) == sum(COUNTS.values())
        assert "licence:   CC BY 4.0" in capsys.readouterr().err
        assert len(source.rows()) == sum(COUNTS.values())
        assert len(server.requests) == 1
        info["MD5_64"] = "0" * 32
        with pytest.raises(DataNotFoundError, match="its md5 is"):
            source_of(tmp_path / "bad", size_px=64, download=True).rows()
    with pytest.raises(DataNotFoundError, match=r"no set toy_128; correct source\.toy\.flag"):
        source_of(tmp_path / "new", size_px=128, download=True).rows()


def test_sets_that_are_no_single_label_radiographs_are_refused(tmp_path):
    write(tmp_path, labels=14)
    with pytest.raises(ManifestError, match="14 labels per image"):
        source_of(tmp_path).rows()
    (tmp_path / "colour").mkdir()
    write(tmp_path / "colour", channels=(3,))
    with pytest.raises(ImageError, match=r"\(28, 28, 3\)"):
        source_of(tmp_path / "colour").load("train-00000", 64)


def test_a_damaged_file_is_refused_and_never_unpickled(tmp_path):
    (tmp_path / "toy.npz").write_bytes(b"PK not a zip")
    with pytest.raises(ManifestError, match=r"toy\.npz"):
        source_of(tmp_path).rows()
    (tmp_path / "pickled").mkdir()
    np.savez(tmp_path / "pickled" / "toy.npz", train_labels=np.array([{}], dtype=object))
    with pytest.raises(ManifestError, match="allow_pickle"):
        source_of(tmp_path / "pickled").rows()


@pytest.mark.skipif(not MEDMNIST.is_dir(), reason="needs ../shared/data/medmnist")
def test_pneumoniamnist_has_its_published_counts(preset):
    source = preset("pneumoniamnist", root=str(MEDMNIST))
    rows = map_labels(source.rows(), source.labels, ("normal", "pneumonia"), name=source.name)
    assert rows["split"].value_counts().to_dict() == {"train": 4708, "val": 524, "test": 624}
    assert rows["label"].value_counts().to_dict() == {"pneumonia": 4273, "normal": 1583}
    assert source.load(rows["locator"].iloc[-1], 64).pixels.shape == (28, 28)
