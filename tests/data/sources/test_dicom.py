"""DICOM: rendering, headers, labels, and what is refused."""

import pickle
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pydicom
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    MPEG2MPML,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGBaseline8Bit,
)

from xraysynth import images
from xraysynth.data.pixel_flags import looks_inverted
from xraysynth.data.reading.ages import parse_age_years
from xraysynth.data.screening import split_rows
from xraysynth.data.sources.base import map_labels
from xraysynth.data.sources.dicom import DicomSource
from xraysynth.errors import ConfigError, DataNotFoundError, ImageError, ManifestError

SHARED = Path(__file__).resolve().parents[4] / "shared" / "data"


def chest(size=64, top=1000):
    """A caricature in [0, top]: dark edges and lungs, bright mediastinum and body."""
    picture = np.full((size, size), 0.6)
    picture[:, [*range(6), *range(size - 6, size)]] = 0.0
    picture[14:44, 12:26] = picture[14:44, 38:52] = 0.2
    picture[:, 28:36] = 1.0
    return np.rint(picture * top).astype(np.uint16)


def write(path, stored, **tags):
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = tags.pop("syntax", ExplicitVRLittleEndian)
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.1"
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    dataset.Rows, dataset.Columns = stored.shape
    dataset.SamplesPerPixel = 1
    dataset.BitsAllocated = dataset.BitsStored = stored.itemsize * 8
    dataset.HighBit = dataset.BitsStored - 1
    dataset.PixelRepresentation = 0
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.PixelData = stored.tobytes()
    dataset["PixelData"].VR = "OW"
    for tag, value in tags.items():
        setattr(dataset, tag, value)
    path.parent.mkdir(parents=True, exist_ok=True)
    if dataset.file_meta.TransferSyntaxUID.is_compressed:
        dataset.PixelData = pydicom.encaps.encapsulate([stored.tobytes()])
        dataset["PixelData"].is_undefined_length = True
    dataset.save_as(path, enforce_file_format=True)
    return path


def load(folder, locator="normal/a.dcm", **options):
    return DicomSource(name="mine", root=str(folder), **options).load(locator, 64).pixels


def test_bones_are_white_whatever_the_photometric_interpretation(tmp_path):
    write(tmp_path / "normal/a.dcm", chest())
    write(tmp_path / "normal/b.dcm", 1000 - chest(), PhotometricInterpretation="MONOCHROME1")
    first, second = load(tmp_path), load(tmp_path, "normal/b.dcm")
    assert first.dtype == np.uint8
    assert (first.min(), first.max()) == (0, 255)
    assert first[30, 32] > first[30, 20] > first[30, 2]
    assert np.abs(first.astype(int) - second).max() <= 1


@pytest.mark.parametrize("kind", ["MONOCHROME1", "MONOCHROME2"])
def test_an_image_that_contradicts_its_tag_is_flagged(tmp_path, kind):
    stored = chest() if kind == "MONOCHROME1" else 1000 - chest()
    write(tmp_path / "normal/a.dcm", stored, PhotometricInterpretation=kind)
    source = DicomSource(name="mine", root=str(tmp_path))
    assert source.load("normal/a.dcm", 64).flags == ("inverted",)
    truth = {"MONOCHROME1": "MONOCHROME2", "MONOCHROME2": "MONOCHROME1"}[kind]
    assert not looks_inverted(load(tmp_path, photometric=truth))
    with pytest.raises(ConfigError, match="MONOCHROME3"):
        load(tmp_path, photometric="MONOCHROME3")


def test_window_and_rescale_are_applied(tmp_path):
    tags = {"WindowCenter": 400, "WindowWidth": 400, "RescaleSlope": 2, "RescaleIntercept": -1000}
    write(tmp_path / "normal/a.dcm", chest(), **tags)
    pixels = load(tmp_path)  # 600 -> 200, the window's lower edge; 1000 -> 1000, above it
    assert pixels[30, 20] == pixels[30, 2] == pixels[55, 20] == 0
    assert pixels[30, 32] == 255


def test_without_a_window_outliers_do_not_set_the_scale(tmp_path):
    stored = chest(size=200)
    stored[0, 0] = 60000
    write(tmp_path / "normal/a.dcm", stored)
    assert load(tmp_path)[30, 32] == 255


