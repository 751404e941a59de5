"""Listing the files of an export: those that are used, left out or unusable, and why."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

from xraysynth.data.dicom.decoding import INSTALL_DECODERS
from xraysynth.data.dicom.files import is_dicom, is_named_like_dicom
from xraysynth.data.dicom.headers import Header, read_header
from xraysynth.data.dicom.selection import (
    explain_left_out,
    explain_unusable,
    is_for_processing,
)
from xraysynth.data.reading.folders import list_files
from xraysynth.errors import DataNotFoundError

NOT_DICOM = "not DICOM"
"""Why a viewer's own files, read-me's and tables are left out."""


@dataclass(frozen=True)
class ListedFile:
    """One file of an export.

    Attributes:
        file: POSIX path relative to the folder.
        header: Its header, empty if it is not DICOM.
        left_out: Why it is no frontal radiograph of the chest; "" if it is one.
        unusable: Why it cannot be used although it should be one; "" if it can.
        stamp: Text that changes with the file, "" if there is none.
    """

    file: str
    header: Header
    left_out: str = ""
    unusable: str = ""
    stamp: str = ""

    @property
    def is_used(self) -> bool:
        """Whether nothing in its header keeps the file from being used."""
        return not self.left_out and not self.unusable


def list_dicom_files(root: Path) -> list[ListedFile]:
    """List all visible files below a folder, by their content and headers.

    Args:
        root: The folder.

    Returns:
        One entry per file in the order of their paths, those that are not DICOM included.

    Raises:
        DataNotFoundError: The package pydicom is not installed.
    """
    if find_spec("pydicom") is None:
        raise DataNotFoundError(
            f"{root}: DICOM files are read with the package pydicom, which is not installed; run "
            f"{INSTALL_DECODERS}"
        )
    listed = [_list_file(root, file) for file in list_files(root, None)]
    return _leave_out_raw_images(listed)


def _list_file(root: Path, file: str) -> ListedFile:
    path = root / file
    try:
        stat = path.stat()
        stamp = f"{stat.st_size}:{stat.st_mtime_ns}"
        if not is_dicom(path):
            return _list_other_file(path, file, stamp)
    except OSError as error:
        reason = f"{path}: {error.strerror}; repair or remove this file or link"
        return ListedFile(file, Header(error=reason), unusable=reason)
    header = read_header(path)
    left_out = explain_left_out(header)
    unusable = "" if left_out else explain_unusable(header, path)
    return ListedFile(file, header, left_out, unusable, stamp)


def _list_other_file(path: Path, file: str, stamp: str) -> ListedFile:
    """A file that is not DICOM: left out, unless its name promises a radiograph."""
    if not is_named_like_dicom(file):
        return ListedFile(file, Header(), left_out=NOT_DICOM, stamp=stamp)
    what = "is empty (0 bytes)" if stamp.startswith("0:") else "is not DICOM"
    reason = f"{path}: the file {what}; copy or export it again"
    return ListedFile(file, Header(), unusable=reason, stamp=stamp)


def _leave_out_raw_images(listed: Sequence[ListedFile]) -> list[ListedFile]:
    """Leave out what a detector gave for processing where its study holds an image for presentation."""
    shown_studies = set()
    for entry in listed:
        if entry.is_used and not is_for_processing(entry.header):
            shown_studies.add(entry.header.study)
    shown_studies.discard("")
    kept = []
    for entry in listed:
        is_raw_copy = entry.is_used and is_for_processing(entry.header)
        if is_raw_copy and entry.header.study in shown_studies:
            entry = replace(entry, left_out="raw image beside the one for presentation")
        kept.append(entry)
    return kept
