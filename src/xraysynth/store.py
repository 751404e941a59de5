"""A content-addressed folder of images that survives being killed: the base of cohorts and pools.

    <name>-<key12>/
        store.json          what the images were made from (the key is its hash)
        images/<id>.png     written under another name, then renamed
        archive/<id>.*      what a generator got, as it came, where it keeps that
        journal/*.jsonl     one line per image, appended after the image is in place
        manifest.parquet    the journal as a manifest, sorted by id

A line in the journal is the commit: a file without one is made again, byte for byte, and a half
written line is cut off. Each part of the work has its own journal and lock, so that processes on
one store either work on different parts or wait for each other.
"""

import json
import os
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
from filelock import FileLock, Timeout

from xraysynth.errors import PoolError, XraysynthError, some
from xraysynth.manifest import Manifest
from xraysynth.records import sha256_bytes
from xraysynth.seeds import digest

ID_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")


@dataclass(frozen=True)
class ImageStore:
    """The folder `parent/<name>-<key12>` for what `identity` makes."""

    parent: Path
    name: str
    identity: Mapping[str, Any]

    @cached_property
    def key(self) -> str:
        """First 12 hex digits of the identity's digest."""
        return digest(self.identity)[:12]

    @property
    def folder(self) -> Path:
        """Where the store lies, whether or not it exists yet."""
        return Path(self.parent) / f"{self.name}-{self.key}"

    @contextmanager
    def writer(self, part: str = "all") -> Iterator["Writer"]:
        """Exclusive right to append to one part; waits, saying so, while another process has it."""
        for name in ("images", "journal"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        description = json.dumps(dict(self.identity), indent=1, sort_keys=True, default=str)
        write_atomically(self.folder / "store.json", description.encode())
        lock = exclusive(self.folder / "journal" / f"{part}.lock")
        with lock, Writer(self.folder, part) as writer:
            yield writer

    def entries(self) -> dict[str, dict[str, Any]]:
        """What has been committed: image id -> journal entry; a later success replaces a failure."""
        found: dict[str, dict[str, Any]] = {}
        for entry in self.attempts():
            if found.get(entry["image_id"], {}).get("outcome") != "image":
                found[entry["image_id"]] = entry
        return found

    def attempts(self) -> list[dict[str, Any]]:
        """Every journal entry, also those that a later one replaced: each may have cost something."""
        paths = sorted((self.folder / "journal").glob("*.jsonl"))
        return [entry for path in paths for entry in read_lines(path)]

    def manifest(self) -> Manifest:
        """The committed images, sorted by id; the classes are those that occur."""
        rows = [
            {"image_id": name, "path": f"images/{name}.png", "sha256": entry["sha256"]}
            | entry["columns"]
            for name, entry in sorted(self.entries().items())
            if entry["outcome"] == "image"
        ]
        classes = tuple(sorted({row["label"] for row in rows}))
        return Manifest(pd.DataFrame(rows), self.folder, classes)

    def seal(self) -> None:
        """Write the journal as `manifest.parquet`, for use outside this store."""
        with exclusive(self.folder / "journal" / "seal.lock"):
            self.manifest().write(self.folder / "manifest.parquet")


class Writer:
    """Appends images to one part of a store."""

    def __init__(self, folder: Path, part: str) -> None:
        self._folder = folder
        path = folder / "journal" / f"{part}.jsonl"
        cut_half_line(path)
        self._journal = path.open("ab")

    def __enter__(self) -> "Writer":
        return self

    def __exit__(self, *_: object) -> None:
        self._journal.close()

    def add(
        self,
        image_id: str,
        png: bytes | None,
        *,
        outcome: str = "image",
        columns: Mapping[str, Any] | None = None,
        facts: Mapping[str, Any] | None = None,
        archive: Mapping[str, bytes] | None = None,
    ) -> None:
        """Commit one image, or an outcome without one. `facts` stay out of the manifest.

        `archive` maps file suffixes to bytes that are kept as they are.
        """
        if not image_id or not ID_CHARACTERS.issuperset(image_id):
            raise XraysynthError(
                f"image id {image_id!r} is used as a file name; use letters, digits, '.', '_' and '-'"
            )
        for suffix, data in (archive or {}).items():
            (self._folder / "archive").mkdir(exist_ok=True)
            write_atomically(self._folder / "archive" / f"{image_id}.{suffix}", data)
        if png is not None:
            write_atomically(self._folder / "images" / f"{image_id}.png", png)
        entry = {
            "image_id": image_id,
            "outcome": outcome,
            "sha256": sha256_bytes(png) if png is not None else "",
            "columns": dict(columns or {}),
            "facts": dict(facts or {}),
        }
        self._journal.write(json.dumps(entry, default=str).encode() + b"\n")
        self._journal.flush()


def verify(manifest: Manifest, *, remedy: str) -> None:
    """Check every file against its SHA-256; raises `PoolError` naming the damaged and the lost."""
    with ThreadPoolExecutor() as executor:
        found = list(executor.map(_sha256_or_none, manifest.files))
    bad = [
        f"{path} ({'missing' if sha is None else 'changed'})"
        for path, sha, expected in zip(manifest.files, found, manifest.table["sha256"], strict=True)
        if sha != expected
    ]
    if bad:
        raise PoolError(
            f"{len(bad)} of {len(manifest)} images differ from the SHA-256 in their manifest: "
            f"{some(bad)}; {remedy}"
        )


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file so that it is seen whole or not at all; nothing stays behind on failure."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        partial.write_bytes(data)
        os.replace(partial, path)
    except OSError:
        partial.unlink(missing_ok=True)
        raise


@contextmanager
def exclusive(path: Path) -> Iterator[None]:
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


def append_line(path: Path, record: Mapping[str, Any]) -> None:
    """Add a record to a file of JSON lines; a half-written last line is cut off first."""
    cut_half_line(path)
    with path.open("ab") as file:
        file.write(json.dumps(record, default=str).encode() + b"\n")


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The whole lines of a file of JSON lines; none where there is no file."""
    data = path.read_bytes() if path.exists() else b""
    return [json.loads(line) for line in data[: data.rfind(b"\n") + 1].splitlines()]


def cut_half_line(path: Path) -> None:
    """Drop what was being written when a process was killed."""
    if path.exists():
        data = path.read_bytes()
        if data and not data.endswith(b"\n"):
            os.truncate(path, data.rfind(b"\n") + 1)


def _sha256_or_none(path: Path) -> str | None:
    try:
        return sha256_bytes(path.read_bytes())
    except OSError:
        return None