def test_eight_bits_without_a_window_are_kept(tmp_path):
    stored = chest(top=200).astype(np.uint8)
    write(tmp_path / "normal/a.dcm", stored)
    assert np.array_equal(load(tmp_path), stored)


def test_a_file_without_preamble_and_meta_is_read(tmp_path):
    path = write(tmp_path / "normal/a.dcm", chest(), syntax=ImplicitVRLittleEndian, PatientID="p9")
    whole = load(tmp_path)
    dataset = pydicom.dcmread(path)
    bare = tmp_path / "normal/bare"
    dataset.file_meta, dataset.preamble = FileMetaDataset(), None
    dataset.save_as(bare, enforce_file_format=False)
    assert bare.read_bytes()[128:132] != b"DICM"
    path.unlink()
    rows = DicomSource(name="mine", root=str(tmp_path)).rows()
    assert rows["patient_id"].tolist() == ["p9"]
    assert np.array_equal(load(tmp_path, "normal/bare"), whole)


def test_unusable_files_are_refused_by_name_with_the_reason(tmp_path):
    cases = {
        "Photometric Interpretation is HSV": {"PhotometricInterpretation": "HSV"},
        "RGB, but has not three channels": {"PhotometricInterpretation": "RGB"},
        "Photometric Interpretation is missing": {"PhotometricInterpretation": None},
        "3 frames": {"NumberOfFrames": 3},
        "100 megapixels": {"Rows": 10000, "Columns": 10000},
        "cannot be decoded": {"PixelData": b"\0\0"},
        "MPEG2.*gdcmconv": {"syntax": MPEG2MPML},
    }
    for reason, tags in cases.items():
        write(tmp_path / "normal/a.dcm", chest(), **tags)
        with pytest.raises(ImageError, match=rf"a\.dcm: .*{reason}"):
            load(tmp_path)
    write(tmp_path / "normal/a.dcm", np.full((64, 64), 7, np.uint16))
    with pytest.raises(ImageError, match="same value"):
        load(tmp_path)


@pytest.mark.parametrize("data", [b"", b"plain text, no DICOM", bytes(range(256)) * 8])
def test_what_is_not_dicom_is_left_out_and_refused_on_load(tmp_path, data):
    write(tmp_path / "normal/a.dcm", chest())
    (tmp_path / "normal/notes").write_bytes(data)
    source = DicomSource(name="mine", root=str(tmp_path))
    rows = source.rows().set_index("locator")
    assert rows["left_out"].to_dict() == {"normal/a.dcm": "", "normal/notes": "not DICOM"}
    with pytest.raises(ImageError, match=r"normal/notes: this is not a"):
        source.load("normal/notes", 64)


def test_a_truncated_file_is_refused(tmp_path):
    path = write(tmp_path / "normal/a.dcm", chest())
    path.write_bytes(path.read_bytes()[:-900])
    with pytest.raises(ImageError, match=r"a\.dcm"):
        load(tmp_path)


def test_a_deflated_file_is_read_unless_it_inflates_to_too_much(tmp_path, monkeypatch):
    write(tmp_path / "normal/a.dcm", chest(), syntax=DeflatedExplicitVRLittleEndian, PatientID="p1")
    source = DicomSource(name="mine", root=str(tmp_path))
    assert source.rows()["patient_id"].tolist() == ["p1"]
    assert load(tmp_path).shape == (64, 64)
    write(tmp_path / "normal/a.dcm", chest(1024), syntax=DeflatedExplicitVRLittleEndian)
    monkeypatch.setattr("xraysynth.data.dicom.bounded.MAX_FILE_MB", 1)
    monkeypatch.setattr(pydicom.filereader.zlib, "decompress", lambda *_: pytest.fail("inflated"))
    assert source.rows()["patient_id"].tolist() == [""]
    with pytest.raises(
        ImageError, match=r"a\.dcm: the file inflates to more than the 1 MB allowed"
    ):
        load(tmp_path)


def test_a_damaged_frame_is_refused_without_an_object_in_memory(tmp_path):
    write(tmp_path / "normal/a.dcm", chest(), syntax=JPEGBaseline8Bit)
    with pytest.raises(ImageError, match=r"a\.dcm: the pixels cannot be decoded") as error:
        load(tmp_path)
    assert "object at 0x" not in str(error.value)


