"""The manifest: a table of the images in one folder, with guarantees that are checked."""

import copy
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from xraysynth.errors import ManifestError, format_some
from xraysynth.files import atomic_path, explain_unreadable
from xraysynth.records import SPLITS, require_inside

_TEXT_COLUMNS = (
    "path label source patient_id split view sex license generator prompt pool sha256 boxes"
)
COLUMNS: Mapping[str, str] = MappingProxyType(
    {"image_id": "str", **dict.fromkeys(_TEXT_COLUMNS.split(), "str")}
    | {"is_synthetic": "bool", "seed": "Int64", "age": "Float64"}
)
"""Column -> pandas dtype. Missing text is "", missing numbers are <NA>.

`path` is relative to the manifest's folder. `source` is the data set the image comes from.
`boxes` is JSON: known finding locations as [x0, y0, x1, y1] in fractions of width and height.
"""

_IDENTITY_COLUMNS = ["image_id", "sha256", "label", "split", "patient_id", "is_synthetic"]
"""Columns that the digest of a manifest covers."""

_MISSING_VALUES = {"str": "", "bool": False, "Int64": pd.NA, "Float64": pd.NA}
_SUSPICIOUS_PATH = r"^$|^[./]|\.\.|:"
"""Every path that `require_inside` refuses matches this; hardly any other does."""

_BLOCK_ROWS = 50_000


def conform_to_schema(table: pd.DataFrame) -> pd.DataFrame:
    """Return the table with exactly the columns and dtypes of `COLUMNS`; fill missing columns."""
    columns = {}
    for name, dtype in COLUMNS.items():
        columns[name] = _build_column(table, name, dtype)
    return pd.DataFrame(columns)


def _build_column(table: pd.DataFrame, name: str, dtype: str) -> Any:
    if name not in table:
        return pd.Series(_MISSING_VALUES[dtype], index=range(len(table)), dtype=dtype).array
    values = table[name]
    if str(values.dtype) == dtype:  # true for the columns of every manifest, so no copy is made
        return values.array.fillna("") if dtype == "str" else values.array
    if dtype == "str":
        values = values.astype(object).where(values.notna(), "")
    return pd.array(list(values), dtype=dtype)


class ListedFile(NamedTuple):
    """An image file as a manifest lists it.

    Attributes:
        path: The file.
        sha256: The SHA-256 that the file must have; "" where none is known.
    """

    path: Path
    sha256: str = ""


@dataclass(frozen=True)
class Manifest:
    """A table of the images in one folder, checked on construction.

    Labels are in `classes`; image ids are unique; a synthetic image is only ever in the train split; a
    real image has a patient; no patient is in two splits; no path leaves the folder.

    Attributes:
        table: One row per image with the columns of `COLUMNS`.
        folder: The folder that the paths of `table` are relative to.
        classes: The class vocabulary, in the order of the class indices.

    Raises:
        ManifestError: A guarantee is broken; the message names the rule and the rows.
    """

    table: pd.DataFrame
    folder: Path
    classes: tuple[str, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "table", conform_to_schema(self.table))
        object.__setattr__(self, "folder", Path(self.folder))
        for rule, is_violation in _find_violations(self.table, self.classes).items():
            if is_violation.any():
                raise ManifestError(
                    f"manifest in {self.folder}: {rule}; broken by {is_violation.sum()} of "
                    f"{len(self.table)} rows: {_format_rows(self.table[is_violation.to_numpy()])}"
                )
        paths = self.table["path"]
        for path in paths[paths.str.contains(_SUSPICIOUS_PATH)]:
            require_inside(self.folder, path)

    def __len__(self) -> int:
        return len(self.table)

    @property
    def files(self) -> list[Path]:
        """The path of each image, in the order of the rows."""
        return [self.folder / path for path in self.table["path"]]

    @property
    def listed_files(self) -> list[ListedFile]:
        """The path and the SHA-256 of each image, in the order of the rows."""
        return list_files(self.table, self.folder)

    @property
    def targets(self) -> np.ndarray:
        """The class index of each image, `(N,)` int64."""
        names = list(self.classes)
        return np.asarray(pd.Categorical(self.table["label"], categories=names).codes, np.int64)

    def where(self, mask: Any) -> "Manifest":
        """Return the manifest of the rows for which a boolean mask `(N,)` is true, renumbered from 0."""
        selection = copy.copy(self)  # the guarantees of all rows hold for some, unchecked
        rows = self.table.loc[np.asarray(mask)].reset_index(drop=True)
        object.__setattr__(selection, "table", rows)
        return selection

    def with_classes(self, classes: Sequence[str]) -> "Manifest":
        """Return the manifest with another class vocabulary, which must contain every label."""
        return replace(self, classes=tuple(classes))

    def split(self, name: str) -> "Manifest":
        """Return the manifest of one split: "train", "val" or "test"."""
        return self.where(self.table["split"] == name)

    def class_counts(self) -> dict[str, int]:
        """Return the number of images per class, in the order of `classes`."""
        counts = self.table["label"].value_counts()
        counts_of_all = counts.reindex(list(self.classes), fill_value=0).astype(int)
        return dict(zip(self.classes, counts_of_all.tolist(), strict=True))

    def digest(self) -> str:
        """Return the SHA-256 over all that results depend on: pixels, labels, splits, patients and ids."""
        # This is `seeds.digest([classes, rows])`, block by block: the whole text would need much memory.
        sha256 = hashlib.sha256(f"[{_compact_json(list(self.classes))},[".encode())
        separator = ""
        for rows in self._iter_identity_rows():
            sha256.update((separator + _compact_json(rows)[1:-1]).encode())
            separator = ","
        sha256.update(b"]]")
        return sha256.hexdigest()

    def _iter_identity_rows(self) -> Iterator[list[list[Any]]]:
        table = self.table[_IDENTITY_COLUMNS]
        for start in range(0, len(self), _BLOCK_ROWS):
            yield table.iloc[start : start + _BLOCK_ROWS].to_numpy().tolist()

    def write(self, path: Path) -> None:
        """Write the table as Parquet, atomically.

        Raises:
            ManifestError: `path` does not lie in `folder`.
        """
        if Path(path).parent.resolve() != self.folder.resolve():
            raise ManifestError(
                f"{path}: a manifest must be written into the folder of its images, {self.folder}"
            )
        with atomic_path(path) as partial:
            self.table.to_parquet(partial, index=False)

    @classmethod
    def read(cls, path: Path, *, classes: Sequence[str]) -> "Manifest":
        """Read a manifest that `write` has written; its folder is the folder of the file."""
        with explain_unreadable(path, "delete it and run again what wrote it"):
            table = pd.read_parquet(path)
        return cls(table, Path(path).parent, tuple(classes))


