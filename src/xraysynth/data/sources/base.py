"""What a source of radiographs promises."""

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from xraysynth.errors import DataNotFoundError, ManifestError, format_some
from xraysynth.records import CLASSES
from xraysynth.seeds import digest

if TYPE_CHECKING:  # a wrong option must be refused before pandas is there
    import numpy as np
    import pandas as pd

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")


@dataclass(frozen=True)
class LoadedImage:
    """One radiograph, `(H, W)` uint8 grey, and columns that are known only once it is read."""

    pixels: "np.ndarray"
    columns: Mapping[str, Any] = field(default_factory=dict)


class Source(Protocol):
    """A collection of radiographs with labels and patients; a frozen dataclass of plain values."""

    @property
    def name(self) -> str:
        """Data set name, used in folder names: letters, digits and dashes."""

    @property
    def labels(self) -> Mapping[str, str | None]:
        """The source's own label -> class of the study; None drops the images."""

    @property
    def is_simulated(self) -> bool:
        """True when the images are simulated, which every report then says."""

    @property
    def credentialed(self) -> bool:
        """True when a data use agreement lets nothing of it reach third parties."""

    def rows(self) -> "pd.DataFrame":
        """One row an image, without reading pixels.

        Columns: `locator` (what `load` takes), `file_stamp` (text that changes with the image, such as
        size and mtime), `image_id`, `label` (the source's own), `patient_id` ("" if unknown),
        `source`, and where known `split`, `view`, `sex`, `age`, `license`, `seed`.
        Raises `DataNotFoundError` naming the path looked at and how to get the data.
        """

    def load(self, locator: str, size_px: int) -> LoadedImage:
        """Read one image. `size_px` is the study's size; only a renderer needs it."""


def map_labels(
    rows: "pd.DataFrame", labels: Mapping[str, str | None], classes: Sequence[str], *, name: str
) -> "pd.DataFrame":
    """Rows of the study's classes, their labels translated into its vocabulary.

    A label that `labels` maps to None, or that names a known class outside `classes`, is dropped.
    Any other label raises `ManifestError`.
    """
    missing = rows["label"].isna() | rows["label"].astype(str).str.strip().isin(["", "nan"])
    if missing.any():
        raise ManifestError(
            f"source {name}: every image needs a label, but {int(missing.sum())} of {len(rows)} "
            f"have none: {format_some(rows.loc[missing, 'image_id'])}; fill them in or remove the rows"
        )
    known = {name: name for name in (*CLASSES, *classes)}
    table = known | {str(label): meaning for label, meaning in labels.items()}
    unknown = sorted(set(rows["label"].astype(str)) - set(table))
    if unknown:
        raise ManifestError(
            f"source {name}: unknown label {format_some(map(repr, unknown))}; the study's classes are "
            f"{', '.join(classes)}. Map it with source.{name}.labels, for example "
            f"'source.{name}.labels={{{unknown[0]}: {classes[0]}}}', or to null to drop its images"
        )
    mapped = rows["label"].astype(str).map(table)
    return rows.assign(label=mapped).loc[mapped.isin(list(classes)).to_numpy()]


def resolve_path(source: Any, option: str) -> Path:
    """The path that a source's option holds; `DataNotFoundError` with the steps if it is gone."""
    path = Path(getattr(source, option)).expanduser()
    if path.exists():
        return path
    steps = f" To get the data: {source.how_to_get.strip()}" if source.how_to_get else ""
    home = f" Home page: {source.homepage}" if source.homepage else ""
    raise DataNotFoundError(
        f"source {source.name}: nothing at {path.absolute()}; point "
        f"source.{source.name}.{option} at the data.{steps}{home}"
    )


def list_files(folder: Path, suffixes: Iterable[str]) -> list[str]:
    """Sorted POSIX paths, relative to the folder, of the visible files with one of the suffixes."""
    wanted = frozenset(suffixes)
    found = []
    for parent, folders, names in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if name[0] != "." and name != "__MACOSX"]
        found += [
            Path(parent, name).relative_to(folder).as_posix()
            for name in names
            if name[0] != "." and Path(name).suffix.lower() in wanted
        ]
    return sorted(found)


def file_stamp(path: Path) -> str:
    """Text that changes when the file does: its size in bytes and its mtime in nanoseconds."""
    facts = os.stat(path)
    return f"{facts.st_size}:{facts.st_mtime_ns}"


def build_image_id(name: str, locator: str) -> str:
    """An image id that is a safe file name: a readable tail of the locator, and a hash of it.

    >>> build_image_id("nih", "images_001/00000001_000.png")
    'images_001-00000001_000-10aa86c2'
    """
    readable = re.sub(r"[^A-Za-z0-9_]+", "-", os.path.splitext(locator)[0])[-48:].strip("-")
    return f"{readable}-{digest([name, locator])[:8]}"
