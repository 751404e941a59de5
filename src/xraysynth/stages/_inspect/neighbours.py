"""What lies beside images of one class, so that they can be joined."""

import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path

from xraysynth.data.inspection.classes import standard_class
from xraysynth.data.inspection.image_tables import MAX_TABLE_MB
from xraysynth.data.reading.tables import read_table
from xraysynth.errors import XraysynthError

MAX_NEIGHBOURS = 30

EXAMPLE = "OTHER_FOLDER"


def format_join_hint(paths: Sequence[Path], classes: Sequence[str]) -> str:
    """Write the command that joins images of one class to others.

    Folders beside the paths are looked at: one that holds the class too, and others, is named first,
    as a class that comes from one source alone cannot be told from its source.
    """
    found = sorted(
        _neighbours(paths, classes), key=lambda pair: (-len(pair[1] & set(classes)), pair[0])
    )
    other = str(found[0][0]) if found else EXAMPLE
    words = [shlex.quote(str(path)) for path in (*paths, other)]
    return " ".join(["xraysynth inspect", *words])


def _neighbours(paths: Sequence[Path], classes: Sequence[str]) -> Iterator[tuple[Path, set[str]]]:
    """The folders beside the paths that hold other classes, with their classes."""
    absolute = {path.absolute() for path in paths}
    for parent in sorted({path.parent for path in absolute}):
        folders = [entry for entry in sorted(parent.iterdir()) if entry.is_dir()]
        for folder in folders[:MAX_NEIGHBOURS]:
            held = _classes_of(folder) if folder not in absolute else set()
            if len(held | set(classes)) > 1 and held - set(classes):
                yield folder, held


def _classes_of(folder: Path) -> set[str]:
    """The classes of a folder by the column label of its manifest, or by the names of its folders."""
    manifest = folder / "manifest.csv"
    if manifest.is_file() and manifest.stat().st_size < MAX_TABLE_MB * 1e6:
        try:
            table = read_table(manifest)
        except XraysynthError:
            return set()
        if "label" in table:
            return {standard_class(label) for label in table["label"].unique() if label}
    try:
        names = [entry.name for entry in folder.iterdir() if entry.is_dir()]
    except OSError:
        return set()
    known = {standard_class(name) for name in names}
    return known if known & {"normal", "pneumonia", "covid19", "tuberculosis"} else set()
