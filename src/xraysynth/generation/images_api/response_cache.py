"""What must outlive a killed process: which calls were made, and answers not yet handed on.

    <folder>/api/<image id>.sent     dollars that calls without a known answer may have cost
    <folder>/api/<image id>.answer   one line of JSON, then the answer as it came

Both are removed when the pool has committed the result.
"""

import json
from pathlib import Path

from xraysynth.files import write_atomically
from xraysynth.generation.images_api.results import Exchange
from xraysynth.records import from_json, to_json


class ResponseCache:
    """Marks and answers in a folder; without a folder nothing is kept."""

    def __init__(self, folder: str | None) -> None:
        self._folder = None if folder is None else Path(folder) / "api"
        if self._folder is not None:
            self._folder.mkdir(parents=True, exist_ok=True)

    def mark_sent(self, image_id: str, usd: float) -> None:
        """A call is about to be made; `usd` is what this and earlier lost calls may cost."""
        self._write(f"{image_id}.sent", repr(usd).encode())

    def save_response(self, image_id: str, exchange: Exchange, content: bytes) -> None:
        """An answer came in full."""
        head = json.dumps(to_json(exchange)).encode()
        self._write(f"{image_id}.answer", head + b"\n" + content)

    def lost_usd(self, image_id: str) -> float:
        """What a call that an earlier process made may have cost, when its answer is not here."""
        if self._folder is None or self.has_response(image_id):
            return 0.0
        mark = self._folder / f"{image_id}.sent"
        return float(mark.read_text()) if mark.exists() else 0.0

    def has_response(self, image_id: str) -> bool:
        """Whether an earlier process received an answer that it did not hand on."""
        return self._folder is not None and (self._folder / f"{image_id}.answer").exists()

    def load_response(self, image_id: str) -> tuple[Exchange, bytes]:
        """How that answer came, and the answer."""
        head, _, content = self._path(f"{image_id}.answer").read_bytes().partition(b"\n")
        return from_json(Exchange, json.loads(head)), content

    def remove(self, image_id: str) -> None:
        """The result has been committed."""
        if self._folder is not None:
            for suffix in ("sent", "answer"):
                (self._folder / f"{image_id}.{suffix}").unlink(missing_ok=True)

    def _write(self, name: str, data: bytes) -> None:
        if self._folder is not None:
            write_atomically(self._folder / name, data)

    def _path(self, name: str) -> Path:
        if self._folder is None:
            raise FileNotFoundError(name)
        return self._folder / name
