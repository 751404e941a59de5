"""Data sets of the Hugging Face Hub on this machine: a folder of plain files per commit, complete or not."""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from functools import lru_cache, partial
from itertools import chain
from pathlib import Path

from xraysynth.data.fetching.collections import (
    WORK_FOLDER,
    Collection,
    announce,
    require_space,
)
from xraysynth.data.fetching.hub import HubDataset, HubFile, download_file, open_dataset
from xraysynth.data.fetching.unpacking import has_archive_suffix, unpack
from xraysynth.files import exclusive_lock, explain_unreadable, write_atomically
from xraysynth.progress import progress_bar

CONNECTIONS = 8
"""How many small files are downloaded at once."""

SMALL_BYTES = 2**24
"""The largest size of a small file."""

UNPACKED_SUFFIX = ".unpacked"
"""Suffix of the folder that holds the files of an archive."""

_MAIN = "main"
"""File with the commit that is used where none is named."""

_LISTING = ".listing.json"
"""File that is written when all others are there."""


def find_snapshot(root: Path, repo: str, revision: str) -> HubDataset | None:
    """Return the data set of a commit whose download is complete; None if it is not there.

    Args:
        root: Folder of all data sets.
        repo: Name of the data set, `owner/name`.
        revision: The commit; "" for the one that was downloaded first.
    """
    commit = revision or _kept_commit(root, repo)
    listing = _folder(root, repo) / commit / _LISTING
    if not commit or not listing.exists():
        return None
    return _read_listing(listing, listing.stat().st_mtime_ns)


def _kept_commit(root: Path, repo: str) -> str:
    """The commit that was downloaded first without naming one; "" if none was."""
    main = _folder(root, repo) / _MAIN
    return main.read_text().strip() if main.exists() else ""


def has_all_files(root: Path, dataset: HubDataset) -> bool:
    """Return whether every file of a data set is there with its size, archives unpacked."""
    folder = snapshot_folder(root, dataset)
    for file in dataset.files:
        path = folder / file.path
        if not path.exists() or path.stat().st_size != file.size_bytes:
            return False
        if has_archive_suffix(file.path) and not unpacked_folder(path).is_dir():
            return False
    return True


def unpacked_folder(archive: Path) -> Path:
    """Return the folder beside an archive of a data set that holds its files."""
    return archive.with_name(f"{archive.name}{UNPACKED_SUFFIX}")


@lru_cache(maxsize=8)
def _read_listing(path: Path, version: int) -> HubDataset:
    """Read a version of a listing once: a data set may have 100,000 files."""
    with explain_unreadable(path, f"remove it to download the data set again: rm '{path}'"):
        known = json.loads(path.read_text())
        files = tuple(HubFile(**file) for file in known["files"])
        return HubDataset(known["repo"], known["commit"], files, known["license"])


def snapshot_folder(root: Path, dataset: HubDataset) -> Path:
    """Return the folder of the files of a data set."""
    return _folder(root, dataset.repo) / dataset.commit


def download_snapshot(
    root: Path,
    repo: str,
    revision: str,
    *,
    name: str,
    select: Callable[[HubDataset], list[HubFile]],
) -> HubDataset:
    """Download the files of a data set that a source needs; a broken download is continued.

    Args:
        root: Folder of all data sets.
        repo: Name of the data set, `owner/name`.
        revision: A commit; "" for the present one of the main branch, which is kept from then on.
        name: Name of the source, for the announcement.
        select: Selects the files that are needed.

    Raises:
        DownloadError: The Hub does not give it; what has come so far is kept.
        DataNotFoundError: There is no room for it.
    """
    folder = _folder(root, repo)
    (folder / WORK_FOLDER).mkdir(parents=True, exist_ok=True)
    with exclusive_lock(folder / WORK_FOLDER / "lock"):
        complete = find_snapshot(root, repo, revision)
        if complete is not None and has_all_files(root, complete):
            return complete  # another process has downloaded it meanwhile
        listed = open_dataset(repo, revision or _kept_commit(root, repo))
        dataset = HubDataset(repo, listed.commit, tuple(select(listed)), listed.license)
        _announce(dataset, name, folder)
        _download_all(dataset, folder / dataset.commit)
        _unpack_archives(dataset, folder / dataset.commit)
        known = asdict(dataset)
        write_atomically(folder / dataset.commit / _LISTING, json.dumps(known).encode())
        if not revision:
            write_atomically(folder / _MAIN, dataset.commit.encode())
        return dataset


def _folder(root: Path, repo: str) -> Path:
    return root / repo.replace("/", "--")


def _announce(dataset: HubDataset, name: str, folder: Path) -> None:
    size_bytes = sum(file.size_bytes for file in dataset.files)
    collection = Collection(name=name, license=dataset.license, homepage=dataset.url)
    source = f"Hugging Face Hub ({dataset.repo} at {dataset.commit})"
    announce(collection, folder / dataset.commit, source, size_bytes, 0)
    missing = [file for file in dataset.files if not (folder / dataset.commit / file.path).exists()]
    require_space(folder, sum(file.size_bytes for file in missing))


def _download_all(dataset: HubDataset, folder: Path) -> None:
    """Download small files several at once, and large ones in turn: Ctrl-C waits for what has begun."""
    download = partial(download_file, dataset, local_dir=folder)
    small = [file for file in dataset.files if file.size_bytes <= SMALL_BYTES]
    large = [file for file in dataset.files if file.size_bytes > SMALL_BYTES]
    total = sum(file.size_bytes for file in dataset.files)
    executor = ThreadPoolExecutor(CONNECTIONS)
    try:
        with progress_bar(dataset.repo, total, "byte") as bar:
            for path in chain(executor.map(download, small), map(download, large)):
                bar.update(path.stat().st_size)
    finally:
        executor.shutdown(cancel_futures=True)


def _unpack_archives(dataset: HubDataset, folder: Path) -> None:
    for file in dataset.files:
        target = unpacked_folder(folder / file.path)
        if has_archive_suffix(file.path) and not target.is_dir():
            unpack(folder / file.path, target)
