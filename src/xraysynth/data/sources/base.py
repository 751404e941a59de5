"""The interface of a source of radiographs, and what sources share: labels, paths and ids."""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from xraysynth.data.reading.label_classes import LabelClass, choose_classes
from xraysynth.data.screening import split_rows, text_column
from xraysynth.data.source_labels import require_known_classes, unknown_labels_error
from xraysynth.errors import DataNotFoundError
from xraysynth.options import expand_path
from xraysynth.records import CLASSES
from xraysynth.seeds import digest

if TYPE_CHECKING:  # a wrong option must be rejected before pandas is imported
    import numpy as np
    import pandas as pd


@dataclass(frozen=True)
class LoadedImage:
    """One radiograph that has been read.

    Attributes:
        pixels: `(H, W)` uint8, grey.
        columns: Columns of the manifest that are known only after reading, such as `boxes`.
        repairs: What was changed to make the file usable (`decoding.REPAIRS`).
        flags: What a reader of the audit should look at and only the file tells, such as "colour
            photograph"; what the pixels tell is found for all sources alike (`pixel_flags`).
    """

    pixels: "np.ndarray"
    columns: Mapping[str, Any] = field(default_factory=dict)
    repairs: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()


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
            `license` and `seed`. Two more say why a row is not used, "" if it is: `left_out` of what is
            no frontal radiograph of the study, such as a lateral view, `unusable` of what should be one
            and cannot be used, such as a missing file. They are there only if a row is not used.

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
    """Map the labels of a source to the classes of the study, and keep the rows that are used.

    Args:
        rows: The rows of the source (`Source.rows`).
        labels: Label of the source -> class of the study; None drops the images. The names of
            classes map to themselves without being listed.
        classes: The study's classes. Images of other known classes (`CLASSES`) are dropped.
        name: Name of the source, for the messages.

    Raises:
        ManifestError: A label belongs to no class.
    """
    return split_rows(screen_labels(rows, labels, classes, name=name))[0]


def screen_labels(
    rows: "pd.DataFrame", labels: Mapping[str, str | None], classes: Sequence[str], *, name: str
) -> "pd.DataFrame":
    """Map the labels of a source, and mark the rows that are not used.

    A row without a label is unusable, and one whose label is of no class of the study is left out, or
    lists findings of several classes or uncertain ones (`choose_classes`).
    The arguments are those of `map_labels`.

    Returns:
        All rows with the columns `left_out` and `unusable`, the label mapped where it is of a class.

    Raises:
        ManifestError: A row that is not left out has a label that belongs to no class, or a label is
            mapped to a misspelt class.
    """
    require_known_classes(labels, classes, name=name)
    row_labels = text_column(rows, "label").str.strip()
    left_out, unusable = text_column(rows, "left_out"), text_column(rows, "unusable")
    chosen = choose_classes(
        row_labels[row_labels != ""].unique(), _map_to_classes(labels, classes), classes
    )
    choices = row_labels.map(lambda label: chosen.get(label, LabelClass(left_out="")))
    is_unknown = choices.map(lambda choice: choice.is_unknown) & (row_labels != "")
    unknown = sorted(set(row_labels[is_unknown & (left_out == "")]))
    if unknown:
        raise unknown_labels_error(unknown, classes, name=name)
    left_out = left_out.where(left_out != "", choices.map(lambda choice: choice.left_out))
    unusable = unusable.where((unusable != "") | (row_labels != ""), "no label")
    names = choices.map(lambda choice: choice.name)
    label = names.where(names.isin(list(classes)), row_labels)
    return rows.assign(label=label, left_out=left_out, unusable=unusable)


def _map_to_classes(
    labels: Mapping[str, str | None], classes: Sequence[str]
) -> dict[str, str | None]:
    """The class of each label of a source; the names of classes map to themselves."""
    known_classes = (*CLASSES, *classes)
    class_of_label: dict[str, str | None] = dict(zip(known_classes, known_classes, strict=True))
    class_of_label.update(zip(map(str, labels), labels.values(), strict=True))
    return class_of_label


def resolve_path(source: Any, option: str) -> Path:
    """Return the path in an option of a source, after downloading the data if that is asked for.

    Args:
        source: A source with the attributes `name`, `license`, `how_to_get` and `homepage`, and where it
            can be downloaded `download` and `fetch`.
        option: Name of the attribute that holds the path.

    Raises:
        DataNotFoundError: There is nothing at the path, or it cannot be downloaded; the message says how
            to get the data.
    """
    if getattr(source, "download", False):
        _download(source)
    path = expand_path(getattr(source, option))
    if path.exists():
        return path
    steps = _steps_to_get(source)
    home = f" Home page: {source.homepage}" if source.homepage else ""
    raise DataNotFoundError(
        f"source {source.name}: there is nothing at {path.absolute()}; point "
        f"source.{source.name}.{option} at the data.{steps}{home}"
    )


def _download(source: Any) -> None:
    from xraysynth.data.fetching.collections import Collection, fetch_collection

    if source.fetch is None:
        raise DataNotFoundError(
            f"source.{source.name}.download=true: it is not known where {source.name} can be downloaded; "
            "leave the option out, and point the source at data on this machine"
        )
    collection = Collection(name=source.name, license=source.license, homepage=source.homepage)
    fetch_collection(collection, source.fetch)


def _steps_to_get(source: Any) -> str:
    """Sentences on how to get the data of a source, beginning with a space; "" if that is not known."""
    from xraysynth.data.fetching.collections import describe_download

    steps = f" To get the data: {source.how_to_get.strip()}" if source.how_to_get else ""
    if getattr(source, "fetch", None) is not None and not source.download:
        steps = (
            f" {describe_download(source.name, source.fetch)}{steps.replace('To get', 'Or get')}"
        )
    return steps


def load_radiograph(data: bytes, name: str) -> LoadedImage:
    """Decode an image file of any kind, with its repairs and the flags that only the file tells.

    Args:
        data: The bytes of the file.
        name: Name of the file, for the messages.

    Raises:
        ImageError: The image cannot be used (`images.decode_radiograph`).
    """
    from xraysynth.images import decode_radiograph

    decoded = decode_radiograph(data, name)
    return LoadedImage(decoded.pixels, repairs=decoded.repairs, flags=decoded.flags)


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
