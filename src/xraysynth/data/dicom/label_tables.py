"""Reading a table of labels of DICOM files: which column holds what, and one label per key."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from xraysynth.data.dicom.labels import IDENTIFIERS, match_table
from xraysynth.data.dicom.listing import ListedFile
from xraysynth.data.reading.class_folders import PlacedImage
from xraysynth.data.reading.names import MISSING_WORDS, simplify_name
from xraysynth.errors import ManifestError, format_some

if TYPE_CHECKING:
    import pandas as pd

DEFAULT_KEY_COLUMN, DEFAULT_LABEL_COLUMN = "file", "label"


@dataclass(frozen=True)
class LabelTable:
    """The labels and patients of a table.

    Attributes:
        label_of_key: Key of images -> label.
        patient_of_key: Key of images -> patient; empty if there is no column of patients.
    """

    label_of_key: Mapping[str, str]
    patient_of_key: Mapping[str, str]


def place_by_table(
    path: Path, key_column: str, label_column: str, listed: Sequence[ListedFile]
) -> tuple[dict[str, PlacedImage], list[str]]:
    """Return the label of each file that a table labels, and the keys that no file has.

    Args:
        path: The table.
        key_column: Name of the column of keys (`read_label_table`).
        label_column: Name of the column of labels.
        listed: All files.

    Raises:
        ManifestError: The table cannot be read, or fits no file. The message names no remedy.
    """
    table = read_label_table(path, key_column, label_column, listed)
    matched = match_table(table.label_of_key, listed)
    if not matched.key_of_file:
        files = [entry.file for entry in listed if not entry.left_out]
        raise ManifestError(
            f"{len(files)} files have no row in {path}: {format_some(files)}, but "
            f"{format_some(table.label_of_key)} have, which are no file names and none of "
            f"{', '.join(IDENTIFIERS)}"
        )
    placed = {}
    for file, key in matched.key_of_file.items():
        patient = table.patient_of_key.get(key, "")
        placed[file] = PlacedImage(file, table.label_of_key[key], patient_id=patient)
    return placed, list(matched.missing_keys)


def read_label_table(
    path: Path, key_column: str, label_column: str, listed: Sequence[ListedFile]
) -> LabelTable:
    """Read the label of each key of a table, and its patient if a column is one of patients.

    A column is found by its name, whatever its case and spaces. A column that is asked for by its
    default name and is not there is told by its values: the key column is the one that matches most
    files, the label column the one that holds findings.

    Args:
        path: The table.
        key_column: Name of the column of keys.
        label_column: Name of the column of labels.
        listed: The files that the keys mean.

    Raises:
        ManifestError: A column is missing, or a key has several labels. The message names no remedy.
    """
    from xraysynth.data.reading.columns import find_column_roles
    from xraysynth.data.reading.tables import read_table

    table = read_table(path)
    label_name = _find_column(table, label_column) or _guess_label_column(table, label_column)
    key_name = _find_column(table, key_column)
    if not key_name and key_column == DEFAULT_KEY_COLUMN and label_name:
        key_name = _guess_key_column(table.drop(columns=label_name), listed)
    names = {key_column: key_name, label_column: label_name}
    missing = [name for name, column in names.items() if not column]
    if missing:
        raise ManifestError(
            f"{path} has no column {format_some(missing)}, only {format_some(table.columns, 12)}"
        )
    labels, ambiguous = _pair_values(table[key_name], table[label_name])
    if ambiguous:
        raise ManifestError(
            f"{path} gives more than one label to {format_some(ambiguous)}; keep one row per file"
        )
    patient_name = find_column_roles(table).columns.get("patient_id", key_name)
    if patient_name in (key_name, label_name):
        return LabelTable(labels, {})
    patients, ambiguous = _pair_values(table[key_name], table[patient_name])
    unknown = {key for key, patient in patients.items() if patient in MISSING_WORDS}
    patients |= dict.fromkeys({*ambiguous, *unknown}, "")
    return LabelTable(labels, patients)


def _find_column(table: "pd.DataFrame", name: str) -> str:
    """The column of a name, or else the only one whose name differs in case and spaces; "" if none."""
    if name in table:
        return name
    similar = [column for column in table if simplify_name(column) == simplify_name(name)]
    return similar[0] if len(similar) == 1 else ""


def _guess_label_column(table: "pd.DataFrame", name: str) -> str:
    from xraysynth.data.reading.columns import find_column_roles

    if name != DEFAULT_LABEL_COLUMN:
        return ""
    return find_column_roles(table).columns.get("label", "")


def _guess_key_column(table: "pd.DataFrame", listed: Sequence[ListedFile]) -> str:
    """The column whose values mean most files; "" if none means any."""
    best, most_files = "", 0
    for column in table:
        keys = dict.fromkeys(table[column], "")
        try:
            n_files = len(match_table(keys, listed).key_of_file)
        except ManifestError:  # a name of several files
            continue
        if n_files > most_files:
            best, most_files = column, n_files
    return best


def _pair_values(keys: "pd.Series", values: "pd.Series") -> tuple[dict[str, str], list[str]]:
    """The first value of each key, and the keys that have several."""
    value_of_key: dict[str, str] = {}
    ambiguous: dict[str, None] = {}
    for key, value in zip(keys, values, strict=True):
        if not key or key in MISSING_WORDS:
            continue
        if value_of_key.setdefault(key, value) != value:
            ambiguous[key] = None
    return value_of_key, list(ambiguous)
