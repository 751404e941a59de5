"""The source of image files that a CSV or Parquet table lists."""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import ClassVar

import pandas as pd

from xraysynth import images
from xraysynth.data.reading.folders import IMAGE_SUFFIXES, list_files
from xraysynth.data.reading.names import MISSING_WORDS
from xraysynth.data.reading.tables import read_table
from xraysynth.data.sources.base import (
    LoadedImage,
    build_image_id,
    file_stamp,
    load_radiograph,
    resolve_path,
)
from xraysynth.errors import ImageError, ManifestError, format_some
from xraysynth.options import FolderName
from xraysynth.records import require_inside, sha256_bytes

DEFAULT_COLUMNS: Mapping[str, str] = MappingProxyType(
    {
        "path": "path",
        "image_id": "image_id",
        "label": "label",
        "patient_id": "patient_id",
        "split": "split",
        "view": "view",
        "sex": "sex",
        "age": "age",
        "source": "source_dataset",
        "license": "license",
        "sha256": "sha256",
    }
)
"""Column of the manifest -> column of the table that holds it, unless `columns` names another."""


@dataclass(frozen=True, kw_only=True)
class TableSource:
    """Images that a table lists, one row each; paths are relative to `root` and never leave it.

    `columns` maps columns of the manifest to columns of the table, where they differ from
    `DEFAULT_COLUMNS`; path, label and every column that it names must exist. `root` is the table's folder
    unless set; with `by_name`, paths are file names without folders, which may lie anywhere below it.
    `where` keeps the rows whose column has one of the values; `drop_unmapped` keeps the rows whose
    label is in `labels`. A file must have the SHA-256 that the table lists, if it lists one.
    """

    name: FolderName
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
        """List the images, one row per image, in the order of the table.

        Raises:
            DataNotFoundError: The table or `root` is missing.
            ManifestError: A column is missing, no row is left, or paths are wrong; the message names
                them.
        """
        rows = self._select_rows(read_table(resolve_path(self, "path")))
        files = self._resolve_files(rows)
        keys = rows.get("image_id", files)
        rows["stamp"] = [file_stamp(self._root_folder() / file) for file in files]
        rows["image_id"] = [build_image_id(self.name, key) for key in keys]
        hashes = rows.pop("sha256") if "sha256" in rows else pd.Series("", rows.index)
        rows["locator"] = list(map("{}#{}".format, files, hashes))
        defaults = {"source": self.name, "license": self.license, "patient_id": ""}
        for column, default in defaults.items():
            rows[column] = rows[column].replace("", default) if column in rows else default
        if "age" in rows:
            rows["age"] = pd.to_numeric(rows["age"], errors="coerce")
        return rows.drop(columns="path").reset_index(drop=True)

    def load(self, locator: str, size_px: int) -> LoadedImage:
        """Read one image at its own size, after checking its SHA-256 if the table lists one."""
        relative, _, expected = locator.rpartition("#")
        try:
            file = require_inside(self._root_folder(), relative)
        except ManifestError as error:  # it was replaced by a link after `rows` had listed it
            raise ImageError(str(error)) from None
        data = images.read_file(file)
        actual = sha256_bytes(data)
        if expected and actual != expected.lower():
            raise ImageError(
                f"{file}: the SHA-256 is {actual}, but {self.path} says {expected}; the file was "
                "changed or damaged: copy or download it again"
            )
        return load_radiograph(data, str(file))

    def _root_folder(self) -> Path:
        return Path(self.root).expanduser() if self.root else Path(self.path).expanduser().parent

    def _select_rows(self, table: pd.DataFrame) -> pd.DataFrame:
        """The rows that the options select, with the manifest's columns, indexed by line of the CSV."""
        table = table.set_axis(range(2, len(table) + 2))
        columns = {**DEFAULT_COLUMNS, **self.columns}
        for column in (columns["path"], columns["label"], *self.columns.values(), *self.where):
            self._require_column(column, list(table))
        for column, values in self.where.items():
            table = table[table[column].isin(list(map(str, values)))]
        rows = pd.DataFrame(index=table.index)
        for name, column in columns.items():
            if column in table:
                rows[name] = table[column]
            if name in rows and name not in ("path", "label"):
                rows[name] = rows[name].where(~rows[name].isin(MISSING_WORDS), "")
        if self.drop_unmapped:
            rows = rows[rows["label"].isin(list(map(str, self.labels)))]
        if rows.empty:
            raise ManifestError(
                f"source {self.name}: no row of {self.path} is selected; check "
                f"source.{self.name}.where={dict(self.where)} and the labels {list(self.labels)}"
            )
        return rows

    def _require_column(self, column: str, columns: list[str]) -> None:
        if column not in columns:
            similar = difflib.get_close_matches(column, columns, n=3, cutoff=0.4) or columns
            raise ManifestError(
                f"source {self.name}: {self.path} has no column {column!r}; the nearest are "
                f"{format_some(similar)}. Name it in source.{self.name}.columns, for example "
                f"'source.{self.name}.columns.path={similar[0]}'"
            )

    def _resolve_files(self, rows: pd.DataFrame) -> list[str]:
        """The path of each row's file, relative to the root; all of them exist."""
        root = resolve_path(self, "root") if self.root else self._root_folder()
        paths = rows["path"].str.replace("\\", "/").map(lambda path: str(PurePosixPath(path)))
        leaves_root = paths.map(lambda path: _leaves_folder(root, path))
        self._require_none(leaves_root, rows, "must stay inside the root, links included")
        self._require_none(paths.duplicated(keep=False), rows, "must be listed only once")
        if self.by_name:
            files = pd.Series(list_files(root, IMAGE_SUFFIXES), dtype=object)
            names = files.map(lambda file: PurePosixPath(file).name)
            ambiguous_names = set(names[names.duplicated()])
            is_ambiguous = paths.isin(ambiguous_names)
            self._require_none(is_ambiguous, rows, "must be the name of only one file")
            paths = paths.map(dict(zip(names, files, strict=True))).fillna("")
            leaves_root = paths.map(lambda path: bool(path) and _leaves_folder(root, path))
            self._require_none(leaves_root, rows, "must stay inside the root, links included")
        is_missing = paths.map(lambda path: not (root / path).is_file())
        self._require_none(is_missing, rows, f"must be a file below {root.absolute()}")
        return list(paths)

    def _require_none(self, is_violation: "pd.Series[bool]", rows: pd.DataFrame, rule: str) -> None:
        if is_violation.any():
            paths = rows.loc[is_violation, "path"]
            described = map("line {} {!r}".format, paths.index, paths)
            raise ManifestError(
                f"source {self.name}: a path {rule}; broken by {int(is_violation.sum())} of {len(rows)} "
                f"rows of {self.path}: {format_some(described)}; "
                f"correct or remove these rows, or set source.{self.name}.root. {self.how_to_get}"
            )


def _leaves_folder(root: Path, path: str) -> bool:
    try:
        require_inside(root, path)
    except ManifestError:
        return True
    return False
