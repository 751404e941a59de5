"""The interface of a source of radiographs, and what sources share: labels, paths and ids."""

import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from xraysynth.errors import DataNotFoundError, ManifestError, format_some
from xraysynth.records import CLASSES
from xraysynth.seeds import digest

if TYPE_CHECKING:  # a wrong option must be rejected before pandas is imported
    import numpy as np
    import pandas as pd

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")

MAX_PATHS_PER_FOLDER = 16
"""Number of paths, through links, by which the files of one folder may be listed."""


@dataclass(frozen=True)
class LoadedImage:
    """One radiograph that has been read.

    Attributes:
        pixels: `(H, W)` uint8, grey.
        columns: Columns of the manifest that are known only after reading, such as `boxes`.
    """

    pixels: "np.ndarray"
    columns: Mapping[str, Any] = field(default_factory=dict)


class Source(Protocol):
    """A collection of radiographs with labels and patients.

    An implementation is a frozen dataclass whose fields are its options. Fields with
    `metadata={"identity": False}` do not change what the source yields (`seeds.identity`).
    """

    @property
    def name(self) -> str:
        """Name of the data set, used in folder names: letters, digits and dashes."""

    @property
    def labels(self) -> Mapping[str, str | None]:
        """Label of the source -> class of the study; None drops the images with this label."""

    @property
    def is_simulated(self) -> bool:
        """Whether the images are simulated; every report then says so."""

    @property
    def credentialed(self) -> bool:
        """Whether a data use agreement forbids passing anything of it to third parties."""

    def rows(self) -> "pd.DataFrame":
        """List the images, one row per image, without reading pixels.

        Returns:
            A table with the columns `locator` (the argument of `load`), `stamp` (text that changes
            with the image, such as size and mtime), `image_id`, `label` (as the source names it),
            `patient_id` ("" if unknown), `source`, and where known `split`, `view`, `sex`, `age`,
            `license` and `seed`.

        Raises:
            DataNotFoundError: The data is missing; the message names the path and how to get it.
        """

    def load(self, locator: str, size_px: int) -> LoadedImage:
        """Read one image.

        Args:
            locator: Value of the column `locator` of `rows`.
            size_px: Width and height of the study's images; only a renderer needs it.

        Raises:
            ImageError: The image cannot be used; the message names the file.
        """


def map_labels(
    rows: "pd.DataFrame", labels: Mapping[str, str | None], classes: Sequence[str], *, name: str
) -> "pd.DataFrame":
    """Map the labels of a source to the classes of the study, and drop the images of other classes.

    Args:
        rows: The rows of the source (`Source.rows`).
        labels: Label of the source -> class of the study; None drops the images. The names of
            classes map to themselves without being listed.
        classes: The study's classes. Images of other known classes (`CLASSES`) are dropped.
        name: Name of the source, for the messages.

    Raises:
        ManifestError: An image has no label, or a label that belongs to no class.
    """
    row_labels = rows["label"].astype(str)
    is_missing = rows["label"].isna() | row_labels.str.strip().isin(["", "nan"])
    if is_missing.any():
        raise ManifestError(
            f"source {name}: every image needs a label, but {int(is_missing.sum())} of {len(rows)} "
            f"have none: {format_some(rows.loc[is_missing, 'image_id'])}; fill them in or remove the rows"
        )
    known_classes = (*CLASSES, *classes)
    class_of_label: dict[str, str | None] = dict(zip(known_classes, known_classes, strict=True))
    class_of_label.update(zip(map(str, labels), labels.values(), strict=True))
    unknown = sorted(set(row_labels) - set(class_of_label))
    if unknown:
        raise ManifestError(
            f"source {name}: unknown label {format_some(map(repr, unknown))}; the study's classes are "
            f"{', '.join(classes)}. Map it with source.{name}.labels, for example "
            f"'source.{name}.labels={{{unknown[0]}: {classes[0]}}}', or to null to drop its images"
        )
    mapped = row_labels.map(class_of_label)
    return rows.assign(label=mapped).loc[mapped.isin(list(classes)).to_numpy()]


