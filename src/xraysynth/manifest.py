"""The manifest: a table of images of one folder, with guarantees that are checked."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd

from xraysynth.errors import ManifestError, some
from xraysynth.records import SPLITS, require_inside
from xraysynth.seeds import digest

_TEXT = "path label source patient_id split view sex license generator prompt pool sha256 boxes"
COLUMNS: Mapping[str, str] = MappingProxyType(
    {"image_id": "str", **dict.fromkeys(_TEXT.split(), "str")}
    | {"is_synthetic": "bool", "seed": "Int64", "age": "Float64"}
)
"""Column -> pandas dtype. Absent text is "", absent numbers are <NA>.

`path` is relative to the manifest's folder. `source` is the data set the image comes from.
`boxes` is JSON: known finding locations as [x0, y0, x1, y1] in fractions of width and height.
"""


def conform(table: pd.DataFrame) -> pd.DataFrame:
    """The table with exactly the schema's columns and dtypes; missing columns are filled."""
    blank = {"str": "", "bool": False, "Int64": pd.NA, "Float64": pd.NA}
    columns = {}
    for name, dtype in COLUMNS.items():
        values = table[name] if name in table else pd.Series([blank[dtype]] * len(table))
        if dtype == "str":
            values = values.astype(object).where(values.notna(), "")
        columns[name] = pd.array(list(values), dtype=dtype)
    return pd.DataFrame(columns)


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
        object.__setattr__(self, "table", conform(self.table))
        object.__setattr__(self, "folder", Path(self.folder))
        for rule, offends in _rules(self.table, self.classes).items():
            if offends.any():
                rows = self.table.loc[offends.to_numpy()]
                values = (
                    f"{r.image_id} (label {r.label!r}, path {r.path!r})" for r in rows.itertuples()
                )
                raise ManifestError(
                    f"manifest in {self.folder}: {rule}; broken by {len(rows)} of {len(self.table)} "
                    f"rows: {some(values)}"
                )
        for path in self.table["path"]:
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
        return replace(self, table=self.table.loc[np.asarray(mask)])

    def relabel(self, classes: Sequence[str]) -> "Manifest":
        """The same rows under another class vocabulary, which must know every label."""
        return replace(self, classes=tuple(classes))

    def split(self, name: str) -> "Manifest":
        """The rows of one split."""
        return self.where(self.table["split"] == name)

    def counts(self) -> dict[str, int]:
        """Images per class, in vocabulary order."""
        found = self.table["label"].value_counts()
        return {name: int(found.get(name, 0)) for name in self.classes}

    def digest(self) -> str:
        """SHA-256 over what decides a result: pixels, labels, splits, patients and ids."""
        columns = ["image_id", "sha256", "label", "split", "patient_id", "is_synthetic"]
        return digest([list(self.classes), self.table[columns].to_numpy().tolist()])

    def write(self, path: Path) -> None:
        """Write as Parquet, atomically; `path` must lie in `folder`."""
        if Path(path).parent.resolve() != self.folder.resolve():
            raise ManifestError(f"{path}: a manifest is written into its own folder, {self.folder}")
        partial = Path(f"{path}.{os.getpid()}.partial")
        self.table.to_parquet(partial, index=False)
        os.replace(partial, path)

    @classmethod
    def read(cls, path: Path, *, classes: Sequence[str]) -> "Manifest":
        """Read a Parquet manifest written by `write`."""
        return cls(pd.read_parquet(path), Path(path).parent, tuple(classes))


def _rules(table: pd.DataFrame, classes: Sequence[str]) -> dict[str, pd.Series]:
    split_of_patient = (
        table.loc[(table["patient_id"] != "") & (table["split"] != "")]
        .groupby(["source", "patient_id"])["split"]
        .nunique()
    )
    torn = split_of_patient[split_of_patient > 1].index
    patients = pd.MultiIndex.from_frame(table[["source", "patient_id"]])
    return {
        "image ids are unique": table["image_id"].duplicated(keep=False)
        | (table["image_id"] == ""),
        f"a label is one of {', '.join(classes)}": ~table["label"].isin(classes),
        f"a split is one of {', '.join(SPLITS)}": ~table["split"].isin(["", *SPLITS]),
        "synthetic images are for training only": table["is_synthetic"]
        & ~table["split"].isin(["", "train"]),
        "a real image has a patient id": ~table["is_synthetic"] & (table["patient_id"] == ""),
        "no patient is in two splits": pd.Series(patients.isin(torn), index=table.index),
    }
