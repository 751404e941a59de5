"""The source of image files in a tree of folders, as most public collections unpack."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import pandas as pd

from xraysynth import images
from xraysynth.data.fetching.recipe import Fetch
from xraysynth.data.reading.folders import IMAGE_SUFFIXES, list_files
from xraysynth.data.sources._patterns import Match, compile_pattern, match_all
from xraysynth.data.sources.base import (
    LoadedImage,
    build_image_id,
    file_stamp,
    load_radiograph,
    resolve_path,
)
from xraysynth.errors import ConfigError, DataNotFoundError, ManifestError, format_some
from xraysynth.options import FolderName, require_valid


@dataclass(frozen=True, kw_only=True)
class FolderSource:
    """Images below `root` whose relative path matches `pattern`, which also yields the label.

    `pattern` is a regular expression for the whole relative path, with the named group `label` and
    optionally `split` and `view`; other files are ignored. The default expects one folder per class
    with images in it or in its `images/`, so lung masks in other subfolders are ignored. `patient` is a
    regular expression that is searched in each path; its group `patient`, or else the whole match, is
    the patient. Without it patients are unknown. With `download`, a missing folder is downloaded as
    `fetch` says.
    """

    name: FolderName
    root: str
    pattern: str = r"(?P<label>[^/]+)/(?:images/)?[^/]+"
    patient: str = ""
    labels: dict[str, str | None] = field(default_factory=dict)
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
        """List the files that match `pattern`, one row per file, in the order of their paths.

        Raises:
            DataNotFoundError: No file below `root` matches.
            ManifestError: `patient` does not match every path.
            ConfigError: A pattern takes longer than `_patterns.TIME_LIMIT_SECONDS`.
        """
        root = resolve_path(self, "root")
        files = list_files(root, IMAGE_SUFFIXES)
        match_of_file = self._match_paths(files)
        if not match_of_file:
            examples = format_some(files, 3) if files else "no image files"
            raise DataNotFoundError(
                f"source {self.name}: no image below {root.absolute()} matches pattern "
                f"{self.pattern!r}; found {examples}. Check source.{self.name}.root. {self.how_to_get}"
            )
        paths = list(match_of_file)
        return pd.DataFrame([groups for _, groups in match_of_file.values()]).assign(
            locator=paths,
            stamp=[file_stamp(root / path) for path in paths],
            image_id=[build_image_id(self.name, path) for path in paths],
            patient_id=self._parse_patients(paths),
            source=self.name,
            license=self.license,
        )

    def load(self, locator: str, size_px: int) -> LoadedImage:
        """Read one image at its own size."""
        path = Path(self.root).expanduser() / locator
        return load_radiograph(images.read_file(path), str(path))

    def _match_paths(self, files: list[str]) -> dict[str, Match]:
        """The match of each file whose path matches `pattern`."""
        matches = match_all(self.pattern, "fullmatch", files, f"source.{self.name}.pattern")
        return {file: match for file, match in zip(files, matches, strict=True) if match}

    def _parse_patients(self, paths: list[str]) -> list[str]:
        if not self.patient:
            return [""] * len(paths)
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
