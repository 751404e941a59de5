"""Bounds of an answer while it arrives: a few bytes must not become gigabytes of memory."""

import re
import zlib
from typing import Any

MAX_ANSWER_BYTES = 64 * 10**6
"""Longest answer after decompression: an uncompressed image of 4096² pixels as base64."""

MAX_TEXT_BYTES = 10**6
"""Longest answer without its image."""

_BYTES_PER_PIXEL = 4 * 4 / 3
"""Of an uncompressed image with transparency, as base64."""

ACCEPTED_ENCODINGS = "gzip, deflate"
_ANY_ZLIB_HEADER = zlib.MAX_WBITS | 32


class UnacceptableAnswerError(Exception):
    """An answer is too long, or compressed in a way that was not asked for."""


class Decompressor:
    """Decompresses an answer piece by piece, and stops when it is too long.

    Args:
        encoding: Value of the header `content-encoding`; "" or "identity" for none.
        max_bytes: Longest answer after decompression.
    """

    def __init__(self, encoding: str, max_bytes: int) -> None:
        self._is_plain = encoding in ("", "identity")
        if not self._is_plain and encoding not in ACCEPTED_ENCODINGS.split(", "):
            raise UnacceptableAnswerError("compressed in a way that was not asked for")
        self._zlib = zlib.decompressobj(_ANY_ZLIB_HEADER)
        self._bytes_left = max_bytes

    def decompress(self, data: bytes) -> bytes:
        """Returns the next piece of the answer.

        Raises:
            UnacceptableAnswerError: If the answer is too long.
            zlib.error: If the data are damaged.
        """
        piece = data if self._is_plain else self._zlib.decompress(data, self._bytes_left + 1)
        self._bytes_left -= len(piece)
        if self._bytes_left < 0:
            raise UnacceptableAnswerError("longer than any image")
        return piece


def max_answer_bytes(size: str) -> int:
    """Returns the longest answer with an image of a size, such as "1024x1024".

    Of any other size, such as "auto", it is `MAX_ANSWER_BYTES`.

    >>> max_answer_bytes("1024x1024")
    6592405
    """
    match = re.fullmatch(r"(\d{1,5})x(\d{1,5})", size)
    if match is None:
        return MAX_ANSWER_BYTES
    width, height = map(int, match.groups())
    return min(MAX_ANSWER_BYTES, MAX_TEXT_BYTES + int(width * height * _BYTES_PER_PIXEL))


def _take_decompressor(response: Any) -> Decompressor:
    """Returns what decompresses an answer in place of the SDK, which has no limit."""
    encoding = response.headers.pop("content-encoding", "").strip().lower()
    return Decompressor(encoding, MAX_ANSWER_BYTES)


def limit_synchronous_answer(response: Any) -> None:
    """Limits the body of an answer before it is read: a hook of the SDK's synchronous client.

    A file is limited by who downloads it (`batch_files.download_answers`).
    """
    import httpx2

    if response.request.url.path.endswith("/content"):
        return
    decompressor = _take_decompressor(response)
    stream = response.stream

    class LimitedStream(httpx2.SyncByteStream):
        def __iter__(self) -> Any:
            for data in stream:
                piece = decompressor.decompress(data)
                if piece:
                    yield piece

        def close(self) -> None:
            stream.close()

    response.stream = LimitedStream()


async def limit_answer(response: Any) -> None:
    """Limits the body of an answer before it is read: a hook of the SDK's asynchronous client."""
    import httpx2

    decompressor = _take_decompressor(response)
    stream = response.stream

    class LimitedStream(httpx2.AsyncByteStream):
        async def __aiter__(self) -> Any:
            async for data in stream:
                piece = decompressor.decompress(data)
                if piece:
                    yield piece

        async def aclose(self) -> None:
            await stream.aclose()

    response.stream = LimitedStream()
