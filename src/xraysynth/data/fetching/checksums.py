"""Checksums of downloads: the published ones, and those recorded at the first download."""

import hashlib
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from xraysynth.files import explain_unreadable, sha256_file, write_atomically


def checksum_fault(path: Path, checksum: str) -> str:
    """Return how a file differs from a checksum such as "sha256:…"; "" if it does not."""
    algorithm, _, expected = checksum.partition(":")
    if algorithm == "sha256":
        actual = sha256_file(path)
    else:
        with path.open("rb") as file:
            actual = hashlib.file_digest(file, algorithm).hexdigest()
    if actual == expected:
        return ""
    return f"its {algorithm} is {actual}, but the published file has {expected}"


@dataclass(frozen=True)
class Records:
    """SHA-256, size, address and time of downloads, in a JSON file beside the data.

    Where no checksum is published, the first download is trusted, and later ones must be the same.
    """

    path: Path

    def fault(self, name: str, path: Path) -> str:
        """Return how a file differs from the one that was downloaded first under its name; "" if not."""
        first = self._read().get(name)
        actual = sha256_file(path)
        if first is None or first["sha256"] == actual:
            return ""
        return (
            f"its SHA-256 is {actual}, but what was downloaded from {first['url']} on {first['time']} had "
            f"{first['sha256']}: the publisher has changed it, or it is not the publisher's; to accept it, "
            f"remove {self.path}"
        )

    def add(self, name: str, path: Path, url: str) -> None:
        """Record a download, unless one of this name is recorded."""
        records = self._read()
        if name in records:
            return
        records[name] = {
            "sha256": sha256_file(path),
            "size_bytes": path.stat().st_size,
            "url": url,
            "time": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        write_atomically(self.path, json.dumps(records, indent=1).encode())

    def remove(self, name: str) -> None:
        """Forget a download, so that the next one of this name is the first."""
        records = self._read()
        if records.pop(name, None) is not None:
            write_atomically(self.path, json.dumps(records, indent=1).encode())

    def _read(self) -> dict[str, Any]:
        if not self.path.exists():
            return {}
        with explain_unreadable(self.path, f"remove it with: rm '{self.path}'"):
            records: dict[str, Any] = json.loads(self.path.read_text())
        return records
