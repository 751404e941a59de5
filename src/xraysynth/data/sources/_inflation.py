"""Limits on what compressed files of a source inflate to: a kilobyte can become a megabyte, and again."""

import zlib
from pathlib import Path
from zipfile import ZipFile

from xraysynth.errors import ImageError
from xraysynth.images import MAX_FILE_MB

MAX_ARRAY_RATIO = 100
"""Arrays of radiographs shrink to a half or a third; constant ones to a thousandth."""

_FILE_META_GROUP = 2
_BLOCK_BYTES = 2**20


def require_limited_inflation(path: Path) -> None:
    """Refuses a DICOM file in the deflated transfer syntax that inflates to more than `MAX_FILE_MB`.

    Raises:
        ImageError: The file inflates to more, or is damaged.
    """
    from pydicom.filereader import read_dataset, read_preamble
    from pydicom.uid import DeflatedExplicitVRLittleEndian

    with path.open("rb") as file:
        read_preamble(file, force=True)
        meta = read_dataset(
            file, False, True, stop_when=lambda tag, vr, length: tag >> 16 != _FILE_META_GROUP
        )
        if meta.get("TransferSyntaxUID") != DeflatedExplicitVRLittleEndian:
            return
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


def _inflates_to_at_most(deflated: bytes, limit_bytes: int) -> bool:
    """Inflates raw deflate data block by block, keeping none."""
    inflater, n_bytes = zlib.decompressobj(-zlib.MAX_WBITS), 0
    while deflated and not inflater.eof and n_bytes <= limit_bytes:
        n_bytes += len(inflater.decompress(deflated, _BLOCK_BYTES))
        deflated = inflater.unconsumed_tail
    return n_bytes <= limit_bytes


def require_plausible_arrays(path: Path) -> None:
    """Refuses a .npz file of more than `MAX_FILE_MB` that shrank more than pictures do.

    Raises:
        ImageError: An array inflates to more than `MAX_ARRAY_RATIO` times its size in the file.
        BadZipFile: The file is no .npz file.
    """
    with ZipFile(path) as archive:
        for member in archive.infolist():
            is_large = member.file_size > MAX_FILE_MB * 1e6
            if is_large and member.file_size > MAX_ARRAY_RATIO * member.compress_size:
                raise ImageError(
                    f"{path}: the array {member.filename} inflates from {member.compress_size} to "
                    f"{member.file_size} bytes, more than {MAX_ARRAY_RATIO} times; download it again"
                )
