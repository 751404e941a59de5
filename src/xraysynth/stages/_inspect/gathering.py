"""The images that the proposed sources list, and what was seen of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pandas as pd

from xraysynth.data.dicom.listing import list_dicom_files
from xraysynth.data.inspection.copies import find_copies
from xraysynth.data.inspection.looking import (
    Eyes,
    Header,
    Item,
    Look,
    choose_looked_at,
    look_at,
    read_header,
)
from xraysynth.data.screening import file_of_locator, text_column
from xraysynth.data.sources.base import Source
from xraysynth.data.sources.dicom import DicomSource
from xraysynth.errors import ManifestError


@dataclass(frozen=True)
class Gathered:
    """The images of all sources and what was seen of them.

    Attributes:
        sources: The sources.
        rows: One row per image of all sources, used or not, with `number`, `left_out` and `unusable`.
        items: Number of the image -> where it is.
        headers: Number of the image -> what the beginning of its file says; none of left-out images.
        looks: Number of the image -> what decoding it has shown, for those that were looked at.
        copies: Groups of images whose files have the same bytes.
    """

    sources: Sequence[Source]
    rows: pd.DataFrame
    items: Mapping[int, Item]
    headers: Mapping[int, Header]
    looks: Mapping[int, Look]
    copies: Sequence[Sequence[int]]

    @cached_property
    def unusable(self) -> dict[int, str]:
        """Number of each image that should be used and cannot be -> why."""
        listed = dict(zip(self.rows["number"], self.rows["unusable"], strict=True))
        reasons = {number: reason for number, reason in listed.items() if reason}
        for number, header in self.headers.items():
            if header.error:
                reasons[number] = header.error
        for number, look in self.looks.items():
            if look.error:
                reasons[number] = look.error
        return reasons

    @cached_property
    def left_out(self) -> dict[int, str]:
        """Number of each image that is not of the study -> why."""
        listed = dict(zip(self.rows["number"], self.rows["left_out"], strict=True))
        return {number: reason for number, reason in listed.items() if reason}

    @cached_property
    def labels(self) -> dict[int, str]:
        """Number of the image -> its label, as its source names it."""
        return dict(zip(self.rows["number"], self.rows["label"], strict=True))

    @property
    def is_sample(self) -> bool:
        """Whether only a part of the readable images was decoded."""
        readable = sum(1 for header in self.headers.values() if not header.error)
        return len(self.looks) < readable

    def picture_digests(self) -> dict[int, str]:
        """Return a text per image that equal pictures share: by pixels, or by bytes if not looked at."""
        digests = {number: look.digest for number, look in self.looks.items() if look.digest}
        for copies in self.copies:
            known = [digests[number] for number in copies if number in digests]
            digests |= dict.fromkeys(copies, known[0] if known else f"copies of {copies[0]}")
        return {number: digests.get(number, f"image {number}") for number in self.headers}

    def used_rows(self) -> pd.DataFrame:
        """Return the rows of the images that can be used, as far as was seen."""
        excluded = {*self.unusable, *self.left_out}
        return self.rows[~self.rows["number"].isin(list(excluded))]


def list_rows(sources: Sequence[Source]) -> tuple[pd.DataFrame, list[str]]:
    """List the images of all sources, numbered, and why some of them have no labels.

    DICOM files that nothing gives a label are listed without one, so that they can be looked at.
    """
    tables, problems = [], []
    for source in sources:
        try:
            rows = source.rows()
        except ManifestError as error:
            if not isinstance(source, DicomSource):
                raise
            rows = _list_unlabelled(source)
            problems.append(str(error))
        for column in ("label", "patient_id", "left_out", "unusable"):
            rows[column] = text_column(rows, column)
        tables.append(rows.assign(from_source=source.name))
    table = pd.concat(tables, ignore_index=True)
    return table.assign(number=range(len(table))), problems


def _list_unlabelled(source: DicomSource) -> pd.DataFrame:
    """The rows of DICOM files by their headers alone."""
    records = []
    for entry in list_dicom_files(Path(source.root)):
        records.append(
            {
                "locator": entry.file,
                "image_id": entry.file,
                "label": "",
                "patient_id": entry.header.patient_id,
                "view": entry.header.view_position,
                "left_out": entry.left_out,
                "unusable": entry.unusable,
                "source": source.name,
            }
        )
    return pd.DataFrame(records)


def gather(
    sources: Sequence[Source], rows: pd.DataFrame, *, everything: bool, eyes: Eyes
) -> Gathered:
    """Read the headers of all images that may be used, and the pixels of as many as is reasonable.

    Args:
        sources: The sources.
        rows: Their rows (`list_rows`).
        everything: Whether the pixels of all images are decoded, however long it takes.
        eyes: The processes that look.
    """
    items = _build_items(sources, rows)
    candidates = rows[(rows["left_out"] == "") & (rows["unusable"] == "")]["number"].tolist()
    headers_read = eyes.map(read_header, [items[n] for n in candidates], "read headers")
    headers = dict(zip(candidates, headers_read, strict=True))
    chosen = [candidates[n] for n in choose_looked_at(headers_read, everything=everything)]
    looks = dict(zip(chosen, eyes.map(look_at, [items[n] for n in chosen], "look"), strict=True))
    return Gathered(sources, rows, items, headers, looks, _find_copies(items, headers))


def _build_items(sources: Sequence[Source], rows: pd.DataFrame) -> dict[int, Item]:
    source_of_name = {source.name: source for source in sources}
    items = {}
    columns = (rows["number"], rows["from_source"], rows["locator"].astype(str))
    for number, name, locator in zip(*columns, strict=True):
        source = source_of_name[name]
        items[number] = Item(source, locator, _file_of(source, locator))
    return items


def _file_of(source: Source, locator: str) -> Path | None:
    """The file of an image; None if it is a part of a larger file."""
    root = getattr(source, "root", "")
    if not root and hasattr(source, "path"):
        root = str(Path(source.path).expanduser().parent)
    if not root or hasattr(source, "flag"):
        return None
    return Path(root).expanduser() / file_of_locator(locator)


def _find_copies(items: Mapping[int, Item], headers: Mapping[int, Header]) -> list[list[int]]:
    files, heads = {}, {}
    for number, header in headers.items():
        file = items[number].file
        if header.head and file is not None:
            files[number], heads[number] = file, (header.size, header.head)
    return find_copies(files, heads)
