"""Exports of hospitals, from folders and tables to the pictures and patients that a study gets."""

import re
import shlex

import numpy as np
import pytest
from dicom_writer import CT, toy_chest, write_dicom

from xraysynth.data.cohort import SourceCollection, assign_patients
from xraysynth.data.screening import split_rows
from xraysynth.data.sources.dicom import DicomSource
from xraysynth.errors import DataNotFoundError, ManifestError

CLASSES = ("normal", "pneumonia")
N = 4


def write_classes(root, name, per_class=N, **tags):
    """A folder per class; `{}` in a name is the number of the image."""
    for number in range(2 * per_class):
        label = CLASSES[number // per_class]
        own = {"PatientID": f"P{number:04d}"} | tags
        write_dicom(root / label / name.format(number), toy_chest(number), **own)


def source_of(root, **options):
    return DicomSource(name="hospital", root=str(root), **options)


def used_rows(root, **options):
    return split_rows(source_of(root, **options).rows())[0]


def reasons(root, **options):
    """Reason -> number of files that are not used."""
    not_used = split_rows(source_of(root, **options).rows())[1]
    return (not_used["left_out"] + not_used["unusable"]).value_counts().to_dict()


@pytest.mark.parametrize(
    "name",
    [
        "1.2.826.0.1.3680043.8.498.{:08d}",
        "CR.1.2.826.0.1.3680043.8.498.{:08d}",
        "IM{:06d}",
        "{:08d}.jpg",
        "{:04d}.dcm.bak",
    ],
)
def test_files_of_any_name_are_taken_beside_those_with_a_suffix(tmp_path, name):
    write_classes(tmp_path, "P{:04d}.dcm")
    write_classes(tmp_path, name)
    rows = source_of(tmp_path).rows()
    assert len(rows) == 4 * N
    assert rows["label"].value_counts().to_dict() == {"normal": 2 * N, "pneumonia": 2 * N}
    assert not {"left_out", "unusable"} & set(rows)


def test_a_cd_is_read_and_what_is_no_radiograph_on_it_is_counted(tmp_path):
    write_classes(tmp_path, "IM{:06d}")
    write_dicom(tmp_path / "normal/PS000001", Modality="PR", Rows=..., PixelData=...)
    write_dicom(tmp_path / "normal/SR000001", SOPClassUID="1.2.840.10008.5.1.4.1.1.88.11")
    write_dicom(tmp_path / "normal/CT000001", SOPClassUID=CT, Modality="CT")
    write_dicom(tmp_path / "normal/IM900001", ViewPosition="LL")
    write_dicom(tmp_path / "normal/IM900002", BodyPartExamined="HAND")
    write_dicom(tmp_path / "DICOMDIR", SOPClassUID="1.2.840.10008.1.3.10")
    viewer = ("README", "LOCKFILE", "VERSION", "autorun.inf", "viewer.exe", "INDEX.HTM")
    for name in viewer:
        (tmp_path / name).write_text("viewer 1.0\n")
    assert used_rows(tmp_path)["label"].value_counts().to_dict() == {"normal": N, "pneumonia": N}
    assert reasons(tmp_path) == {
        "not DICOM": len(viewer),
        "modality PR": 1,
        "Basic Text SR": 1,
        "CT Image": 1,
        "lateral view": 1,
        "body part HAND": 1,
        "DICOMDIR": 1,
    }


def test_a_folder_without_radiographs_is_refused_with_what_is_in_it(tmp_path):
    write_classes(tmp_path, "{}", SOPClassUID=CT, Modality="CT")
    (tmp_path / "README").write_text("viewer 1.0\n")
    with pytest.raises(DataNotFoundError, match=r"8 CT Image, 1 not DICOM; check source\.hospital"):
        source_of(tmp_path).rows()


def marked(size=4, value=4095):
    picture = toy_chest()
    picture[2 : 2 + size, 2 : 2 + size] = value
    return picture


@pytest.mark.parametrize(
    "tags",
    [
        {"WindowCenter": None, "WindowWidth": None},
        {"WindowCenter": "", "WindowWidth": None, "VOILUTSequence": []},
        {"WindowCenter": [], "WindowWidth": []},
        {"WindowCenter": 2048},
        {"WindowCenter": 2048, "WindowWidth": 0},
    ],
)
@pytest.mark.parametrize("size", [4, 12])
def test_an_empty_window_is_none_and_burnt_in_letters_do_not_set_the_scale(tmp_path, tags, size):
    write_dicom(tmp_path / "normal/plain", toy_chest())
    write_dicom(tmp_path / "normal/without", marked(size))
    write_dicom(tmp_path / "normal/empty", marked(size), **tags)
    source = source_of(tmp_path)
    plain, without, empty = (
        source.load(f"normal/{name}", 64) for name in ("plain", "without", "empty")
    )
    assert np.array_equal(without.pixels, empty.pixels)
    difference = np.abs(plain.pixels.astype(int) - without.pixels)[16:]
    assert difference.max() <= 3
    ignored = set(empty.repairs) - set(without.repairs)
    assert ignored <= {"empty window ignored", "invalid window ignored"}
    assert ignored or not tags.get("WindowCenter")


def test_eight_bits_with_an_empty_window_stay_as_they_are(tmp_path):
    stored = (marked() // 16).astype(np.uint8)
    write_dicom(tmp_path / "normal/a", stored, WindowCenter=None, WindowWidth=None)
    assert np.array_equal(source_of(tmp_path).load("normal/a", 64).pixels, stored)


def write_export(root, n_patients=6):
    """Paths as a CD has them, with ids of patient, study and accession."""
    for number in range(n_patients):
        for image in range(2):
            write_dicom(
                root / f"DICOM/PA{number:06d}/ST000001/SE000001/IM{image + 1:06d}",
                toy_chest(10 * number + image),
                PatientID=f"{number:05d}",
                StudyInstanceUID=f"1.2.3.{number}",
                AccessionNumber=f"A{number}",
                SOPInstanceUID=f"1.2.3.{number}.{image + 1}",
                PatientAge=f"{30 + number:03d}Y",
            )


LABELS = [CLASSES[number % 2] for number in range(6)]


def write_labels(root, column, keys, labels=LABELS, sep=","):
    rows = [f"{key}{sep}{label}" for key, label in zip(keys, labels, strict=True)]
    (root / "labels.csv").write_text("\n".join([f"{column}{sep}label", *rows]) + "\n")
    return str(root / "labels.csv")


KEYS = {
    "PatientID": [f"{number:05d}" for number in range(6)],
    "patient id": [str(number) for number in range(6)],
    "Patient": [f"{number}.0" for number in range(6)],
    "StudyInstanceUID": [f"1.2.3.{number}" for number in range(6)],
    "Accession": [f"A{number}" for number in range(6)],
}


@pytest.mark.parametrize("column", KEYS)
def test_a_table_labels_the_images_of_patients_studies_and_accessions(tmp_path, column):
    write_export(tmp_path / "cd")
    table = write_labels(tmp_path, column, KEYS[column])
    for options in ({"key_column": column}, {}):  # by name, and by its values
        rows = source_of(tmp_path / "cd", table=table, **options).rows()
        assert rows["label"].tolist() == [label for label in LABELS for _ in range(2)]
        assert "unusable" not in rows


@pytest.mark.parametrize("image", ["1", "2"])
def test_a_table_labels_single_images_by_uid_or_path(tmp_path, image):
    write_export(tmp_path / "cd")
    uids = [f"1.2.3.{number}.{image}" for number in range(6)]
    folder = "PA{:06d}/ST000001/SE000001/IM00000{}"
    paths = [folder.format(number, image) for number in range(6)]
    keys = {
        "uid": uids,
        "path": [f"DICOM/{path}" for path in paths],
        "inner": paths,
        "absolute": [f"/mnt/cd/DICOM/{path}" for path in paths],
        "windows": [f"D:\\DICOM\\{path}".replace("/", "\\") for path in paths],
    }
    for column, values in keys.items():
        table = write_labels(tmp_path, column, values, sep=";")
        rows = used_rows(tmp_path / "cd", table=table, key_column=column)
        assert rows["label"].tolist() == LABELS, column
        assert rows["locator"].str.endswith(image).all()


def test_columns_that_are_not_found_are_named_and_the_remedy_works(tmp_path):
    write_export(tmp_path / "cd")
    rows = [f"{key};{label}" for key, label in zip(KEYS["PatientID"], LABELS, strict=True)]
    (tmp_path / "labels.csv").write_text("\n".join(["nr;outcome", *rows]))
    table = str(tmp_path / "labels.csv")
    with pytest.raises(
        ManifestError, match="has no column file, Befund, only nr, outcome"
    ) as error:
        source_of(tmp_path / "cd", table=table, label_column="Befund").rows()
    options = dict.fromkeys(re.findall(r"source\.hospital\.(\w+_column)", str(error.value)))
    assert list(options) == ["key_column", "label_column"]
    columns = {"key_column": "nr", "label_column": "outcome"}
    assert len(used_rows(tmp_path / "cd", table=table, **columns)) == 12


def test_a_name_of_several_files_labels_none_of_them(tmp_path):
    write_export(tmp_path / "cd")
    table = write_labels(tmp_path, "file", ["IM000001"], ["normal"])
    with pytest.raises(ManifestError, match="IM000001 is the name of 6 files"):
        source_of(tmp_path / "cd", table=table).rows()


def test_two_labels_of_one_image_are_refused(tmp_path):
    write_export(tmp_path / "cd", 1)
    path = "DICOM/PA000000/ST000001/SE000001/IM000001"
    table = write_labels(tmp_path, "file", [path, f"x/{path}"], CLASSES)
    with pytest.raises(ManifestError, match="'normal' and 'pneumonia'"):
        source_of(tmp_path / "cd", table=table).rows()


def test_left_out_images_need_no_label_and_their_rows_are_not_missing(tmp_path):
    write_export(tmp_path / "cd")
    lateral = "DICOM/PA000009/IM000001"
    write_dicom(tmp_path / "cd" / lateral, PatientID="00009", ViewPosition="LL")
    write_dicom(tmp_path / "cd/DICOM/PA000008/IM000001", PatientID="00008", ViewPosition="LL")
    keys = [*KEYS["PatientID"], "00009", "00010"]
    table = write_labels(tmp_path, "PatientID", keys, [*LABELS, "normal", "normal"])
    rows = source_of(tmp_path / "cd", table=table, key_column="PatientID").rows()
    used, not_used = split_rows(rows)
    assert len(used) == 12
    assert not_used["left_out"].tolist()[:2] == ["lateral view"] * 2
    assert not_used["locator"].tolist()[2:] == ["00010"]
    assert "no file below" in not_used["unusable"].tolist()[2]


@pytest.mark.parametrize("has_ids", [True, False])
def test_an_export_without_class_folders_is_refused_and_the_remedy_works(tmp_path, has_ids):
    write_export(tmp_path / "cd")
    if not has_ids:
        write_dicom(tmp_path / "cd/DICOM/PA000000/ST000001/SE000001/IM000001", PatientID="")
    with pytest.raises(ManifestError, match="those of an export, not of classes") as error:
        source_of(tmp_path / "cd").rows()
    remedy = re.search(r"columns (\w+) and label, and run it with (.*)", str(error.value))
    column = remedy[1]
    assert column == ("PatientID" if has_ids else "file")
    options = {}
    for option in shlex.split(remedy[2]):
        name, value = option.removeprefix("source.hospital.").split("=")
        options[name] = value
    keys = KEYS["PatientID"]
    labels = LABELS
    if not has_ids:
        keys = [f"DICOM/PA{number:06d}/ST000001/SE000001/IM000001" for number in range(6)]
        labels = LABELS
    options["table"] = write_labels(tmp_path, column, keys, labels)
    assert len(used_rows(tmp_path / "cd", **options)) == (12 if has_ids else 6)


@pytest.mark.parametrize("top", ["1.2.840.113619.2", "77654033", "DICOM/S0001", "ST000001"])
def test_folders_of_exports_are_no_classes(tmp_path, top):
    write_dicom(tmp_path / top / "IM000001")
    with pytest.raises(ManifestError, match="those of an export"):
        source_of(tmp_path).rows()
    labels = {top.split("/")[0]: "normal"}
    assert used_rows(tmp_path, labels=labels)["label"].tolist() == [top.split("/")[0]]


def test_class_folders_may_lie_in_one_folder(tmp_path):
    write_classes(tmp_path / "DICOM", "{}")
    assert used_rows(tmp_path)["label"].value_counts().to_dict() == {"normal": N, "pneumonia": N}


def test_folders_tell_splits_and_views_as_those_of_other_images_do(tmp_path):
    for split in ("train", "valid"):
        write_classes(tmp_path / split, "{}")
    write_dicom(tmp_path / "train/normal/lateral/a", ViewPosition="")
    rows = used_rows(tmp_path)
    assert rows["label"].value_counts().to_dict() == {"normal": 2 * N, "pneumonia": 2 * N}
    assert rows["split"].value_counts().to_dict() == {"train": 2 * N, "val": 2 * N}
    assert reasons(tmp_path) == {"lateral view": 1}


def test_a_file_beside_the_class_folders_has_no_label(tmp_path):
    write_classes(tmp_path, "{}")
    write_dicom(tmp_path / "IM000001")
    assert reasons(tmp_path) == {"no label (no folder of a class)": 1}


@pytest.mark.parametrize(
    "patient", ["ANONYMOUS", "anonymized", "Unknown", "0", "000000", "XXXX", "-"]
)
def test_an_id_that_anonymisers_write_is_no_patient(tmp_path, patient):
    write_classes(tmp_path, "{}", PatientID=patient)
    source = source_of(tmp_path)
    collection = SourceCollection.from_sources([source], CLASSES)
    assert set(collection.rows["hospital"]["patient_id"]) == {""}
    note = (
        f"source hospital: {2 * N} images have a patient id that does not tell patients apart "
        f"({patient!r}); their patients are unknown"
    )
    assert collection.notes == [note]
    rows, no_pairs = collection.rows["hospital"], np.empty((0, 2), int)
    with pytest.raises(ManifestError, match=re.escape(note)) as error:
        assign_patients(rows, no_pairs, missing_patient_id="error", notes=collection.notes)
    remedy = re.search(r"missing_patient_id=(\w+)", str(error.value))[1]
    assigned = assign_patients(rows, no_pairs, missing_patient_id=remedy)
    assert assigned.nunique() == 2 * N


def test_one_id_of_everybody_is_told_by_what_contradicts_it(tmp_path):
    write_classes(tmp_path / "sexes", "{}", PatientID="STUDY7")
    write_dicom(tmp_path / "sexes/normal/m", PatientID="STUDY7", PatientSex="M")
    write_classes(tmp_path / "ages", "{}", PatientID="STUDY7", StudyInstanceUID="1.2.3")
    write_dicom(tmp_path / "ages/normal/m", PatientID="STUDY7", PatientAge="004Y")
    write_classes(tmp_path / "studies", "{}", PatientID="STUDY7")
    for case in ("sexes", "ages", "studies"):
        source = source_of(tmp_path / case)
        assert set(source.rows()["patient_id"]) == {""}
        assert "'STUDY7'" in source.note


def test_patients_that_headers_do_not_tell_are_read_from_a_table(tmp_path):
    write_export(tmp_path / "cd")
    for path in sorted((tmp_path / "cd").rglob("IM*")):
        write_dicom(path, toy_chest(), PatientID="ANON", AccessionNumber=path.parts[-4])
    lines = ["study,patient_id,label"]
    lines += [f"PA{number:06d},Q{number},{label}" for number, label in enumerate(LABELS)]
    (tmp_path / "labels.csv").write_text("\n".join(lines))
    source = source_of(tmp_path / "cd", table=str(tmp_path / "labels.csv"), key_column="study")
    assert source.rows()["patient_id"].tolist() == [f"Q{n}" for n in range(6) for _ in range(2)]
    assert source.note.endswith("('ANON'); their patients are those of the table or the folders")
    table = write_labels(tmp_path, "study", [f"PA{number:06d}" for number in range(6)])
    unknown = source_of(tmp_path / "cd", table=table, key_column="study")
    assert set(unknown.rows()["patient_id"]) == {""}


def test_a_view_that_the_view_position_does_not_tell_is_read_elsewhere(tmp_path):
    write_dicom(tmp_path / "normal/a", ViewPosition="", SeriesDescription="Chest AP portable")
    write_dicom(tmp_path / "normal/b", ViewPosition="", PatientOrientation=["L", "F"])
    write_dicom(tmp_path / "normal/c", ViewPosition="POSTERO_ANTERIOR")
    write_dicom(tmp_path / "normal/d", ViewPosition="")
    assert source_of(tmp_path).rows()["view"].tolist() == ["AP", "frontal", "POSTERO_ANTERIOR", ""]


def test_real_patients_keep_their_ids(tmp_path):
    write_classes(tmp_path, "{}")
    for image in range(3):  # one patient with several studies over the years
        write_dicom(tmp_path / f"normal/later{image}", PatientID="P0000", PatientAge=f"06{image}Y")
    write_dicom(tmp_path / "normal/zero", PatientID="0")
    source = source_of(tmp_path)
    patients = source.rows()["patient_id"].value_counts().to_dict()
    assert patients["P0000"] == 4
    assert patients["0"] == 1
    assert source.note == ""


def test_the_same_id_from_two_issuers_is_of_two_patients(tmp_path):
    write_classes(tmp_path, "{}")
    write_dicom(tmp_path / "normal/a", PatientID="7", IssuerOfPatientID="North")
    write_dicom(tmp_path / "normal/b", PatientID="7", IssuerOfPatientID="South")
    write_dicom(tmp_path / "normal/c", PatientID="8", IssuerOfPatientID="South")
    rows = source_of(tmp_path).rows().set_index("locator")["patient_id"]
    assert rows[["normal/a", "normal/b", "normal/c"]].tolist() == ["North:7", "South:7", "8"]
