"""Listing the files of a folder."""

import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from xraysynth.errors import DataNotFoundError

IMAGE_SUFFIXES = (
    *(".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".tif", ".tiff", ".webp", ".gif"),
    *(".bmp", ".pbm", ".pfm", ".pgm", ".pnm", ".ppm"),
    *(".jp2", ".j2k", ".j2c", ".jpc", ".jpf", ".jpx"),
)
"""Suffixes of the formats that are read (`images.IMAGE_FORMATS`), in lower case."""

MAX_SNIFFED_FILES = 20_000
"""The number of files with other suffixes of which the first bytes are looked at."""

_IMAGE_SIGNATURE = re.compile(
    rb"\x89PNG\r\n\x1a\n|\xff\xd8\xff|BM.{4}\0\0\0\0|GIF8[79]a|II\*\0|MM\0\*|RIFF.{4}WEBP"
    rb"|\0\0\0\x0cjP  \r\n\x87\n|\xff\x4f\xff\x51|P[1-6]\s+(?:#|\d+\s+\d+\s)",
    re.DOTALL,
)
_DICOM_MARK_AT, _DICOM_MARK = 128, b"DICM"
_DEBRIS = frozenset(
    ["__MACOSX", "@eaDir", "#recycle", "$RECYCLE.BIN", "System Volume Information", "lost+found"]
)
"""Folders that operating systems and servers leave behind, some of them with small copies of images."""

MAX_PATHS_PER_FOLDER = 16
"""Number of paths, through links, by which the files of one folder may be listed."""


def list_files(folder: Path, suffixes: Iterable[str] | None) -> list[str]:
    """List the files with one of the suffixes below a folder, without hidden files and folders.

    Args:
        folder: The folder; links are followed, except those to a folder that they lie in.
        suffixes: Lower-case suffixes such as ".png"; "" is for files without one, None for all files.

    Returns:
        Sorted POSIX paths relative to the folder, without pipes and devices.

    Raises:
        DataNotFoundError: Links lead to one folder in more than `MAX_PATHS_PER_FOLDER` ways.
    """
    allowed_suffixes = None if suffixes is None else frozenset(suffixes)
    paths = []
    for parent, names in _walk(Path(folder)):
        for name in filter(_is_visible, names):
            file = parent / name
            is_wanted = allowed_suffixes is None or file.suffix.lower() in allowed_suffixes
            if is_wanted and not _is_pipe_or_device(file):
                paths.append(file.relative_to(folder).as_posix())
    return sorted(paths)


@dataclass(frozen=True)
class FolderListing:
    """The files of a folder.

    Attributes:
        images: Sorted POSIX paths of the image files, relative to the folder.
        other_files: Kind, which is a suffix or "DICOM", -> number of files that are no images.
        hidden: Number of files and folders that are not looked at: hidden ones and those that operating
            systems, viewers and servers leave behind, such as `__MACOSX`.
    """

    images: list[str]
    other_files: Mapping[str, int]
    hidden: int = 0


def list_images(folder: Path) -> FolderListing:
    """List the image files below a folder, by suffix or else by their first bytes.

    Files without or with an unknown suffix are looked into, up to `MAX_SNIFFED_FILES`; files with the
    suffix of an image are images, whatever is in them.

    Args:
        folder: The folder; links are followed, except those to a folder that they lie in.

    Raises:
        DataNotFoundError: Links lead to one folder in more than `MAX_PATHS_PER_FOLDER` ways.
    """
    folder = Path(folder)
    images, other_files = [], Counter[str]()
    n_sniffed = 0
    for path in list_files(folder, None):
        suffix = PurePosixPath(path).suffix.lower()
        if suffix in IMAGE_SUFFIXES:
            images.append(path)
            continue
        n_sniffed += 1
        kind = sniff_kind(folder / path) if n_sniffed <= MAX_SNIFFED_FILES else ""
        if kind == "image":
            images.append(path)
        else:
            other_files[kind or suffix or "no suffix"] += 1
    return FolderListing(images, other_files, _count_hidden(folder))


def sniff_kind(file: Path) -> str:
    """Return "image" or "DICOM" by the first bytes of a file; "" for any other and for unreadable ones."""
    try:
        with file.open("rb") as opened:
            head = opened.read(_DICOM_MARK_AT + len(_DICOM_MARK))
    except OSError:
        return ""
    if head[_DICOM_MARK_AT:] == _DICOM_MARK:
        return "DICOM"
    return "image" if _IMAGE_SIGNATURE.match(head) else ""


def _count_hidden(folder: Path) -> int:
    """The number of files and folders that `list_files` passes over."""
    count = 0
    for parent, names in _walk(folder):
        count += sum(not _is_visible(name) for name in names)
        count += sum(
            not _is_visible(entry) and (parent / entry).is_dir() for entry in os.listdir(parent)
        )
    return count


def _walk(folder: Path) -> Iterator[tuple[Path, list[str]]]:
    """Yield each visible folder below a folder, itself included, with the names of its files.

    `os.walk` would follow two links to the parent for ever, from one into the other.
    """
    n_paths: Counter[str] = Counter()
    for parent, folders, names in os.walk(folder, followlinks=True):
        real_parent = os.path.realpath(parent)
        n_paths[real_parent] += 1
        if n_paths[real_parent] > MAX_PATHS_PER_FOLDER:
            raise DataNotFoundError(
                f"{folder}: links lead to {real_parent} in more than {MAX_PATHS_PER_FOLDER} ways, the "
                f"last is {parent}; remove links until each image is there once"
            )
        folders[:] = [name for name in folders if _is_visible(name)]
        folders[:] = [name for name in folders if not _leads_back(Path(parent, name))]
        yield Path(parent), names


def _leads_back(folder: Path) -> bool:
    """Whether a folder is a link to a folder that its path leads through."""
    if not folder.is_symlink():
        return False
    target = os.path.realpath(folder)
    return any(Path(os.path.realpath(parent)).is_relative_to(target) for parent in folder.parents)


def _is_pipe_or_device(path: Path) -> bool:
    return path.exists() and not path.is_file()


def _is_visible(name: str) -> bool:
    return not name.startswith(".") and name not in _DEBRIS
