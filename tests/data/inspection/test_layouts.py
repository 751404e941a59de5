"""Where the class and the patient stand in the paths of images."""

import re

import pytest

from xraysynth.data.inspection.class_folders import find_layout
from xraysynth.data.inspection.patients import find_patient_pattern

CLASSES = ("normal", "pneumonia")


def files(name, n_images=20, **values):
    listed = []
    for position, label in enumerate(CLASSES):
        for index in range(n_images):
            number = 1000 * position + index
            split = ("train", "train", "valid", "test")[index % 4]
            site = "ab"[index % 2]
            listed.append(
                name.format(label=label, n=number, i=index, split=split, site=site, **values)
            )
    return listed


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("{label}/{n}.png", "a folder per class"),
        ("chest/{label}/images/{n}.png", "a folder per class"),
        ("{split}/{label}/{n}.png", "folders of splits (train, val, test)"),
        ("site_{site}/{label}/{n}.png", "a folder per class"),
        ("{label}_{n}.png", "names begin with the class"),
    ],
)
def test_the_layout_is_said_with_its_classes(name, said):
    layout = find_layout(files(name))
    assert layout is not None
    assert said in layout.description
    assert "normal, pneumonia" in layout.description


def test_classes_in_file_names_become_a_pattern():
    layout = find_layout(files("all/{label}_{n}.png"))
    assert layout is not None
    match = re.fullmatch(layout.options["pattern"], "all/normal_12.png")
    assert match is not None
    assert match["label"] == "normal"


@pytest.mark.parametrize("name", ["{n}.png", "scan-{n}.png"])
def test_running_numbers_have_no_class(name):
    assert find_layout(files(name)) is None


def test_folders_of_patients_need_no_pattern():
    layout = find_layout(files("{label}/P{n:04d}/1.png"))
    assert layout is not None
    assert layout.options == {}


@pytest.mark.parametrize(
    ("name", "n_patients"),
    [
        ("{label}/person{n}_bacteria_1.jpeg", 40),
        ("{label}/patient_{n}-{i}.png", 40),
        ("CXR_png/CHNCXR_{n}_0.png", 40),
        ("{label}/{n:08d}_{i:03d}.png", 40),
        ("{label}/P{n:04d}_1.png", 40),
    ],
)
def test_patients_are_found_in_file_names(name, n_patients):
    paths = files(name)
    found = find_patient_pattern(paths, [path[:4] for path in paths])
    assert found is not None
    assert found.patients == n_patients
    assert all(re.search(found.pattern, path) for path in paths)
    assert f"{n_patients} patients in 40 file names" in found.reason


def test_several_images_of_a_patient_are_one_patient():
    paths = files("{label}/{n:04d}_0.png") + files("{label}/{n:04d}_1.png")
    labels = [path.partition("/")[0] for path in paths]
    found = find_patient_pattern(paths, labels)
    assert found is not None
    assert found.patients == 40


@pytest.mark.parametrize(
    "name",
    [
        "{label}/{n}.png",
        "{label}/img_{n}.png",
        "{label}/tuberculosis-{n:04d}.jpg",
        "{label}/2024-03-01 10.22.{n}.png",
        "{label}/{i:04d}_1.png",  # the numbers begin anew in each class
    ],
)
def test_what_merely_counts_images_is_no_patient(name):
    paths = files(name)
    labels = [path.partition("/")[0] for path in paths]
    assert find_patient_pattern(paths, labels) is None
