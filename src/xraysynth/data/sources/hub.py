"""The source of image data sets of the Hugging Face Hub."""

import fnmatch
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import ClassVar

import pandas as pd

from xraysynth import images
from xraysynth.data.fetching.hub import HubDataset, HubFile
from xraysynth.data.fetching.hub_snapshots import (
    UNPACKED_SUFFIX,
    download_snapshot,
    find_snapshot,
    has_all_files,
    snapshot_folder,
    unpacked_folder,
)
from xraysynth.data.fetching.recipe import Commit
from xraysynth.data.fetching.unpacking import has_archive_suffix
from xraysynth.data.reading.ages import parse_age_years
from xraysynth.data.reading.folders import IMAGE_SUFFIXES, list_files
from xraysynth.data.reading.splits import split_of_word
from xraysynth.data.sources._hub_folders import (
    METADATA_SUFFIXES,
    is_metadata,
    list_folder_rows,
    list_metadata_rows,
    split_of_path,
)
from xraysynth.data.sources._hub_parquet import find_columns, read_picture, read_rows
from xraysynth.data.sources._patterns import compile_pattern, match_all
from xraysynth.data.sources.base import LoadedImage, build_image_id, load_radiograph
from xraysynth.errors import ConfigError, DataNotFoundError, ImageError, ManifestError, format_some
from xraysynth.options import FolderName, Labels, PathText, expand_path, require_valid
from xraysynth.records import require_inside

_REPO_NAME = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")

_OPTIONAL_COLUMNS = ("split", "view", "sex", "age", "left_out", "unusable")


