"""Files that are seen whole or not at all, locks between processes, and JSON lines."""

import json
import os
import re
import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from platform import node
from typing import Any

from filelock import FileLock, Timeout


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file so that it is seen whole or not at all; nothing stays behind on failure."""
    with atomic_path(path) as partial:
        partial.write_bytes(data)


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A name beside `path` under which a file or folder is written, for whatever library writes it.

    At the end of the block it takes the place of what `path` was; after an error it is removed, and
    `path` stays as it was. A process that is killed leaves it (`remove_leftovers`). A folder is
    replaced by renaming the old one first: killed between the two, nothing is at `path`.
    """
    partial = _temporary_path(path, "partial")
    try:
        yield partial
        if path.is_dir():
            _replace_folder(partial, path)
        else:
            os.replace(partial, path)
    except BaseException:
        _remove(partial)
        raise


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
    # by machine too: containers on several often have one process id
    return path.with_name(f".{path.name}.{node()}.{os.getpid()}.{suffix}")


def remove_leftovers(path: Path) -> None:
    """Delete what killed processes of this machine left of writing `path`.

    Only for who holds the lock under which `path` is written: nobody else is writing it then.
    """
    left = re.compile(rf"\.{re.escape(path.name)}\.{re.escape(node())}\.\d+\.(partial|old)")
    for other in path.parent.iterdir():
        if left.fullmatch(other.name):
            _remove(other)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


@contextmanager
def exclusive_lock(path: Path) -> Iterator[None]:
    """Hold a lock file; says so on stderr when another process has it, and waits."""
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        print(f"waiting for another process that writes {path.parent}", file=sys.stderr, flush=True)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def copy_atomically(names: Iterable[str], *, source: Path, target: Path) -> None:
    """Copy these files of a folder into another, each seen whole or not at all.

    Processes that publish into one folder do it after each other, so that its files belong together.
    """
    target.mkdir(parents=True, exist_ok=True)
    with exclusive_lock(target / ".lock"):
        for name in names:
            write_atomically(target / name, (source / name).read_bytes())


def append_json_line(path: Path, record: Mapping[str, Any]) -> None:
    """Add a record to a file of JSON lines; a half-written last line is cut off first."""
    truncate_partial_line(path)
    with path.open("ab") as file:
        file.write(json.dumps(record, default=str).encode() + b"\n")


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    """The whole lines of a file of JSON lines; none where there is no file."""
    return list(iter_json_lines(path))


def iter_json_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The same one after the other, a block of them in memory."""
    if not path.exists():
        return
    with path.open("rb") as file:
        while lines := file.readlines(2**20):
            torn = not lines[-1].endswith(b"\n")  # cut short, or still being written
            yield from json.loads(b"[" + b",".join(lines[: len(lines) - torn]) + b"]")
            if torn:
                return


def truncate_partial_line(path: Path) -> None:
    """Drop what was being written when a process was killed; reads the end of the file alone."""
    if not path.exists():
        return
    with path.open("rb+") as file:
        end = whole = file.seek(0, os.SEEK_END)
        while whole:
            start = max(0, whole - 2**16)
            file.seek(start)
            line_end = file.read(whole - start).rfind(b"\n") + 1
            if line_end:
                whole = start + line_end
                break
            whole = start
        if whole < end:
            file.truncate(whole)
