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
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import TypeVar

import pandas as pd

from xraysynth.errors import PoolError, XraysynthError, format_some
from xraysynth.files import exclusive_lock, iter_json_lines, truncate_partial_line, write_atomically
from xraysynth.manifest import Manifest
from xraysynth.records import JsonObject, sha256_bytes
from xraysynth.seeds import digest

ID_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")

Kept = TypeVar("Kept")

ROWS_PER_BLOCK = 20_000
"""Rows that are held as dictionaries at a time."""

FILES_PER_CHUNK = 64
"""Files that a thread checks in one go."""


@dataclass(frozen=True, slots=True)
class JournalEntry:
    """A line of the journal: how one image came out.

    `columns` enter the manifest as its source or generator has them, `facts` stay out of it.
    """

    image_id: str
    outcome: str
    sha256: str = ""
    columns: JsonObject = field(default_factory=dict)
    facts: JsonObject = field(default_factory=dict)

    @classmethod
    def from_line(cls, line: JsonObject) -> "JournalEntry":
        """The entry of a line; what an earlier version did not write is empty."""
        return cls(
            line["image_id"],
            line["outcome"],
            line.get("sha256", ""),
            line.get("columns", {}),
            line.get("facts", {}),
        )


@dataclass(frozen=True)
class ImageStore:
    """The folder `parent/<name>-<short_digest>` for what `identity` makes."""

    parent: Path
    name: str
    identity: JsonObject

    @cached_property
    def key(self) -> str:
        """First 12 hex digits of the identity's digest."""
        return digest(self.identity)[:12]

    @property
    def folder(self) -> Path:
        """Where the store lies, whether or not it exists yet."""
        return Path(self.parent) / f"{self.name}-{self.key}"

    @contextmanager
    def writer(self, shard_name: str = "all") -> Iterator["StoreWriter"]:
        """Exclusive right to append to one part; waits, saying so, while another process has it."""
        for name in ("images", "journal"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        description = json.dumps(dict(self.identity), indent=1, sort_keys=True, default=str)
        write_atomically(self.folder / "store.json", description.encode())
        lock = exclusive_lock(self.folder / "journal" / f"{shard_name}.lock")
        with lock, StoreWriter(self.folder, shard_name) as writer:
            yield writer

    def entries(self) -> dict[str, JournalEntry]:
        """What has been committed: image id -> journal entry; a later success replaces a failure."""
        return self.map_entries(lambda entry: entry)

    def map_entries(self, transform: Callable[[JournalEntry], Kept]) -> dict[str, Kept]:
        """The same, but only what `keep` takes of each entry stays in memory."""
        found: dict[str, Kept] = {}
        made: set[str] = set()
        for entry in self.attempts():
            name = entry.image_id
            if name not in made:
                found[name] = transform(entry)
            if entry.outcome == "image":
                made.add(name)
        return found

    def attempts(self) -> Iterator[JournalEntry]:
        """Every journal entry, also those that a later one replaced: each may have cost something."""
        for path in self._journal_paths():
            yield from map(JournalEntry.from_line, iter_json_lines(path))

    def table(self) -> pd.DataFrame:
        """One row per committed image, sorted by id: `path`, `sha256` and its columns."""
        rows = (
            {
                "image_id": entry.image_id,
                "path": f"images/{entry.image_id}.png",
                "sha256": entry.sha256,
                **entry.columns,
            }
            for entry in self.attempts()
            if entry.outcome == "image"
        )
        parts = [pd.DataFrame()]
        while block := list(islice(rows, ROWS_PER_BLOCK)):
            parts.append(pd.DataFrame(block))
        whole = pd.concat(parts[1:] or parts, ignore_index=True)
        if whole.empty:
            return whole
        return whole.drop_duplicates("image_id").sort_values("image_id", ignore_index=True)

    def manifest(self) -> Manifest:
        """The committed images, sorted by id; the classes are those that occur."""
        table = (
            pd.read_parquet(self._manifest_path) if self._is_manifest_current() else self.table()
        )
        classes = tuple(sorted(table["label"].unique())) if len(table) else ()
        return Manifest(table, self.folder, classes)

    def write_manifest(self) -> None:
        """Write the journal as `manifest.parquet`, unless nothing was added since."""
        with exclusive_lock(self.folder / "journal" / "seal.lock"):
            if self._is_manifest_current():
                return
            lengths = (
                self._journal_sizes()
            )  # taken first: what is added meanwhile makes the seal stale
            self.manifest().write(self._manifest_path)
            write_atomically(self._manifest_state_path, json.dumps(lengths).encode())

    def _journal_paths(self) -> list[Path]:
        return sorted((self.folder / "journal").glob("*.jsonl"))

    def _journal_sizes(self) -> dict[str, int]:
        return {path.name: path.stat().st_size for path in self._journal_paths()}

    @property
    def _manifest_path(self) -> Path:
        return self.folder / "manifest.parquet"

    @property
    def _manifest_state_path(self) -> Path:
        return self.folder / "journal" / "sealed.json"

    def _is_manifest_current(self) -> bool:
        if not (self._manifest_path.is_file() and self._manifest_state_path.is_file()):
            return False
        return bool(json.loads(self._manifest_state_path.read_text()) == self._journal_sizes())


class StoreWriter:
    """Appends images to one part of a store."""

    def __init__(self, folder: Path, shard_name: str) -> None:
        self._folder = folder
        path = folder / "journal" / f"{shard_name}.jsonl"
        truncate_partial_line(path)
        self._journal = path.open("ab")

    def __enter__(self) -> "StoreWriter":
        return self

    def __exit__(self, *_: object) -> None:
        self._journal.close()

    def add(
        self,
        image_id: str,
        png: bytes | None,
        *,
        outcome: str = "image",
        columns: JsonObject | None = None,
        facts: JsonObject | None = None,
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
        sha256 = sha256_bytes(png) if png is not None else ""
        entry = JournalEntry(image_id, outcome, sha256, dict(columns or {}), dict(facts or {}))
        self._journal.write(json.dumps(asdict(entry), default=str).encode() + b"\n")
        self._journal.flush()


def verify_checksums(manifest: Manifest, *, remedy: str) -> None:
    """Check every file against its SHA-256; raises `PoolError` naming the damaged and the lost."""
    rows = list(zip(manifest.table["path"], manifest.table["sha256"], strict=True))

    def check(start: int) -> list[str]:
        part = (
            (manifest.folder / path, sha256)
            for path, sha256 in rows[start : start + FILES_PER_CHUNK]
        )
        return [
            f"{path} ({fault})" for path, sha256 in part if (fault := _file_fault(path, sha256))
        ]

    with ThreadPoolExecutor() as executor:
        bad = [
            one
            for found in executor.map(check, range(0, len(rows), FILES_PER_CHUNK))
            for one in found
        ]
    if bad:
        raise PoolError(
            f"{len(bad)} of {len(manifest)} images differ from the SHA-256 in their manifest: "
            f"{format_some(bad)}; {remedy}"
        )


def _file_fault(path: Path, sha256: str) -> str:
    try:
        return "" if sha256_bytes(path.read_bytes()) == sha256 else "changed"
    except OSError:
        return "missing"
