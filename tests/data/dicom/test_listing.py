"""Which files of an export are used, left out or unusable, and why."""

import pytest
from dicom_writer import CAPTURE, CR, CT, code_sequence, write_dicom
from pydicom import dcmread
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from xraysynth.data.dicom.files import is_dicom, is_named_like_dicom
from xraysynth.data.dicom.listing import list_dicom_files
from xraysynth.errors import DataNotFoundError

pytestmark = pytest.mark.filterwarnings("ignore:.*value:UserWarning")  # odd values are meant

NAMES = (
    "IM000001",
    "1.2.826.0.1.3680043.8.498.00000001",
    "CR.1.2.826.0.1",
    "a.DCM",
    "x.jpg",
    "a b.7z",
)


def listed(folder):
    return {entry.file: entry.left_out or entry.unusable for entry in list_dicom_files(folder)}


def bare(path):
    """Without preamble and file meta."""
    dataset = dcmread(path)
    implicit = dataset.file_meta.TransferSyntaxUID == ImplicitVRLittleEndian
    dataset.file_meta, dataset.preamble = FileMetaDataset(), None
    dataset.save_as(path, enforce_file_format=False, implicit_vr=implicit, little_endian=True)
    return path


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
@pytest.mark.parametrize("has_preamble", [True, False])
def test_a_file_is_dicom_by_its_content_whatever_its_name(tmp_path, name, syntax, has_preamble):
    path = write_dicom(tmp_path / name, syntax=syntax)
    assert is_dicom(path if has_preamble else bare(path))
    assert listed(tmp_path) == {name: ""}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"viewer 1.0\n",
        b"MZ" + bytes(4000),
        bytes(4000),
        b"\x89PNG\r\n\x1a\n" + bytes(200),
        b"<!DOCTYPE html>" * 300,
        b"\x08\x00notes of the eighth of March" * 90,
        b"\x02\x00\x00\x00" + b"\xff" * 3000,
        bytes(range(256)) * 16,
    ],
)
def test_other_content_is_not_dicom(tmp_path, content):
    path = tmp_path / "file"
    path.write_bytes(content)
    assert not is_dicom(path)


def test_a_viewers_own_files_are_left_out_and_damaged_images_are_unusable(tmp_path):
    write_dicom(tmp_path / "DICOM/IM000001")
    viewer = (
        "README",
        "LOCKFILE",
        "VERSION",
        "autorun.inf",
        "viewer.exe",
        "INDEX.HTM",
        "a/report.pdf",
    )
    damaged = ("DICOM/IM000002", "1.2.840.113619.2.5.7", "b.dcm")
    for name in (*viewer, *damaged):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("viewer 1.0\n")
    (tmp_path / "empty.dcm").touch()
    (tmp_path / "link").symlink_to("nowhere")
    files = listed(tmp_path)
    assert {name for name, reason in files.items() if reason == "not DICOM"} == set(viewer)
    assert all("the file is not DICOM" in files[name] for name in damaged)
    assert "is empty (0 bytes)" in files["empty.dcm"]
    assert "No such file" in files["link"]
    assert files["DICOM/IM000001"] == ""
    assert not is_named_like_dicom("2024.txt")


TAKEN = {
    "a CR": {"Modality": "CR", "SOPClassUID": CR},
    "a film": {"Modality": "RG", "SOPClassUID": CAPTURE, "ConversionType": "DF"},
    "RSNA's captures": {"Modality": "CR", "SOPClassUID": CAPTURE, "ConversionType": "WSD"},
    "a capture said to be a chest": {"Modality": "OT", "SOPClassUID": CAPTURE},
    "a capture by description": {
        "Modality": ...,
        "SOPClassUID": CAPTURE,
        "BodyPartExamined": ...,
        "StudyDescription": "Röntgen Thorax",
    },
    "no class": {"SOPClassUID": ..., "Modality": ...},
    "a vendor's class": {"SOPClassUID": "1.3.46.670589.2.3.1.1"},
    "body part empty": {"BodyPartExamined": ""},
    "body part unknown": {"BodyPartExamined": "UNKNOWN"},
    "thorax": {"BodyPartExamined": "THORAX"},
    "lung": {"BodyPartExamined": "LUNG"},
    "Spanish": {"BodyPartExamined": "TORAX PA"},
    "portable": {"BodyPartExamined": "PORT CHEST"},
    "thorax by code": {"BodyPartExamined": ..., "AnatomicRegionSequence": code_sequence("Chest")},
    "a low dose": {"SeriesDescription": "Chest low dose"},
    "underscores": {"BodyPartExamined": "CHEST_PA"},
    "derived": {"ImageType": ["DERIVED", "PRIMARY"]},
    "AP": {"ViewPosition": "AP"},
    "view in words": {"ViewPosition": "POSTERO_ANTERIOR"},
    "one of two views": {"ViewPosition": "PA", "SeriesDescription": "Chest PA and lateral"},
    "two views described": {"ViewPosition": "", "SeriesDescription": "Chest PA/LAT"},
    "frontal by code": {"ViewPosition": "", "ViewCodeSequence": code_sequence("postero-anterior")},
    "frontal by orientation": {"ViewPosition": "", "PatientOrientation": ["L", "F"]},
    "no view": {"ViewPosition": ...},
    "raw alone": {"PresentationIntentType": "FOR PROCESSING"},
}


@pytest.mark.parametrize("case", TAKEN)
def test_frontal_radiographs_of_the_chest_are_taken(tmp_path, case):
    write_dicom(tmp_path / "a", **TAKEN[case])
    assert listed(tmp_path) == {"a": ""}


