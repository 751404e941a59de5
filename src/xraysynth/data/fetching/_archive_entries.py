"""The entries of zip and tar archives, read one by one with bounded memory."""

import bz2
import contextlib
import gzip
import io
import os
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import IO, Any

from xraysynth.errors import ArchiveError, DamagedArchiveError

MAX_TAR_HEADER_BYTES = 2**20
"""How much of a tar is read in one piece: a longer header of names is an attack."""

_ZIP_BYTES_PER_ENTRY = 512
"""Room of an entry in the directory of a zip, at most as programs write them on average."""

_TAR_BYTES_PER_ENTRY = 4096
"""Headers and padding of an entry, at most as programs write them."""

_DECOMPRESSORS: dict[bytes, Callable[..., Any]] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open}
_ZIP_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2)
_ZIP_STARTS = (b"PK\x03\x04", b"PK\x05\x06")
_ZIP_ENTRY = b"PK\x01\x02"
_ZIP_END = b"PK\x05\x06"
_ZIP64_END = b"PK\x06\x06"
_ZIP_END_BYTES = 22
_ZIP64_END_BYTES = 76
"""Length of the end of a large zip's directory, with the locator after it."""


class Kind(Enum):
    """Kind of an entry; "other" is a device, a pipe or the like."""

    file = "file"
    folder = "folder"
    link = "link"
    other = "other"


@dataclass(frozen=True)
class Entry:
    """One entry of an archive.

    Attributes:
        name: Its name as the archive gives it.
        kind: Its kind.
        target: What a link leads to; relative to its folder, or to the archive if `is_hard_link`.
        is_hard_link: Whether a link is a hard link of a tar.
        open: Function that opens the content of a file.
    """

    name: str
    kind: Kind
    open: Callable[[], IO[bytes]]
    target: str = ""
    is_hard_link: bool = False


def archive_format(path: Path) -> str:
    """Return "zip" or "tar" by the content of a file; "" for any other file."""
    if not path.is_file():
        return ""
    with path.open("rb") as file:
        start = file.read(4)
    if start in _ZIP_STARTS:
        return "zip"
    try:
        with _open_tar_stream(path) as stream:
            block = stream.read(512)
    except (OSError, EOFError, zlib.error):
        return ""
    # Every tar of the last thirty years says so in its first header.
    return "tar" if block[257:262] == b"ustar" else ""


def iterate_entries(path: Path, *, max_bytes: int, max_files: int) -> Iterator[Entry]:
    """Yield the entries of a zip or tar; an entry must be read before the next is asked for.

    Args:
        path: The archive.
        max_bytes: How many bytes may be read of a tar, after decompression.
        max_files: How many entries the archive may hold.

    Raises:
        ArchiveError: It is no archive, or it holds more than allowed.
    """
    kind = archive_format(path)
    if not kind:
        raise DamagedArchiveError(
            f"{path}: this is no zip, tar, tar.gz or tar.bz2; unpack it with a program that knows it, "
            "and name the folder instead"
        )
    max_position = max_bytes + max_files * _TAR_BYTES_PER_ENTRY + 2**20
    entries = _iterate_zip(path, max_files) if kind == "zip" else _iterate_tar(path, max_position)
    for number, entry in enumerate(entries, 1):
        require_at_most(number, max_files, "entries", path)
        yield entry


def require_at_most(number: int, limit: int, unit: str, path: Path) -> None:
    """Require that an archive holds no more than a limit.

    Raises:
        ArchiveError: It does.
    """
    if number > limit:
        raise ArchiveError(
            f"{path}: the archive holds more than {limit:,} {unit}, which no collection of radiographs "
            "of its size does; if you trust it, unpack it yourself and name the folder instead"
        )


def _iterate_zip(path: Path, max_files: int) -> Iterator[Entry]:
    # zipfile makes an object of every entry before it can be asked how many there are.
    require_at_most(_count_zip_entries(path, max_files), max_files, "entries", path)
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            yield _zip_entry(archive, info, path)


def _count_zip_entries(path: Path, max_files: int) -> int:
    """The number of entries in the directory of a zip, at least: it may be overestimated."""
    size = path.stat().st_size
    with path.open("rb") as file:
        tail_start = max(0, size - 2**16 - _ZIP_END_BYTES - _ZIP64_END_BYTES)
        file.seek(tail_start)
        tail = file.read()
        end = tail.rfind(_ZIP_END)
        if end < 0 or len(tail) < end + _ZIP_END_BYTES:
            raise DamagedArchiveError(
                f"{path}: the zip breaks off or is damaged; download it again"
            )
        directory_bytes = _zip_directory_bytes(tail, end)
        # zipfile reads the directory in one piece.
        require_at_most(directory_bytes, _ZIP_BYTES_PER_ENTRY * max_files, "bytes of names", path)
        file.seek(max(0, tail_start + end - directory_bytes - _ZIP64_END_BYTES))
        return _count_in_stream(file, _ZIP_ENTRY)