@dataclass(frozen=True, kw_only=True)
class HubSource:
    """An image data set of the Hugging Face Hub: Parquet with a column of pictures, or image files or zips.

    `repo` is its name, owner/name. `revision` is a commit; without one the present commit is downloaded and
    kept. `files` is a pattern such as data/* of the files to use. Labels are names of labels, words of a
    column or of a metadata.csv, or folders. `columns` names the columns that are told wrongly:
    {image: xray, label: finding, patient_id: subject}. `patient` is a regular expression that is searched
    in the file's name; its group `patient`, or else the whole match, is the patient. A token for data sets
    that ask for consent is read from the environment, HF_TOKEN.
    """

    name: FolderName
    repo: str
    root: PathText = field(metadata={"identity": False})
    revision: Commit = field(default="", metadata={"identity": False})
    files: str = ""
    columns: dict[str, str] = field(default_factory=dict)
    patient: str = ""
    labels: Labels = field(default_factory=dict)
    drop_unmapped: bool = False
    license: str = ""
    credentialed: bool = field(default=False, metadata={"identity": False})
    is_simulated: ClassVar[bool] = False

    def __post_init__(self) -> None:
        require_valid(self, f"source.{self.name}")
        compile_pattern(self.patient, f"source.{self.name}.patient")

    def content_digest(self) -> str:
        """Return the commit, which decides everything that the data set yields."""
        return self._snapshot().commit

    def rows(self) -> pd.DataFrame:
        """List the images, one row per image, after downloading the data set where it is missing.

        Raises:
            DownloadError: The data set cannot be downloaded.
            ManifestError: A column is missing, a file is damaged, or `patient` does not match every name.
        """
        dataset = self._snapshot(is_checked=True)
        parquet = [file.path for file in dataset.files if _is_parquet(file.path)]
        rows = self._parquet_rows(parquet) if parquet else self._file_rows(dataset)
        if self.drop_unmapped:
            rows = rows[rows["label"].isin(list(map(str, self.labels)))].reset_index(drop=True)
        if rows.empty:
            raise ManifestError(f"source {self.name}: {self.repo} has no image with these labels")
        return self._as_source_rows(rows, dataset)

    def load(self, locator: str, size_px: int) -> LoadedImage:
        """Read one image at its own size."""
        file, _, row = locator.rpartition("#")
        path = self._inside(snapshot_folder(self._root, self._snapshot()), file)
        if not row:
            return load_radiograph(images.read_file(path), str(path))
        column = _image_column(path, tuple(self.columns.items()), self._columns_option)
        return load_radiograph(read_picture(path, column, int(row)), f"{path}, row {row}")

    @property
    def _columns_option(self) -> str:
        return f"source.{self.name}.columns"

    @property
    def _root(self) -> Path:
        return expand_path(self.root)

    def _inside(self, folder: Path, file: str) -> Path:
        try:
            return require_inside(folder, file)
        except ManifestError as error:
            raise ImageError(str(error)) from None

    def _snapshot(self, *, is_checked: bool = False) -> HubDataset:
        """The data set on this machine, downloaded where it is missing, or a file of it if checked."""
        if not _REPO_NAME.fullmatch(self.repo):
            raise ConfigError(
                f"source.{self.name}.repo must be the name of a data set of the Hub, owner/name; "
                f"got {self.repo!r}"
            )
        found = find_snapshot(self._root, self.repo, self.revision)
        if found is None or (is_checked and not has_all_files(self._root, found)):
            found = download_snapshot(
                self._root, self.repo, self.revision, name=self.name, select=self._select_files
            )
        return found

    def _select_files(self, dataset: HubDataset) -> list[HubFile]:
        """The files that are needed: Parquet, or else images and the tables about them."""
        files = [file for file in dataset.files if fnmatch.fnmatch(file.path, self.files or "*")]
        files = [file for file in files if not PurePosixPath(file.path).parts[0].startswith(".")]
        parquet = [file for file in files if _is_parquet(file.path)]
        pictures = [file for file in files if file.path.lower().endswith(IMAGE_SUFFIXES)]
        archives = [file for file in files if has_archive_suffix(file.path)]
        if not parquet and not pictures and not archives:
            raise DataNotFoundError(
                f"source {self.name}: {self.repo} holds no Parquet file with pictures, no image file and no "
                f"zip or tar{self._about_pattern()}, only "
                f"{format_some(file.path for file in files) or 'nothing'}; choose another data set"
            )
        # A page of examples may lie beside the archive that holds the data.
        holds_data = max(pictures, archives, key=_total_bytes)
        return parquet or [*holds_data, *(file for file in files if is_metadata(file.path))]

    def _about_pattern(self) -> str:
        return f" that matches source.{self.name}.files={self.files!r}" if self.files else ""

    def _parquet_rows(self, files: Sequence[str]) -> pd.DataFrame:
        folder = snapshot_folder(self._root, self._snapshot())
        tables = []
        for file in files:
            columns = find_columns(folder / file, self.columns, self._columns_option)
            rows = read_rows(folder / file, columns)
            locators = [f"{file}#{row}" for row in range(len(rows))]
            rows = rows.assign(file=file, locator=locators)
            words = rows["split"] if "split" in rows else [""] * len(rows)
            rows["split"] = [split_of_word(word) or split_of_path(file) for word in words]
            tables.append(rows)
        return pd.concat(tables, ignore_index=True).fillna("")

    def _file_rows(self, dataset: HubDataset) -> pd.DataFrame:
        folder = snapshot_folder(self._root, dataset)
        files = _list_image_files(dataset, folder)
        tables = list(filter(is_metadata, files))
        if tables:
            names = {
                "path" if role == "image" else role: self.columns[role] for role in self.columns
            }
            rows = list_metadata_rows(folder, tables, names, owner=f"source.{self.name}")
        else:
            rows = list_folder_rows(files, self.labels)
        rows = rows.fillna("")
        if "path" in rows:  # what a table names and is not there is reported by its name
            rows["file"] = rows["file"].where(rows["file"] != "", rows["path"])
        return rows.assign(file_name=rows["file"], locator=rows["file"] + "#")

    def _as_source_rows(self, rows: pd.DataFrame, dataset: HubDataset) -> pd.DataFrame:
        """The columns that every source has, of those that are not empty."""
        content = {file.path: file.sha256 or file.blob_id for file in dataset.files}
        contents = rows["file"].map(_path_in_dataset).map(content).fillna("").astype(str)
        kept = [name for name in _OPTIONAL_COLUMNS if name in rows and (rows[name] != "").any()]
        table = rows[["label", *kept]].assign(
            locator=rows["locator"],
            stamp=contents + ":" + rows["locator"],
            image_id=[build_image_id(self.name, key) for key in _unique_keys(rows["locator"])],
            patient_id=self._patients(rows),
            source=self.name,
            license=self.license or dataset.license,
        )
        if "age" in table:
            table["age"] = table["age"].map(parse_age_years).astype(float)
        return table

    def _patients(self, rows: pd.DataFrame) -> list[str]:
        known: list[str] = rows["patient_id"].tolist() if "patient_id" in rows else [""] * len(rows)
        if not self.patient:
            return known
        is_used = rows["left_out"] == "" if "left_out" in rows else pd.Series(True, rows.index)
        names = rows["file_name"][is_used].tolist()
        option = f"source.{self.name}.patient"
        matches = match_all(self.patient, "search", names, option)
        unmatched = [name for name, match in zip(names, matches, strict=True) if match is None]
        if unmatched:
            raise ManifestError(
                f"source {self.name}: patient={self.patient!r} finds no patient in {len(unmatched)} of "
                f"{len(names)} file names: {format_some(unmatched)}; adapt {option}"
            )
        patients = pd.Series("", rows.index, dtype=object)
        patients[is_used] = [match and match[1].get("patient", match[0]) for match in matches]
        return list(patients)


def _is_parquet(path: str) -> bool:
    return path.endswith(".parquet") and not is_metadata(path)


def _total_bytes(files: Sequence[HubFile]) -> int:
    return sum(file.size_bytes for file in files)


def _list_image_files(dataset: HubDataset, folder: Path) -> list[str]:
    """The paths of images and of tables about them, those in unpacked archives too."""
    files = []
    for file in dataset.files:
        if not has_archive_suffix(file.path):
            files.append(file.path)
            continue
        inner = unpacked_folder(folder / file.path)
        for name in list_files(inner, (*IMAGE_SUFFIXES, *METADATA_SUFFIXES)):
            path = (inner / name).relative_to(folder).as_posix()
            if is_metadata(path) or path.lower().endswith(IMAGE_SUFFIXES):
                files.append(path)
    return files


def _path_in_dataset(path: str) -> str:
    """The path of the archive that a file was unpacked from, or of the file itself."""
    archive, separator, _ = path.partition(f"{UNPACKED_SUFFIX}/")
    return archive if separator else path


def _unique_keys(locators: "pd.Series[str]") -> list[str]:
    """The locators, numbered where a table lists a file again."""
    numbers = locators.groupby(locators).cumcount()
    return [
        f"{key}/{number}" if number else key for key, number in zip(locators, numbers, strict=True)
    ]


@lru_cache(maxsize=256)
def _image_column(path: Path, columns: tuple[tuple[str, str], ...], option: str) -> str:
    return find_columns(path, dict(columns), option).image
