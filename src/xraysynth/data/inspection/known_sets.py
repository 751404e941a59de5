"""Public collections, recognised by their folders, file names and columns."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from pathlib import Path, PurePosixPath
from typing import Any

from xraysynth.data.inspection.survey import TABLE_SUFFIXES, Survey, suffix_of

MAX_LOOKED_AT = 50
"""Number of files of a folder whose names are compared with a set's pattern."""

SEARCH_DEPTH = 2
"""A set is looked for in the folder itself and in folders this many levels below it."""


@dataclass(frozen=True)
class KnownSet:
    """A public collection and the signs by which it is recognised, all of which must be there.

    Attributes:
        title: Its name.
        preset: Option of the group `source` that reads it; "" if none does.
        options: Option of the preset -> value, in which {root} is the folder of the set.
        file_names: Folder below the root ("" for the root itself) -> pattern of most of its files' names.
        columns: Table below the root -> some of its columns.
        hint: What to do instead, for a set that no preset reads.
    """

    title: str
    preset: str = ""
    options: Mapping[str, str] = field(default_factory=dict)
    file_names: Mapping[str, str] = field(default_factory=dict)
    columns: Mapping[str, list[str]] = field(default_factory=dict)
    hint: str = ""

    def options_at(self, root: Path) -> dict[str, str]:
        """Return the options of the preset for the set in a folder."""
        return {name: value.format(root=root) for name, value in self.options.items()}


@cache
def load_known_sets() -> tuple[KnownSet, ...]:
    """Load the known sets, one per yaml file, in the order of the files' names."""
    import yaml

    folder = files("xraysynth.conf") / "known_set"
    known_sets = []
    for file in sorted(folder.iterdir(), key=lambda entry: entry.name):
        if file.name.endswith(".yaml"):
            known_sets.append(KnownSet(**yaml.safe_load(file.read_text(encoding="utf-8"))))
    return tuple(known_sets)


def find_known_set(survey: Survey) -> tuple[KnownSet, str] | None:
    """Find the known set that a folder holds, and its root relative to the folder; None if none."""
    names = _names_by_folder(survey)
    for root in _candidate_roots(survey):
        for known_set in load_known_sets():
            if _has_all_signs(known_set, survey, names, root):
                return known_set, root
    return None


def _candidate_roots(survey: Survey) -> Iterator[str]:
    """The folders that may be the root of a set, the outermost first."""
    shallow = [folder for folder in survey.folders if folder.count("/") < SEARCH_DEPTH]
    yield from sorted(shallow, key=lambda folder: (_depth(folder), folder))


def _depth(folder: str) -> int:
    return len(PurePosixPath(folder).parts)


def _names_by_folder(survey: Survey) -> dict[str, list[str]]:
    """The names of the first `MAX_LOOKED_AT` files of each folder that are no tables or texts."""
    names: dict[str, list[str]] = {}
    for file in survey.files:
        if suffix_of(file) in TABLE_SUFFIXES:
            continue
        parent, _, name = file.rpartition("/")
        listed = names.setdefault(parent, [])
        if len(listed) < MAX_LOOKED_AT:
            listed.append(name)
    return names


def _has_all_signs(
    known_set: KnownSet, survey: Survey, names: Mapping[str, list[str]], root: str
) -> bool:
    for folder, pattern in known_set.file_names.items():
        if not _names_match(names.get(_join(root, folder), []), pattern):
            return False
    for table, columns in known_set.columns.items():
        file = _join(root, table)
        if file not in _file_set(survey) or not _has_columns(survey.root / file, columns):
            return False
    return bool(known_set.file_names or known_set.columns)


@cache
def _file_set(survey: Survey) -> frozenset[str]:
    return frozenset(survey.files)


def _join(root: str, name: str) -> str:
    return "/".join(filter(None, [root, name]))


def _names_match(names: list[str], pattern: str) -> bool:
    """Whether nine in ten names match."""
    matches = sum(1 for name in names if re.fullmatch(pattern, name))
    return bool(names) and matches >= 0.9 * len(names)


def _has_columns(table: Path, columns: list[str]) -> bool:
    """Whether the first line of a CSV names all columns."""
    try:
        with table.open(encoding="utf-8-sig", errors="replace") as file:
            header = file.readline(65_536)
    except OSError:
        return False
    return all(column in header for column in columns)


def load_preset(preset: str) -> dict[str, Any]:
    """Load the options of a preset as its yaml file states them, with the class in `_target_`."""
    import yaml

    text = (files("xraysynth.conf") / "source" / f"{preset}.yaml").read_text(encoding="utf-8")
    options: dict[str, Any] = yaml.safe_load(text)[preset]
    return options