@pytest.mark.filterwarnings("ignore:Invalid value for VR")
@pytest.mark.parametrize(
    ("tags", "reason"),
    [
        ({"Rows": 1, "Columns": 60_000}, "60000 x 1 pixels, but a side may have 16384"),
        ({"Rows": 1, "Columns": 4096}, "4096 x 1 pixels.*10 times"),
        ({"Rows": 0}, "64 x 0 pixels"),
        ({"Rows": [64, 64]}, "not a readable image"),
        ({"RescaleSlope": "nan", "RescaleIntercept": 0}, "same value after windowing, or none"),
        ({"NumberOfFrames": "1\\\\2"}, r"has 1.*2 frames"),
    ],
)
def test_odd_shapes_and_tags_are_refused_by_name(tmp_path, tags, reason):
    write(tmp_path / "normal/a.dcm", chest(), **tags)
    with pytest.raises(ImageError, match=rf"a\.dcm: .*{reason}"):
        load(tmp_path)


def test_rows_come_from_headers_alone(tmp_path, monkeypatch):
    tags = {"PatientID": "p1", "PatientSex": "F", "PatientAge": "018M", "ViewPosition": "PA"}
    write(tmp_path / "covid19/one.dcm", chest(), **tags)
    write(tmp_path / "normal/deep/two", chest())
    (tmp_path / "normal/readme.txt").write_text("no image")
    monkeypatch.setattr(Dataset, "pixel_array", property(lambda _: pytest.fail("read pixels")))
    listed = pickle.loads(pickle.dumps(DicomSource(name="mine", root=str(tmp_path)))).rows()
    rows, not_used = split_rows(listed)
    assert not_used[["locator", "left_out"]].to_numpy().tolist() == [
        ["normal/readme.txt", "not DICOM"]
    ]
    columns = ["locator", "label", "patient_id", "sex", "view"]
    assert rows[columns].to_numpy().tolist() == [
        ["covid19/one.dcm", "covid19", "p1", "F", "PA"],
        ["normal/deep/two", "normal", "", "", ""],
    ]
    assert rows["age"][0] == 1.5
    assert rows["image_id"].is_unique


@pytest.mark.parametrize(
    ("text", "years"),
    [("045Y", 45), ("51", 51), ("018M", 1.5), ("004W", 0.08), ("", None), ("old", None)],
)
def test_ages_are_years(text, years):
    assert parse_age_years(text) == years


def labelled(folder, rows, **options):
    pd.DataFrame(rows, columns=["file", "label"]).to_csv(folder / "labels.csv", index=False)
    return DicomSource(
        name="mine", root=str(folder / "dcm"), table=str(folder / "labels.csv"), **options
    )


def test_labels_from_a_table_by_path_name_or_stem(tmp_path):
    for file in ("a.dcm", "b.dcm", "deep/c"):
        write(tmp_path / "dcm" / file, chest())
    rows = [("a", "normal"), ("a", "normal"), ("b.dcm", "covid19"), ("deep/c", "normal")]
    assert labelled(tmp_path, rows).rows()["label"].tolist() == ["normal", "covid19", "normal"]


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        ([("a", "normal"), ("a", "covid19")], "more than one label to a"),
        ([("z", "normal")], r"files have no row in .*: a\.dcm"),
    ],
)
def test_a_table_that_does_not_fit_the_files_is_refused(tmp_path, rows, reason):
    write(tmp_path / "dcm/a.dcm", chest())
    with pytest.raises(ManifestError, match=reason):
        labelled(tmp_path, rows).rows()


def test_files_and_rows_without_the_other_are_unusable(tmp_path):
    for file in ("a.dcm", "c.dcm"):
        write(tmp_path / "dcm" / file, chest())
    rows = labelled(tmp_path, [("a", "normal"), ("b", "normal")]).rows()
    reasons = dict(zip(rows["locator"], rows["unusable"], strict=True))
    assert reasons["a.dcm"] == ""
    assert "no row of" in reasons["c.dcm"]
    assert "no file below" in reasons["b"]
    assert "left_out" not in rows


