"""Images that are not simply used, by status and reason, for page and table."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from xraysynth.data.inspection.rehearsal import Rehearsal
from xraysynth.data.screening import summarize_reason
from xraysynth.stages._inspect.gathering import Gathered

MAX_PICTURES = 8
"""Number of pictures of a contact sheet."""

CONSEQUENCES = {
    "unusable": "They are left out and counted; repair or replace the files to use them.",
    "left out": "They are no images of this study; they are left out and counted.",
    "conflict": "One picture has two labels, and at most one of them is true.",
    "flagged": "They are used. Look at them: a study learns from what they show.",
    "repaired": "They are used after this change, which is certain from the file.",
    "copy": "They are used and kept in one split, so that no copy of a training image is tested.",
    "near-duplicate": "They are used; images that differ only in size, compression or exposure count as "
    "one person's and stay in one split.",
}
"""What becomes of images of each status, the most serious first."""


SERIOUS = ("unusable", "conflict")
"""Statuses of images that cannot be used or contradict each other."""


@dataclass(frozen=True)
class ProblemGroup:
    """Images of one status and reason.

    Attributes:
        status: One of `CONSEQUENCES`.
        title: The reason, without what is true of one file only.
        numbers: Their numbers; where pictures belong together, side by side.
        reasons: The whole reason of each of them.
    """

    status: str
    title: str
    numbers: Sequence[int]
    reasons: Sequence[str]


def find_problems(gathered: Gathered, rehearsal: Rehearsal) -> list[ProblemGroup]:
    """Group all images that are not simply used, the most serious groups first."""
    groups = [
        *_by_reason("unusable", gathered, gathered.unusable.items()),
        *_by_reason("left out", gathered, gathered.left_out.items()),
        *_of_looks(gathered),
        *_of_copies(gathered),
        *_of_near_duplicates(gathered, rehearsal),
    ]
    order = list(CONSEQUENCES)
    return sorted(groups, key=lambda group: (order.index(group.status), -len(group.numbers)))


def file_of(gathered: Gathered, number: int) -> str:
    """Return the file of an image as its source names it."""
    item = gathered.items[number]
    return str(item.file) if item.file is not None else item.locator


def _by_reason(
    status: str, gathered: Gathered, reasons: Iterable[tuple[int, str]]
) -> list[ProblemGroup]:
    by_title: dict[str, list[tuple[int, str]]] = defaultdict(list)
    for number, reason in reasons:
        title = summarize_reason(reason, file_of(gathered, number))
        by_title[title].append((number, reason))
    groups = []
    for title, members in by_title.items():
        numbers, texts = zip(*members, strict=True)
        groups.append(ProblemGroup(status, title, numbers, texts))
    return groups


def _of_looks(gathered: Gathered) -> list[ProblemGroup]:
    """Flags and repairs of the images that were decoded."""
    flags, repairs = [], []
    for number, look in gathered.looks.items():
        flags += [(number, flag) for flag in look.flags]
        repairs += [(number, repair) for repair in look.repairs]
    return [*_by_reason("flagged", gathered, flags), *_by_reason("repaired", gathered, repairs)]


def _of_copies(gathered: Gathered) -> list[ProblemGroup]:
    """Files with the same bytes, apart those with several labels."""
    labels = gathered.labels
    agreeing: list[Sequence[int]] = []
    conflicting: list[Sequence[int]] = []
    for copies in gathered.copies:
        different = {labels[number] for number in copies}
        (agreeing if len(different) == 1 else conflicting).append(copies)
    return [
        *_of_groups("conflict", "the same file under two labels", gathered, conflicting),
        *_of_groups("copy", "the same bytes as another file", gathered, agreeing),
    ]


def _of_groups(
    status: str, title: str, gathered: Gathered, groups: Sequence[Sequence[int]]
) -> list[ProblemGroup]:
    """One problem of several groups of images that belong together."""
    numbers, reasons = [], []
    for group in groups:
        for number in group:
            others = [file_of(gathered, other) for other in group if other != number]
            numbers.append(number)
            reasons.append(f"{title}: {', '.join(others[:3])}")
    return [ProblemGroup(status, title, numbers, reasons)] if numbers else []


def _of_near_duplicates(gathered: Gathered, rehearsal: Rehearsal) -> list[ProblemGroup]:
    """Pairs of near-duplicates that are no copies of each other's bytes."""
    if not len(rehearsal.near_duplicates):
        return []
    numbers = rehearsal.table["number"].to_numpy()
    labels = rehearsal.table["label"].to_numpy()
    copy_of = {number: group[0] for group in gathered.copies for number in group}
    agreeing: list[Sequence[int]] = []
    conflicting: list[Sequence[int]] = []
    for first, second in np.asarray(rehearsal.near_duplicates):
        pair = (int(numbers[first]), int(numbers[second]))
        if copy_of.get(pair[0], pair[0]) == copy_of.get(pair[1], pair[1]):
            continue
        (agreeing if labels[first] == labels[second] else conflicting).append(pair)
    return [
        *_of_groups("conflict", "nearly the same picture under two labels", gathered, conflicting),
        *_of_groups("near-duplicate", "nearly the same picture as another", gathered, agreeing),
    ]
