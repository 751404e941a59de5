"""The response cache: calls and answers on disk that must survive a killed process.

    <folder>/api/<image id>.sent     dollars that calls without a known answer may have cost
    <folder>/api/<image id>.answer   one line of JSON, then the bytes of the answer

Both files are removed when the pool has committed the result.
"""

import json
import math
from collections.abc import Collection
from pathlib import Path

from xraysynth.files import write_atomically
from xraysynth.generation.images_api.outcomes import ApiError
from xraysynth.generation.images_api.results import Exchange
from xraysynth.records import from_json, to_json


class ResponseCache:
    """Notes of calls and their answers in a folder; without a folder, nothing is stored.

    Args:
        folder: Folder in which the subfolder `api` is made, or None.
    """

    def __init__(self, folder: str | None) -> None:
        self._folder = None if folder is None else Path(folder) / "api"
        if self._folder is not None:
            self._folder.mkdir(parents=True, exist_ok=True)

    def mark_sent(self, image_id: str, usd: float) -> None:
        """Notes before a call what this call and earlier lost ones may cost.

        Args:
            image_id: The image that is requested.
            usd: Dollars of this call and of earlier calls without a known answer.
        """
        self._write(f"{image_id}.sent", repr(usd).encode())

    def save_response(self, image_id: str, exchange: Exchange, content: bytes) -> None:
        """Stores a complete answer before it is decoded."""
        header = json.dumps(to_json(exchange)).encode()
        self._write(f"{image_id}.answer", header + b"\n" + content)

    def lost_usd(self, image_id: str) -> float:
        """Returns the dollars that earlier calls without a stored answer may have cost.

        Raises:
            ApiError: If the file that says so is damaged.
        """
        if self._folder is None or self.has_response(image_id):
            return 0.0
        return _read_usd(self._folder / f"{image_id}.sent")

    def unsettled_usd(self, *, except_ids: Collection[str]) -> float:
        """Returns the dollars that all noted calls may have cost, with or without their answer.

        Args:
            except_ids: Image ids that are not counted.

        Raises:
            ApiError: If a file is damaged.
        """
        if self._folder is None:
            return 0.0
        marks = [path for path in self._folder.glob("*.sent") if path.stem not in except_ids]
        return sum(map(_read_usd, marks))

    def forget_committed_images(self, image_ids: Collection[str]) -> None:
        """Removes the files of images whose results have been committed."""
        if self._folder is not None:
            for path in self._folder.glob("*.sent"):
                if path.stem in image_ids:
                    self.remove(path.stem)

    def has_response(self, image_id: str) -> bool:
        """Whether an earlier process stored an answer whose result it did not commit."""
        return self._folder is not None and (self._folder / f"{image_id}.answer").exists()

    def load_response(self, image_id: str) -> tuple[Exchange, bytes]:
        """Returns a stored answer: its exchange, and the bytes of its body.

        Raises:
            FileNotFoundError: If no answer is stored.
        """
        header, _, content = self._path(f"{image_id}.answer").read_bytes().partition(b"\n")
        return from_json(Exchange, json.loads(header)), content

    def remove(self, image_id: str) -> None:
        """Removes the files of an image whose result has been committed."""
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


def _read_usd(mark: Path) -> float:
    """Reads the dollars in a mark; 0 if there is none."""
    if not mark.exists():
        return 0.0
    try:
        usd = float(mark.read_text())
    except ValueError:
        usd = math.nan
    if not 0 <= usd < math.inf:
        raise ApiError(
            f"{mark} is damaged: it must hold the dollars that calls without an answer may have cost. "
            f"Write them into it (echo 0.25 > '{mark}') and run it again"
        )
    return usd
