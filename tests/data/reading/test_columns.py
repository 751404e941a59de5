"""Columns, labels and words of tables as public collections and hospitals publish them."""

import pandas as pd
import pytest

from xraysynth.data.reading.columns import find_column_roles
from xraysynth.data.reading.tables import read_table
from xraysynth.data.sources.base import screen_labels
from xraysynth.data.sources.table import TableSource
from xraysynth.errors import ManifestError

CLASSES = ("normal", "pneumonia")


def planted(folder, text, *files, name="table.csv"):
    """A source of a table, whose images lie beside it."""
    for file in files:
        path = folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"image")
    (folder / name).write_text(text, "utf-8")
    return TableSource(name="mine", path=str(folder / name))


def mapped(source, *, labels=None, classes=CLASSES):
    rows = screen_labels(source.rows(), labels or {}, classes, name="mine")
    return rows["label"].where(rows["left_out"] == "", rows["left_out"]).tolist()


def roles_of(folder, text):
    (folder / "t.csv").write_text(text, "utf-8")
    return find_column_roles(read_table(folder / "t.csv"))


def test_the_table_of_a_hub_data_set_is_told(tmp_path):
    text = "file_name,label,text\ntrain/0001.png,normal,a film\ntrain/0002.png,pneumonia,b\n"
    source = planted(tmp_path, text, "train/0001.png", "train/0002.png", name="metadata.csv")
    assert mapped(source) == ["normal", "pneumonia"]


def test_the_table_of_the_nih_is_told_with_all_its_columns(tmp_path):
    text = (
        "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
        "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y],\n"
        "00000001_000.png,Cardiomegaly|Effusion,0,1,058Y,M,PA,2682,2749,0.143,0.143,\n"
        "00000001_001.png,No Finding,1,1,058Y,M,PA,2682,2749,0.143,0.143,\n"
        "00000002_000.png,Infiltration|Pneumonia,0,2,081Y,F,AP,2682,2749,0.143,0.143,\n"
    )
    names = [f"images_001/images/0000000{name}.png" for name in ("1_000", "1_001", "2_000")]
    source = planted(tmp_path, text, *names)
    rows = source.rows()
    assert rows["patient_id"].tolist() == ["1", "1", "2"]
    assert rows["age"].tolist() == [58, 58, 81]
    assert rows["sex"].tolist() == ["M", "M", "F"]
    assert mapped(source) == ["label of no class: Cardiomegaly|Effusion", "normal", "pneumonia"]


def test_a_text_file_without_names_is_told_by_its_values(tmp_path):
    text = "3 a1.png normal rsna\n4 b2.jpg COVID-19 cohen\n4 c3.png pneumonia cohen\n"
    source = planted(tmp_path, text, "a1.png", "b2.jpg", "c3.png", name="train_COVIDx.txt")
    assert source.rows()["patient_id"].tolist() == ["3", "4", "4"]
    assert mapped(source, classes=(*CLASSES, "covid19")) == ["normal", "covid19", "pneumonia"]


def test_columns_of_findings_are_read_as_labels_and_uncertain_ones_left_out(tmp_path):
    text = (
        "Path,Sex,Age,Frontal/Lateral,AP/PA,No Finding,Edema,Pneumonia\n"
        "CheXpert-small/train/p1/1.jpg,Male,68,Frontal,AP,1.0,,\n"
        "CheXpert-small/train/p2/1.jpg,Female,87,Frontal,AP,,-1.0,1.0\n"
        "CheXpert-small/train/p3/1.jpg,Female,83,Frontal,AP,,,-1.0\n"
        "CheXpert-small/train/p4/1.jpg,Male,41,Lateral,,,,1.0\n"
        "CheXpert-small/train/p5/1.jpg,Male,41,Frontal,PA,,1.0,0.0\n"
        "CheXpert-small/train/p6/1.jpg,Male,41,Frontal,PA,,,\n"
    )
    source = planted(tmp_path, text, *[f"train/p{number}/1.jpg" for number in range(1, 7)])
    assert mapped(source) == [
        "normal",
        "pneumonia",
        "uncertain finding: Pneumonia",
        "lateral view",
        'label of no class: ["Edema"]',
        'label of no class: ["none"]',
    ]


def test_a_list_in_a_cell_is_several_findings(tmp_path):
    cells = ["['No Finding']", "['pneumonia', 'mass']", "['pneumonia', 'No Finding']", "[]"]
    table = pd.DataFrame({"path": [f"{n}.png" for n in range(4)], "label": cells})
    source = planted(tmp_path, table.to_csv(index=False), *table["path"])
    assert mapped(source) == [
        "normal",
        "pneumonia",
        "findings of several classes: normal, pneumonia",
        "label of no class: []",
    ]


