"""Reading DICOM files within bounds: a few megabytes of header, and deflated data of no more than a file.

Each element of a header costs microseconds and a hundred bytes, so that a file of millions of empty ones
would take minutes and all memory.
"""

import io
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from xraysynth.errors import ImageError
from xraysynth.images import MAX_FILE_MB

if TYPE_CHECKING:
    from pydicom import Dataset

MAX_HEADER_MB = 8
"""What comes before the pixels in a file; overlays of a large radiograph have about one megabyte each."""

_FILE_META_GROUP = 2
_BLOCK_BYTES = 2**20


MAX_READS = 100_000
"""Number of pieces that a header is read in, one to three for each element, in sequences as well."""


class _BoundedFile(io.FileIO):
    """A file that ends after `MAX_HEADER_MB`."""

    def readinto(self, buffer: Any) -> int | None:
        """Read as many bytes into a buffer as it holds and the bound allows."""
        left = max(int(MAX_HEADER_MB * 1e6) - self.tell(), 0)
        return super().readinto(memoryview(buffer)[:left])


class _BoundedReader(io.BufferedReader):
    """A buffered file that refuses to be read in more than `MAX_READS` pieces."""

    n_reads = 0

    def read(self, size: int | None = -1, /) -> bytes:
        """Read up to `size` bytes."""
        self.n_reads += 1
        if self.n_reads > MAX_READS:
            raise ImageError(
                f"{self.name}: the header is in more than the {MAX_READS} pieces allowed; export the file "
                "again"
            )
        return super().read(size)


class _StopBehind:
    """A condition of pydicom's reader: stops at the first element behind a tag, and knows whether it did."""

    def __init__(self, last_tag: int) -> None:
        self.last_tag, self.has_stopped = last_tag, False

    def __call__(self, tag: int, vr: str | None, length: int) -> bool:
        self.has_stopped = tag > self.last_tag
        return self.has_stopped


def read_elements(path: Path, last_tag: int, keywords: Sequence[str] | None = None) -> "Dataset":
    """Read the elements of a file up to a tag that comes before the pixels.

    Args:
        path: The file; one without preamble is read as well.
        last_tag: The last tag that is read.
        keywords: The elements that are kept; None for all.

    Raises:
        ImageError: The elements are more than `MAX_HEADER_MB` or `MAX_READS`, or inflate to more than a
            file may have.
        Exception: The file is damaged; pydicom raises nearly any type.
    """
    from pydicom.filereader import read_partial
    from pydicom.tag import Tag

    stop = _StopBehind(last_tag)
    tags: list[Any] | None = None if keywords is None else list(map(Tag, keywords))
    is_deflated = require_limited_inflation(path)
    with path.open("rb") if is_deflated else open_header(path) as file:
        dataset = read_partial(file, stop_when=stop, force=True, specific_tags=tags)
    if not stop.has_stopped and not is_deflated and path.stat().st_size > MAX_HEADER_MB * 1e6:
        raise ImageError(
            f"{path}: the header has more than the {MAX_HEADER_MB} MB allowed; export the file again"
        )
    return dataset


def open_header(path: Path) -> BinaryIO:
    """Open a file that ends after `MAX_HEADER_MB`, for not more than `MAX_READS`."""
    return cast(BinaryIO, _BoundedReader(_BoundedFile(path)))


def read_file_meta(path: Path) -> tuple["Dataset", int]:
    """Read the file meta elements, none if there are none, and return where the data set begins.

    Raises:
        Exception: They are damaged or too many; pydicom raises nearly any type.
    """
    from pydicom.filereader import read_dataset, read_preamble

    with open_header(path) as file:
        read_preamble(file, force=True)
        meta = read_dataset(
            file, False, True, stop_when=lambda tag, vr, length: tag >> 16 != _FILE_META_GROUP
        )
        return meta, file.tell()


def require_limited_inflation(path: Path) -> bool:
    """Refuses a DICOM file in the deflated transfer syntax that inflates to more than `MAX_FILE_MB`.

    Returns:
        Whether the file is deflated.

    Raises:
        ImageError: The file inflates to more, or is damaged.
    """
    from pydicom.uid import DeflatedExplicitVRLittleEndian

    meta, start = read_file_meta(path)
    if meta.get("TransferSyntaxUID") != DeflatedExplicitVRLittleEndian:
        return False
    with path.open("rb") as file:
        file.seek(start)
        deflated = file.read()
    try:
        is_limited = _inflates_to_at_most(deflated, int(MAX_FILE_MB * 1e6))
    except zlib.error as error:
        raise ImageError(
            f"{path}: the deflated data are damaged ({error}); copy it again"
        ) from error
    if not is_limited:
        raise ImageError(
            f"{path}: the file inflates to more than the {MAX_FILE_MB} MB allowed; save it uncompressed "
            "and smaller, or remove it"
        )
    return True


def _inflates_to_at_most(deflated: bytes, limit_bytes: int) -> bool:
    """Inflates raw deflate data block by block, keeping none."""
    inflater, n_bytes = zlib.decompressobj(-zlib.MAX_WBITS), 0
    while deflated and not inflater.eof and n_bytes <= limit_bytes:
        n_bytes += len(inflater.decompress(deflated, _BLOCK_BYTES))
        deflated = inflater.unconsumed_tail
    return n_bytes <= limit_bytes
