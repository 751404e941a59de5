"""Limits on what compressed arrays of a source inflate to: a kilobyte can become a megabyte, and again."""

from pathlib import Path
from zipfile import ZipFile

from xraysynth.errors import ImageError
from xraysynth.images import MAX_FILE_MB

MAX_ARRAY_RATIO = 100
"""Arrays of radiographs shrink to a half or a third; constant ones to a thousandth."""


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
