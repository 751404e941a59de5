"""Reads folders of images as manifests that `images.evaluate` takes, with one vocabulary and size.

real, synthetic = from_folder("real"), from_folder("mine", is_synthetic=True)
"""

import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd

from xraysynth.data.reading.ages import parse_age_years
from xraysynth.data.reading.class_folders import NO_CLASS, read_class_folders
from xraysynth.data.reading.folders import IMAGE_SUFFIXES, list_images
from xraysynth.data.reading.image_tables import TableReader
from xraysynth.data.reading.names import MISSING_WORDS
from xraysynth.data.recipe import Screening
from xraysynth.data.screening import ScreenedImage, Status, summarize_reason
from xraysynth.data.unusable import count_unusable, require_few_unusable
from xraysynth.errors import DataNotFoundError, ImageError, ManifestError, format_some
from xraysynth.images import read_file, read_image, read_size
from xraysynth.manifest import COLUMNS, Manifest
from xraysynth.options import expand_path
from xraysynth.records import require_inside, sha256_bytes

ONE_CLASS = "all"
"""The class of images in folders that do not tell classes apart."""

_MAX_MEASURED_FILES = 200
"""The number of files of a folder whose sides are read: a median needs no more."""


@dataclass(frozen=True)
class ImageFolder:
    """The images of a folder.

    Attributes:
        manifest: The images that are used.
        not_used: The other images, and why.
    """

    manifest: Manifest
    not_used: tuple[ScreenedImage, ...] = ()

    def require_few_unusable(self, policy: Screening) -> None:
        """Require that not more images are unusable than the policy allows.

        Raises:
            ImageError: More are; the message names the first.
        """
        require_few_unusable(
            self.not_used,
            source=self.manifest.folder.name,
            listed=len(self.manifest) + count_unusable(self.not_used),
            policy=policy,
        )

    def without_damaged(self) -> "ImageFolder":
        """Return the folder without the images that cannot be decoded, which are counted as unusable."""
        is_intact, damaged = [], []
        for file, path, label in zip(
            self.manifest.files,
            self.manifest.table["path"],
            self.manifest.table["label"],
            strict=True,
        ):
            reason = _find_damage(file)
            is_intact.append(not reason)
            if reason:
                damaged.append(
                    _image_not_used(self.manifest.folder, path, label, "unusable", reason)
                )
        manifest = self.manifest.where(is_intact)
        return ImageFolder(manifest, (*self.not_used, *damaged))

    def note(self) -> str:
        """Return a sentence on the images that are not used; "" if all are."""
        if not self.not_used:
            return ""
        counts = Counter(summarize_reason(image.reasons[0], image.file) for image in self.not_used)
        listed = ", ".join(f"{count} {reason}" for reason, count in counts.most_common())
        return (
            f"{len(self.not_used)} of {len(self.manifest) + len(self.not_used)} images of "
            f"{self.manifest.folder.name} are left out: {listed}."
        )


def from_folder(folder: Path, *, is_synthetic: bool = False) -> Manifest:
    """Lists all images below a folder as a manifest.

    The sub-folders are the classes where every image lies in one, or in a folder of one
    (`class_folders`). A table `manifest.csv` in the folder takes precedence; it lists paths and labels,
    and patients where they are known. Its rows without a path, a label or a file are left out with a
    warning. Without patients each image counts as a patient of its own.

    Raises:
        DataNotFoundError: The folder does not exist or holds no images.
        ManifestError: `manifest.csv` cannot be read, has no column of paths or labels, or names a file
            outside the folder.
    """
    read = read_image_folder(folder, is_synthetic=is_synthetic)
    if read.not_used:
        warnings.warn(read.note(), stacklevel=2)
    return read.manifest


def read_image_folder(folder: Path, *, is_synthetic: bool = False) -> ImageFolder:
    """Lists all images below a folder (`from_folder`), and the rows of its table that are not used."""
    folder = expand_path(folder)
    if not folder.is_dir():
        raise DataNotFoundError(f"{folder.absolute()} is not a folder; name a folder of images")
    table, not_used = _list_images(folder)
    digests = []
    for path in table["path"]:
        digests.append(sha256_bytes(read_file(require_inside(folder, path))))
    table = table.assign(
        source=folder.name,
        patient_id="" if is_synthetic else _patient_ids(table),
        is_synthetic=is_synthetic,
        split="train" if is_synthetic else "test",
        sha256=digests,
    )
    return ImageFolder(Manifest(table, folder, tuple(sorted(set(table["label"])))), not_used)


