"""Single files that hold many images: the arrays of MedMNIST, and archives."""

import re
from pathlib import Path
from zipfile import BadZipFile, ZipFile, is_zipfile

CHEST_FLAGS = {"pneumoniamnist": "pneumoniamnist"}
"""MedMNIST's name of a set of chest radiographs with one label per image -> preset."""

MULTI_LABEL_FLAGS = ("chestmnist",)

_ARRAYS = {"train_images", "train_labels", "val_images", "val_labels", "test_images", "test_labels"}


def medmnist_name(path: Path) -> tuple[str, int] | None:
    """Return MedMNIST's name and image size of an array file; None if it is no such file.

    Sizes other than 28 stand at the end of the file's name, as MedMNIST writes them.
    """
    try:
        with ZipFile(path) as archive:
            names = {name.removesuffix(".npy") for name in archive.namelist()}
    except (OSError, BadZipFile):
        return None
    if not names >= _ARRAYS:
        return None
    match = re.fullmatch(r"(.+?)(?:_(64|128|224))?", path.stem)
    return (match[1], int(match[2] or 28)) if match else None


def is_archive(path: Path) -> bool:
    """Return whether a file is a zip or tar archive, by its content; office tables are none."""
    import tarfile

    if path.suffix.lower() in (".npz", ".xlsx", ".docx", ".ods", ".pt", ".parquet"):
        return False
    try:
        return is_zipfile(path) or tarfile.is_tarfile(path)
    except OSError:
        return False
