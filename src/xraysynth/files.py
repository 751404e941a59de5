"""Atomic writing of files and folders, locks between processes, and files of JSON lines and CSV."""

import errno
import hashlib
import json
import os
import re
import shlex
import shutil
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from platform import node
from typing import TYPE_CHECKING, Any, BinaryIO

from filelock import FileLock, Timeout

from xraysynth.errors import DamageError, XraysynthError

if TYPE_CHECKING:  # help pages must not import pandas
    import pandas as pd

_FORMULA = r"(?='*[^\S\t\r\n]*[=+\-@＝＋－＠])"  # spreadsheets read wide forms too
_FORMULA_START = re.compile(rf"(^|[;\t\r\n]){_FORMULA}")
_QUOTED_FORMULA_START = re.compile(rf"(^|[;\t\r\n])'{_FORMULA}")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


_BLOCK_BYTES = 2**20
"""How much of a file is read at a time."""

_SETTLING_NS = 10**8
"""For so long after a change, another one might not show in the time that the file system notes."""


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file so that readers see all of it or none of it; after an error nothing is left behind."""
    with atomic_path(path) as partial:
        partial.write_bytes(data)


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path in the same folder, where a file or folder is to be written.

    At the end of the block it replaces `path`; after an error it is removed and `path` stays
    unchanged. A process that is killed leaves it behind (`remove_leftovers`). A folder is replaced by
    renaming the old one first: if the process is killed in between, there is nothing at `path`.

    Args:
        path: The final path.
    """
    partial = _temporary_path(path, "partial")
    try:
        yield partial
        if path.is_dir():
            _replace_folder(partial, path)
        else:
            os.replace(partial, path)
    except BaseException as error:
        _remove(partial)
        if isinstance(error, OSError) and error.filename is None:
            error.filename = str(path)  # so that the message names the file
        raise


def move_into_place(source: Path, path: Path) -> None:
    """Give a complete file or folder its final name on the same file system, in one step."""
    os.replace(source, path)


def _replace_folder(partial: Path, path: Path) -> None:
    old = _temporary_path(path, "old")
    os.replace(path, old)
    try:
        os.replace(partial, path)
    except BaseException:
        os.replace(old, path)
        raise
    shutil.rmtree(old)


def _temporary_path(path: Path, suffix: str) -> Path:
    # The machine is part of the name because containers often have the same process id.
    return path.with_name(f".{path.name}.{node()}.{os.getpid()}.{suffix}")


def remove_leftovers(path: Path) -> None:
    """Delete the temporary paths of `path` that killed processes of this machine have left.

    The caller must hold the lock under which `path` is written, so that no other process writes it.
    """
    leftover_name = rf"\.{re.escape(path.name)}\.{re.escape(node())}\.\d+\.(partial|old)"
    for neighbour in path.parent.iterdir():
        if re.fullmatch(leftover_name, neighbour.name):
            _remove(neighbour)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


@contextmanager
def exclusive_lock(path: Path) -> Iterator[None]:
    """Hold the lock file at `path`; while another process holds it, say so on stderr and wait.

    Raises:
        XraysynthError: The file system refuses locks.
    """
    lock = FileLock(path)
    if not _try_to_lock(lock, path):
        print(f"waiting for another process that writes {path.parent}", file=sys.stderr, flush=True)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def is_locked(path: Path) -> bool:
    """Return whether a process holds the lock file at `path`."""
    lock = FileLock(path)
    if not _try_to_lock(lock, path):
        return True
    lock.release()
    return False


_LOCKS_REFUSED = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL, errno.EIO)
"""Errors by which a file system says that it has no locks, or that its lock server does not answer."""


def _try_to_lock(lock: FileLock, path: Path) -> bool:
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return False
    except (OSError, NotImplementedError) as error:
        number = getattr(error, "errno", errno.ENOTSUP)
        if number not in _LOCKS_REFUSED:
            raise
        raise XraysynthError(
            f"{path}: the file system refuses locks ({os.strerror(number)}), without which two processes "
            "could write the same files; set paths.output to a folder on a local disk, or mount this "
            "one with locks"
        ) from error
    return True


