"""Unpacking archives of strangers: nothing is written outside, and neither time nor disk is unbounded."""

import os
import re
import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from xraysynth.data.fetching._archive_entries import (
    Entry,
    Kind,
    archive_format,
    iterate_entries,
    require_at_most,
)
from xraysynth.errors import ArchiveError, DamagedArchiveError
from xraysynth.files import atomic_path, exclusive_lock, remove_leftovers
from xraysynth.progress import DELAY_SECONDS, progress_bar

MAX_BYTES = 2**40
MAX_FILES = 1_000_000
"""Limits for archives of which nothing is known."""

MAX_RATIO = 200
"""How many times its own size an archive may unpack to; tables reach 20, radiographs 5."""

_RATIO_FREE_BYTES = 2**26
"""How much an archive may unpack to whatever its size."""

_MAX_LINKS_IN_A_ROW = 40
"""As many as Linux follows."""

_SUFFIXES = (".zip", ".tar", ".tgz", ".tar.gz", ".tbz2", ".tar.bz2")
_BLOCK_BYTES = 2**20
_DRIVE = re.compile(r"[A-Za-z]:")


def is_archive(path: Path) -> bool:
    """Return whether a file is an archive that `unpack` reads, by its name and content.

    Tables of spreadsheets and arrays of NumPy are zips too, but not archives of files.
    """
    return has_archive_suffix(path.name) and archive_format(path) != ""


def has_archive_suffix(name: str) -> bool:
    """Return whether a file is called as the archives that `unpack` reads."""
    return name.lower().endswith(_SUFFIXES)