def test_a_label_that_is_mapped_as_a_whole_is_not_taken_apart(tmp_path):
    text = "path,label\n1.png,A|B\n2.png,normal\n"
    source = planted(tmp_path, text, "1.png", "2.png")
    assert mapped(source, labels={"A|B": "pneumonia"}) == ["pneumonia", "normal"]


def test_an_unknown_label_is_refused_unless_the_table_lists_several_findings(tmp_path):
    source = planted(tmp_path, "path,label\n1.png,nromal\n2.png,normal\n", "1.png", "2.png")
    with pytest.raises(ManifestError, match="unknown label 'nromal'"):
        mapped(source)


def test_case_and_usual_words_of_a_class_need_no_mapping(tmp_path):
    words = ["Normal", "NO FINDING", "Pneumonia", "normal ", "unauffällig"]
    table = pd.DataFrame({"path": [f"{n}.png" for n in range(5)], "label": words})
    source = planted(tmp_path, table.to_csv(index=False), *table["path"])
    assert mapped(source) == ["normal", "normal", "pneumonia", "normal", "normal"]


def test_an_explicit_mapping_goes_before_words(tmp_path):
    source = planted(tmp_path, "path,label\n1.png,No Finding\n2.png,TB\n", "1.png", "2.png")
    assert mapped(source, labels={"No Finding": None, "TB": "pneumonia"}) == [
        "label of no class: No Finding",
        "pneumonia",
    ]


@pytest.mark.parametrize("name", ["Set", "subset", "Dataset_type", "data split"])
def test_a_column_of_split_words_is_told(tmp_path, name):
    roles = roles_of(tmp_path, f"path,label,{name}\n1.png,normal,TRAIN\n2.png,normal,valid\n")
    assert roles.columns["split"] == name


def test_a_column_whose_values_disagree_with_its_name_is_noted_and_not_used(tmp_path):
    roles = roles_of(tmp_path, "path,label,fold,gender\n1.png,normal,3,PA\n2.png,normal,4,AP\n")
    assert "split" not in roles.columns
    assert "sex" not in roles.columns
    assert any("'fold' is not read as split: it holds '3', '4'" in note for note in roles.notes)


def test_equal_columns_are_no_ambiguity(tmp_path):
    roles = roles_of(tmp_path, "path,finding,diagnosis\n1.png,normal,normal\n2.png,TB,TB\n")
    assert roles.columns["label"] == "finding"
    assert not roles.problems


def test_several_columns_of_patients_are_told_by_the_more_certain_name(tmp_path):
    roles = roles_of(tmp_path, "path,label,subject,Patient ID\n1.png,normal,a,b\n2.png,TB,c,d\n")
    assert roles.columns["patient_id"] == "Patient ID"


def test_the_column_whose_files_exist_is_the_path(tmp_path):
    text = "original,png,mask,label\nx/1.dcm,1.png,m1.png,normal\nx/2.dcm,2.png,m2.png,TB\n"
    source = planted(tmp_path, text, "1.png", "2.png")
    assert [locator.rstrip("#") for locator in source.rows()["locator"]] == ["1.png", "2.png"]


def test_two_columns_of_files_are_refused_with_both(tmp_path):
    text = "film,mask,label\n1.png,m1.png,normal\n2.png,m2.png,TB\n"
    source = planted(tmp_path, text, "1.png", "2.png", "m1.png", "m2.png")
    with pytest.raises(ManifestError, match=r"several columns may hold the path: 'film', 'mask'"):
        source.rows()


def test_one_id_for_everybody_is_no_patient(tmp_path):
    rows = "".join(f"{n}.png,normal,ANONYMOUS\n" for n in range(20))
    source = planted(tmp_path, f"path,label,patient_id\n{rows}", *[f"{n}.png" for n in range(20)])
    assert set(source.rows()["patient_id"]) == {""}
    assert "every row has the patient 'ANONYMOUS'" in source.note


def test_missing_words_are_missing_except_in_labels(tmp_path):
    text = "path,label,patient_id,view\n1.png,None,NA,nan\n2.png,NA,7,PA\n"
    rows = planted(tmp_path, text, "1.png", "2.png").rows()
    assert rows[["label", "patient_id", "view"]].to_numpy().tolist() == [
        ["None", "", ""],
        ["NA", "7", "PA"],
    ]
