"""Finding the files that a table means: its paths may come from another folder, machine or system."""

import os
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from xraysynth.data.reading.folders import IMAGE_SUFFIXES, list_files
from xraysynth.errors import format_some

NO_PATH = "no path"
MISSING = "the file is missing"


@dataclass(frozen=True)
class FoundFile:
    """Where the file of a row is.

    Attributes:
        path: Path relative to the root; "" if there is no file.
        reason: Why there is none (`NO_PATH`, `MISSING`); "" if there is one.
        fault: The rule that the path breaks, such as "must stay inside the root"; "" for none.
    """

    path: str = ""
    reason: str = ""
    fault: str = ""


OUTSIDE = FoundFile(fault="must stay inside the root, links included")


class FileFinder:
    """Finds files below a root by the paths that a table lists.

    A path is taken as it is written if there is a file. What carries no information may differ:
    backslashes, `./`, the root's own name or its absolute path in front, the Unicode form, upper and
    lower case, a missing suffix, and folders in front that all paths of the table share or that only the
    disk has. Nothing outside the root is ever a result, links included.

    Args:
        root: The folder of the images.
        table_folder: The folder of the table; paths may be relative to it if they lead below the root.
        by_name: Whether only the names of the files count, wherever they lie.
        suffixes: Lower-case suffixes of the files that may be meant.
    """

    def __init__(
        self,
        root: Path,
        *,
        table_folder: Path | None = None,
        by_name: bool = False,
        suffixes: Iterable[str] = IMAGE_SUFFIXES,
    ) -> None:
        self.root = Path(root)
        self.table_folder = Path(table_folder or root)
        self.by_name = by_name
        self.suffixes = tuple(suffixes)
        self.notes: list[str] = []
        self._absolute_root = os.path.normpath(self.root.absolute())
        self._real_root = os.path.realpath(self.root)
        self._bases = list(
            dict.fromkeys(
                [
                    self._absolute_root,
                    self._real_root,
                    str(self.table_folder.absolute()),
                    os.path.realpath(self.table_folder),
                ]
            )
        )
        self._is_inside_of_folder: dict[str, bool] = {}

    def count(self, texts: Sequence[str]) -> int:
        """Count the texts that are paths of files; for a look at a column of a table."""
        finder = FileFinder(
            self.root,
            table_folder=self.table_folder,
            by_name=self.by_name,
            suffixes=self.suffixes,
        )
        finder.__dict__["_index"] = self._index
        return sum(bool(found.path) for found in finder.find(texts))

    def find(self, texts: Sequence[str]) -> list[FoundFile]:
        """Find the file of each path; what was recognised on the way is added to `notes`.

        Paths with folders are sought in other folders only if none leads to a file as it is written: else
        a file that is missing would be replaced by one of the same name.
        """
        paths = [self._relative(text) for text in texts]
        found = [self._find_as_written(path) for path in paths]
        self._note_names_without_folder(paths, found)
        for seek in (self._find_in_deeper_folders, self._find_below_another_folder):
            if not any(item and item.path for item in found):
                seek(paths, found)
        results = []
        for path, item in zip(paths, found, strict=True):
            results.append(item or (OUTSIDE if path.is_outside else FoundFile(reason=MISSING)))
        return results

    def _note_names_without_folder(
        self, paths: Sequence["_Path"], found: Sequence[FoundFile | None]
    ) -> None:
        count = 0
        for path, item in zip(paths, found, strict=True):
            count += bool(len(path.parts) == 1 and item and "/" in item.path)
        if count and not self.by_name:
            self.notes.append(
                f"{count} files are found by their names alone, in folders below the root"
            )

    def _relative(self, text: str) -> "_Path":
        """A path of a table relative to the root, or marked as one that leads out of it."""
        path = text.strip().removeprefix("file://").replace("\\", "/")
        parts = _parts(path)
        if not parts or "\0" in path:
            return _Path(())
        if _is_drive(path) or path.startswith("//"):
            return _Path(parts, is_outside=True)
        if not path.startswith(("/", "~/")) and ".." not in parts:
            return _Path(parts)
        for base in self._bases:
            target = os.path.normpath(os.path.join(base, os.path.expanduser(path)))
            for root in (self._absolute_root, self._real_root):
                if target.startswith(root.rstrip("/") + "/"):
                    return _Path(_parts(os.path.relpath(target, root)))
        return _Path(parts, is_outside=True)

    def _find_as_written(self, path: "_Path") -> FoundFile | None:
        """The file of a path where it is written to be, or by its name alone; None if there is none."""
        if not path.parts:
            return FoundFile(reason=NO_PATH)
        if self.by_name:
            return self._find_by_tail(path.parts[-1:])
        if path.is_outside:
            return None
        found = self._find_at(path.parts)
        is_own_name = _fold(path.parts[0]) == _fold(Path(self._absolute_root).name)
        if not found and is_own_name and len(path.parts) > 1:
            return self._find_at(path.parts[1:])
        if not found and len(path.parts) == 1:  # a name alone says nothing of folders
            return self._find_by_tail(path.parts)
        return found

    def _find_at(self, parts: Sequence[str]) -> FoundFile | None:
        """The file at a path below the root, which may differ in case, Unicode form and suffix."""
        written = "/".join(parts)
        # It is False, and no error, for names that no system has; pathlib takes twice the time.
        if os.path.isfile(f"{self._absolute_root}/{written}"):
            return self._require_inside(written)
        return self._find_equivalent(parts)

    def _find_equivalent(self, parts: Sequence[str]) -> FoundFile | None:
        """The file that differs from a path in case, Unicode form and suffix at most."""
        path = _fold("/".join(parts))
        files = self._index.by_path.get(path) or self._index.by_stem.get(path)
        return self._choose(files, "/".join(parts))

    def _find_by_tail(self, parts: Sequence[str]) -> FoundFile | None:
        """The only file whose path ends with a path, whatever folders come before it."""
        path = _fold("/".join(parts))
        name = path.rpartition("/")[2]
        named = self._index.by_name.get(name) or self._index.by_name_stem.get(name) or []
        files = [file for file in named if _ends_with(file, path)]
        return self._choose(files, "/".join(parts))

    def _choose(self, files: Sequence[str] | None, written: str) -> FoundFile | None:
        """The only file, or the only one that is written in the same way."""
        if not files:
            return None
        composed = _compose(written)
        same = [file for file in files if _compose(os.path.splitext(file)[0]).endswith(composed)]
        same = [file for file in files if _compose(file).endswith(composed)] or same
        chosen = files if len(files) == 1 else same
        if len(chosen) != 1:
            return FoundFile(
                fault=f"must be the name of only one file, not of {format_some(files, 3)}"
            )
        return self._require_inside(chosen[0])

    def _find_in_deeper_folders(
        self, paths: Sequence["_Path"], found: list[FoundFile | None]
    ) -> None:
        """Find the files whose paths end with the paths of the table."""
        n_before = len(paths) - found.count(None)
        for position, path in enumerate(paths):
            if found[position] is None and not path.is_outside:
                found[position] = self._find_by_tail(path.parts)
        n_found = len(paths) - found.count(None) - n_before
        if n_found:
            self.notes.append(
                f"{n_found} files lie in other folders below {self.root.name} than listed"
            )

    def _find_below_another_folder(
        self, paths: Sequence["_Path"], found: list[FoundFile | None]
    ) -> None:
        """Find the files of all paths below the folder that they share, as on another machine."""
        matches: dict[int, FoundFile] = {}
        prefixes: set[tuple[str, ...]] = set()
        for position, path in enumerate(paths):
            n_kept = 0 if ".." in path.parts else len(path.parts)
            for n_dropped in range(1, n_kept):
                match = self._find_at(path.parts[n_dropped:])
                if match:
                    matches[position] = match
                    prefixes.add(path.parts[:n_dropped])
                    break
        if len(prefixes) != 1:
            return
        (prefix,) = prefixes
        if any(path.parts and path.parts[: len(prefix)] != prefix for path in paths):
            return
        for position, item in enumerate(found):
            if item is None:
                found[position] = matches.get(position, FoundFile(reason=MISSING))
        self.notes.append(
            f"the paths begin with folders of another place, taken to be {self.root.name}"
        )

    def _require_inside(self, path: str) -> FoundFile:
        """The file at a path below the root, or a fault if a link leads out of it."""
        file = f"{self._absolute_root}/{path}"
        folder = os.path.dirname(file)
        is_inside = self._is_inside_of_folder.get(folder)
        if is_inside is None:
            is_inside = self._is_inside_of_folder[folder] = self._is_inside(folder)
        if is_inside and os.path.islink(file):
            is_inside = self._is_inside(file)
        if is_inside:
            return FoundFile(path)
        target = os.path.realpath(file)
        return FoundFile(fault=f"{OUTSIDE.fault}: the first is a link to {target}, outside it")

    def _is_inside(self, path: str) -> bool:
        return Path(os.path.realpath(path)).is_relative_to(self._real_root)

    @cached_property
    def _index(self) -> "_Index":
        return _Index.of(list_files(self.root, self.suffixes))


