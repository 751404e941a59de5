"""Rows of a data set of the Hugging Face Hub that is a tree of image files."""

from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

import pandas as pd

from xraysynth.data.reading.image_tables import TableReader
from xraysynth.data.reading.splits import split_of_word
from xraysynth.errors import ManifestError, format_some

METADATA_NAMES = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
"""Tables that say more about the images of their folder, by the Hub's convention."""

_IMAGE_FOLDERS = ("images", "image", "imgs", "img")


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


def list_folder_rows(files: Sequence[str]) -> pd.DataFrame:
    """List images whose label is the name of their folder.

    Args:
        files: Paths of the images.

    Returns:
        One row per image with `file`, `label` and `split` ("" if unknown).

    Raises:
        ManifestError: An image lies in no folder that could be its label.
    """
    labels = list(map(_label_of_path, files))
    unlabelled = [file for file, label in zip(files, labels, strict=True) if not label]
    if unlabelled:
        raise ManifestError(
            f"{len(unlabelled)} images lie in no folder of a class, and no {METADATA_NAMES[0]} says their "
            f"labels: {format_some(unlabelled)}"
        )
    splits = list(map(split_of_path, files))
    return pd.DataFrame({"file": list(files), "label": labels, "split": splits})


def _label_of_path(path: str) -> str:
    """The innermost folder of an image that is neither a split nor called images; "" if there is none."""
    for folder in reversed(PurePosixPath(path).parts[:-1]):
        if split_of_word(folder) is None and folder.lower() not in _IMAGE_FOLDERS:
            return folder
    return ""


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
