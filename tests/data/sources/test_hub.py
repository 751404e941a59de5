"""Data sets of a Hub on the loopback: Parquet and image files, pinned, continued, and checked."""

import io
import json
import pickle
import re
import shlex
import shutil
import subprocess
import zipfile

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hub_server import Hub
from PIL import Image

from xraysynth.data.cohort import SourceCollection
from xraysynth.data.fetching import hub_snapshots
from xraysynth.data.sources import _hub_parquet
from xraysynth.data.sources.base import screen_labels
from xraysynth.data.sources.hub import HubSource
from xraysynth.errors import (
    ArchiveError,
    ConfigError,
    DataNotFoundError,
    DownloadError,
    ImageError,
    ManifestError,
)
from xraysynth.seeds import identity

LABELS = ["NORMAL", "PNEUMONIA"]
CLASSES = ("normal", "pneumonia")


@pytest.fixture
def hub(monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.delenv("HF_TOKEN", raising=False)
    with Hub() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        server.licenses["site/xrays"] = "cc-by-4.0"
        yield server


def png(value):
    buffer = io.BytesIO()
    Image.new("L", (9, 8), value).save(buffer, "PNG")
    return buffer.getvalue()


def parquet(values, labels, *, names=LABELS, group=4, image=None, **columns):
    """A Parquet file as the library datasets writes it."""
    cells = [{"bytes": png(v), "path": f"person{v}_bacteria.png"} for v in values]
    table = pa.table({"image": image or cells, "label": labels, **columns})
    features = {"image": {"_type": "Image"}, "label": {"names": names, "_type": "ClassLabel"}}
    if isinstance(labels[0], list):
        features["label"] = {"feature": features["label"], "_type": "List"}
    if names:
        info = json.dumps({"info": {"features": features}})
        table = table.replace_schema_metadata({b"huggingface": info.encode()})
    buffer = io.BytesIO()
    pq.write_table(table, buffer, row_group_size=group)
    return buffer.getvalue()


def xrays():
    return {
        "README.md": b"---\nlicense: cc-by-4.0\n---\n",
        "data/train-00000-of-00002.parquet": parquet(range(10), [0, 1] * 5),
        "data/train-00001-of-00002.parquet": parquet(range(10, 16), [0, 1] * 3),
        "data/validation-00000-of-00001.parquet": parquet(range(20, 22), [0, 1]),
        "data/test-00000-of-00001.parquet": parquet(range(30, 34), [1, 1, 0, 0]),
    }


def source_of(tmp_path, **options):
    return HubSource(
        **{"name": "hub", "repo": "site/xrays", "root": str(tmp_path / "hub"), **options}
    )


def test_parquet_is_read_with_names_of_labels_and_splits(hub, tmp_path, capsys):
    commit = hub.publish("site/xrays", xrays())
    source = source_of(tmp_path)
    rows = source.rows()
    assert rows["split"].value_counts().to_dict() == {"train": 16, "test": 4, "val": 2}
    assert rows["label"].tolist()[:3] == ["NORMAL", "PNEUMONIA", "NORMAL"]
    assert set(rows["license"]) == {"cc-by-4.0"}
    assert rows["image_id"].is_unique
    used = screen_labels(rows, {"NORMAL": "normal", "PNEUMONIA": "pneumonia"}, CLASSES, name="hub")
    assert used["label"].tolist()[-1] == "normal"
    told = capsys.readouterr().err
    for part in ("licence:   cc-by-4.0", f"/datasets/site/xrays at {commit}"[-40:], "hub"):
        assert part in told
    assert not any(read.startswith("README") for read in hub.reads)


def test_each_locator_loads_its_own_picture_in_any_order(hub, tmp_path):
    hub.publish("site/xrays", xrays())
    source = source_of(tmp_path)
    locators = source.rows()["locator"].tolist()
    expected = [*range(16), *range(20, 22), *range(30, 34)]
    by_file = dict(zip(sorted(locators, key=_order), expected_by_file(), strict=True))
    assert sorted(by_file.values()) == expected
    restored = pickle.loads(pickle.dumps(source))
    shuffled = np.random.default_rng(0).permutation(locators).tolist()
    for locator in [*locators, *shuffled]:
        assert restored.load(locator, 64).pixels[0, 0] == by_file[locator]
    assert restored.load(locators[0], 64).pixels.shape == (8, 9)


def _order(locator):
    file, _, row = locator.rpartition("#")
    return file, int(row)


def expected_by_file():
    return [*range(30, 34), *range(16), *range(20, 22)]


def test_pictures_are_read_without_loading_the_file(hub, tmp_path, monkeypatch):
    """Of a row group of many pictures only a few are in memory at once."""
    hub.publish("site/xrays", {"train.parquet": parquet(range(200), [0] * 200, group=200)})
    source, sizes = source_of(tmp_path), []
    locators = source.rows()["locator"]
    load = source.load

    class Reader(_hub_parquet._PictureReader):
        def read(self, row):
            value = super().read(row)
            sizes.append(len(self._batch))
            return value

    monkeypatch.setattr(_hub_parquet, "_PictureReader", Reader)
    _hub_parquet._open_reader.cache_clear()
    for number in range(0, 200, 3):
        assert load(locators[number], 64).pixels[0, 0] == number
    assert max(sizes) <= _hub_parquet.BATCH_ROWS


def test_the_commit_is_pinned_and_kept(hub, tmp_path):
    first = hub.publish("site/xrays", xrays())
    source = source_of(tmp_path)
    rows = source.rows()
    assert identity(source)["content"] == first
    second = hub.publish("site/xrays", {"data/train.parquet": parquet([1], [1])})
    n_reads = len(hub.reads)
    pd.testing.assert_frame_equal(source_of(tmp_path).rows(), rows)
    assert len(hub.reads) == n_reads
    pinned = source_of(tmp_path, revision=first)
    assert identity(pinned) == identity(source)
    newer = source_of(tmp_path, revision=second)
    assert len(newer.rows()) == 1
    assert identity(newer)["content"] == second
    assert identity(source_of(tmp_path))["content"] == first


def test_what_is_there_is_read_without_the_hub(hub, tmp_path, monkeypatch):
    from huggingface_hub import constants

    hub.publish("site/xrays", xrays())
    rows = source_of(tmp_path).rows()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setenv("HF_ENDPOINT", "https://hub.invalid")
    pd.testing.assert_frame_equal(source_of(tmp_path).rows(), rows)
    with pytest.raises(DownloadError, match=r"HF_HUB_OFFLINE is set.*unset HF_HUB_OFFLINE"):
        source_of(tmp_path, repo="site/other").rows()


def test_rows_do_not_depend_on_the_machine(hub, tmp_path):
    hub.publish("site/xrays", xrays())
    collections = []
    for folder in ("a", "b"):
        source = source_of(tmp_path / folder, labels={"NORMAL": "normal", "PNEUMONIA": "pneumonia"})
        collections.append(SourceCollection.from_sources([source], CLASSES).identity())
    assert collections[0] == collections[1]


def test_a_broken_download_goes_on(hub, tmp_path, monkeypatch):
    hub.publish("site/xrays", xrays())
    name = "data/train-00000-of-00002.parquet"
    hub.cuts[name] = 500
    monkeypatch.setattr(hub_snapshots, "CONNECTIONS", 1)
    failing = "data/validation-00000-of-00001.parquet"
    hub.alter = lambda path, data: data[:-1] if path == failing else data
    source = source_of(tmp_path)
    with pytest.raises(DownloadError, match="run the same command again"):
        source.rows()
    hub.alter = lambda path, data: data
    assert len(source.rows()) == 22
    reads = [read.partition("@")[0] for read in hub.reads]
    assert reads.count(name) == 2  # the library has asked again at once
    assert reads.count("data/train-00001-of-00002.parquet") == 1


def test_a_damaged_file_is_refused_and_comes_again(hub, tmp_path):
    hub.publish("site/xrays", xrays())
    hub.alter = lambda path, data: data[:-1] + b"x" if path.startswith("data/test") else data
    with pytest.raises(DownloadError, match=r"data/test.* is damaged: its sha256 is"):
        source_of(tmp_path).rows()
    hub.alter = lambda path, data: data
    assert len(source_of(tmp_path).rows()) == 22


def test_what_is_removed_comes_again_at_the_same_commit(hub, tmp_path):
    commit = hub.publish("site/xrays", xrays())
    rows = source_of(tmp_path).rows()
    hub.publish("site/xrays", {"data/train.parquet": parquet([1], [1])})
    folder = tmp_path / "hub" / "site--xrays" / commit
    (folder / "data" / "test-00000-of-00001.parquet").unlink()
    n_reads = len(hub.reads)
    pd.testing.assert_frame_equal(source_of(tmp_path).rows(), rows)
    assert len(hub.reads) == n_reads + 1
    shutil.rmtree(folder)  # as the message on a damaged file says
    pd.testing.assert_frame_equal(source_of(tmp_path).rows(), rows)


def test_the_remedy_for_a_damaged_file_repairs_it(hub, tmp_path):
    hub.publish("site/xrays", xrays())
    rows = source_of(tmp_path).rows()
    (file,) = (tmp_path / "hub").rglob("test-00000-of-00001.parquet")
    size = file.stat().st_size
    file.write_bytes(b"PAR1".ljust(size, b"x"))
    with pytest.raises(ManifestError) as error:
        source_of(tmp_path).rows()
    command = re.search(r"download it again after: (rm .+)", str(error.value))[1]
    subprocess.run(shlex.split(command), check=True)
    pd.testing.assert_frame_equal(source_of(tmp_path).rows(), rows)


def test_consent_is_given_by_the_user(hub, tmp_path, monkeypatch):
    hub.publish("site/xrays", xrays())
    hub.gated.add("site/xrays")
    match = r"accept them yourself at .*/datasets/site/xrays, and set HF_TOKEN to a token"
    with pytest.raises(DownloadError, match=match):
        source_of(tmp_path).rows()
    monkeypatch.setenv("HF_TOKEN", "hf_of_this_test")
    assert len(source_of(tmp_path).rows()) == 22
    assert hub.tokens == {None, "Bearer hf_of_this_test"}


def test_a_data_set_that_is_not_there_is_named(hub, tmp_path):
    hub.publish("site/other", {})
    with pytest.raises(DownloadError, match="no such data set, or it is private"):
        source_of(tmp_path).rows()


def tree():
    files = {}
    for split in ("train", "valid"):
        for number, label in enumerate(("normal", "pneumonia")):
            for value in range(3):
                path = f"{split}/{label}/images/P{10 * number + value}_{split}.png"
                files[path] = png(50 * number + value)
    return files | {"README.md": b"x", ".gitattributes": b"x"}


def test_image_folders_are_read_by_their_names(hub, tmp_path):
    hub.publish("site/xrays", tree())
    source = source_of(tmp_path, patient=r"P(?P<patient>\d+)_")
    rows = source.rows()
    assert rows["label"].value_counts().to_dict() == {"normal": 6, "pneumonia": 6}
    assert rows["split"].value_counts().to_dict() == {"train": 6, "val": 6}
    assert set(rows["patient_id"]) == {"0", "1", "2", "10", "11", "12"}
    assert source.load(rows["locator"].iloc[0], 64).pixels[0, 0] == 0


@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_a_table_beside_the_images_says_labels_and_patients(form, hub, tmp_path):
    records = [
        {"file_name": f"{n}.png", "finding": ("No Finding", "Pneumonia")[n % 2], "subject": f"s{n}"}
        for n in range(4)
    ]
    text = pd.DataFrame(records).to_csv(index=False)
    if form == "jsonl":
        text = "".join(json.dumps(record) + "\n" for record in records)
    files = {f"test/{n}.png": png(n) for n in range(3)}
    hub.publish("site/xrays", {**files, f"test/metadata.{form}": text.encode()})
    source = source_of(tmp_path, columns={"label": "finding", "patient_id": "subject"})
    rows = source.rows()
    assert rows["label"].tolist() == ["No Finding", "Pneumonia"] * 2
    assert rows["patient_id"].tolist() == ["s0", "s1", "s2", "s3"]
    assert set(rows["split"]) == {"test"}
    assert (rows["unusable"] != "").tolist() == [False, False, False, True]
    assert source.load(rows["locator"].iloc[2], 64).pixels[0, 0] == 2


def test_columns_are_told_by_their_names_or_the_user(hub, tmp_path):
    data = parquet(
        range(4), ["a", "b", "a", None], names=[], Patient_ID=[7, 7, 8, 9], sex=["F"] * 4
    )
    hub.publish("site/xrays", {"train.parquet": data})
    rows = source_of(tmp_path).rows()
    assert rows["label"].tolist() == ["a", "b", "a", ""]
    assert rows["patient_id"].tolist() == ["7", "7", "8", "9"]
    assert rows["sex"].tolist() == ["F"] * 4
    named = source_of(tmp_path, columns={"label": "sex", "image": "image"})
    assert named.rows()["label"].tolist() == ["F"] * 4
    with pytest.raises(
        ManifestError, match=r"no column 'grade', which source\.hub\.columns\.label"
    ):
        source_of(tmp_path, columns={"label": "grade"}).rows()


def test_an_unknown_label_column_is_asked_for(hub, tmp_path):
    table = pa.table({"image": [{"bytes": png(1), "path": "1.png"}], "zzz": ["a"]})
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    hub.publish("site/xrays", {"train.parquet": buffer.getvalue()})
    with pytest.raises(ManifestError) as error:
        source_of(tmp_path).rows()
    printed = re.search(r"source\.hub\.columns\.(\w+)=…, one of .*(zzz)", str(error.value))
    columns = {printed[1]: printed[2]}
    assert source_of(tmp_path, columns=columns).rows()["label"].tolist() == ["a"]


def test_several_labels_are_joined_and_can_be_dropped(hub, tmp_path):
    data = parquet(range(3), [[0], [0, 1], []])
    hub.publish("site/xrays", {"train.parquet": data})
    assert source_of(tmp_path).rows()["label"].tolist() == ["NORMAL", "NORMAL|PNEUMONIA", ""]
    only = source_of(tmp_path, labels={"NORMAL": "normal"}, drop_unmapped=True)
    assert only.rows()["label"].tolist() == ["NORMAL"]


def test_a_column_of_splits_is_read_in_anyone_s_words(hub, tmp_path):
    data = parquet(range(3), [0, 1, 0], split=["TRAIN", "valid", "unknown"])
    hub.publish("site/xrays", {"test.parquet": data})
    assert source_of(tmp_path).rows()["split"].tolist() == ["train", "val", "test"]


def test_files_are_chosen_by_a_pattern(hub, tmp_path):
    files = {f"{size}/train.parquet": parquet([size], [0]) for size in (28, 224)}
    hub.publish("site/xrays", files)
    source = source_of(tmp_path, files="224/*")
    assert source.load(source.rows()["locator"].iloc[0], 64).pixels[0, 0] == 224
    assert not any(read.startswith("28/") for read in hub.reads)


def test_a_row_without_a_picture_and_damaged_files_are_named(hub, tmp_path):
    cells = [{"bytes": None, "path": "elsewhere.png"}, {"bytes": b"no image", "path": "a.png"}]
    hub.publish("site/xrays", {"train.parquet": parquet([], [0, 1], image=cells)})
    source = source_of(tmp_path)
    locators = source.rows()["locator"]
    with pytest.raises(ImageError, match=r"train\.parquet, row 0: there is no picture"):
        source.load(locators[0], 64)
    with pytest.raises(ImageError, match=r"train\.parquet, row 1"):
        source.load(locators[1], 64)
    hub.publish("site/bad", {"train.parquet": b"PAR1 no table"})
    with pytest.raises(ManifestError, match="is no readable Parquet file"):
        source_of(tmp_path, repo="site/bad").rows()


def zipped(files):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for path, data in files.items():
            archive.writestr(path, data)
    return buffer.getvalue()


def test_archives_are_unpacked_and_read_as_folders(hub, tmp_path):
    inner = {f"chest_xray/{path}": data for path, data in tree().items()}
    hub.publish("site/xrays", {"archive.zip": zipped(inner), "docs/example.png": png(1)})
    source = source_of(tmp_path, patient=r"P(?P<patient>\d+)_")
    rows = source.rows()
    assert rows["label"].value_counts().to_dict() == {"normal": 6, "pneumonia": 6}
    assert rows["split"].value_counts().to_dict() == {"train": 6, "val": 6}
    assert source.load(rows["locator"].iloc[-1], 64).pixels[0, 0] == 52
    assert rows["stamp"].str.len().min() > 64
    (unpacked,) = (tmp_path / "hub").rglob("archive.zip.unpacked")
    shutil.rmtree(unpacked)
    pd.testing.assert_frame_equal(source_of(tmp_path, patient=r"P(?P<patient>\d+)_").rows(), rows)


def test_an_archive_may_be_a_split_or_a_class(hub, tmp_path):
    files = {}
    for split in ("train", "test"):
        pictures = {f"{label}/{split}{n}.png": png(n) for label in LABELS for n in range(3)}
        files[f"{split}.zip"] = zipped(pictures)
    hub.publish("site/xrays", files)
    rows = source_of(tmp_path).rows()
    assert rows.groupby(["split", "label"]).size().tolist() == [3, 3, 3, 3]


def test_a_hostile_archive_is_refused(hub, tmp_path):
    hub.publish("site/xrays", {"data.zip": zipped({"../../../evil.png": png(1)})})
    with pytest.raises(ArchiveError, match="leads out of the folder"):
        source_of(tmp_path).rows()
    assert not list(tmp_path.rglob("evil.png"))


def test_a_data_set_without_pictures_is_refused(hub, tmp_path):
    hub.publish("site/xrays", {"model.safetensors": b"x", "notes.txt": b""})
    with pytest.raises(DataNotFoundError, match=r"only model\.safetensors, notes\.txt"):
        source_of(tmp_path).rows()
    assert not hub.reads


def test_images_that_are_none_of_a_class_are_left_out(hub, tmp_path):
    files = tree() | {"train/normal/masks/P0_mask.png": png(9), "logo.png": png(8)}
    hub.publish("site/xrays", files)
    rows = source_of(tmp_path, patient=r"P\d+").rows()
    assert rows["left_out"].value_counts().to_dict()[""] == 12
    assert (rows["left_out"] != "").sum() == 2


def test_names_that_leave_the_folder_are_refused(hub, tmp_path):
    hub.publish("site/xrays", {"a/../../../../evil.png": png(1), "a/1.png": png(2)})
    with pytest.raises(ManifestError, match="must be relative and stay inside"):
        source_of(tmp_path).rows()
    assert not list(tmp_path.rglob("evil.png"))


def test_images_without_a_class_are_refused(hub, tmp_path):
    hub.publish("site/xrays", {"1.png": png(1), "2.png": png(2)})
    with pytest.raises(
        ManifestError, match=r"no image lies in a folder of a class.*1\.png, 2\.png"
    ):
        source_of(tmp_path).rows()


def test_patients_must_be_found_in_every_name(hub, tmp_path):
    hub.publish("site/xrays", xrays())
    source = source_of(tmp_path, patient=r"person\d+")
    assert source.rows()["patient_id"].tolist()[0].startswith("person")
    with pytest.raises(ManifestError, match=r"finds no patient in 22 of 22 .*source\.hub\.patient"):
        source_of(tmp_path, patient="nobody").rows()


def test_wrong_options_are_refused_by_name(tmp_path):
    with pytest.raises(ConfigError, match=r"source\.hub\.repo must be the name of a data set"):
        source_of(tmp_path, repo="https://huggingface.co/datasets/a/b").rows()
    with pytest.raises(ConfigError, match=r"source\.hub\.revision must be a 40-digit commit"):
        source_of(tmp_path, revision="main")
    with pytest.raises(ConfigError, match=r"source\.hub\.patient"):
        source_of(tmp_path, patient="(")


def test_the_preset_needs_only_a_repository(hub, preset):
    hub.publish("site/xrays", xrays())
    assert len(preset("hub", repo="site/xrays").rows()) == 22
