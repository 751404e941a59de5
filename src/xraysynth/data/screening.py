"""Screening: every image is used, repaired, flagged, left out, or unusable, and stops the run if many are.

>>> import pandas as pd
>>> rows = pd.DataFrame({"image_id": ["1", "2"], "unusable": ["", "no label"]})
>>> used, not_used = split_rows(rows)
>>> used["image_id"].tolist(), not_used["unusable"].tolist()
(['1'], ['no label'])
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:  # a wrong option must be rejected before pandas is imported
    import pandas as pd

Status = Literal["repaired", "flagged", "left out", "unusable"]
"""What became of an image that is not simply used; "repaired" and "flagged" images are used."""

STATUSES: tuple[Status, ...] = ("repaired", "flagged", "left out", "unusable")

NOT_USED_COLUMNS = ("left_out", "unusable")
"""Columns of `Source.rows` that say why a row is not used; "" if it is."""

MAX_REASONS = 20
"""Number of reasons of one status that are counted apart; the rarest others are counted together."""

MAX_REASON_LENGTH = 120
"""Longer reasons are cut: a label may be a whole report."""

OTHER_REASONS = "other reasons"

_HASH = re.compile(r"\b[0-9a-f]{16,}\b")


@dataclass(frozen=True)
class ScreenedImage:
    """One image that is not simply used; an image that is repaired and flagged has two records.

    Attributes:
        image_id: Id of the image as its source lists it.
        source: Name of the source.
        label: Its label; "" if unknown.
        file: The file, or whatever the source calls the place of the image.
        status: What became of it.
        reasons: The repairs, the flags, or why it is not used.
        thumbnail: Path of a small picture, relative to the folder of cohorts; "" for none.
        thumbnail_sha256: SHA-256 of that file; "" for none, and in records of earlier versions.
    """

    image_id: str
    source: str
    label: str
    file: str
    status: Status
    reasons: list[str]
    thumbnail: str = ""
    thumbnail_sha256: str = ""


@dataclass(frozen=True)
class ScreeningCounts:
    """Numbers of images of one source, those that are not simply used by reason.

    Attributes:
        used: Images that are used, the repaired and flagged ones included.
        unknown: Used images whose repairs and flags an earlier version has not recorded.
        repaired: Repair -> number of images.
        flagged: Flag -> number of images.
        left_out: Reason -> number of images that are not of the study, such as lateral views.
        unusable: Reason -> number of images that should be used and cannot be.
    """

    used: int = 0
    unknown: int = 0
    repaired: dict[str, int] = field(default_factory=dict)
    flagged: dict[str, int] = field(default_factory=dict)
    left_out: dict[str, int] = field(default_factory=dict)
    unusable: dict[str, int] = field(default_factory=dict)

    @property
    def is_eventful(self) -> bool:
        """Whether an image was repaired, flagged, left out or unusable."""
        return bool(self.repaired or self.flagged or self.left_out or self.unusable)


@dataclass(frozen=True)
class ScreeningSummary:
    """What screening has found in a cohort, for the audit.

    Attributes:
        counts: Name of the source -> its numbers of images.
        examples: The first images of each source, status and reason (`choose_examples`).
        near_duplicates_with_two_labels: Number of pairs of near-duplicates with different labels.
        two_label_examples: Up to 20 of these pairs as "image id ~ image id".
    """

    counts: dict[str, ScreeningCounts] = field(default_factory=dict)
    examples: list[ScreenedImage] = field(default_factory=list)
    near_duplicates_with_two_labels: int = 0
    two_label_examples: list[str] = field(default_factory=list)

    @property
    def is_eventful(self) -> bool:
        """Whether there is anything to show."""
        return any(counts.is_eventful or counts.unknown for counts in self.counts.values())


def split_rows(rows: "pd.DataFrame") -> tuple["pd.DataFrame", "pd.DataFrame"]:
    """Split the rows of a source into those that are used and those that are not.

    Args:
        rows: The rows of a source (`Source.rows`), with or without the `NOT_USED_COLUMNS`.

    Returns:
        The rows that are used, without these columns, and the others, with both of them.
    """
    reasons = {}
    for column in NOT_USED_COLUMNS:
        reasons[column] = text_column(rows, column)
    is_used = (reasons["left_out"] == "") & (reasons["unusable"] == "")
    not_used = rows.assign(**reasons)[~is_used]
    return rows[is_used].drop(columns=list(reasons), errors="ignore"), not_used


def text_column(rows: "pd.DataFrame", column: str) -> "pd.Series":
    """Return a column of a table as text, "" where it is missing."""
    import pandas as pd

    if column not in rows:
        return pd.Series("", rows.index, dtype=object)
    return rows[column].astype(object).where(rows[column].notna(), "").astype(str)


def list_not_used(not_used_rows: "pd.DataFrame", source: str) -> list[ScreenedImage]:
    """List the images of a source that are left out or unusable by what the source says of them.

    Args:
        not_used_rows: The second result of `split_rows`.
        source: Name of the source.
    """
    columns = ("image_id", "label", "locator", *NOT_USED_COLUMNS)
    texts = [text_column(not_used_rows, column) for column in columns]
    images = []
    for image_id, label, locator, left_out, unusable in zip(*texts, strict=True):
        status: Status = "left out" if left_out else "unusable"
        file = file_of_locator(locator)
        images.append(ScreenedImage(image_id, source, label, file, status, [left_out or unusable]))
    return images


def file_of_locator(locator: str) -> str:
    """Return the file in a locator, without the SHA-256 that a table may give it.

    >>> file_of_locator("normal/1.png#"), file_of_locator("normal/a#1.png")
    ('normal/1.png', 'normal/a#1.png')
    """
    return re.sub(r"#([0-9a-fA-F]{64})?$", "", locator)


def summarize_reason(reason: str, file: str) -> str:
    """Return a short reason without what is true of one file only: its path, hashes and the remedy.

    >>> summarize_reason("/data/a/1.png: the file is empty (0 bytes); copy it again", "a/1.png")
    'the file is empty (0 bytes)'
    """
    name = PurePosixPath(file).name
    text = reason.split("; ")[0].replace("\n", " ")
    before, colon, rest = text.partition(": ")
    if colon and name and name in before:
        text = rest
    if name and name in text:
        for word in (file, name):
            text = re.sub(rf"\S*{re.escape(word)}\S*", "the file", text)
    text = "".join(
        letter if letter.isprintable() else " " for letter in _HASH.sub("…", text)
    ).strip()
    return text if len(text) <= MAX_REASON_LENGTH else text[: MAX_REASON_LENGTH - 1] + "…"


def count_images(
    images: Sequence[ScreenedImage], *, used: int, unknown: int = 0
) -> ScreeningCounts:
    """Count the images of one source by status and reason.

    Args:
        images: Its images that are not simply used.
        used: Number of images that are used.
        unknown: Number of used images whose repairs and flags are not recorded.
    """
    counters: dict[Status, Counter[str]] = {status: Counter() for status in STATUSES}
    for image in images:
        for reason in image.reasons:
            counters[image.status][summarize_reason(reason, image.file)] += 1
    return ScreeningCounts(
        used=used,
        unknown=unknown,
        repaired=_most_frequent(counters["repaired"]),
        flagged=_most_frequent(counters["flagged"]),
        left_out=_most_frequent(counters["left out"]),
        unusable=_most_frequent(counters["unusable"]),
    )


def _most_frequent(counter: Counter[str]) -> dict[str, int]:
    """The counts of the most frequent reasons, and those of all others together."""
    ordered = sorted(counter.items(), key=lambda item: (-item[1], item[0]))
    counts = dict(ordered[:MAX_REASONS])
    others = sum(count for _, count in ordered[MAX_REASONS:])
    return {**counts, OTHER_REASONS: others} if others else counts


def format_counts(counts: Mapping[str, ScreeningCounts]) -> list[str]:
    """Write one line per source whose images are not all simply used, for the terminal.

    >>> counts = {"nih": ScreeningCounts(used=38, flagged={"blank": 2}, unusable={"no label": 1})}
    >>> format_counts(counts)
    ['screening of nih: 38 images used; flagged: blank (2); unusable, left out: no label (1)']
    """
    lines = []
    for source, counted in counts.items():
        if not counted.is_eventful:
            continue
        parts = [f"screening of {source}: {counted.used} images used"]
        by_title = {
            "repaired": counted.repaired,
            "flagged": counted.flagged,
            "left out": counted.left_out,
            "unusable, left out": counted.unusable,
        }
        for title, reasons in by_title.items():
            if reasons:
                listed = [f"{reason} ({count})" for reason, count in reasons.items()]
                parts.append(f"{title}: {', '.join(listed)}")
        lines.append("; ".join(parts))
    return lines


def choose_examples(images: Iterable[ScreenedImage], *, per_reason: int = 6) -> list[ScreenedImage]:
    """Choose the first images of each source, status and reason."""
    n_chosen: Counter[tuple[str, str, str]] = Counter()
    chosen = []
    for image in images:
        for reason in image.reasons:
            summary = summarize_reason(reason, image.file)
            key = (image.source, image.status, summary)
            if n_chosen[key] < per_reason and len(n_chosen) <= len(STATUSES) * MAX_REASONS:
                n_chosen[key] += 1
                chosen.append(replace(image, reasons=[summary]))
    return chosen


def format_two_label_notes(summary: ScreeningSummary) -> list[str]:
    """Write the note of an audit on near-duplicates with different labels."""
    count = summary.near_duplicates_with_two_labels
    if not count:
        return []
    return [
        f"{count} pairs of near-duplicates have different labels: either one film has two diagnoses, or the "
        "films are two of one patient (the audit names them as two_label_examples)"
    ]
