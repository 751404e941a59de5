"""Class, split, view and patient of images from the folders that they lie in, as people lay them out.

>>> first, second, third = read_class_folders(["ill/P0001/1.png", "ill/viral/2.png", "well/lateral/3.png"])
>>> first.label, first.patient_id, second.label, third.left_out
('ill', 'P0001', 'ill', 'lateral view')
"""

import functools
import re
import unicodedata
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from xraysynth.data.dicom.views import FRONTAL_VIEWS, parse_view
from xraysynth.data.reading.labels import class_of_word
from xraysynth.data.reading.splits import split_of_word

MASK, NO_CLASS = "mask, no radiograph", "in no folder of a class"

_IMAGE_FOLDER = re.compile(
    r"(images?|imgs?|pics?|pictures?|pngs?|jpe?gs?|cxrs?|x-?rays?|radiographs?|scans?)[-_ ]?\d*",
    re.I,
)
_MASK_FOLDER = re.compile(r".*masks?|seg|segs|segmentations?|annotations?|heatmaps?", re.I)
_MASK_FILE = re.compile(r".*[-_. ](masks?|segmentation)", re.I)
_PATIENT_FOLDER = re.compile(
    r"(p|pt|pat|patient|patienten|person|subj?|subject|case|id|fall)[-_ ]?\d+|\d{5,}", re.I
)
_VIEW_FOLDER = re.compile(
    r"(view|views|chest|cxr|thorax|supine|erect|upright|portable|[\W_])*", re.I
)
_MOST_OF_A_WRAPPER = 0.9
_FRONTAL_WORD = re.compile(r"(?<![a-z])(pa|ap|p\.a\.|a\.p\.|frontal)(?![a-z])", re.I)


@dataclass(frozen=True)
class PlacedImage:
    """An image file and what the folders that it lies in say of it.

    Attributes:
        path: POSIX path of the file, relative to the folder that was read.
        label: Name of the folder of its class, in Unicode's composed form; "" if there is none.
        split: "train", "val" or "test"; "" where the folders tell no two splits apart.
        view: "PA", "AP" or "frontal"; "" if no folder says it.
        patient_id: Name of the patient's folder; "" if there is none.
        left_out: Why it is no frontal radiograph of a class, such as "lateral view"; "" if it is one.
    """

    path: str
    label: str = ""
    split: str = ""
    view: str = ""
    patient_id: str = ""
    left_out: str = ""


def read_class_folders(paths: Sequence[str], known_labels: Iterable[str] = ()) -> list[PlacedImage]:
    """Tell the class and more of images by the folders that they lie in.

    The first folder is the class, whatever lies deeper, but for folders of splits (train, valid …), of
    images (images, png …), of views (PA, lateral …), of masks and of patients (P0001, patient12, or five
    digits), which may lie above or below it. Of several folders that could be the class it is the first
    whose name is a known word for one; one folder that holds nearly everything is passed over. If no image
    has a class by these rules, the first folder is its class, whatever it is called.

    Args:
        paths: POSIX paths of image files, relative to one folder.
        known_labels: Names of folders that are classes.

    Returns:
        One per path, in the same order.
    """
    known = {_normalise(label).casefold() for label in known_labels}
    folders = [_Folders.of(path, known) for path in paths]
    if not any(place.candidates and not place.left_out for place in folders):
        return _read_by_first_folder(paths)
    labels = _choose_classes([place.candidates for place in folders], known)
    has_splits = len({place.split for place in folders} - {""}) > 1
    images = []
    for path, place, label in zip(paths, folders, labels, strict=True):
        left_out = place.left_out or ("" if label else NO_CLASS)
        split = place.split if has_splits else ""
        images.append(PlacedImage(path, label, split, place.view, place.patient_id, left_out))
    return images


def _read_by_first_folder(paths: Sequence[str]) -> list[PlacedImage]:
    images = []
    for path in paths:
        folder, separator, _ = path.partition("/")
        label = _normalise(folder) if separator else ""
        images.append(PlacedImage(path, label, left_out="" if label else NO_CLASS))
    return images


@dataclass(frozen=True)
class _Folders:
    """What the folders of one path are; `candidates` are those that may be its class."""

    candidates: tuple[str, ...]
    split: str
    view: str
    patient_id: str
    left_out: str

    @classmethod
    def of(cls, path: str, known: Collection[str]) -> "_Folders":
        *names, file = map(_normalise, PurePosixPath(path).parts)
        candidates = []
        told = dict.fromkeys(("split", "view", "patient_id", "left_out"), "")
        for name in names:
            role, value = _role_of_folder(name)
            if role == "class" or name.casefold() in known:
                candidates.append(name)
            elif role in told:
                told[role] = told[role] or value
        if _MASK_FILE.fullmatch(PurePosixPath(file).stem):
            told["left_out"] = told["left_out"] or MASK
        return cls(tuple(candidates), **told)


def _normalise(name: str) -> str:
    return unicodedata.normalize("NFC", name)


@functools.lru_cache(maxsize=4096)  # the folders of a tree have few names
def _role_of_folder(name: str) -> tuple[str, str]:
    """What a folder tells ("view", "left_out", "split", "patient_id", "images" or "class"), and the value."""
    view = _view_of_folder(name)
    split = split_of_word(name)
    if view:
        return ("view" if view in FRONTAL_VIEWS else "left_out"), view
    if _MASK_FOLDER.fullmatch(name):
        return "left_out", MASK
    if split:
        return "split", split
    if _PATIENT_FOLDER.fullmatch(name):
        return "patient_id", name
    return ("images" if _IMAGE_FOLDER.fullmatch(name) else "class"), name


def _view_of_folder(name: str) -> str:
    """The view that a folder holds; "" if its name is more than that of a frontal view, or none."""
    view = parse_view(name)
    if view in FRONTAL_VIEWS and not _VIEW_FOLDER.fullmatch(_FRONTAL_WORD.sub("", name)):
        return ""
    return view


def _choose_classes(paths: Sequence[Sequence[str]], known: Collection[str]) -> list[str]:
    """Choose the class of each path out of its folders; "" where there is none."""
    names = {name for folders in paths for name in folders}
    known_names = {name for name in names if name.casefold() in known or class_of_word(name)}
    n_wrappers = _count_wrappers([folders for folders in paths if folders], known_names)
    ends = [_depth_of_class(folders, n_wrappers, known_names) for folders in paths]
    above: set[tuple[str, ...]] = set()  # folders that hold folders of classes are no classes
    for folders, end in zip(paths, ends, strict=True):
        above.update(tuple(folders[:depth]) for depth in range(1, end))
    labels = []
    for folders, end in zip(paths, ends, strict=True):
        while end <= len(folders) and tuple(folders[:end]) in above:
            end += 1
        labels.append(folders[end - 1] if 0 < end <= len(folders) else "")
    return labels


def _depth_of_class(folders: Sequence[str], n_wrappers: int, known_names: Collection[str]) -> int:
    """The number of folders down to the first that is known to be a class, or else to that in wrappers."""
    for depth, name in enumerate(folders, start=1):
        if name in known_names:
            return depth
    return n_wrappers + 1


def _count_wrappers(paths: Sequence[Sequence[str]], known_names: Collection[str]) -> int:
    """How many folders, one in the other, hold the others, and are not known to be a class."""
    count = 0
    while True:
        names = {folders[count] for folders in paths if len(folders) > count}
        deeper = sum(len(folders) > count + 1 for folders in paths)
        if len(names) != 1 or names & set(known_names) or deeper < _MOST_OF_A_WRAPPER * len(paths):
            return count
        count += 1