def unpack(
    archive: Path, folder: Path, *, max_bytes: int = MAX_BYTES, max_files: int = MAX_FILES
) -> None:
    """Unpack a zip, tar, tar.gz or tar.bz2 into a new folder, which appears when it is complete.

    Links become the files that they lead to; links to folders and to nothing are left out. Archives
    inside the archive stay packed. If the process is killed, the next call starts again.

    Args:
        archive: The archive; its format is told by its content.
        folder: The folder to create; it may exist if it is empty.
        max_bytes: How many bytes the files may have together.
        max_files: How many entries the archive may hold.

    Raises:
        ArchiveError: The archive is damaged or encrypted; it holds more than allowed; or an entry has
            an absolute name, leaves the folder, is a link that does, a device, or has the name of
            another entry. Nothing is left of it then.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with exclusive_lock(folder.with_name(f".{folder.name}.lock")):
        remove_leftovers(folder)
        if folder.is_dir():
            _require_empty(archive, folder)
        with atomic_path(folder) as partial, _explain_damage(archive):
            partial.mkdir()
            _write_entries(archive, partial, max_bytes=max_bytes, max_files=max_files)


def format_bytes(n_bytes: int) -> str:
    """Return a number of bytes in the unit that people would use.

    >>> format_bytes(617_000_000), format_bytes(12)
    ('617 MB', '12 B')
    """
    for unit, size in (("TB", 10**12), ("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if n_bytes >= size:
            return f"{n_bytes / size:.3g} {unit}"
    return f"{n_bytes} B"


def _require_empty(archive: Path, folder: Path) -> None:
    if any(folder.iterdir()):
        raise ArchiveError(
            f"{archive} is not unpacked into {folder}, which holds files already; remove or rename it"
        )


@contextmanager
def _explain_damage(archive: Path) -> Iterator[None]:
    """Raise `ArchiveError` where a library finds an archive damaged, or a name cannot be written."""
    try:
        yield
    except ArchiveError:
        raise
    except (
        *(zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError, OSError),
        *(NotImplementedError, RuntimeError, ValueError, OverflowError),
    ) as error:
        reason = str(error).strip() or type(error).__name__
        message = (
            f"{archive} cannot be unpacked ({reason}); download it again, or unpack it yourself and name "
            "the folder instead"
        )
        is_of_the_disk = isinstance(error, OSError) and error.errno is not None
        raise (ArchiveError if is_of_the_disk else DamagedArchiveError)(message) from error


@dataclass
class _Unpacking:
    """One archive on its way into a folder; `links` are written last, when their targets are there."""

    archive: Path
    folder: Path
    max_bytes: int
    free_bytes: int
    bar: Any
    written_bytes: int = 0
    links: list[tuple[PurePosixPath, PurePosixPath]] = field(default_factory=list)

    def write(self, entry: Entry) -> None:
        path = self._inner_path(entry)
        if entry.kind is Kind.other:
            raise ArchiveError(
                f"{self.archive}: entry {entry.name!r} is a device or a pipe, which no data set needs; "
                "do not unpack it"
            )
        if path is None:
            return
        if entry.kind is Kind.link:
            self.links.append((path, self._link_target(entry, path)))
        elif entry.kind is Kind.folder:
            (self.folder / path).mkdir(parents=True, exist_ok=True)
        else:
            self._write_file(entry, self.folder / path)

    def _inner_path(self, entry: Entry) -> PurePosixPath | None:
        """The path of an entry inside the folder; None for the folder itself."""
        path = self._normalise(entry.name, entry, "name")
        return path if path.parts else None

    def _link_target(self, entry: Entry, path: PurePosixPath) -> PurePosixPath:
        start = "" if entry.is_hard_link else f"{path.parent}/"
        if entry.target.startswith(("/", "\\")):
            start = ""  # so that it is seen to be absolute
        target = os.path.normpath(f"{start}{entry.target}".replace("\\", "/"))
        return self._normalise(target, entry, "target")

    def _normalise(self, name: str, entry: Entry, part: str) -> PurePosixPath:
        path = PurePosixPath(name.replace("\\", "/"))
        if path.is_absolute() or ".." in path.parts or _DRIVE.match(name) or "\0" in name:
            raise ArchiveError(
                f"{self.archive}: the {part} of entry {entry.name!r} leads out of the folder that it is "
                "unpacked into; the archive is hostile or damaged: do not unpack it"
            )
        return path

    def _write_file(self, entry: Entry, file: Path) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        try:
            target = file.open("xb")
        except FileExistsError:
            raise ArchiveError(
                f"{self.archive}: entry {entry.name!r} has the name of another entry, here where "
                "capital and small letters may count as the same; unpack it yourself and name the folder "
                "instead"
            ) from None
        with target, entry.open() as content:
            while block := content.read(_BLOCK_BYTES):
                self._count(len(block))
                target.write(block)

    def _count(self, n_bytes: int) -> None:
        self.written_bytes += n_bytes
        self.bar.update(n_bytes)
        require_at_most(self.written_bytes, self.max_bytes, "bytes", self.archive)
        if self.written_bytes > self.free_bytes:
            raise ArchiveError(
                f"{self.archive} needs more than the {format_bytes(self.free_bytes)} that are free at "
                f"{self.folder.parent}; make room there"
            )

    def write_links(self) -> None:
        """Write each link to a file as another name of that file, until no more have a target."""
        pending = self.links
        for _ in range(_MAX_LINKS_IN_A_ROW):
            unresolved = [link for link in pending if not self._write_link(*link)]
            if len(unresolved) == len(pending):
                return  # what is left leads to folders or to nothing
            pending = unresolved

    def _write_link(self, path: PurePosixPath, target: PurePosixPath) -> bool:
        source = self.folder / target
        if not source.is_file():
            return False
        link = self.folder / path
        link.parent.mkdir(parents=True, exist_ok=True)
        if link.exists():
            raise ArchiveError(
                f"{self.archive}: link {str(path)!r} has the name of another entry; unpack it yourself "
                "and name the folder instead"
            )
        try:
            os.link(source, link)
        except OSError:  # the file system has no links, or no more of them for one file
            self._count(source.stat().st_size)
            shutil.copyfile(source, link)
        return True


def _write_entries(archive: Path, folder: Path, *, max_bytes: int, max_files: int) -> None:
    with progress_bar(f"unpack {archive.name}", None, "byte", delay=DELAY_SECONDS) as bar:
        free_bytes = shutil.disk_usage(folder).free
        max_by_ratio = max(_RATIO_FREE_BYTES, MAX_RATIO * archive.stat().st_size)
        limit = min(max_bytes, max_by_ratio)
        unpacking = _Unpacking(archive, folder, limit, free_bytes, bar)
        for entry in iterate_entries(archive, max_bytes=max_bytes, max_files=max_files):
            unpacking.write(entry)
        unpacking.write_links()
