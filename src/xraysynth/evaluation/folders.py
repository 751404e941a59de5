"""Reads folders of images as manifests that `images.evaluate` takes, with one vocabulary and size.

real, synthetic = from_folder("real"), from_folder("mine", is_synthetic=True)
"""

from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd

from xraysynth.data.reading.folders import IMAGE_SUFFIXES, list_files
from xraysynth.data.reading.tables import read_table_file
from xraysynth.errors import DataNotFoundError, ManifestError, format_some
from xraysynth.images import read_file, read_size
from xraysynth.manifest import Manifest
from xraysynth.records import require_inside, sha256_bytes

ONE_CLASS = "all"
"""The class of images in folders that do not tell classes apart."""

_MAX_MEASURED_FILES = 200
"""The number of files of a folder whose sides are read: a median needs no more."""


def from_folder(folder: Path, *, is_synthetic: bool = False) -> Manifest:
    """Lists all images below a folder as a manifest.

    The sub-folders are the classes where every image lies in one. A file `manifest.csv` in the folder
    takes precedence; it has the columns path and label, and patient_id where patients are known.
    Without patients each image counts as a patient of its own.

    Raises:
        DataNotFoundError: The folder does not exist or holds no images, or `manifest.csv` lacks a
            column.
        ManifestError: `manifest.csv` names a file outside the folder.
    """
    folder = Path(folder).expanduser()
    if not folder.is_dir():
        raise DataNotFoundError(f"{folder.absolute()} is not a folder; name a folder of images")
    table = _list_images(folder)
    digests = []
    for path in table["path"]:
        digests.append(sha256_bytes(read_file(require_inside(folder, path))))
    table = table.assign(
        image_id=table["path"],
        source=folder.name,
        patient_id="" if is_synthetic else _patient_ids(table),
        is_synthetic=is_synthetic,
        split="train" if is_synthetic else "test",
        sha256=digests,
    )
    return Manifest(table, folder, tuple(sorted(set(table["label"]))))


def _list_images(folder: Path) -> pd.DataFrame:
    """Returns the columns path and label of a folder's images, from its manifest.csv if it has one."""
    csv_file = folder / "manifest.csv"
    table = read_table_file(csv_file) if csv_file.is_file() else _scan_folder(folder)
    if table.empty:
        raise DataNotFoundError(
            f"{folder.absolute()}: there are no images ({', '.join(IMAGE_SUFFIXES)}) below this folder; "
            "name a folder of images"
        )
    if not {"path", "label"} <= set(table.columns):
        raise DataNotFoundError(
            f"{csv_file} needs the columns path and label, but has {format_some(table.columns)}; add "
            "the missing columns"
        )
    return table


def _scan_folder(folder: Path) -> pd.DataFrame:
    """Lists the image files below a folder; the label is the first sub-folder, or `ONE_CLASS`."""
    table = pd.DataFrame({"path": list_files(folder, IMAGE_SUFFIXES)}, dtype=str)
    if table["path"].str.contains("/").all():
        return table.assign(label=table["path"].str.split("/").str[0])
    return table.assign(label=ONE_CLASS)


def _patient_ids(table: pd.DataFrame) -> pd.Series:
    """Returns the patient of each image, which is its path where no patient is known."""
    if "patient_id" not in table:
        return table["path"]
    patients = table["patient_id"].fillna("")
    return patients.where(patients != "", table["path"])


def unify_classes(*manifests: Manifest) -> list[Manifest]:
    """Returns manifests with the same classes: their own if all agree, or `ONE_CLASS` for all images.

    Raises:
        ManifestError: Two manifests have some classes in common, but not all.
    """
    vocabularies = {manifest.classes for manifest in manifests}
    if len(vocabularies) == 1:
        return list(manifests)
    for first, second in combinations(vocabularies, 2):
        if set(first) & set(second):
            listed = ", ".join(map("/".join, sorted(vocabularies)))
            raise ManifestError(
                f"the folders hold different classes: {listed}; give all of them the same sub-folders, or "
                "none"
            )
    return [Manifest(m.table.assign(label=ONE_CLASS), m.folder, (ONE_CLASS,)) for m in manifests]


def choose_common_size(*manifests: Manifest, max_px: int = 512) -> int:
    """Returns the side in pixels at which image sets are compared.

    It is the smallest of the sets' median sides, so that no set is enlarged, and at most `max_px`.
    """
    return int(min(max_px, *map(_median_side, manifests)))


def _median_side(manifest: Manifest) -> float:
    """Returns the median of the longer sides of a set's images, in pixels."""
    sides = [max(read_size(path)) for path in manifest.files[:_MAX_MEASURED_FILES]]
    return float(np.median(sides))


def comparison_limitations(
    sets: Sequence[Manifest], encoders: Sequence[str], size_px: int
) -> list[str]:
    """Returns one sentence per limitation that the reader of a comparison of folders must know.

    Args:
        sets: The compared image sets, the real one first.
        encoders: The names of the encoders in use.
        size_px: The side in pixels at which the images were compared.
    """
    limitations = [f"All images were put into one format: grey, padded to a square, {size_px} px."]
    real = sets[0]
    if (real.table["patient_id"] == real.table["path"]).all():
        limitations.append(
            "The patients of the real images are not known, so each image counts as a patient of its own, "
            "and intervals are too narrow where a patient has several images."
        )
    if real.classes == (ONE_CLASS,):
        limitations.append(
            "The folders do not tell classes apart, so there are no results by class."
        )
    if set(encoders) <= {"embedded", "classifier"}:
        limitations.append(
            "Without downloaded weights these distances are not the published FID and cannot be compared "
            "with published values; evaluate.encoders=[inception,rad_dino] gives those."
        )
    return limitations