def _list_images(folder: Path) -> tuple[pd.DataFrame, tuple[ScreenedImage, ...]]:
    """Returns a folder's images by its manifest.csv, if it has one, and the rows that are not used."""
    csv_file = folder / "manifest.csv"
    if csv_file.is_file():
        return _list_table(csv_file)
    table, not_used = _scan_folder(folder)
    if table.empty:
        raise DataNotFoundError(
            f"{folder.absolute()}: there are no images ({', '.join(IMAGE_SUFFIXES)}) below this folder; "
            "name a folder of images"
        )
    return table.assign(image_id=table["path"]), not_used


def _list_table(csv_file: Path) -> tuple[pd.DataFrame, tuple[ScreenedImage, ...]]:
    listed = TableReader(csv_file, csv_file.parent, owner=csv_file.parent.name).read()
    used = listed.used
    if used.empty:
        reasons = format_some(listed.count_not_used())
        raise DataNotFoundError(f"{csv_file}: no row can be used ({reasons}); correct the table")
    facts = listed.table.loc[used.index].mask(lambda cells: cells.isin(MISSING_WORDS), "")
    text_columns = [name for name, dtype in COLUMNS.items() if dtype == "str" and name in facts]
    roles = used.drop(columns=["file", "left_out", "unusable", "sha256", "age"], errors="ignore")
    table = facts[text_columns].assign(**roles).assign(image_id=used["path"], path=used["file"])
    if "age" in used:
        table["age"] = pd.array(used["age"].map(parse_age_years).tolist(), dtype="Float64")
    not_used = []
    for line, row in listed.rows.drop(index=used.index).iterrows():
        name = row["path"] or f"line {line}"
        reason = row["left_out"] or row["unusable"]
        status: Status = "left out" if row["left_out"] else "unusable"
        not_used.append(_image_not_used(csv_file.parent, name, row["label"], status, reason))
    return table.reset_index(drop=True), tuple(not_used)


def _image_not_used(
    folder: Path, path: str, label: str, status: Status, reason: str
) -> ScreenedImage:
    return ScreenedImage(path, folder.name, label, path, status, [reason])


def _find_damage(file: Path) -> str:
    """Why a file cannot be used as a radiograph; "" if it can."""
    try:
        read_image(file)
    except ImageError as error:
        return str(error)
    return ""


def _scan_folder(folder: Path) -> tuple[pd.DataFrame, tuple[ScreenedImage, ...]]:
    """Lists the images below a folder with the class by their folders, or `ONE_CLASS` for all of them.

    Returns:
        The columns path, label and, if folders tell it, patient_id; and the masks and lateral views.
    """
    rows, not_used = [], []
    for image in read_class_folders(list_images(folder).images):
        if image.left_out in ("", NO_CLASS):
            rows.append((image.path, image.label, image.patient_id))
        else:
            not_used.append(
                _image_not_used(folder, image.path, image.label, "left out", image.left_out)
            )
    table = pd.DataFrame(rows, columns=["path", "label", "patient_id"], dtype=str)
    if (table["label"] == "").any():
        table["label"] = ONE_CLASS
    if not table["patient_id"].any():
        table = table.drop(columns="patient_id")
    return table, tuple(not_used)


def _patient_ids(table: pd.DataFrame) -> pd.Series:
    """Returns the patient of each image, which is its path where no patient is known."""
    if "patient_id" not in table:
        return table["path"]
    patients = table["patient_id"]
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
    sides, errors = [], []
    for path in manifest.files[:_MAX_MEASURED_FILES]:
        try:
            sides.append(max(read_size(path)))
        except ImageError as error:  # it is counted where the images are measured
            errors.append(error)
    if not sides and errors:
        raise errors[0]
    return float(np.median(sides))


def comparison_limitations(
    sets: Sequence[Manifest], encoders: Sequence[str], size_px: int, notes: Sequence[str] = ()
) -> list[str]:
    """Returns one sentence per limitation that the reader of a comparison of folders must know.

    Args:
        sets: The compared image sets, the real one first.
        encoders: The names of the encoders in use.
        size_px: The side in pixels at which the images were compared.
        notes: Sentences on images that are left out.
    """
    limitations = [f"All images were put into one format: grey, padded to a square, {size_px} px."]
    limitations.extend(filter(None, notes))
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
