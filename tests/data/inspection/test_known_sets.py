"""Public collections are recognised by their files, and nothing else is taken for one."""

import numpy as np
import pytest
from image_trees import save_classes, save_image

from xraysynth.config import list_group_options
from xraysynth.data.inspection.known_sets import find_known_set, load_known_sets, load_preset
from xraysynth.data.inspection.other_files import medmnist_name
from xraysynth.data.inspection.proposals import propose
from xraysynth.data.inspection.survey import survey_folder
from xraysynth.errors import DataNotFoundError

FILES = {
    "montgomery": [
        "MontgomerySet/CXR_png/MCUCXR_0001_0.png",
        "MontgomerySet/CXR_png/MCUCXR_0002_1.png",
    ],
    "shenzhen": ["CXR_png/CHNCXR_0001_0.png"],
    "kermany": ["train/PNEUMONIA/person1_bacteria_1.jpeg", "train/NORMAL/IM-0115-0001.jpeg"],
    "covid_radiography": ["COVID/images/COVID-1.png", "Normal/images/Normal-1.png"],
    "tb_radiography": ["set/Normal/Normal-1.png", "set/Tuberculosis/Tuberculosis-1.png"],
}
TABLES = {
    "nih": (
        "Data_Entry_2017.csv",
        "Image Index,Finding Labels,Follow-up #,Patient ID,View Position",
    ),
    "cohen": ("metadata.csv", "patientid,offset,sex,finding,view,modality,filename"),
}


@pytest.mark.parametrize("preset", FILES)
def test_sets_of_folders_are_recognised(tmp_path, preset):
    for number, name in enumerate(FILES[preset]):
        save_image(tmp_path / name, number)
    found = find_known_set(survey_folder(tmp_path))
    assert found is not None
    known, root = found
    assert known.preset == preset
    proposal = propose(tmp_path)
    assert proposal.preset == preset
    assert proposal.options["root"] == str(tmp_path / root)
    assert known.title in proposal.description


@pytest.mark.parametrize("preset", TABLES)
def test_sets_with_a_table_are_recognised(tmp_path, preset):
    name, header = TABLES[preset]
    (tmp_path / name).write_text(header + "\n")
    proposal = propose(tmp_path)
    assert proposal.preset == preset
    assert proposal.options["path"] == str(tmp_path / name)


def test_a_set_that_no_preset_reads_is_named_with_what_to_do(tmp_path):
    (tmp_path / "train.csv").write_text(
        "Path,Sex,Age,Frontal/Lateral,AP/PA,No Finding,Pleural Effusion\n"
    )
    with pytest.raises(DataNotFoundError, match=r"is CheXpert; read it with source=xrv"):
        propose(tmp_path)


def test_folders_of_ones_own_are_no_public_set(tmp_path):
    save_classes(tmp_path, ("Normal", "Tuberculosis"))
    (tmp_path / "metadata.csv").write_text("patientid,finding\n")
    assert find_known_set(survey_folder(tmp_path)) is None


def test_the_presets_of_known_sets_are_there_and_have_the_options():
    for known in load_known_sets():
        if known.preset:
            assert known.preset in list_group_options("source")
            assert {"root", "path", "table"} >= set(known.options)
            assert "_target_" in load_preset(known.preset)
        else:
            assert known.hint


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("pneumoniamnist.npz", ("pneumoniamnist", 28)),
        ("pneumoniamnist_224.npz", ("pneumoniamnist", 224)),
    ],
)
def test_medmnist_files_say_their_size_in_their_name(tmp_path, name, expected):
    arrays = {}
    for split in ("train", "val", "test"):
        arrays[f"{split}_images"] = np.zeros((2, 28, 28), np.uint8)
        arrays[f"{split}_labels"] = np.zeros((2, 1), np.uint8)
    np.savez(tmp_path / name, **arrays)
    assert medmnist_name(tmp_path / name) == expected
    np.savez(tmp_path / "other.npz", images=np.zeros(2))
    assert medmnist_name(tmp_path / "other.npz") is None
