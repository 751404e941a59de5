"""The classes, splits and patients that the paths of images tell, in words, with the options of a source."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from xraysynth.data.inspection.patients import find_patient_pattern
from xraysynth.data.reading.class_folders import PlacedImage, read_class_folders

MAX_NAMES = 6
"""Number of folders that a description names."""

MAX_WORDS = 8
"""Number of classes that file names may begin with."""


@dataclass(frozen=True)
class Layout:
    """Where the class stands in the paths of images.

    Attributes:
        description: The layout in words.
        options: Options of a folder source that differ from its defaults.
    """

    description: str
    options: dict[str, str] = field(default_factory=dict)


def find_layout(images: Sequence[str]) -> Layout | None:
    """Find the layout of image files from their relative paths; None where no class can be seen.

    Folders are read as a folder source reads them (`read_class_folders`). Where they tell no two classes,
    file names may begin with the class, such as normal_001.png.
    """
    placed = [image for image in read_class_folders(images) if not image.left_out]
    if len({image.label for image in placed}) < 2:
        by_name = _name_layout(images)
        if by_name is not None:
            return by_name
    if not placed:
        return None
    return Layout(_describe(placed), _patient_option(placed))


def _describe(placed: Sequence[PlacedImage]) -> str:
    classes = list_names(image.label for image in placed)
    splits = list_names(image.split for image in placed if image.split)
    if splits:
        return f"images in folders of splits ({splits}) and classes ({classes})"
    return f"images in a folder per class ({classes})"


def _patient_option(placed: Sequence[PlacedImage]) -> dict[str, str]:
    """The pattern of patients in file names, where no folder is the patient."""
    if any(image.patient_id for image in placed):
        return {}
    paths = [image.path for image in placed]
    found = find_patient_pattern(paths, [image.label for image in placed])
    return {"patient": found.pattern} if found is not None else {}


def _name_layout(images: Sequence[str]) -> Layout | None:
    """Classes by the word that file names begin with."""
    names = [PurePosixPath(image).name for image in images]
    words = Counter(_leading_word(name) for name in names)
    if not 1 < len(words) <= MAX_WORDS or "" in words or min(words.values()) < 2:
        return None
    pattern = r"(?:.+/)?(?P<label>[A-Za-z]+(?:[ _-][A-Za-z]+)*)[ _-]*\d[^/]*"
    description = f"images whose names begin with the class ({list_names(words.elements())})"
    return Layout(description, {"pattern": pattern})


def _leading_word(name: str) -> str:
    match = re.match(r"([A-Za-z]+(?:[ _-][A-Za-z]+)*)[ _-]*\d", name)
    return match[1] if match else ""


def list_names(names: Iterable[str]) -> str:
    """List the different names, the most frequent first, and "…" where there are more."""
    counts = Counter(names)
    listed = [name for name, _ in counts.most_common(MAX_NAMES)]
    return ", ".join(listed) + (" …" if len(counts) > MAX_NAMES else "")
