"""Reading a table of labels of DICOM files: which column holds what, and one label per key."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from xraysynth.data.dicom.labels import match_table
from xraysynth.data.dicom.listing import ListedFile
from xraysynth.data.reading.names import MISSING_WORDS, simplify_name
from xraysynth.errors import ManifestError, format_some

if TYPE_CHECKING:
    import pandas as pd

DEFAULT_KEY_COLUMN, DEFAULT_LABEL_COLUMN = "file", "label"


def read_label_table(
    path: Path, key_column: str, label_column: str, listed: Sequence[ListedFile]
) -> dict[str, str]:
    """Read the label of each key of a table.

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
    return _pair_labels(path, table[key_name], table[label_name])


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
            n_files = len(match_table(keys, listed).label_of_file)
        except ManifestError:  # a name of several files
            continue
        if n_files > most_files:
            best, most_files = column, n_files
    return best


def _pair_labels(path: Path, keys: "pd.Series", labels: "pd.Series") -> dict[str, str]:
    label_of_key: dict[str, str] = {}
    ambiguous = []
    for key, label in zip(keys, labels, strict=True):
        if not key or key in MISSING_WORDS:
            continue
        if label_of_key.setdefault(key, label) != label:
            ambiguous.append(key)
    if ambiguous:
        keys_of_rows = list(dict.fromkeys(ambiguous))
        raise ManifestError(
            f"{path} gives more than one label to {format_some(keys_of_rows)}; keep one row per file"
        )
    return label_of_key
