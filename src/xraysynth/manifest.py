"""The manifest: a table of images of one folder, with guarantees that are checked."""

import copy
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd

from xraysynth.errors import ManifestError, format_some
from xraysynth.files import atomic_path
from xraysynth.records import SPLITS, require_inside

_TEXT_COLUMNS = (
    "path label source patient_id split view sex license generator prompt pool sha256 boxes"
)
COLUMNS: Mapping[str, str] = MappingProxyType(
    {"image_id": "str", **dict.fromkeys(_TEXT_COLUMNS.split(), "str")}
    | {"is_synthetic": "bool", "seed": "Int64", "age": "Float64"}
)
"""Column -> pandas dtype. Absent text is "", absent numbers are <NA>.

`path` is relative to the manifest's folder. `source` is the data set the image comes from.
`boxes` is JSON: known finding locations as [x0, y0, x1, y1] in fractions of width and height.
"""


_MISSING_VALUES = {"str": "", "bool": False, "Int64": pd.NA, "Float64": pd.NA}
_SUSPICIOUS_PATH = r"^$|^[./]|\.\.|:"
"""Every path that `require_inside` refuses matches this; hardly any other does."""

_BLOCK_ROWS = 50_000


def conform_to_schema(table: pd.DataFrame) -> pd.DataFrame:
    """The table with exactly the schema's columns and dtypes; missing columns are filled."""
    return pd.DataFrame(
        {name: _build_column(table, name, dtype) for name, dtype in COLUMNS.items()}
    )


def _build_column(table: pd.DataFrame, name: str, dtype: str) -> Any:
    if name not in table:
        return pd.Series(_MISSING_VALUES[dtype], index=range(len(table)), dtype=dtype).array
    values = table[name]
    if str(values.dtype) == dtype:  # as every manifest that was read, or made of another, has it
        return values.array.fillna("") if dtype == "str" else values.array
    if dtype == "str":
        values = values.astype(object).where(values.notna(), "")
    return pd.array(list(values), dtype=dtype)


@dataclass(frozen=True)
class Manifest:
    """Images of one folder: `table` has the columns of `COLUMNS`, paths are relative to `folder`.

    Guarantees, checked on construction: labels are in `classes`; image ids are unique; a synthetic
    image is only ever in the train split; a real image has a patient; no patient is in two splits;
    no path leaves the folder.
    """

    table: pd.DataFrame
    folder: Path
    classes: tuple[str, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "table", conform_to_schema(self.table))
        object.__setattr__(self, "folder", Path(self.folder))
        for rule, offends in _find_violations(self.table, self.classes).items():
            if offends.any():
                rows = self.table.loc[offends.to_numpy()]
                values = (
                    f"{r.image_id} (label {r.label!r}, path {r.path!r})" for r in rows.itertuples()
                )
                raise ManifestError(
                    f"manifest in {self.folder}: {rule}; broken by {len(rows)} of {len(self.table)} "
                    f"rows: {format_some(values)}"
                )
        paths = self.table["path"]
        for path in paths[paths.str.contains(_SUSPICIOUS_PATH)]:
            require_inside(self.folder, path)

    def __len__(self) -> int:
        return len(self.table)

    @property
    def files(self) -> list[Path]:
        """One path per row, in order."""
        return [self.folder / path for path in self.table["path"]]

    @property
    def targets(self) -> np.ndarray:
        """Class index per row, `(N,)` int64."""
        names = list(self.classes)
        return np.asarray(pd.Categorical(self.table["label"], categories=names).codes, np.int64)

    def where(self, mask: Any) -> "Manifest":
        """The rows for which the boolean mask holds."""
        chosen = copy.copy(self)  # what was checked for all rows need not be checked for some
        rows = self.table.loc[np.asarray(mask)].reset_index(drop=True)
        object.__setattr__(chosen, "table", rows)
        return chosen

    def with_classes(self, classes: Sequence[str]) -> "Manifest":
        """The same rows under another class vocabulary, which must know every label."""
        return replace(self, classes=tuple(classes))

    def split(self, name: str) -> "Manifest":
        """The rows of one split."""
        return self.where(self.table["split"] == name)

    def class_counts(self) -> dict[str, int]:
        """Images per class, in vocabulary order."""
        found = self.table["label"].value_counts()
        return {name: int(found.get(name, 0)) for name in self.classes}

    def digest(self) -> str:
        """SHA-256 over what decides a result: pixels, labels, splits, patients and ids."""
        # The text of `seeds.digest([classes, rows])`, which as a whole would need much memory.
        found = hashlib.sha256(f"[{_compact_json(list(self.classes))},[".encode())
        for number, rows in enumerate(self._iter_identity_rows()):
            found.update(("," * bool(number) + _compact_json(rows)[1:-1]).encode())
        found.update(b"]]")
        return found.hexdigest()

    def _iter_identity_rows(self) -> Iterator[list[list[Any]]]:
        columns = ["image_id", "sha256", "label", "split", "patient_id", "is_synthetic"]
        for start in range(0, len(self), _BLOCK_ROWS):
            yield self.table[columns].iloc[start : start + _BLOCK_ROWS].to_numpy().tolist()

    def write(self, path: Path) -> None:
        """Write as Parquet, atomically; `path` must lie in `folder`."""
        if Path(path).parent.resolve() != self.folder.resolve():
            raise ManifestError(f"{path}: a manifest is written into its own folder, {self.folder}")
        with atomic_path(path) as partial:
            self.table.to_parquet(partial, index=False)

    @classmethod
    def read(cls, path: Path, *, classes: Sequence[str]) -> "Manifest":
        """Read a Parquet manifest written by `write`."""
        return cls(pd.read_parquet(path), Path(path).parent, tuple(classes))


def _compact_json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))


def _find_violations(table: pd.DataFrame, classes: Sequence[str]) -> dict[str, pd.Series]:
    return {
        "image ids are unique": table["image_id"].duplicated(keep=False)
        | (table["image_id"] == ""),
        f"a label is one of {', '.join(classes)}": ~table["label"].isin(classes),
        f"a split is one of {', '.join(SPLITS)}": ~table["split"].isin(["", *SPLITS]),
        "synthetic images are for training only": table["is_synthetic"]
        & ~table["split"].isin(["", "train"]),
        "a real image has a patient id": ~table["is_synthetic"] & (table["patient_id"] == ""),
        "no patient is in two splits": _patients_in_several_splits(table),
    }


def _patients_in_several_splits(table: pd.DataFrame) -> pd.Series:
    """Rows of the patients who have images in more than one split."""
    known = table[["source", "patient_id", "split"]]
    known = known[(known["patient_id"] != "") & (known["split"] != "")]
    places = known.groupby(["source", "patient_id"], sort=False).ngroup()  # faster than by key
    splits = pd.DataFrame({"patient": places, "split": known["split"]}).drop_duplicates()
    twice = splits.loc[splits["patient"].duplicated(), "patient"]
    offends = pd.Series(False, index=table.index)
    offends[known.index[places.isin(twice)]] = True
    return offends


def patient_keys(table: pd.DataFrame) -> pd.Series:
    """Patient ids that are unique across data sets, in which the same id is another patient.

    >>> patient_keys(pd.DataFrame({"source": ["nih", "pneumonia"], "patient_id": ["7", "7"]})).tolist()
    ['nih/7', 'pneumonia/7']
    """
    return table["source"] + "/" + table["patient_id"]
