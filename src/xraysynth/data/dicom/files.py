"""Telling DICOM files by their content: archives name them by UIDs, by numbers or with any suffix."""

import re
from pathlib import Path, PurePosixPath

DICOM_SUFFIXES = (".dcm", ".dicom", ".dic", ".ima")
"""Suffixes that promise a DICOM file; many archives write none."""

HEAD_BYTES = 2048
"""Bytes of a file that are looked at."""

_PREAMBLE_BYTES, _MAGIC = 128, b"DICM"
_FIRST_GROUPS = (0x0002, 0x0008)
_LAST_GROUP_OF_HEAD = 0x0040
_N_ELEMENTS = 3
_UNDEFINED_LENGTH = 0xFFFFFFFF
_VR_PATTERN = re.compile(
    rb"AE|AS|AT|CS|DA|DS|DT|FL|FD|IS|LO|LT|OB|OD|OF|OL|OV|OW|PN|SH|SL|SQ|SS|ST|SV|TM|UC|UI|UL|UN|UR|"
    rb"US|UT|UV"
)
_LONG_VRS = (
    b"OB",
    b"OD",
    b"OF",
    b"OL",
    b"OV",
    b"OW",
    b"SQ",
    b"SV",
    b"UC",
    b"UN",
    b"UR",
    b"UT",
    b"UV",
)
_DICOM_NAME = re.compile(
    r"(?:[A-Za-z]{1,4}\.?)?\d+(?:\.\d+){4,}|(?:IM|IMG|I)[-_]?\d{3,}", re.IGNORECASE
)


def is_dicom(path: Path) -> bool:
    """Return whether the content of a file is DICOM, whatever its name.

    A file with a preamble says so at byte 128. One without must begin with data elements of the first
    groups in ascending order, with explicit or implicit value representations.

    Raises:
        OSError: The file cannot be read.
    """
    with path.open("rb") as file:
        return is_dicom_head(file.read(HEAD_BYTES))


def is_dicom_head(head: bytes) -> bool:
    """Return whether the first `HEAD_BYTES` of a file are those of a DICOM file (`is_dicom`).

    >>> is_dicom_head(bytes(128) + b"DICM"), is_dicom_head(b"viewer 1.0")
    (True, False)
    """
    if head[_PREAMBLE_BYTES : _PREAMBLE_BYTES + len(_MAGIC)] == _MAGIC:
        return True
    encodings = (("little", True), ("little", False), ("big", True))
    return any(_has_elements(head, order, is_explicit) for order, is_explicit in encodings)


def is_named_like_dicom(file: str) -> bool:
    """Return whether the name of a file promises DICOM: by its suffix, a UID or an image's number.

    >>> list(map(is_named_like_dicom, ["a.dcm", "CR.1.2.826.0.1.3680043", "IM000001", "README"]))
    [True, True, True, False]
    """
    path = PurePosixPath(file)
    return path.suffix.lower() in DICOM_SUFFIXES or bool(_DICOM_NAME.fullmatch(path.name))


def _has_elements(head: bytes, order: str, is_explicit: bool) -> bool:
    """Whether bytes begin with plausible data elements, as many as `_N_ELEMENTS` or until they end."""
    offset, previous_tag = 0, 0
    for count in range(_N_ELEMENTS):
        if offset + 8 > len(head):
            return count > 0 and len(head) < HEAD_BYTES
        tag = _read_tag(head, offset, order)
        is_first = count == 0
        if tag <= previous_tag - is_first or not _is_early_group(tag >> 16, is_first=is_first):
            return False
        length, value_offset = _read_length(head, offset, order, is_explicit)
        if length < 0:
            return False
        if length == _UNDEFINED_LENGTH or value_offset + length > len(head):
            return not is_first and len(head) == HEAD_BYTES
        offset, previous_tag = value_offset + length, tag
    return True


def _is_early_group(group: int, *, is_first: bool) -> bool:
    return group in _FIRST_GROUPS if is_first else group <= _LAST_GROUP_OF_HEAD


def _read_number(head: bytes, offset: int, n_bytes: int, order: str) -> int:
    return int.from_bytes(head[offset : offset + n_bytes], "big" if order == "big" else "little")


def _read_tag(head: bytes, offset: int, order: str) -> int:
    group = _read_number(head, offset, 2, order)
    return group << 16 | _read_number(head, offset + 2, 2, order)


def _read_length(head: bytes, offset: int, order: str, is_explicit: bool) -> tuple[int, int]:
    """Length and offset of the value of the element at `offset`; length -1 if it has no known VR."""
    if not is_explicit:
        return _read_number(head, offset + 4, 4, order), offset + 8
    vr = head[offset + 4 : offset + 6]
    if not _VR_PATTERN.fullmatch(vr):
        return -1, offset
    if vr in _LONG_VRS:
        return _read_number(head, offset + 8, 4, order), offset + 12
    return _read_number(head, offset + 6, 2, order), offset + 8