def resolve_path(source: Any, option: str) -> Path:
    """Return the path in an option of a source.

    Args:
        source: A source with the attributes `name`, `how_to_get` and `homepage`.
        option: Name of the attribute that holds the path.

    Raises:
        DataNotFoundError: There is nothing at the path; the message says how to get the data.
    """
    path = Path(getattr(source, option)).expanduser()
    if path.exists():
        return path
    steps = f" To get the data: {source.how_to_get.strip()}" if source.how_to_get else ""
    home = f" Home page: {source.homepage}" if source.homepage else ""
    raise DataNotFoundError(
        f"source {source.name}: there is nothing at {path.absolute()}; point "
        f"source.{source.name}.{option} at the data.{steps}{home}"
    )


def list_files(folder: Path, suffixes: Iterable[str]) -> list[str]:
    """List the files with one of the suffixes below a folder, without hidden files and folders.

    Args:
        folder: The folder; links are followed, except those to a folder that they lie in.
        suffixes: Lower-case suffixes such as ".png"; "" is for files without one.

    Returns:
        Sorted POSIX paths relative to the folder, without pipes and devices.

    Raises:
        DataNotFoundError: Links lead to one folder in more than `MAX_PATHS_PER_FOLDER` ways.
    """
    allowed_suffixes = frozenset(suffixes)
    paths = []
    for parent, names in _walk(Path(folder)):
        for name in filter(_is_visible, names):
            file = parent / name
            if file.suffix.lower() in allowed_suffixes and not _is_pipe_or_device(file):
                paths.append(file.relative_to(folder).as_posix())
    return sorted(paths)


def _walk(folder: Path) -> Iterator[tuple[Path, list[str]]]:
    """Yield each visible folder below a folder, itself included, with the names of its files.

    `os.walk` would follow two links to the parent for ever, from one into the other.
    """
    n_paths: Counter[str] = Counter()
    for parent, folders, names in os.walk(folder, followlinks=True):
        real_parent = os.path.realpath(parent)
        n_paths[real_parent] += 1
        if n_paths[real_parent] > MAX_PATHS_PER_FOLDER:
            raise DataNotFoundError(
                f"{folder}: links lead to {real_parent} in more than {MAX_PATHS_PER_FOLDER} ways, the "
                f"last is {parent}; remove links until each image is there once"
            )
        folders[:] = [name for name in folders if _is_visible(name)]
        folders[:] = [name for name in folders if not _leads_back(Path(parent, name))]
        yield Path(parent), names


def _leads_back(folder: Path) -> bool:
    """Whether a folder is a link to a folder that its path leads through."""
    if not folder.is_symlink():
        return False
    target = os.path.realpath(folder)
    return any(Path(os.path.realpath(parent)).is_relative_to(target) for parent in folder.parents)


def _is_pipe_or_device(path: Path) -> bool:
    return path.exists() and not path.is_file()


def _is_visible(name: str) -> bool:
    return not name.startswith(".") and name != "__MACOSX"


def file_stamp(path: Path) -> str:
    """Return text that changes with the file: its size in bytes and its mtime in nanoseconds.

    Raises:
        DataNotFoundError: The file may not be looked at, or it is a link to nothing.
    """
    try:
        stat = os.stat(path)
    except OSError as error:
        raise DataNotFoundError(
            f"{path}: {error.strerror}; repair or remove this file or link"
        ) from error
    return f"{stat.st_size}:{stat.st_mtime_ns}"


def build_image_id(name: str, locator: str) -> str:
    """Build an image id that is a safe file name: the readable end of the locator and a hash.

    >>> build_image_id("nih", "images_001/00000001_000.png")
    'images_001-00000001_000-10aa86c2'
    """
    readable = re.sub(r"[^A-Za-z0-9_]+", "-", os.path.splitext(locator)[0])[-48:].strip("-")
    return f"{readable}-{digest([name, locator])[:8]}"
