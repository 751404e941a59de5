"""Radiographs listed in a CSV or Parquet table."""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import ClassVar

import pandas as pd

from xraysynth import images
from xraysynth.data.sources.base import (
    IMAGE_SUFFIXES,
    LoadedImage,
    build_image_id,
    file_stamp,
    list_files,
    resolve_path,
)
from xraysynth.errors import ImageError, ManifestError, format_some
from xraysynth.records import require_inside, sha256_bytes

DEFAULT_COLUMNS: Mapping[str, str] = MappingProxyType(
    {
        name: name
        for name in ("path", "image_id", "label", "patient_id", "split", "view", "sex", "age")
    }
    | {"source": "source_dataset", "license": "license", "sha256": "sha256"}
)
"""Column of the manifest -> where it is looked for in the table unless `columns` says otherwise."""


@dataclass(frozen=True, kw_only=True)
class TableSource:
    """Images that a table lists, one row each; paths are relative to `root` and never leave it.

    `columns` maps manifest columns to the table's where they differ from `COLUMNS`; path, label and
    whatever it names must exist. `root` is by default the table's folder; `by_name` says that paths
    are bare file names, to be found anywhere below it. `where` keeps the rows whose column has one
    of the values; `drop_unmapped` keeps the rows whose label `labels` maps. Where the table gives a
    SHA-256, the file must have it.
    """

    name: str
    path: str
    root: str = ""
    columns: dict[str, str] = field(default_factory=dict)
    where: dict[str, list[str]] = field(default_factory=dict)
    by_name: bool = False
    drop_unmapped: bool = False
    labels: dict[str, str | None] = field(default_factory=dict)
    license: str = ""
    homepage: str = ""
    how_to_get: str = ""
    credentialed: bool = field(default=False, metadata={"identity": False})
    is_simulated: ClassVar[bool] = False

    def rows(self) -> pd.DataFrame:
        """One row an image, in the table's order."""
        rows = self._select_rows(read_table(resolve_path(self, "path")))
        files = self._resolve_files(rows)
        rows["stamp"] = [file_stamp(self._root_folder() / file) for file in files]
        rows["image_id"] = [build_image_id(self.name, key) for key in rows.get("image_id", files)]
        sums = rows.pop("sha256") if "sha256" in rows else pd.Series("", rows.index)
        rows["locator"] = [f"{file}#{sum_}" for file, sum_ in zip(files, sums, strict=True)]
        for column, value in {
            "source": self.name,
            "license": self.license,
            "patient_id": "",
        }.items():
            rows[column] = rows[column].replace("", value) if column in rows else value
        if "age" in rows:
            rows["age"] = pd.to_numeric(rows["age"], errors="coerce")
        return rows.drop(columns="path").reset_index(drop=True)

    def load(self, locator: str, size_px: int) -> LoadedImage:
        """Read one image at its own size, after checking its SHA-256 where the table gives one."""
        relative, _, expected = locator.rpartition("#")
        file = self._root_folder() / relative
        try:
            data = file.read_bytes()
        except FileNotFoundError:
            raise ImageError(f"{file}: no such file any more; copy it again") from None
        found = sha256_bytes(data)
        if expected and found != expected.lower():
            raise ImageError(
                f"{file}: its SHA-256 is {found}, but {self.path} says {expected}; the file was "
                "changed or damaged: copy or download it again"
            )
        return LoadedImage(images.decode_image(data, str(file)))

    def _root_folder(self) -> Path:
        return Path(self.root).expanduser() if self.root else Path(self.path).expanduser().parent

    def _select_rows(self, table: pd.DataFrame) -> pd.DataFrame:
        """The rows asked for, with the manifest's column names, indexed by their line in a CSV."""
        table = table.set_axis(range(2, len(table) + 2))
        names = {**DEFAULT_COLUMNS, **self.columns}
        for column in (names["path"], names["label"], *self.columns.values(), *self.where):
            self._require_column(column, list(table))
        for column, values in self.where.items():
            table = table[table[column].isin([str(value) for value in values])]
        rows = pd.DataFrame({to: table[column] for to, column in names.items() if column in table})
        if self.drop_unmapped:
            rows = rows[rows["label"].isin([str(label) for label in self.labels])]
        if rows.empty:
            raise ManifestError(
                f"source {self.name}: no row of {self.path} is left; check "
                f"source.{self.name}.where={dict(self.where)} and the labels {list(self.labels)}"
            )
        return rows

    def _require_column(self, column: str, columns: list[str]) -> None:
        if column not in columns:
            near = difflib.get_close_matches(column, columns, n=3, cutoff=0.4) or columns
            raise ManifestError(
                f"source {self.name}: {self.path} has no column {column!r}; nearest: {format_some(near)}. "
                f"Name it in source.{self.name}.columns, for example "
                f"'source.{self.name}.columns.path={near[0]}'"
            )

    def _resolve_files(self, rows: pd.DataFrame) -> list[str]:
        """Existing files of the rows, relative to the root."""
        root = resolve_path(self, "root") if self.root else self._root_folder()
        paths = rows["path"].str.replace("\\", "/").map(lambda path: str(PurePosixPath(path)))
        self._raise_if_any(
            rows, paths.map(lambda path: _leaves_folder(root, path)), "must stay inside the root"
        )
        self._raise_if_any(rows, paths.duplicated(keep=False), "must be listed only once")
        if self.by_name:
            below = pd.Series(list_files(root, IMAGE_SUFFIXES), dtype=object)
            names = below.map(lambda path: PurePosixPath(path).name)
            twice = set(names[names.duplicated()])
            self._raise_if_any(rows, paths.isin(twice), "must be the name of only one file")
            paths = paths.map(dict(zip(names, below, strict=True))).fillna("")
        gone = paths.map(lambda path: not (root / path).is_file())
        self._raise_if_any(rows, gone, f"must be a file below {root.absolute()}")
        return list(paths)

    def _raise_if_any(self, rows: pd.DataFrame, violations: "pd.Series[bool]", rule: str) -> None:
        if violations.any():
            lines = rows.loc[violations, "path"].items()
            raise ManifestError(
                f"source {self.name}: a path {rule}; broken by {int(violations.sum())} of {len(rows)} "
                f"rows of {self.path}: {format_some(f'line {line} {path!r}' for line, path in lines)}; "
                f"correct or remove these rows, or set source.{self.name}.root. {self.how_to_get}"
            )


def read_table(path: Path) -> pd.DataFrame:
    """A CSV or Parquet file with every value as text; what is missing is ""."""
    try:
        parquet = path.suffix.lower() in (".parquet", ".pq")
        table = pd.read_parquet(path) if parquet else pd.read_csv(path, dtype=str)
    except (ValueError, OSError) as error:  # pandas' and Arrow's parsers raise ValueErrors
        raise ManifestError(f"{path}: not a readable CSV or Parquet table ({error})") from error
    return table.astype(object).where(table.notna(), "").map(lambda value: str(value).strip())


def _leaves_folder(root: Path, path: str) -> bool:
    try:
        require_inside(root, path)
    except ManifestError:
        return True
    return False
