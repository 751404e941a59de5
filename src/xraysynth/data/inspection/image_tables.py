"""Which table of a folder lists its images."""

from dataclasses import dataclass
from pathlib import Path

from xraysynth.data.inspection.survey import Survey
from xraysynth.data.sources.table import TableSource
from xraysynth.errors import XraysynthError

MAX_TABLES = 12
"""Number of tables of a folder that are tried, those nearest to its root first."""

MAX_TABLE_MB = 256
"""Larger tables of a folder are not tried; name the table itself to have it read."""

MIN_FRACTION = 0.5
"""A table is preferred to folders if it lists at least this fraction of the images."""


@dataclass(frozen=True)
class ImageTable:
    """A table that lists images.

    Attributes:
        path: The table.
        options: Options of a table source besides its path.
        images: Number of images that it lists and that are there.
    """

    path: Path
    options: dict[str, object]
    images: int


def find_image_table(survey: Survey) -> ImageTable | None:
    """Find the table that lists most of a folder's images; None if none lists half of them."""
    best: ImageTable | None = None
    for name in survey.tables[:MAX_TABLES]:
        found = try_table(survey.root / name, survey)
        if found is not None and (best is None or found.images > best.images):
            best = found
    if best is None or best.images < MIN_FRACTION * len(survey.images):
        return None
    return best


def try_table(path: Path, survey: Survey) -> ImageTable | None:
    """Read a table as a table source would; None if it lists no images.

    File names without folders are looked for anywhere below the folder (`TableSource.by_name`).
    """
    if path.stat().st_size > MAX_TABLE_MB * 1e6:
        return None
    for options in ({}, {"by_name": True, "root": str(survey.root)}):
        try:
            rows = TableSource(name="table", path=str(path), **options).rows()  # type: ignore[arg-type]
        except XraysynthError:
            continue
        usable = len(rows)
        for column in ("unusable", "left_out"):
            if column in rows:
                usable -= int((rows[column] != "").sum())
        if usable:
            return ImageTable(path, dict(options), usable)
    return None
