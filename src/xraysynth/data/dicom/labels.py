"""Labels of the files of an export: the folders of classes that they lie in, or the rows of a table."""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

from xraysynth.data.dicom.listing import ListedFile
from xraysynth.data.reading.class_folders import PlacedImage, read_class_folders
from xraysynth.data.reading.labels import class_of_word
from xraysynth.errors import ManifestError, format_some

IDENTIFIERS = {
    "SOPInstanceUID": "sop_instance",
    "SeriesInstanceUID": "series",
    "StudyInstanceUID": "study",
    "AccessionNumber": "accession_number",
    "PatientID": "patient_id",
}
"""Element by which a table may list images, from the most to the least specific -> field of `Header`."""

_FILE = "file"
_EXPORT_FOLDER = re.compile(
    r"(?:DICOM|DCM|DICOMOBJ|IMAGES?|IMG|DATA|CD|DVD|EXPORT|PATIENTS?|PAT|PA|PT|P|STUDY|STUDIES|STD|ST|S|"
    r"SERIES|SER|SRS|SE|EXAM|EX)[-_ ]?\d*|\d{4,}|\d+(?:\.\d+){3,}",
    re.IGNORECASE,
)

_Index = Mapping[str, Sequence[str]]


@dataclass(frozen=True)
class TableLabels:
    """What a table says of files.

    Attributes:
        key_of_file: File -> the first key that means it.
        missing_keys: Keys of the table that no file has.
        kind: What the keys are: "file", or one of the `IDENTIFIERS`.
    """

    key_of_file: Mapping[str, str]
    missing_keys: Sequence[str]
    kind: str


def is_folder_of_export(name: str) -> bool:
    """Return whether a folder is one that PACS and CDs write, such as `DICOM`, `PA000001` or a UID.

    >>> is_folder_of_export("PA000001"), is_folder_of_export("pneumonia"), is_folder_of_export("0")
    (True, False, False)
    """
    return bool(_EXPORT_FOLDER.fullmatch(name))


def find_class_folders(files: Sequence[str], labels: Collection[str]) -> dict[str, PlacedImage]:
    """Return the folder of a class that each file lies in, with the split and view of its folders.

    The topmost folder is the class if one of them is a known label. Else it is told as for image files
    (`reading.class_folders`) if that finds known words for classes, or else the topmost again.

    Args:
        files: Paths of images relative to the root.
        labels: Labels that are known.

    Raises:
        ManifestError: No file lies in a folder of a class, only in the root itself or in the folders of
            an export. The message names no remedy.
    """
    placed = {image.path: image for image in read_class_folders(files, labels)}
    top_folders = {file: _top_folder(file) for file in files}
    names = sorted(set(top_folders.values()) - {""})
    if files and not names:
        raise ManifestError(
            f"{len(files)} files lie in no folder and have no label: {format_some(files)}"
        )
    has_known_top = bool(set(names) & set(labels))
    found = {image.label for image in placed.values()}
    if not has_known_top and any(name in labels or class_of_word(name) for name in found):
        return placed
    if names and not has_known_top and all(map(is_folder_of_export, names)):
        raise ManifestError(
            f"the folders {format_some(names)} are those of an export, not of classes, so that "
            f"{len(files)} files have no label"
        )
    return {file: replace(placed[file], label=top_folders[file], split="") for file in files}


def _top_folder(file: str) -> str:
    top, separator, _ = file.partition("/")
    return top if separator else ""


def match_table(label_of_key: Mapping[str, str], listed: Sequence[ListedFile]) -> TableLabels:
    """Find the files that the keys of a table mean: by what the values match, not by a column's name.

    Keys are paths, file names with or without suffix, or the values of one of the `IDENTIFIERS`;
    whichever matches most files. Where nothing matches, leading zeros and a final ".0", which programs
    for tables take away and add, do not count.

    Args:
        label_of_key: Key -> label.
        listed: All files; those that are left out need no label, but a key that means one is not missing.

    Raises:
        ManifestError: A key is the name of several files, or means a file that another key labels in
            another way. The message names no remedy.
    """
    matched = _match_keys(label_of_key, listed, _simplify)
    return matched if matched.key_of_file else _match_keys(label_of_key, listed, _loosen)


def _simplify(text: str) -> str:
    """A key as both sides write it: slashes, no leading "./", one Unicode form."""
    plain = unicodedata.normalize("NFC", text.strip()).replace("\\", "/")
    return plain.removeprefix("./")


def _loosen(text: str) -> str:
    """A key without leading zeros and a final ".0"."""
    plain = re.sub(r"(?<=\d)\.0$", "", _simplify(text).casefold())
    return plain.lstrip("0") or "0" if plain.isdecimal() else plain


def _match_keys(
    label_of_key: Mapping[str, str],
    listed: Sequence[ListedFile],
    simplify: Callable[[str], str],
) -> TableLabels:
    keys = [key for key in label_of_key if key.strip()]
    used = [entry for entry in listed if not entry.left_out]
    files_of_kind = {}
    for kind in (_FILE, *IDENTIFIERS):
        index = _index_files(kind, used, simplify)
        files_of_kind[kind] = {key: _find_files(simplify(key), index) for key in keys}
    kind = max(files_of_kind, key=lambda name: _count_files(files_of_kind[name]))
    files_of_key = files_of_kind[kind]
    if kind == _FILE:
        _require_one_file(files_of_key)
    all_files = _index_files(kind, listed, simplify)
    missing = [key for key in keys if not _find_files(simplify(key), all_files)]
    return TableLabels(_find_keys(label_of_key, files_of_key), missing, kind)


def _index_files(
    kind: str, entries: Sequence[ListedFile], simplify: Callable[[str], str]
) -> _Index:
    """Every key by which a table may mean files -> these files.

    A file itself may be meant by the end of its path, with or without suffix; the whole path comes first.
    """
    paths: dict[str, list[str]] = {}
    endings: dict[str, list[str]] = defaultdict(list)
    for entry in entries:
        if kind != _FILE:
            endings[simplify(getattr(entry.header, IDENTIFIERS[kind]))].append(entry.file)
            continue
        paths[simplify(entry.file)] = [entry.file]
        parts = PurePosixPath(entry.file).parts
        for start in range(len(parts)):
            ending = PurePosixPath(*parts[start:])
            for text in {str(ending), str(ending.with_suffix(""))}:
                endings[simplify(text)].append(entry.file)
    endings.pop("", None)
    return {**endings, **paths}


def _find_files(key: str, index: _Index) -> Sequence[str]:
    """The files that a key means; of an absolute path, or one from a higher folder, the end counts."""
    parts = key.split("/")
    for start in range(len(parts)):
        files = index.get("/".join(parts[start:]))
        if files:
            return files
    return ()


def _count_files(files_of_key: _Index) -> int:
    return len({file for files in files_of_key.values() for file in files})


def _require_one_file(files_of_key: _Index) -> None:
    for key, files in files_of_key.items():
        if len(files) > 1:
            raise ManifestError(
                f"{key} is the name of {len(files)} files, such as {format_some(files)}"
            )


def _find_keys(label_of_key: Mapping[str, str], files_of_key: _Index) -> dict[str, str]:
    """The first key of each file; the others must say the same label."""
    key_of_file: dict[str, str] = {}
    for key, files in files_of_key.items():
        for file in files:
            first_label = label_of_key[key_of_file.setdefault(file, key)]
            if first_label != label_of_key[key]:
                raise ManifestError(
                    f"{file} has the labels {first_label!r} and {label_of_key[key]!r}, by "
                    f"{key_of_file[file]} and {key}"
                )
    return key_of_file
