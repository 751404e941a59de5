"""The source of image files that a table lists."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import pandas as pd

from xraysynth import images
from xraysynth.data.fetching.recipe import Fetch
from xraysynth.data.reading.ages import parse_age_years
from xraysynth.data.reading.image_tables import ImageTable, TableReader
from xraysynth.data.screening import NOT_USED_COLUMNS
from xraysynth.data.sources.base import (
    LoadedImage,
    build_image_id,
    file_stamp,
    load_radiograph,
    resolve_path,
)
from xraysynth.errors import ImageError, ManifestError
from xraysynth.options import FolderName, Labels, PathText, expand_path
from xraysynth.records import require_inside, sha256_bytes


@dataclass(frozen=True, kw_only=True)
class TableSource:
    """Images that a table of any form lists, one row each; paths are relative to `root`.

    The columns are told by their names and values; `columns` names those that are told wrongly:
    {label: finding}. `root` is the table's folder unless set; with `by_name` only the names of files
    count, which may lie anywhere below it. `where` keeps the rows whose column has one of the values;
    `drop_unmapped` keeps the rows whose label is in `labels`. A file must have the SHA-256 that the table
    lists, if it lists one. With `download`, missing data is downloaded as `fetch` says.
    """

    name: FolderName
    path: PathText
    root: PathText = ""
    columns: dict[str, str] = field(default_factory=dict)
    where: dict[str, list[str]] = field(default_factory=dict)
    by_name: bool = False
    drop_unmapped: bool = False
    labels: Labels = field(default_factory=dict)
    license: str = ""
    homepage: str = ""
    how_to_get: str = ""
    download: bool = field(default=False, metadata={"identity": False})
    fetch: Fetch | None = field(default=None, metadata={"identity": False})
    credentialed: bool = field(default=False, metadata={"identity": False})
    is_simulated: ClassVar[bool] = False

    def rows(self) -> pd.DataFrame:
        """List the images, one row per image, in the order of the table.

        Raises:
            DataNotFoundError: The table, `root` or every file is missing.
            ManifestError: The table cannot be read, a column is missing or ambiguous, no row is left, or
                paths leave the root or are listed twice; the message names them.
        """
        rows = self._read().rows
        files = rows.pop("file")
        rows["stamp"] = [file_stamp(self._root_folder() / file) if file else "" for file in files]
        rows["image_id"] = [build_image_id(self.name, key) for key in _unique_keys(rows, files)]
        hashes = rows.pop("sha256") if "sha256" in rows else pd.Series("", rows.index)
        located = files.where(files != "", rows["path"])
        rows["locator"] = list(map("{}#{}".format, located, hashes))
        defaults = {"source": self.name, "license": self.license, "patient_id": ""}
        for column, default in defaults.items():
            rows[column] = rows[column].replace("", default) if column in rows else default
        if "age" in rows:
            rows["age"] = _parse_ages(rows["age"])
        for column in NOT_USED_COLUMNS:
            if not rows[column].any():
                rows = rows.drop(columns=column)
        return rows.drop(columns="path").reset_index(drop=True)

    @property
    def note(self) -> str:
        """How the table was read, where its form had to be recognised; "" if not."""
        notes = self._read().notes
        return f"{Path(self.path).name}: {'; '.join(notes)}" if notes else ""

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
        return expand_path(self.root) if self.root else expand_path(self.path).parent

    def _read(self) -> ImageTable:
        path = resolve_path(self, "path")
        root = resolve_path(self, "root") if self.root else self._root_folder()
        return TableReader(
            path,
            root,
            columns=self.columns,
            where=self.where,
            labels=self.labels if self.drop_unmapped else None,
            by_name=self.by_name,
            for_study=True,
            owner=f"source {self.name}",
            option=f"source.{self.name}",
            how_to_get=self.how_to_get,
        ).read()


def _unique_keys(rows: pd.DataFrame, files: "pd.Series[str]") -> list[str]:
    """What names each row: its image id, else its file; of rows that have neither alone, also the line."""
    keys = rows["image_id"].where(rows["image_id"] != "", files) if "image_id" in rows else files
    is_not_used = (rows["left_out"] != "") | (rows["unusable"] != "")
    needs_line = is_not_used & (keys.duplicated() | (keys == ""))
    unique = []
    for line, key, is_numbered in zip(rows.index, keys, needs_line, strict=True):
        unique.append(f"{key}/line {line}" if is_numbered else key)
    return unique


def _parse_ages(ages: "pd.Series[str]") -> "pd.Series[float]":
    numbers = pd.to_numeric(ages, errors="coerce")
    return numbers.where(numbers.notna(), ages.map(parse_age_years).astype(float))
