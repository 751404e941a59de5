"""Rows of a data set of the Hugging Face Hub that is a tree of image files."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path, PurePosixPath

import pandas as pd

from xraysynth.data.fetching.hub_snapshots import UNPACKED_SUFFIX
from xraysynth.data.reading.class_folders import read_class_folders
from xraysynth.data.reading.image_tables import TableReader
from xraysynth.data.reading.splits import split_of_word
from xraysynth.errors import ManifestError, format_some

METADATA_NAMES = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
"""Tables that say more about the images of their folder, by the Hub's convention."""

METADATA_SUFFIXES = tuple(PurePosixPath(name).suffix for name in METADATA_NAMES)
"""Suffixes of these tables."""


def is_metadata(path: str) -> bool:
    """Return whether a file is a table about images by the Hub's convention."""
    return PurePosixPath(path).name.lower() in METADATA_NAMES


def split_of_path(path: str) -> str:
    """Return the split that the name of a file or of one of its folders means; "" if none does.

    >>> split_of_path("data/train-00000-of-00005.parquet"), split_of_path("Val/normal/1.png")
    ('train', 'val')
    >>> split_of_path("images/1.png"), split_of_path("test.parquet")
    ('', 'test')
    """
    *folders, name = PurePosixPath(path).parts
    first_word = name.partition(".")[0].partition("-")[0]
    for word in (first_word, *reversed(folders)):
        split = split_of_word(word)
        if split is not None:
            return split
    return ""


def list_folder_rows(files: Sequence[str], known_labels: Iterable[str]) -> pd.DataFrame:
    """List images by the folders that they lie in (`read_class_folders`).

    Args:
        files: Paths of the images; an unpacked archive counts as a folder of its name.
        known_labels: Names of folders that are classes.

    Returns:
        One row per image with `file`, `label`, `split`, `view`, `patient_id` and `left_out`.

    Raises:
        ManifestError: No image lies in a folder of a class.
    """
    placed = read_class_folders(list(map(_without_archive_suffixes, files)), known_labels)
    rows = pd.DataFrame(list(map(asdict, placed))).drop(columns="path").assign(file=list(files))
    if (rows["left_out"] != "").all():
        raise ManifestError(
            f"no image lies in a folder of a class, and no {METADATA_NAMES[0]} says the labels: "
            f"{format_some(files)}"
        )
    return rows


def _without_archive_suffixes(path: str) -> str:
    """The path of a file of `train.zip.unpacked` as if it were in `train`."""
    parts = []
    for part in PurePosixPath(path).parts:
        parts.append(part.partition(".")[0] if part.endswith(UNPACKED_SUFFIX) else part)
    return "/".join(parts)


def list_metadata_rows(
    folder: Path, tables: Sequence[str], columns: Mapping[str, str], *, owner: str
) -> pd.DataFrame:
    """List the images that tables such as metadata.csv name, each in its own folder.

    Args:
        folder: Folder of the data set.
        tables: Paths of the tables.
        columns: Role -> column that the user names.
        owner: Name of the source's options, "source.hub".

    Returns:
        One row per image with `file` and the columns of `TableReader`.

    Raises:
        ManifestError: A table cannot be read, or a column is missing.
    """
    found = []
    for name in tables:
        path = folder / name
        reader = TableReader(path, path.parent, columns=columns, owner=owner, option=owner)
        rows = reader.read().rows
        inner = PurePosixPath(name).parent
        rows["file"] = [str(inner / file) if file else "" for file in rows["file"]]
        words = rows["split"] if "split" in rows else [""] * len(rows)
        splits = []
        for word, file in zip(words, rows["path"], strict=True):
            splits.append(split_of_word(word) or split_of_path(str(inner / file)))
        rows["split"] = splits
        found.append(rows)
    return pd.concat(found, ignore_index=True)
