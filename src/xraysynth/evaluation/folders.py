"""Folders of images as manifests that `evaluate` takes, under one vocabulary and at one size.

real, synthetic = from_folder("real"), from_folder("mine", is_synthetic=True)
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from xraysynth.data.sources.base import IMAGE_SUFFIXES, list_files
from xraysynth.errors import DataNotFoundError, ManifestError, format_some
from xraysynth.manifest import Manifest
from xraysynth.records import require_inside, sha256_bytes

ONE_CLASS = "all"
"""The class of images in folders that do not tell classes apart."""


def from_folder(folder: Path, *, is_synthetic: bool = False) -> Manifest:
    """All images below a folder; the classes are its sub-folders, where all images lie in one.

    A file `manifest.csv` in it with the columns path and label, and patient_id where known, is
    followed instead. Without patients each image counts as a patient of its own.
    """
    folder = Path(folder).expanduser()
    if not folder.is_dir():
        raise DataNotFoundError(f"{folder.absolute()} is no folder; name a folder of images")
    listed = folder / "manifest.csv"
    table = pd.read_csv(listed, dtype=str) if listed.is_file() else _scan_folder(folder)
    if table.empty or {"path", "label"} - set(table.columns):
        raise DataNotFoundError(
            f"{folder.absolute()}: no images ({', '.join(IMAGE_SUFFIXES)}) below it"
            if table.empty
            else f"{listed}: needs the columns path and label, but has {format_some(table.columns)}"
        )
    patients = table["patient_id"].fillna("") if "patient_id" in table else ""
    table = table.assign(
        image_id=table["path"],
        source=folder.name,
        patient_id="" if is_synthetic else patients,
        is_synthetic=is_synthetic,
        split="train" if is_synthetic else "test",
        sha256=[sha256_bytes(require_inside(folder, p).read_bytes()) for p in table["path"]],
    )
    if not is_synthetic:
        table["patient_id"] = table["patient_id"].where(table["patient_id"] != "", table["path"])
    return Manifest(table, folder, tuple(sorted(set(table["label"]))))


def _scan_folder(folder: Path) -> pd.DataFrame:
    paths = list_files(folder, IMAGE_SUFFIXES)
    in_folders = all("/" in path for path in paths)
    labels = [path.split("/")[0] if in_folders else ONE_CLASS for path in paths]
    return pd.DataFrame({"path": paths, "label": labels})


def unify_classes(*manifests: Manifest) -> list[Manifest]:
    """The manifests under one vocabulary: their classes if all have the same, or else one class."""
    names = {manifest.classes for manifest in manifests}
    if len(names) == 1:
        return list(manifests)
    if any(set(one) & set(other) for one in names for other in names if one != other):
        raise ManifestError(
            f"the folders hold different classes: {', '.join('/'.join(n) for n in sorted(names))}; "
            "give all of them the same sub-folders, or none"
        )
    return [Manifest(m.table.assign(label=ONE_CLASS), m.folder, (ONE_CLASS,)) for m in manifests]


def choose_common_size(*manifests: Manifest, max_px: int = 512) -> int:
    """A side in pixels at which no set is enlarged: the smallest median of the longer sides."""
    from PIL import Image

    def median_side(manifest: Manifest) -> float:
        sides = []
        for path in list(manifest.files)[:200]:
            with Image.open(path) as image:
                sides.append(max(image.size))
        return float(np.median(sides))

    return int(min(max_px, *(median_side(manifest) for manifest in manifests)))


def comparison_limitations(
    sets: Sequence[Manifest], encoders: Sequence[str], size_px: int
) -> list[str]:
    """What the reader of a comparison of folders must know; the real images are the first of `sets`."""
    limits = [f"All images were put into one format: grey, padded to a square, {size_px} px."]
    if (sets[0].table["patient_id"] == sets[0].table["path"]).all():
        limits.append(
            "The patients of the real images are not known, so that each image counts as a patient of "
            "its own, and intervals are too narrow where a patient has several."
        )
    if sets[0].classes == ("all",):
        limits.append("The folders do not tell classes apart, so nothing is said by class.")
    if set(encoders) <= {"embedded", "classifier"}:
        limits.append(
            "Without downloaded weights these distances are no FID and cannot be compared with "
            "published values: evaluate.encoders=[inception,rad_dino] gives those."
        )
    return limits
