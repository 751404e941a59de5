"""The bytes of a table file, unpacked if they are compressed, never more than a stated number."""

import bz2
import gzip
import io
import lzma
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any
from zipfile import BadZipFile, ZipFile

from xraysynth.data.reading._content import TableError

_OPENERS: dict[bytes, Callable[[Any], IO[bytes]]] = {
    b"\x1f\x8b": gzip.open,  # type: ignore[dict-item]  # without a mode it gives bytes
    b"BZh": bz2.open,
    b"\xfd7zXZ\x00": lzma.open,
}
_OLD_EXCEL = b"\xd0\xcf\x11\xe0"
_ZIP = b"PK\x03\x04"
_WORKBOOK_MEMBER = "xl/workbook.xml"


def read_bounded(path: Path, limit_bytes: int) -> bytes:
    """Read a file whole, inflated if it is compressed (gzip, bzip2, xz, a zip of one file).

    Raises:
        TableError: It is no file, is or inflates to more than the limit, or cannot be inflated.
        OSError: It cannot be read.
    """
    if path.exists() and not path.is_file():
        raise TableError("it is not a file", "name the table itself")
    if path.stat().st_size > limit_bytes:
        raise _too_large(limit_bytes)
    with path.open("rb") as file:
        data = _read_at_most(file, limit_bytes)
    if data.startswith(_OLD_EXCEL):
        raise TableError("it is an Excel file of before 2007 or an encrypted one")
    for magic, opener in _OPENERS.items():
        if data.startswith(magic):
            return _inflate(opener, data, limit_bytes)
    if data.startswith(_ZIP) and not is_workbook(data, limit_bytes):
        return _inflate(_open_only_member, data, limit_bytes)
    return data


def _inflate(opener: Callable[[Any], IO[bytes]], data: bytes, limit_bytes: int) -> bytes:
    try:
        with opener(io.BytesIO(data)) as file:
            return _read_at_most(file, limit_bytes)
    except (OSError, EOFError, zlib.error, lzma.LZMAError, BadZipFile, RuntimeError) as error:
        raise TableError(f"it cannot be unpacked: {error}", "copy or download it again") from error


def _read_at_most(file: IO[bytes], limit_bytes: int) -> bytes:
    data = file.read(limit_bytes + 1)
    if len(data) > limit_bytes:
        raise _too_large(limit_bytes)
    return data


def _too_large(limit_bytes: int) -> TableError:
    return TableError(
        f"it is larger than the {limit_bytes / 1e6:g} MB allowed",
        "keep only the columns of path, label and patient, or split it into several tables",
    )


def _open_only_member(file: IO[bytes]) -> IO[bytes]:
    archive = ZipFile(file)
    names = [name for name in archive.namelist() if not name.endswith("/")]
    names = [name for name in names if not name.startswith("__MACOSX/")]
    if "content.xml" in names:
        raise TableError("it is a spreadsheet of OpenDocument")
    if len(names) != 1:
        raise TableError(
            f"it is a zip archive of {len(names)} files", "unpack it and name the table itself"
        )
    return archive.open(names[0])


def is_workbook(data: bytes, limit_bytes: int) -> bool:
    """Return whether bytes are an Excel workbook (.xlsx).

    Raises:
        TableError: Its sheets inflate to more than the limit.
    """
    if not data.startswith(_ZIP):
        return False
    try:
        members = ZipFile(io.BytesIO(data)).infolist()
    except BadZipFile as error:
        raise TableError(f"it cannot be unpacked: {error}", "copy or download it again") from error
    if not any(member.filename == _WORKBOOK_MEMBER for member in members):
        return False
    size_bytes = sum(
        member.file_size for member in members
    )  # no member gives more than it declares
    if size_bytes > limit_bytes:
        raise TableError(
            f"its sheets unpack to {size_bytes / 1e6:.0f} MB, more than the {limit_bytes / 1e6:g} MB "
            "allowed",
            "save the columns of path, label and patient as CSV",
        )
    return True