@contextmanager
def explain_unreadable(path: Path, remedy: str) -> Iterator[None]:
    """Raise `DamageError` with file, reason and remedy where the block cannot read a file.

    Libraries raise many kinds of errors on a file that is cut short or empty; few of them name it.
    """
    try:
        yield
    except XraysynthError:
        raise
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DamageError(f"{path} cannot be read ({reason}); {remedy}") from error


def file_fault(path: Path, digest: str) -> str:
    """Return "missing", "unreadable" or "altered"; "" for a file that has a digest of `file_digest`."""
    size, _, sha256 = digest.rpartition(":")
    try:
        return "" if sha256_file(path, int(size or -1)) == sha256 else "altered"
    except FileNotFoundError:
        return "missing"
    except OSError:
        return "unreadable"


def file_digest(path: Path, *, grows: bool = False) -> str:
    """Return the SHA-256 of a file; of one that grows, with its size, so that bytes may be appended."""
    if not grows:
        return sha256_file(path)
    size = path.stat().st_size
    return f"{size}:{sha256_file(path, size)}"


def sha256_file(path: Path, size: int = -1) -> str:
    """Return the SHA-256 of a file, or of its first `size` bytes, as hex digits.

    A process reads a file only once, unless the file changes or has only just been written.
    """
    stat = path.stat()
    if time.time_ns() - stat.st_ctime_ns < _SETTLING_NS:
        return _read_sha256(path, size)
    version = (stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)
    return _sha256_of_version(path.absolute(), size, version)


@lru_cache(maxsize=2**16)
def _sha256_of_version(path: Path, size: int, version: tuple[int, ...]) -> str:
    return _read_sha256(path, size)


def _read_sha256(path: Path, size: int) -> str:
    with path.open("rb") as file:
        if size < 0:
            return hashlib.file_digest(file, "sha256").hexdigest()
        sha256 = hashlib.sha256()
        while block := file.read(min(size, _BLOCK_BYTES)):
            sha256.update(block)
            size -= len(block)
        return sha256.hexdigest()


def copy_atomically(names: Iterable[str], *, source: Path, target: Path) -> None:
    """Copy files from one folder into another, each of them atomically.

    Processes that copy into the same folder take turns, so that its files belong together.

    Args:
        names: Names of the files.
        source: Folder that holds them.
        target: Folder that they are copied into; created if it is missing.
    """
    target.mkdir(parents=True, exist_ok=True)
    with exclusive_lock(target / ".lock"):
        for name in names:
            write_atomically(target / name, (source / name).read_bytes())


def append_json_line(path: Path, record: Mapping[str, Any]) -> None:
    """Append a record to a file of JSON lines, after removing a partial last line."""
    truncate_partial_line(path)
    with path.open("ab") as file:
        file.write(encode_json_line(record))


_CHECKSUM = b', "checksum": "'
"""What follows the entries of a JSON line; earlier versions wrote lines without a checksum."""


def encode_json_line(record: Mapping[str, Any]) -> bytes:
    """Return a record as a JSON line whose last entry is a checksum of the others.

    >>> encode_json_line({"n": 1})
    b'{"n": 1, "checksum": "706b303b9f8f"}\\n'
    """
    entries = json.dumps(record, default=str).encode().removesuffix(b"}")
    return entries + _CHECKSUM + _line_checksum(entries) + b'"}\n'


def _line_checksum(entries: bytes) -> bytes:
    return hashlib.sha256(entries).hexdigest()[:12].encode()


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    """Read the complete lines of a file of JSON lines; an empty list if there is no file."""
    return list(iter_json_lines(path))


def iter_json_lines(path: Path) -> Iterator[dict[str, Any]]:
    """Iterate over the complete lines of a file of JSON lines, with one block of them in memory.

    Raises:
        DamageError: The file cannot be read, or a line is no JSON object or differs from its checksum;
            the message names it.
    """
    if not path.exists():
        return
    lines_before = 0
    with _open_lines(path, "rb") as file:
        while lines := file.readlines(_BLOCK_BYTES):
            is_partial = not lines[-1].endswith(b"\n")  # the writer was killed or is still writing
            if is_partial:
                lines.pop()
            yield from _decode_json_lines(lines, path, lines_before)
            if is_partial:
                return
            lines_before += len(lines)