def _compact_json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))


def _format_rows(rows: pd.DataFrame) -> str:
    describe = "{} (label {!r}, path {!r})".format
    return format_some(map(describe, rows["image_id"], rows["label"], rows["path"]))


def _find_violations(table: pd.DataFrame, classes: Sequence[str]) -> dict[str, pd.Series]:
    """Rule -> which rows break it, bool."""
    ids, split, is_synthetic = table["image_id"], table["split"], table["is_synthetic"]
    is_outside_train = ~split.isin(["", "train"])
    return {
        "image ids are unique": ids.duplicated(keep=False) | (ids == ""),
        f"a label is one of {', '.join(classes)}": ~table["label"].isin(classes),
        f"a split is one of {', '.join(SPLITS)}": ~split.isin(["", *SPLITS]),
        "synthetic images are for training only": is_synthetic & is_outside_train,
        "a real image has a patient id": ~is_synthetic & (table["patient_id"] == ""),
        "no patient is in two splits": _patients_in_several_splits(table),
    }


def _patients_in_several_splits(table: pd.DataFrame) -> pd.Series:
    """Which rows are of patients who have images in more than one split, bool."""
    rows = table[["source", "patient_id", "split"]]
    rows = rows[(rows["patient_id"] != "") & (rows["split"] != "")]
    patient = rows.groupby(["source", "patient_id"], sort=False).ngroup()  # faster than by key
    splits = pd.DataFrame({"patient": patient, "split": rows["split"]}).drop_duplicates()
    patients_in_several = splits.loc[splits["patient"].duplicated(), "patient"]
    is_in_several = pd.Series(False, index=table.index)
    is_in_several[rows.index[patient.isin(patients_in_several)]] = True
    return is_in_several


def list_files(table: pd.DataFrame, folder: Path) -> list[ListedFile]:
    """Return path and SHA-256 of every row of a table with the columns `path` and `sha256`.

    Args:
        table: One row per image.
        folder: The folder that the paths are relative to.
    """
    rows = zip(table["path"], table["sha256"], strict=True)
    return [ListedFile(folder / path, sha256) for path, sha256 in rows]


def patient_keys(table: pd.DataFrame) -> pd.Series:
    """Return patient ids that are unique across data sets, as `source/patient_id`.

    In another data set the same patient id names another patient.

    >>> patient_keys(pd.DataFrame({"source": ["nih", "pneumonia"], "patient_id": ["7", "7"]})).tolist()
    ['nih/7', 'pneumonia/7']
    """
    return table["source"] + "/" + table["patient_id"]
