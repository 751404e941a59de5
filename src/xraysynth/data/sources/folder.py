"""The source of image files in a tree of folders, as most public collections unpack."""

import shlex
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import pandas as pd

from xraysynth import images
from xraysynth.data.dicom.views import FRONTAL_VIEWS, parse_view
from xraysynth.data.fetching.recipe import Fetch
from xraysynth.data.reading.class_folders import read_class_folders
from xraysynth.data.reading.folders import FolderListing, list_images
from xraysynth.data.reading.splits import split_of_word
from xraysynth.data.sources._patterns import Match, compile_pattern, match_all
from xraysynth.data.sources.base import (
    LoadedImage,
    build_image_id,
    file_stamp,
    load_radiograph,
    resolve_path,
)
from xraysynth.errors import ConfigError, DataNotFoundError, ManifestError, format_some
from xraysynth.options import FolderName, Labels, PathText, expand_path, require_valid
from xraysynth.quoting import quote_override

CLASS_FOLDERS = r"(?P<label>[^/]+)/(?:images/)?[^/]+"
"""The default of `pattern`, with which `class_folders` tells the class of an image.

It is a pattern and no word, as earlier versions matched it: keys of finished work contain it.
"""


@dataclass(frozen=True)
class _File:
    """One image file, and the columns of its row that its path tells."""

    path: str
    columns: Mapping[str, Any]
    patient_id: str = ""
    left_out: str = ""


@dataclass(frozen=True, kw_only=True)
class FolderSource:
    """Images below `root`, one folder per class, or as `pattern` says.

    The folder of the class may hold further folders, such as patients or bacterial, and folders of splits
    (train, valid …) may lie above or below it. Masks, lateral views and images outside a class are left
    out and counted; docs/data.md has the rules. `pattern`, unless it is the default, is a regular expression
    for the whole relative path with the named group `label` and optionally `split` and `view`; images that
    it does not match are left out. `patient` is a regular expression that is searched in each path; its
    group `patient`, or else the whole match, is the patient. Without it a folder such as P0001 is the
    patient, and where there is none the patient is unknown. With `download`, a missing folder is
    downloaded as `fetch` says.
    """

    name: FolderName
    root: PathText
    pattern: str = CLASS_FOLDERS
    patient: str = ""
    labels: Labels = field(default_factory=dict)
    license: str = ""
    homepage: str = ""
    how_to_get: str = ""
    download: bool = field(default=False, metadata={"identity": False})
    fetch: Fetch | None = field(default=None, metadata={"identity": False})
    credentialed: bool = field(default=False, metadata={"identity": False})
    is_simulated: ClassVar[bool] = False

    def __post_init__(self) -> None:
        require_valid(self, f"source.{self.name}")
        compile_pattern(self.patient, f"source.{self.name}.patient")
        pattern = compile_pattern(self.pattern, f"source.{self.name}.pattern")
        if "label" not in pattern.groupindex:
            raise ConfigError(
                f"source.{self.name}.pattern={self.pattern!r} needs a named group for the label, "
                "for example (?P<label>[^/]+)/.+"
            )

    def rows(self) -> pd.DataFrame:
        """List the images, one row per file, in the order of their paths, those that are left out last.

        Raises:
            DataNotFoundError: There is no image of a class below `root`.
            ManifestError: `patient` does not match every path.
            ConfigError: A pattern takes longer than `_patterns.TIME_LIMIT_SECONDS`.
        """
        root = resolve_path(self, "root")
        listing = list_images(root)
        placed = self._place(listing.images)
        used = [file for file in placed if not file.left_out]
        if not used:
            raise DataNotFoundError(self._describe_nothing(root, listing, placed))
        left_out = [file for file in placed if file.left_out]
        return self._build_rows(root, used, left_out)

    def _build_rows(
        self, root: Path, used: Sequence[_File], left_out: Sequence[_File]
    ) -> pd.DataFrame:
        files = [*used, *left_out]
        paths = [file.path for file in files]
        stamps, problems = _stamp_files(root, paths)
        rows = pd.DataFrame([file.columns for file in files]).assign(
            locator=paths,
            stamp=stamps,
            image_id=[build_image_id(self.name, path) for path in paths],
            patient_id=self._parse_patients(used) + [""] * len(left_out),
            source=self.name,
            license=self.license,
        )
        if left_out:
            rows["left_out"] = [file.left_out for file in files]
        return rows.assign(unusable=problems) if any(problems) else rows

    def load(self, locator: str, size_px: int) -> LoadedImage:
        """Read one image at its own size."""
        path = expand_path(self.root) / locator
        return load_radiograph(images.read_file(path), str(path))

    def _place(self, paths: Sequence[str]) -> list[_File]:
        """Tell label, split, view and patient of each file, by its folders or by `pattern`."""
        if self.pattern == CLASS_FOLDERS:
            return _place_by_folders(paths, self.labels)
        matches = match_all(self.pattern, "fullmatch", paths, f"source.{self.name}.pattern")
        columns = list(compile_pattern(self.pattern, "").groupindex)
        placed = []
        for path, match in zip(paths, matches, strict=True):
            placed.append(_place_by_match(path, match, columns))
        return placed

    def _describe_nothing(self, root: Path, listing: FolderListing, placed: Sequence[_File]) -> str:
        """The words on why there is no image of a class, and what to do."""
        folder = root.absolute()
        remedy = f"check source.{self.name}.root"
        if placed and self.pattern != CLASS_FOLDERS:
            look = f"xraysynth inspect {shlex.quote(str(folder))}"
            remedy = f"correct source.{self.name}.pattern; this finds one: {look}"
        elif placed:
            remedy = "put each image into a folder named after its class, or use source=table"
        elif listing.other_files.get("DICOM"):
            option = quote_override("source.dicom.root", str(folder))
            remedy = f"read them with source=dicom {option}"
        pattern = "" if self.pattern == CLASS_FOLDERS else f" that matches pattern {self.pattern!r}"
        return (
            f"source {self.name}: there is no image of a class below {folder}{pattern}; found "
            f"{_describe_found(listing, placed)}; {remedy}. {self.how_to_get}"
        )

    def _parse_patients(self, used: Sequence[_File]) -> list[str]:
        if not self.patient:
            return [file.patient_id for file in used]
        paths = [file.path for file in used]
        option = f"source.{self.name}.patient"
        patients, unmatched = [], []
        matches = match_all(self.patient, "search", paths, option)
        for path, match in zip(paths, matches, strict=True):
            if match:
                whole, groups = match
                patients.append(groups.get("patient", whole))
            else:
                unmatched.append(path)
        if unmatched:
            raise ManifestError(
                f"source {self.name}: patient={self.patient!r} finds no patient in {len(unmatched)} "
                f"of {len(paths)} paths: {format_some(unmatched)}; adapt source.{self.name}.patient"
            )
        return patients


