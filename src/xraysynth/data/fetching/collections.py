"""Downloading a public collection: what it is and where it goes is said first, then it is fetched whole."""

import fnmatch
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from xraysynth.data.fetching.checksums import Records
from xraysynth.data.fetching.http import download_file, server_names
from xraysynth.data.fetching.recipe import Fetch, RemoteFile
from xraysynth.data.fetching.unpacking import format_bytes, unpack
from xraysynth.errors import (
    ArchiveError,
    DamagedArchiveError,
    DataNotFoundError,
    DownloadError,
    format_some,
)
from xraysynth.files import exclusive_lock, move_into_place
from xraysynth.options import expand_path

WORK_FOLDER = ".downloads"
"""Folder beside the data that holds what has come so far, and the records of checksums."""


@dataclass(frozen=True, kw_only=True)
class Collection:
    """A collection as its user sees it: the name of its source, its licence and its home page."""

    name: str
    license: str = ""
    homepage: str = ""


def fetch_collection(collection: Collection, fetch: Fetch) -> None:
    """Download a collection, unless its folder is there.

    A download that stopped is continued. Only the complete collection gets the name of its folder; of
    several processes one downloads, and the others wait for it.

    Raises:
        DownloadError: It cannot be had in any way; what has come so far is kept.
        ArchiveError: An archive is damaged or hostile.
        DataNotFoundError: There is no room for it, or a package is missing.
    """
    folder = expand_path(fetch.folder)
    if folder.exists():
        return
    work = folder.parent / WORK_FOLDER / folder.name
    work.mkdir(parents=True, exist_ok=True)
    with exclusive_lock(work.with_name(f"{work.name}.lock")):
        if folder.exists():  # another process has downloaded it meanwhile
            return
        announce(collection, folder, describe_ways(fetch), fetch.size_bytes, fetch.unpacked_bytes)
        require_space(folder.parent, fetch.size_bytes + fetch.unpacked_bytes - _size(work))
        downloaded = _fetch_in_turn(collection, fetch, work)
        move_into_place(_select_inner(downloaded, fetch.inner, collection), folder)
        shutil.rmtree(work)


def fetch_file(collection: Collection, remote: RemoteFile, folder: Path) -> None:
    """Download one file that is no archive into a folder, unless it is there.

    Raises:
        DownloadError: No server gives it.
        DataNotFoundError: There is no room for it.
    """
    if (folder / remote.name).exists():
        return
    work = folder / WORK_FOLDER
    work.mkdir(parents=True, exist_ok=True)
    with exclusive_lock(work / f"{remote.name}.lock"):
        if (folder / remote.name).exists():
            return
        servers = ", then ".join(server_names(remote))
        announce(collection, folder / remote.name, servers, remote.size_bytes, 0)
        require_space(folder, remote.size_bytes)
        download_file(remote, work / remote.name, Records(work / f"{remote.name}.json"))
        move_into_place(work / remote.name, folder / remote.name)


def announce(
    collection: Collection, target: Path, source: str, size_bytes: int, unpacked_bytes: int
) -> None:
    """Say on stderr what is downloaded, under which licence, how much it is, and where it goes."""
    size = f"about {format_bytes(size_bytes)}" if size_bytes else "not known"
    if unpacked_bytes:
        size += f", unpacked about {format_bytes(unpacked_bytes)}"
    lines = (
        f"downloading {collection.name}",
        f"  licence:   {collection.license or 'see the home page'}",
        f"  home page: {collection.homepage or 'none'}",
        f"  from:      {source}",
        f"  size:      {size}",
        f"  to:        {target.absolute()}",
    )
    print("\n".join(lines), file=sys.stderr, flush=True)


def require_space(folder: Path, needed_bytes: int) -> None:
    """Require that the disk of a folder has room for a download.

    Raises:
        DataNotFoundError: It has not.
    """
    free = shutil.disk_usage(folder).free
    if needed_bytes > free:
        raise DataNotFoundError(
            f"the download needs about {format_bytes(needed_bytes)}, archive and unpacked files together, "
            f"but {format_bytes(free)} are free at {folder.absolute()}; make room, or set paths.data to a "
            "folder on a larger disk"
        )


def describe_ways(fetch: Fetch) -> str:
    """Return where a collection is downloaded from, in words."""
    places = []
    for remote in fetch.files:
        places += server_names(remote)
    if fetch.hub:
        places.append(f"Hugging Face Hub ({fetch.hub})")
    if fetch.kaggle:
        places.append(f"Kaggle ({fetch.kaggle})")
    if fetch.idc:
        places.append(f"Imaging Data Commons ({fetch.idc})")
    return ", then ".join(dict.fromkeys(places))


def describe_download(name: str, fetch: Fetch) -> str:
    """Return the sentence that says how to have a source downloaded, with the option to paste."""
    size = f", about {format_bytes(fetch.size_bytes)}" if fetch.size_bytes else ""
    return f"Add source.{name}.download=true to download it from {describe_ways(fetch)}{size}."


def _fetch_in_turn(collection: Collection, fetch: Fetch, work: Path) -> Path:
    """The folder of the download, from the first way that works."""
    failures = []
    for way in _ways(fetch):
        try:
            return way(collection, fetch, work)
        except DataNotFoundError as error:  # or a package is missing
            failures.append(str(error))
    raise DownloadError("\n".join(failures))


def _ways(fetch: Fetch) -> list[Callable[[Collection, Fetch, Path], Path]]:
    from xraysynth.data.fetching import hub, idc, kaggle

    ways: list[Callable[[Collection, Fetch, Path], Path]] = []
    if fetch.files:
        ways.append(_fetch_files)
    if fetch.hub:
        ways.append(lambda _, fetch, work: hub.fetch_files(fetch, work))
    if fetch.kaggle:
        ways.append(lambda collection, fetch, work: kaggle.fetch(fetch, work, collection.homepage))
    if fetch.idc:
        ways.append(lambda _, fetch, work: idc.fetch(fetch, work))
    return ways


def _fetch_files(collection: Collection, fetch: Fetch, work: Path) -> Path:
    """Download and unpack the archives of a collection.

    Each is deleted when it is unpacked, as it takes the same room again; its checksum stays on record.
    """
    unpacked = work / "unpacked"
    records = Records(work.with_name(f"{work.name}.json"))
    for remote in fetch.files:
        folder = unpacked if len(fetch.files) == 1 else unpacked / remote.name.partition(".")[0]
        archive = work / remote.name
        if not folder.exists():
            download_file(remote, archive, records)
            _unpack_download(remote, archive, folder, records)
        archive.unlink(missing_ok=True)
    return unpacked


def _unpack_download(remote: RemoteFile, archive: Path, folder: Path, records: Records) -> None:
    """Unpack a download; one that is damaged and of which no checksum is published was never the file."""
    try:
        unpack(archive, folder)
    except DamagedArchiveError:
        if not remote.checksum:
            archive.unlink()
            records.remove(remote.name)
        raise


def _select_inner(downloaded: Path, inner: str, collection: Collection) -> Path:
    """The folder of a download that the collection's source expects."""
    if not inner:
        return downloaded
    names = sorted(path.name for path in downloaded.iterdir())
    matches = fnmatch.filter(names, inner)
    if len(matches) != 1 or not (downloaded / matches[0]).is_dir():
        raise ArchiveError(
            f"the download of {collection.name} has another layout than expected: {downloaded} holds "
            f"{format_some(names) or 'nothing'}, not the folder {inner}; move the right folder to where "
            "the source looks for it, or remove it to download it again"
        )
    return downloaded / matches[0]


def _size(folder: Path) -> int:
    """The number of bytes of the files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
