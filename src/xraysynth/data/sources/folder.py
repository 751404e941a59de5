"""Radiographs in a tree of folders, as most public collections unpack."""

import re
from dataclasses import dataclass, field
from pathlib import Path
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
from xraysynth.errors import ConfigError, DataNotFoundError, ManifestError, format_some
from xraysynth.records import require_valid


@dataclass(frozen=True, kw_only=True)
class FolderSource:
    """Images below `root` whose relative path matches `pattern`; the path tells label and split.

    `pattern` is a regular expression for the whole relative path with the named group `label` and,
    if wanted, `split` and `view`; what does not match is left out. The default takes one folder a
    class, the images in it or in its `images/`, so lung masks beside them stay out.
    `patient` is a regular expression searched in each path; its group `patient`, or else the whole
    match, is the patient. Without it patients are unknown.
    """

    name: str
    root: str
    pattern: str = r"(?P<label>[^/]+)/(?:images/)?[^/]+"
    patient: str = ""
    labels: dict[str, str | None] = field(default_factory=dict)
    license: str = ""
    homepage: str = ""
    how_to_get: str = ""
    credentialed: bool = field(default=False, metadata={"identity": False})
    is_simulated: ClassVar[bool] = False

    def __post_init__(self) -> None:
        require_valid(self, f"source.{self.name}")
        for option in ("pattern", "patient"):
            self._compile(option)
        if "label" not in self._compile("pattern").groupindex:
            raise ConfigError(
                f"source.{self.name}.pattern={self.pattern!r} needs a named group for the label, "
                "for example (?P<label>[^/]+)/.+"
            )

    def rows(self) -> pd.DataFrame:
        """One row a matching file, in the order of their paths."""
        root = resolve_path(self, "root")
        files = list_files(root, IMAGE_SUFFIXES)
        pattern = self._compile("pattern")
        matches = {path: match for path in files if (match := pattern.fullmatch(path))}
        if not matches:
            seen = format_some(files, 3) if files else "no image files"
            raise DataNotFoundError(
                f"source {self.name}: no image below {root.absolute()} matches pattern "
                f"{self.pattern!r}; found {seen}. Check source.{self.name}.root. {self.how_to_get}"
            )
        table = pd.DataFrame([match.groupdict() for match in matches.values()])
        return table.assign(
            locator=list(matches),
            stamp=[file_stamp(root / path) for path in matches],
            image_id=[build_image_id(self.name, path) for path in matches],
            patient_id=self._parse_patients(list(matches)),
            source=self.name,
            license=self.license,
        )

    def load(self, locator: str, size_px: int) -> LoadedImage:
        """Read one image at its own size."""
        return LoadedImage(images.read_image(Path(self.root).expanduser() / locator))

    def _compile(self, option: str) -> re.Pattern[str]:
        try:
            return re.compile(getattr(self, option))
        except re.error as error:
            raise ConfigError(
                f"source.{self.name}.{option}={getattr(self, option)!r} is not a regular "
                f"expression: {error}"
            ) from None

    def _parse_patients(self, paths: list[str]) -> list[str]:
        if not self.patient:
            return [""] * len(paths)
        expression = self._compile("patient")
        group = "patient" if "patient" in expression.groupindex else 0
        found = [expression.search(path) for path in paths]
        strays = [path for path, match in zip(paths, found, strict=True) if match is None]
        if strays:
            raise ManifestError(
                f"source {self.name}: patient={self.patient!r} finds no patient in {len(strays)} "
                f"of {len(paths)} paths: {format_some(strays)}; adapt source.{self.name}.patient"
            )
        return [match[group] for match in found if match]