LEFT_OUT = [
    ({"SOPClassUID": CT, "Modality": "CT"}, "CT Image"),
    ({"SOPClassUID": CT, "Modality": "CR"}, "CT Image"),
    ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.4", "Modality": "MR"}, "MR Image"),
    ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.6.1"}, "Ultrasound Image"),
    ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.481.2"}, "RT Dose"),
    ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.11.1"}, "Grayscale Softcopy Presentation State"),
    ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.88.11", "Rows": ...}, "Basic Text SR"),
    ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.88.59"}, "Key Object Selection Document"),
    ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.104.1"}, "Encapsulated PDF"),
    (
        {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.1.2", "Modality": "MG"},
        "Digital Mammography X-Ray Image",
    ),
    ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.12.2"}, "X-Ray Radiofluoroscopic Image"),
    ({"SOPClassUID": "1.2.840.10008.1.3.10"}, "DICOMDIR"),
    ({"Modality": "PR", "Rows": ...}, "modality PR"),
    ({"Modality": "RF"}, "modality RF"),
    ({"Modality": "PX"}, "modality PX"),
    (
        {"SOPClassUID": CAPTURE, "Modality": "OT", "BodyPartExamined": ...},
        "secondary capture of unknown content",
    ),
    (
        {"SOPClassUID": CAPTURE, "Modality": "OT", "StudyDescription": "CT chest"},
        "secondary capture of unknown content",
    ),
    ({"SOPClassUID": CAPTURE, "Modality": "CR", "ConversionType": "SD"}, "scanned document"),
    ({"SOPClassUID": CAPTURE, "Modality": "CR", "ConversionType": "DRW"}, "drawing"),
    ({"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}, "localizer"),
    ({"ImageType": ["DERIVED", "SECONDARY", "DOSE_REPORT"]}, "report or document"),
    ({"SeriesDescription": "Dose Report"}, "report or document"),
    ({"SeriesDescription": "Bone suppressed"}, "image computed from a radiograph"),
    ({"BodyPartExamined": "ABDOMEN"}, "body part ABDOMEN"),
    ({"BodyPartExamined": "hand"}, "body part HAND"),
    ({"BodyPartExamined": "CHESTABDOMEN"}, "body part CHESTABDOMEN"),
    ({"BodyPartExamined": "TSPINE"}, "body part TSPINE"),
    ({"BodyPartExamined": "RIB"}, "body part RIB"),
    ({"BodyPartExamined": "CHEST_RIBS"}, "body part CHEST_RIBS"),
    ({"BodyPartExamined": "", "StudyDescription": "XR Knee left"}, "body part KNEE"),
    (
        {"BodyPartExamined": "", "AnatomicRegionSequence": code_sequence("Pelvis")},
        "body part PELVIS",
    ),
    ({"ViewPosition": "LL"}, "lateral view"),
    ({"ViewPosition": "RL"}, "lateral view"),
    ({"ViewPosition": "LATERAL"}, "lateral view"),
    ({"ViewPosition": "L LAT"}, "lateral view"),
    ({"ViewPosition": "LLD"}, "decubitus view"),
    ({"ViewPosition": "LEFT LATERAL DECUBITUS"}, "decubitus view"),
    ({"ViewPosition": "RAO"}, "oblique view"),
    ({"ViewPosition": "", "ViewCodeSequence": code_sequence("left lateral")}, "lateral view"),
    ({"ViewPosition": ..., "SeriesDescription": "Thorax seitl."}, "lateral view"),
    ({"ViewPosition": ..., "SeriesDescription": "W034 Chest LAT"}, "lateral view"),
    ({"ViewPosition": ..., "ProtocolName": "CHEST_LATERAL"}, "lateral view"),
    ({"ViewPosition": ..., "PatientOrientation": ["A", "F"]}, "lateral view"),
]


@pytest.mark.parametrize(("tags", "reason"), LEFT_OUT)
def test_what_is_no_frontal_radiograph_of_the_chest_is_left_out_with_the_reason(
    tmp_path, tags, reason
):
    write_dicom(tmp_path / "a", **tags)
    assert listed(tmp_path) == {"a": reason}
    [entry] = list_dicom_files(tmp_path)
    assert not entry.unusable


def test_a_raw_image_is_left_out_beside_the_one_for_presentation(tmp_path):
    raw = {"PresentationIntentType": "FOR PROCESSING", "StudyInstanceUID": "1.2.3"}
    write_dicom(tmp_path / "raw", **raw)
    assert listed(tmp_path) == {"raw": ""}
    write_dicom(tmp_path / "shown", StudyInstanceUID="1.2.3")
    reason = "raw image beside the one for presentation"
    assert listed(tmp_path) == {"raw": reason, "shown": ""}


def test_a_missing_pydicom_is_named_with_the_command_that_installs_it(tmp_path, monkeypatch):
    write_dicom(tmp_path / "a")
    monkeypatch.setattr("xraysynth.data.dicom.listing.find_spec", lambda name: None)
    with pytest.raises(DataNotFoundError, match=r"pydicom.*pip install 'xraysynth\[dicom\]'"):
        list_dicom_files(tmp_path)


def test_radiographs_that_cannot_be_used_are_named_with_the_reason(tmp_path):
    write_dicom(tmp_path / "frames", NumberOfFrames=12)
    write_dicom(tmp_path / "no_size", Rows=...)
    whole = write_dicom(tmp_path / "cut").read_bytes()
    (tmp_path / "cut").write_bytes(whole[:140] + b"\xff" * 40)
    files = listed(tmp_path)
    assert "12 frames" in files["frames"]
    assert "no rows and columns" in files["no_size"]
    assert "cut: the file holds no image" in files["cut"]
