"""Trees of folders with a known truth, put together at random from the layouts that people use."""

import random
import unicodedata
from dataclasses import dataclass

import pytest

from xraysynth.data.reading.class_folders import MASK, NO_CLASS, PlacedImage, read_class_folders

KNOWN = (
    "normal",
    "Normal",
    "NORMAL",
    "COVID-19",
    "No Finding",
    "pneumonia",
    "TB",
    "Lungenentzündung",
)
UNKNOWN = (
    "A",
    "Gruppe 2",
    "Viral Pneumonia",
    "Lung_Opacity",
    "0",
    "1",
    "krank",
    "covid-negativ",
    "肺炎",
)
WITHIN = ("bacterial", "viral", "2019", "studie", "Klinik Süd", "batch-3", "export(1)")
SPLITS = {
    "train": ("train", "Training", "TRAIN", "train_images"),
    "val": ("val", "valid", "Validation", "dev"),
    "test": ("test", "TEST", "testing", "hold-out"),
}
LATERAL = ("lateral", "LAT", "Seitlich", "P2_lateral", "lateral view", "left-lateral")
FRONTAL = {
    "PA": ("PA", "pa", "PA view", "PA_erect"),
    "AP": ("AP", "ap supine"),
    "frontal": ("frontal",),
}
MASKS = ("masks", "mask", "Lung Masks", "segmentation", "leftMask")
PATIENTS = ("P0001", "patient12", "Patient 3", "sub-07", "00012345", "case_4")
IMAGES = ("images", "img", "PNG", "images_001", "CXR")
WRAPPERS = ("data", "chest_xray", "mein Archiv", "Kaggle Download")


@dataclass
class Tree:
    """A way to lay out a data set: which folders there are, from the top down."""

    wrappers: list[str]
    split_at: str
    patient_at: str
    has_images: bool
    classes: list[str]
    rng: random.Random

    @classmethod
    def draw(cls, seed: int) -> "Tree":
        rng = random.Random(seed)
        classes = rng.sample(KNOWN if rng.random() < 0.5 else UNKNOWN, rng.randint(2, 4))
        return cls(
            wrappers=rng.sample(WRAPPERS, rng.choice([0, 0, 1, 2])),
            split_at=rng.choice(["", "above", "below"]),
            patient_at=rng.choice(["", "", "above", "below"]),
            has_images=rng.random() < 0.3,
            classes=classes,
            rng=rng,
        )

    def place(self, number: int) -> PlacedImage:
        """A file of the tree, and what it is."""
        rng = self.rng
        label = self.classes[number % len(self.classes)]
        split = ("train", "val", "test")[number % 3] if self.split_at else ""
        split_folder = [rng.choice(SPLITS[split])] if split else []
        patient = rng.choice(PATIENTS) if self.patient_at else ""
        patient_folder = [patient] if patient else []
        above = split_folder if self.split_at == "above" else []
        above = above + (patient_folder if self.patient_at == "above" else [])
        below = split_folder if self.split_at == "below" else []
        below = below + (patient_folder if self.patient_at == "below" else [])
        view, reason, more = self._draw_special()
        below += more + ([rng.choice(IMAGES)] if self.has_images else [])
        form = rng.choice(["NFC", "NFD"])
        parts = [*self.wrappers, *above, label, *below, f"{number}.png"]
        path = unicodedata.normalize(form, "/".join(parts))
        return PlacedImage(path, unicodedata.normalize("NFC", label), split, view, patient, reason)

    def _draw_special(self) -> tuple[str, str, list[str]]:
        """View, reason to leave out, and the folder that says it."""
        rng = self.rng
        kind = rng.choice(["", "", "", "within", "lateral", "frontal", "mask"])
        if kind == "lateral":
            return "", "lateral view", [rng.choice(LATERAL)]
        if kind == "mask":
            return "", MASK, [rng.choice(MASKS)]
        if kind == "frontal":
            view = rng.choice(list(FRONTAL))
            return view, "", [rng.choice(FRONTAL[view])]
        return "", "", [rng.choice(WITHIN)] if kind == "within" else []


@pytest.mark.parametrize("seed", range(400))
def test_a_tree_is_read_as_it_was_laid_out(seed):
    tree = Tree.draw(seed)
    expected = [tree.place(number) for number in range(60)]
    assert read_class_folders([image.path for image in expected]) == expected


def test_files_beside_the_folders_of_classes_have_no_class():
    paths = ["data/normal/1.png", "data/sick/2.png", "data/3.png", "4.png"]
    labels = [(image.label, image.left_out) for image in read_class_folders(paths)]
    assert labels == [("normal", ""), ("sick", ""), ("", NO_CLASS), ("", NO_CLASS)]


def test_folders_that_hold_known_classes_are_none_themselves():
    paths = [
        "Klinik A/normal/1.png",
        "Klinik B/pneumonia/2.png",
        "Klinik B/3.png",
        "Klinik A/Ödem/4.png",
    ]
    labels = [image.label for image in read_class_folders(paths)]
    assert labels == ["normal", "pneumonia", "", "Ödem"]


def test_words_within_other_words_are_no_views_no_splits_and_no_masks():
    names = ("bilateral", "collateral", "trainee", "contest", "apathy", "maskless", "P", "patient")
    for name in names:
        (image, _) = read_class_folders([f"{name}/1.png", "normal/2.png"])
        assert (image.label, image.left_out) == (name, "")
