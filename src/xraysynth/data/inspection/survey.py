"""What a folder holds: its files by kind, bounded in time and memory."""

import os
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from xraysynth.data.dicom.files import DICOM_SUFFIXES, is_dicom
from xraysynth.data.reading.folders import list_files, list_images
from xraysynth.errors import DataNotFoundError

TABLE_SUFFIXES = (".csv", ".tsv", ".txt", ".xlsx", ".jsonl", ".json", ".parquet", ".pq")
ARCHIVE_SUFFIXES = (".zip", ".tar", ".tgz", ".tar.gz", ".tar.bz2", ".tar.xz")
ARRAY_SUFFIX = ".npz"

MAX_FILES = 2_000_000
"""A folder with more files is no collection of radiographs; it is refused by name."""


@dataclass(frozen=True)
class Survey:
    """The files below a folder.

    Attributes:
        root: The folder.
        files: POSIX paths relative to it, sorted, without hidden ones.
    """

    root: Path
    files: tuple[str, ...]

    @cached_property
    def images(self) -> list[str]:
        """Image files, by their suffix or else their first bytes (`list_images`)."""
        return list_images(self.root).images if self.files else []

    @cached_property
    def tables(self) -> list[str]:
        """Files with the suffix of a table, the one nearest to the root first."""
        tables = [file for file in self.files if suffix_of(file) in TABLE_SUFFIXES]
        return sorted(tables, key=lambda file: (file.count("/"), file))

    @cached_property
    def arrays(self) -> list[str]:
        """NumPy archives, as MedMNIST publishes."""
        return [file for file in self.files if suffix_of(file) == ARRAY_SUFFIX]

    @cached_property
    def archives(self) -> list[str]:
        """Archives that are still to be unpacked."""
        return [file for file in self.files if file.lower().endswith(ARCHIVE_SUFFIXES)]

    @cached_property
    def dicoms(self) -> list[str]:
        """DICOM files, told by their content."""
        return [
            file for file in self.files if _may_be_dicom(file) and is_dicom_file(self.root / file)
        ]

    @cached_property
    def folders(self) -> frozenset[str]:
        """Relative paths of all folders with a file in or below them; "" is the root."""
        parents: set[str] = set()
        for file in self.files:
            parent = os.path.dirname(file)
            while parent not in parents:
                parents.add(parent)
                parent = os.path.dirname(parent)
        return frozenset(parents)

    @cached_property
    def suffix_counts(self) -> Counter[str]:
        """Number of files by suffix."""
        return Counter(map(suffix_of, self.files))


def survey_folder(root: Path) -> Survey:
    """List the visible files below a folder as sources do.

    Raises:
        DataNotFoundError: It holds more than `MAX_FILES` files, or links that lead in circles.
    """
    files = list_files(root, None)
    if len(files) > MAX_FILES:
        raise DataNotFoundError(
            f"{root} holds more than {MAX_FILES:,} files; name the folder of the radiographs below it"
        )
    return Survey(root, tuple(files))


def suffix_of(file: str) -> str:
    """Return the lower-case suffix of a file's name, "" for none."""
    return os.path.splitext(file)[1].lower()


def _may_be_dicom(file: str) -> bool:
    """Whether a file has the suffix of DICOM, none, or a part of a UID."""
    suffix = suffix_of(file)
    return suffix in (*DICOM_SUFFIXES, "") or suffix[1:].isdigit()


def is_dicom_file(path: Path) -> bool:
    """Return whether a file is DICOM by its content; false where it cannot be read."""
    try:
        return is_dicom(path)
    except OSError:
        return False


def describe_suffixes(counts: Counter[str], limit: int = 6) -> str:
    """Write numbers of files by suffix: "585 .jpg, 1 .csv".

    >>> describe_suffixes(Counter({".jpg": 585, "": 1}))
    '585 .jpg, 1 without suffix'
    """
    parts = []
    for suffix, count in counts.most_common(limit):
        parts.append(f"{count:,} {suffix or 'without suffix'}")
    return ", ".join(parts)