@dataclass(frozen=True)
class _Path:
    """The parts of a path; relative to the root unless it leads out of it."""

    parts: tuple[str, ...]
    is_outside: bool = False


@dataclass(frozen=True)
class _Index:
    """Files by what a table may call them, in lower case and composed Unicode."""

    by_path: dict[str, list[str]]
    by_stem: dict[str, list[str]]
    by_name: dict[str, list[str]]
    by_name_stem: dict[str, list[str]]

    @classmethod
    def of(cls, files: Sequence[str]) -> "_Index":
        tables: list[dict[str, list[str]]] = [defaultdict(list) for _ in range(4)]
        for file in files:
            path = _fold(file)
            stem = os.path.splitext(path)[0]
            name, name_stem = path.rpartition("/")[2], stem.rpartition("/")[2]
            for table, key in zip(tables, (path, stem, name, name_stem), strict=True):
                table[key].append(file)
        return cls(*map(dict, tables))


def _ends_with(file: str, path: str) -> bool:
    folded = "/" + _fold(file)
    return folded.endswith("/" + path) or os.path.splitext(folded)[0].endswith("/" + path)


def _parts(path: str) -> tuple[str, ...]:
    return tuple(part for part in path.split("/") if part not in ("", "."))


def _is_drive(path: str) -> bool:
    """Whether a path begins with a drive of Windows, such as `D:/`."""
    return len(path) > 2 and path[0].isalpha() and path[1:3] == ":/"


def _compose(text: str) -> str:
    return unicodedata.normalize("NFC", text)


def _fold(text: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).casefold())