def _zip_directory_bytes(tail: bytes, end: int) -> int:
    """The size of a zip's directory, as its end says and the end of a large zip before it."""
    (size,) = struct.unpack("<L", tail[end + 12 : end + 16])
    large_end = tail[max(0, end - _ZIP64_END_BYTES) : end]
    if large_end.startswith(_ZIP64_END) and len(large_end) == _ZIP64_END_BYTES:
        (size,) = struct.unpack("<Q", large_end[40:48])
    return int(size)


def _count_in_stream(file: IO[bytes], word: bytes) -> int:
    count, rest = 0, b""
    while block := file.read(2**20):
        block = rest + block
        count += block.count(word)
        rest = block[-len(word) + 1 :]
    return count


def _zip_entry(archive: zipfile.ZipFile, info: zipfile.ZipInfo, path: Path) -> Entry:
    mode = info.external_attr >> 16
    name = _decode_zip_name(info)
    if name.endswith(("/", "\\")):
        kind = Kind.folder
    elif stat.S_ISLNK(mode):
        kind = Kind.link
    else:
        is_plain = stat.S_ISREG(mode) or stat.S_IFMT(mode) == 0
        kind = Kind.file if is_plain else Kind.other
    _require_readable(info, name, path)
    target = ""
    if kind is Kind.link:
        with archive.open(info) as file:
            target = file.read(4096).decode("utf-8", "replace")
    return Entry(name, kind, lambda: archive.open(info), target)


def _decode_zip_name(info: zipfile.ZipInfo) -> str:
    """The name of an entry; programs of Windows write backslashes, and of macOS unmarked UTF-8."""
    name = info.filename
    if not info.flag_bits & 0x800:  # not marked as UTF-8, and therefore read as code page 437
        with contextlib.suppress(UnicodeError):
            name = name.encode("cp437").decode("utf-8")
    return name


def _require_readable(info: zipfile.ZipInfo, name: str, path: Path) -> None:
    problem = ""
    if info.flag_bits & 0x1:
        problem = "is encrypted"
    elif info.compress_type not in _ZIP_METHODS:
        problem = f"is compressed by method {info.compress_type}, which is not read here"
    if problem:
        raise ArchiveError(
            f"{path}: entry {name!r} {problem}; unpack it yourself (7z x) and name the folder instead"
        )


class _BoundedStream(io.RawIOBase):
    """A stream that is read up to a position, and not in pieces that would fill the memory."""

    def __init__(self, stream: Any, max_position: int, path: Path) -> None:
        self._stream, self._max_position, self._path = stream, max_position, path

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= MAX_TAR_HEADER_BYTES:
            raise ArchiveError(
                f"{self._path}: a header of {size:,} bytes is no name of a file; the archive is damaged "
                "or hostile: download it again"
            )
        data: bytes = self._stream.read(size)
        require_at_most(self._stream.tell(), self._max_position, "bytes", self._path)
        return data

    def readinto(self, buffer: Any) -> int:
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        if whence == os.SEEK_SET:
            require_at_most(offset, self._max_position, "bytes", self._path)
        position: int = self._stream.seek(offset, whence)
        return position

    def tell(self) -> int:
        position: int = self._stream.tell()
        return position


def _open_tar_stream(path: Path) -> Any:
    with path.open("rb") as file:
        start = file.read(3)
    for magic, decompress in _DECOMPRESSORS.items():
        if start.startswith(magic):
            return decompress(path)
    return path.open("rb")


def _iterate_tar(path: Path, max_position: int) -> Iterator[Entry]:
    with _open_tar_stream(path) as raw:
        stream: Any = _BoundedStream(raw, max_position, path)
        with tarfile.open(fileobj=stream, mode="r:") as archive:
            while (member := archive.next()) is not None:
                yield _tar_entry(archive, member)
                archive.members = []  # type: ignore[attr-defined]  # it would keep a million of them
            _require_end_mark(archive, stream, path)


def _require_end_mark(archive: tarfile.TarFile, stream: Any, path: Path) -> None:
    """Require the block of zeros that ends a tar: tarfile takes a damaged header for the end.

    What follows is read too, as the checksum of a compressed tar is at its very end.
    """
    stream.seek(archive.offset)
    if stream.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
        raise DamagedArchiveError(f"{path}: the tar breaks off or is damaged; download it again")
    while stream.read(MAX_TAR_HEADER_BYTES):
        pass


def _tar_entry(archive: tarfile.TarFile, member: tarfile.TarInfo) -> Entry:
    if member.isdir():
        kind = Kind.folder
    elif member.issym() or member.islnk():
        kind = Kind.link
    else:
        kind = Kind.file if member.isreg() else Kind.other
    return Entry(
        _readable_name(member.name),
        kind,
        lambda: archive.extractfile(member),  # type: ignore[arg-type, return-value]  # it is a file
        _readable_name(member.linkname),
        member.islnk(),
    )


def _readable_name(name: str) -> str:
    """A name of a tar; bytes that are no UTF-8 are taken as Latin-1, so that every name is text."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return name.encode("utf-8", "surrogateescape").decode("latin-1")
    return name