def _describe_found(listing: FolderListing, placed: Sequence[_File]) -> str:
    """What lies in a folder without an image of a class."""
    if placed:
        reasons = Counter(file.left_out for file in placed).most_common()
        counts = format_some(f"{count} {reason}" for reason, count in reasons)
        return f"{format_some(listing.images, 3)} ({counts})"
    if not listing.other_files:
        return "no image files"
    kinds = Counter(listing.other_files).most_common()
    return f"no images, but {format_some(f'{count} {kind}' for kind, count in kinds)} files"


def _place_by_folders(paths: Sequence[str], known_labels: Iterable[str]) -> list[_File]:
    """What the folders of the files say; split and view only if they say it of any."""
    images = read_class_folders(paths, known_labels)
    names = ["label"]
    names += [name for name in ("split", "view") if any(getattr(image, name) for image in images)]
    files = []
    for image in images:
        columns = {name: getattr(image, name) for name in names}
        files.append(_File(image.path, columns, image.patient_id, image.left_out))
    return files


def _place_by_match(path: str, match: Match | None, names: Sequence[str]) -> _File:
    """What the named groups of a pattern say of a file; words for splits are taken as they are meant."""
    if match is None:
        return _File(path, dict.fromkeys(names, ""), left_out="path does not match the pattern")
    columns = dict(match[1])
    if columns.get("split"):
        columns["split"] = split_of_word(columns["split"]) or columns["split"]
    view = parse_view(columns.get("view") or "")
    return _File(path, columns, left_out="" if view in ("", *FRONTAL_VIEWS) else view)


def _stamp_files(root: Path, paths: Sequence[str]) -> tuple[list[str], list[str]]:
    """The stamp of each file, and why it cannot be used, "" if it can: a link may lead to nothing."""
    stamps, problems = [], []
    for path in paths:
        stamp = problem = ""
        try:
            stamp = file_stamp(root / path)
        except DataNotFoundError as error:
            problem = str(error)
        stamps.append(stamp)
        problems.append(problem)
    return stamps, problems