def test_missing_columns_labels_and_files_are_named(tmp_path):
    write(tmp_path / "dcm/a.dcm", chest())
    with pytest.raises(ManifestError, match=r"no column uid, only file, label"):
        labelled(tmp_path, [("a", "normal")], key_column="uid").rows()
    with pytest.raises(ManifestError, match=r"have no label: a\.dcm"):
        DicomSource(name="mine", root=str(tmp_path / "dcm")).rows()
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataNotFoundError, match="no DICOM file"):
        DicomSource(name="mine", root=str(tmp_path / "empty")).rows()


def test_rsna_preset_reads_the_published_layout(tmp_path, preset):
    source = preset("rsna_pneumonia")
    with pytest.raises(DataNotFoundError, match=re.escape(source.how_to_get)):
        source.rows()
    root = tmp_path / "rsna-pneumonia-detection-challenge"
    for uid in ("u1", "u2", "u3"):
        write(root / f"stage_2_train_images/{uid}.dcm", chest(), PatientID=uid, ViewPosition="AP")
    classes = ["Lung Opacity", "Lung Opacity", "Normal", "No Lung Opacity / Not Normal"]
    table = pd.DataFrame({"patientId": ["u1", "u1", "u2", "u3"], "class": classes})
    table.to_csv(root / "stage_2_detailed_class_info.csv", index=False)
    rows = map_labels(source.rows(), source.labels, ("normal", "pneumonia"), name=source.name)
    assert rows[["label", "patient_id", "view"]].to_numpy().tolist() == [
        ["pneumonia", "u1", "AP"],
        ["normal", "u2", "AP"],
    ]


@pytest.mark.skipif(not (SHARED / "dicom").is_dir(), reason="needs ../shared/data/dicom")
@pytest.mark.parametrize(
    ("file", "shape"),
    [
        ("barre_cr_chest_mono1_nopreamble.dcm", (440, 440)),
        ("philips_cr_chest_pa_mono1_j2k.dcm", (1955, 1841)),
        ("rsna_cr_chest_ap_mono2_jpeg.dcm", (1024, 1024)),
        ("rsna_cr_chest_pa_mono2_jpeg.dcm", (1024, 1024)),
    ],
)
def test_real_files_load_upright_and_not_inverted(file, shape):
    pixels = load(SHARED / "dicom", file)
    assert pixels.shape == shape
    height, width = shape
    middle = pixels[height // 4 : 3 * height // 4, 15 * width // 32 : 17 * width // 32].mean()
    lungs = pixels[height // 4 : height // 2, width // 5 : width // 3].mean()
    abdomen = pixels[-height // 12 :, width // 3 : 2 * width // 3].mean()
    assert middle > lungs + 20
    assert abdomen > lungs + 20


@pytest.mark.skipif(not (SHARED / "dicom").is_dir(), reason="needs ../shared/data/dicom")
def test_a_real_file_with_a_false_tag_is_flagged():
    source = DicomSource(name="mine", root=str(SHARED / "dicom"))
    false, true = "rsna_cr_chest_pa_faketag_mono1_jpeg.dcm", "rsna_cr_chest_pa_mono2_jpeg.dcm"
    assert source.load(false, 64).flags == ("inverted",)
    assert source.load(true, 64).flags == ()


@pytest.mark.skipif(not (SHARED / "dicom").is_dir(), reason="needs ../shared/data/dicom")
def test_all_real_files_are_taken(tmp_path):
    pairs = [(path.name, "normal") for path in (SHARED / "dicom").iterdir()]
    pd.DataFrame(pairs, columns=["file", "label"]).to_csv(tmp_path / "labels.csv", index=False)
    table = str(tmp_path / "labels.csv")
    rows = DicomSource(name="mine", root=str(SHARED / "dicom"), table=table).rows()
    assert len(rows) == 5
    assert not {"left_out", "unusable"} & set(rows)
    assert rows["label"].tolist() == ["normal"] * 5


@pytest.mark.skipif(not (SHARED / "cxr-mini").is_dir(), reason="needs ../shared/data/cxr-mini")
def test_inversion_is_never_seen_in_upright_radiographs_and_mostly_in_inverted_ones():
    upright = [images.read_image(path) for path in sorted((SHARED / "cxr-mini").glob("*/*.jpg"))]
    assert len(upright) == 585
    assert sum(map(looks_inverted, upright)) == 0
    assert sum(looks_inverted(255 - pixels) for pixels in upright) >= 0.94 * len(upright)
