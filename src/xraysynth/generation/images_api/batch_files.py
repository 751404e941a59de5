"""Files of answers of a batch: downloaded up to a limit, and read line by line."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any

from xraysynth.generation.images_api.answer_limits import MAX_ANSWER_BYTES
from xraysynth.records import JsonObject


@dataclass(frozen=True)
class AnswerFile:
    """The beginning of a file of answers, or all of it.

    Attributes:
        file: The bytes.
        is_whole: Whether the file ends within the limit.
    """

    file: IO[bytes]
    is_whole: bool

    def lines(self) -> Iterator[JsonObject]:
        """Yields the lines as JSON objects; a damaged line is empty, and a very long one several."""
        self.file.seek(0)
        for text in iter(lambda: self.file.readline(MAX_ANSWER_BYTES), b""):
            yield _parse_line(text)


@contextmanager
def download_answers(
    client: Any, file_id: str, *, folder: Path, max_bytes: int
) -> Iterator[AnswerFile]:
    """Downloads a file of answers, but no more of it than `max_bytes`.

    The answers, which may hold the key, lie in a file without a name, which no killed process leaves
    behind.

    Args:
        client: The SDK's synchronous client.
        file_id: The service's id of the file.
        folder: Folder on whose disk the file lies.
        max_bytes: Longest file after decompression; the rest of a longer one is not read.
    """
    with TemporaryFile(dir=folder) as file:
        with client.files.with_streaming_response.content(file_id) as response:
            is_whole = _copy_at_most(response.iter_bytes(), file, max_bytes)
        yield AnswerFile(file, is_whole)


def _copy_at_most(pieces: Iterator[bytes], file: IO[bytes], max_bytes: int) -> bool:
    """Writes pieces to a file until they are longer than `max_bytes`; returns whether they were not."""
    bytes_left = max_bytes
    for piece in pieces:
        file.write(piece[:bytes_left])
        bytes_left -= len(piece)
        if bytes_left < 0:
            return False
    return True


def _parse_line(text: bytes) -> JsonObject:
    """Parses a line of a file of answers; a damaged line answers nothing."""
    try:
        line = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return line if isinstance(line, dict) else {}
