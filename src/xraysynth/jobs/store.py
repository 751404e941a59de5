"""A content-addressed folder of images that survives being killed: the base of cohorts and pools.

    <name>-<key12>/
        store.json          the identity: what decides the images (the key is its hash)
        images/<id>.png     written under another name, then renamed
        archive/<id>.*      what a service sent, unchanged, if the generator archives it
        journal/*.jsonl     one line per image, appended after the image is in place
        manifest.parquet    the journal as a manifest, sorted by id

An image is committed by its line in the journal: an image without a line is made again, byte for
byte, and a line that was written by half is cut off. Each line ends with a checksum, and the state of
the manifest (journal/sealed.json) has its SHA-256, so that a damaged manifest is read from the journal.

Each shard of the work has its own journal and lock, so that processes on one store either work on
different shards or wait for each other.
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

from xraysynth.errors import DamagedPoolError, XraysynthError, format_some
from xraysynth.files import (
    encode_json_line,
    exclusive_lock,
    file_fault,
    iter_json_lines,
    sha256_file,
    truncate_partial_line,
    write_atomically,
)
from xraysynth.manifest import Manifest
from xraysynth.options import require_folder_name
from xraysynth.records import JsonObject, sha256_bytes
from xraysynth.seeds import digest
from xraysynth.threads import available_cores

ID_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")

Value = TypeVar("Value")

ROWS_PER_BLOCK = 20_000
"""Rows that are held as dictionaries at a time, to limit memory."""

FILES_PER_CHUNK = 64
"""Files that a thread checks in one call."""


@dataclass(frozen=True, slots=True)
class JournalEntry:
    """A line of the journal: the outcome of one image.

    Attributes:
        image_id: Id of the image, and its file name.
        outcome: "image", or why there is none, for example "refusal".
        sha256: SHA-256 of the file; "" without an image.
        columns: Columns of the image in the manifest.
        facts: Further facts, which do not enter the manifest.
    """

    image_id: str
    outcome: str
    sha256: str = ""
    columns: JsonObject = field(default_factory=dict)
    facts: JsonObject = field(default_factory=dict)

    @classmethod
    def from_line(cls, line: JsonObject) -> "JournalEntry":
        """Returns the entry of a line; fields that an earlier version did not write are empty."""
        return cls(
            line["image_id"],
            line["outcome"],
            line.get("sha256", ""),
            line.get("columns", {}),
            line.get("facts", {}),
        )


@dataclass(frozen=True)
class ImageStore:
    """The folder `<parent>/<name>-<key>` of the images that `identity` decides.

    Attributes:
        parent: Folder of the store.
        name: Name of the store, for people.
        identity: What decides the images, as JSON.
    """

    parent: Path
    name: str
    identity: JsonObject

    def __post_init__(self) -> None:
        require_folder_name(self.name, "a source or generator")

    @cached_property
    def key(self) -> str:
        """First 12 hex digits of the digest of the identity."""
        return digest(self.identity)[:12]

    @property
    def folder(self) -> Path:
        """Folder of the store, whether or not it exists yet."""
        return Path(self.parent) / f"{self.name}-{self.key}"

    @contextmanager
    def writer(self, shard_name: str = "all") -> Iterator["StoreWriter"]:
        """Opens the journal of a shard for appending, alone; waits while another process has it."""
        for name in ("images", "journal"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        description = json.dumps(dict(self.identity), indent=1, sort_keys=True, default=str)
        write_atomically(self.folder / "store.json", description.encode())
        lock = exclusive_lock(self.folder / "journal" / f"{shard_name}.lock")
        with lock, StoreWriter(self.folder, shard_name) as writer:
            yield writer

    def entries(self) -> dict[str, JournalEntry]:
        """Returns image id -> its journal entry: the first success, or else the last failure."""
        return self.map_entries(lambda entry: entry)

    def map_entries(self, transform: Callable[[JournalEntry], Value]) -> dict[str, Value]:
        """Returns image id -> `transform(entry)` for the entry of `entries`, to save memory."""
        values: dict[str, Value] = {}
        committed: set[str] = set()
        for entry in self.attempts():
            if entry.image_id not in committed:
                values[entry.image_id] = transform(entry)
            if entry.outcome == "image":
                committed.add(entry.image_id)
        return values

    def attempts(self) -> Iterator[JournalEntry]:
        """Yields every journal entry, also of attempts that failed: each may have cost something."""
        return iter_journal(self.folder)

    def table(self) -> pd.DataFrame:
        """Returns one row per committed image, sorted by id: `path`, `sha256` and its columns."""
        rows = self._iter_rows()
        frames = []
        block = list(islice(rows, ROWS_PER_BLOCK))
        while block:
            frames.append(pd.DataFrame(block))
            block = list(islice(rows, ROWS_PER_BLOCK))
        if not frames:
            return pd.DataFrame({"image_id": [], "path": [], "sha256": []}, dtype="str")
        table = pd.concat(frames, ignore_index=True)
        return table.drop_duplicates("image_id").sort_values("image_id", ignore_index=True)

    def _iter_rows(self) -> Iterator[JsonObject]:
        """Yields the manifest row of every committed image, in the order of the journals."""
        for entry in self.attempts():
            if entry.outcome == "image":
                yield {
                    "image_id": entry.image_id,
                    "path": f"images/{entry.image_id}.png",
                    "sha256": entry.sha256,
                    **entry.columns,
                }

    def manifest(self) -> Manifest:
        """Returns the committed images, sorted by id; its classes are the labels that occur."""
        is_current = self._is_manifest_current()
        table = pd.read_parquet(self._manifest_path) if is_current else self.table()
        classes = tuple(sorted(table["label"].unique())) if len(table) else ()
        return Manifest(table, self.folder, classes)

    def write_manifest(self) -> None:
        """Writes the journal as `manifest.parquet`, unless that is up to date."""
        with exclusive_lock(self.folder / "journal" / "seal.lock"):
            if self._is_manifest_current():
                return
            # Read first: a journal that grows meanwhile makes the manifest outdated.
            sizes = self._journal_sizes()
            self.manifest().write(self._manifest_path)
            state = {**sizes, self._manifest_path.name: sha256_file(self._manifest_path)}
            write_atomically(self._manifest_state_path, json.dumps(state).encode())

    def _journal_sizes(self) -> dict[str, int]:
        return {path.name: path.stat().st_size for path in _journal_paths(self.folder)}

    @property
    def _manifest_path(self) -> Path:
        return self.folder / "manifest.parquet"

    @property
    def _manifest_state_path(self) -> Path:
        return self.folder / "journal" / "sealed.json"

    def _is_manifest_current(self) -> bool:
        """Whether the manifest is that of the journals as they are; a damaged one is not."""
        try:
            state = dict(json.loads(self._manifest_state_path.read_text()))
        except (OSError, ValueError, TypeError):
            return False
        # Earlier versions recorded no digest of the manifest.
        sha256 = state.pop(self._manifest_path.name, None)
        if sha256 is None:
            return self._manifest_path.is_file() and state == self._journal_sizes()
        return state == self._journal_sizes() and not file_fault(self._manifest_path, sha256)


def iter_journal(folder: Path) -> Iterator[JournalEntry]:
    """Yields every journal entry of a store by its folder, whatever its identity."""
    for path in _journal_paths(folder):
        yield from map(JournalEntry.from_line, iter_json_lines(path))


def _journal_paths(folder: Path) -> list[Path]:
    return sorted((folder / "journal").glob("*.jsonl"))


class StoreWriter:
    """Appends images to the journal of one shard of a store; `ImageStore.writer` opens it."""

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
        """Commits one image, or an outcome without an image.

        Args:
            image_id: Id of the image; letters, digits, ".", "_" and "-".
            png: The file; None without an image.
            outcome: "image", or why there is none.
            columns: Columns of the image in the manifest.
            facts: Further facts, which do not enter the manifest.
            archive: Bytes to archive unchanged, by file suffix.

        Raises:
            XraysynthError: The id cannot be a file name.
        """
        require_file_name(image_id)
        for suffix, data in (archive or {}).items():
            (self._folder / "archive").mkdir(exist_ok=True)
            write_atomically(self._folder / "archive" / f"{image_id}.{suffix}", data)
        if png is not None:
            write_atomically(self._folder / "images" / f"{image_id}.png", png)
        sha256 = sha256_bytes(png) if png is not None else ""
        entry = JournalEntry(image_id, outcome, sha256, dict(columns or {}), dict(facts or {}))
        self._journal.write(encode_json_line(asdict(entry)))
        self._journal.flush()


def require_file_name(image_id: str) -> None:
    """Checks that an image id can be a file name.

    Raises:
        XraysynthError: The id has other characters than letters, digits, ".", "_" and "-".
    """
    if not image_id or not ID_CHARACTERS.issuperset(image_id):
        raise XraysynthError(
            f"image id {image_id!r} cannot be a file name; use only letters, digits, '.', '_' and '-'"
        )


def verify_checksums(manifest: Manifest, *, remedy: str) -> None:
    """Checks every file of a manifest against its SHA-256.

    Args:
        manifest: The images.
        remedy: Last words of the error: what the user can do.

    Raises:
        DamagedPoolError: Files are changed or missing; it names them.
    """
    faults = find_damaged_images(manifest.table, folder=manifest.folder)
    if faults:
        listed = format_some(f"{path} ({fault})" for path, fault in faults.items())
        raise DamagedPoolError(
            f"{len(faults)} of {len(manifest)} images differ from the SHA-256 in their manifest: "
            f"{listed}; {remedy}"
        )


def find_damaged_images(table: pd.DataFrame, *, folder: Path) -> dict[str, str]:
    """Returns path -> "changed" or "missing" for every file of a table that has not its SHA-256."""
    rows = list(zip(table["path"], table["sha256"], strict=True))

    def check_chunk(start: int) -> dict[str, str]:
        faults = {}
        for path, sha256 in rows[start : start + FILES_PER_CHUNK]:
            fault = _file_fault(folder / path, sha256)
            if fault:
                faults[path] = fault
        return faults

    damaged: dict[str, str] = {}
    with ThreadPoolExecutor(available_cores()) as executor:
        for faults in executor.map(check_chunk, range(0, len(rows), FILES_PER_CHUNK)):
            damaged |= faults
    return damaged


def _file_fault(path: Path, sha256: str) -> str:
    """Returns "changed" or "missing"; "" for a file that has this SHA-256."""
    try:
        return "" if sha256_file(path) == sha256 else "changed"
    except OSError:
        return "missing"
