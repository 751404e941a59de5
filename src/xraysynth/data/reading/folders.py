"""Listing the files of a folder."""

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from xraysynth.errors import DataNotFoundError

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")

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
    return not name.startswith(".") and name != "__MACOSX"