def _open_lines(path: Path, mode: str) -> Any:
    with explain_unreadable(
        path, "change its permissions, or restore it from a copy, and run it again"
    ):
        return path.open(mode)


def _decode_json_lines(lines: list[bytes], path: Path, lines_before: int) -> list[dict[str, Any]]:
    for number, line in enumerate(lines, lines_before + 1):
        entries, separator, checksum = line.rpartition(_CHECKSUM)
        if separator and checksum != _line_checksum(entries) + b'"}\n':
            raise _damaged_line(path, number, "it differs from its checksum")
    records: list[dict[str, Any]]
    try:
        records = json.loads(b"[" + b",".join(lines) + b"]")
    except ValueError:
        records = [
            _decode_json_line(line, path, n) for n, line in enumerate(lines, lines_before + 1)
        ]
    for number, record in enumerate(records, lines_before + 1):
        if not isinstance(record, dict):
            raise _damaged_line(path, number, "it is no JSON object")
        record.pop("checksum", None)
    return records


def _decode_json_line(line: bytes, path: Path, number: int) -> Any:
    try:
        return json.loads(line)
    except ValueError as error:
        raise _damaged_line(path, number, str(error)) from None


def _damaged_line(path: Path, number: int, reason: str) -> DamageError:
    return DamageError(
        f"{path}: line {number} is damaged ({reason}); restore the file from a copy, or remove the line "
        f"with: sed -i {number}d {shlex.quote(str(path))}; an image that it recorded is then made, and where "
        "images cost money paid for, again; a cost that it recorded is lost"
    )


def truncate_partial_line(path: Path) -> None:
    """Remove a partial last line, which a killed process has left; reads only the end of the file."""
    if not path.exists():
        return
    with _open_lines(path, "rb+") as file:
        size = file.seek(0, os.SEEK_END)
        complete_size = _complete_lines_size(file, size)
        if complete_size < size:
            file.truncate(complete_size)


def _complete_lines_size(file: BinaryIO, size: int) -> int:
    """The number of bytes up to the last line end, which is searched block by block from the end."""
    while size:
        start = max(0, size - 2**16)
        file.seek(start)
        line_end = file.read(size - start).rfind(b"\n") + 1
        if line_end:
            return start + line_end
        size = start
    return 0


def write_csv(table: "pd.DataFrame", path: Path) -> None:
    """Write a table as CSV in which no text is a formula to a spreadsheet (`neutralise_formula`)."""
    table = table.rename(columns=neutralise_formula)
    for name in table.columns[list(map(_holds_objects, table.dtypes))]:
        is_text = table[name].map(lambda value: isinstance(value, str)).astype(bool)
        if is_text.any():
            column = table[name].astype(object)
            column[is_text] = column[is_text].map(neutralise_formula)
            table[name] = column
    write_atomically(path, table.to_csv(index=False, lineterminator="\n").encode())


def read_csv(path: Path) -> "pd.DataFrame":
    """Read a table that `write_csv` wrote, with its texts as they were; empty cells are empty texts."""
    import pandas as pd

    table = pd.read_csv(path, keep_default_na=False)
    return table.map(lambda value: _restore(value) if isinstance(value, str) else value)


def neutralise_formula(text: str) -> str:
    """Put an apostrophe before what a spreadsheet would run as a formula; numbers stay numbers.

    A formula begins with =, +, - or @, at the start of the text or after a character at which a
    spreadsheet may split it.

    >>> neutralise_formula("=1+1"), neutralise_formula("-0.5")
    ("'=1+1", '-0.5')
    """
    return text if _NUMBER.fullmatch(text) else _FORMULA_START.sub(r"\1'", text)


def _restore(text: str) -> str:
    """Remove the apostrophes that `neutralise_formula` has put."""
    return _QUOTED_FORMULA_START.sub(r"\1", text)


def _holds_objects(dtype: Any) -> bool:
    """Whether a column of this type can hold text."""
    return dtype.kind not in "biufcmM"
