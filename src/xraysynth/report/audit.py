"""The part of a cohort's audit that a page shows."""

from collections.abc import Sequence
from dataclasses import dataclass

from xraysynth.manifest import ListedFile


@dataclass(frozen=True)
class SplitCount:
    """Number of images of one class in one split; `patients` is None where they were not counted."""

    label: str
    split: str
    images: int
    patients: int | None = None


@dataclass(frozen=True)
class SourceCount:
    """Number of images of one class from one source."""

    source: str
    label: str
    images: int


@dataclass(frozen=True)
class SourceConfounding:
    """How well the data source alone predicts whether an image is of one class.

    Attributes:
        label: The class.
        accuracy: Accuracy of the best prediction from the source, in [0, 1].
        balanced_accuracy: Balanced accuracy of that prediction, in [0, 1].
        chance_threshold: Balanced accuracy that 1 % of cohorts with randomly permuted labels exceed;
            None in audits of earlier versions.
    """

    label: str
    accuracy: float
    balanced_accuracy: float
    chance_threshold: float | None = None


@dataclass(frozen=True)
class ScreenedSource:
    """Number of images of one source that are used.

    Attributes:
        source: Name of the source.
        used: Number of images that are used.
        unknown: Number of those of which no repairs and flags are recorded.
    """

    source: str
    used: int
    unknown: int = 0


@dataclass(frozen=True)
class ScreenedImages:
    """Images of one source with the same status and reason.

    Attributes:
        source: Name of the source.
        status: What became of them: "repaired", "flagged", "left out" or "unusable".
        reason: The repair, the flag, or why they are not used.
        images: Number of images.
        examples: Files of small pictures of some of them, with their SHA-256.
    """

    source: str
    status: str
    reason: str
    images: int
    examples: Sequence[ListedFile] = ()


@dataclass(frozen=True)
class CohortScreening:
    """What became of the images that the sources list.

    Attributes:
        sources: One record per source.
        groups: Images that are not simply used, by source, status and reason.
        table: Name of the CSV that lists them all, relative to the folder of outputs; empty for none.
    """

    sources: Sequence[ScreenedSource]
    groups: Sequence[ScreenedImages]
    table: str = ""


@dataclass(frozen=True, kw_only=True)
class CohortAudit:
    """The audit of a cohort.

    Attributes:
        by_split: Images by class and split.
        by_source: Images by source and class.
        cramers_v: Association of source and class from 0 (independent) to 1 (determined).
        source_confounding: How well the source predicts each class.
        exact_duplicates: Number of images with the same bytes or pixels as another one.
        near_duplicates: Number of near-duplicates.
        near_duplicates_across_sources: Number of near-duplicates in different sources.
        notes: Sentences of the audit for the reader of the page.
        screening: What became of the images that the sources list; None where all are simply used, and in
            audits of earlier versions.
    """

    by_split: Sequence[SplitCount] = ()
    by_source: Sequence[SourceCount] = ()
    cramers_v: float | None = None
    source_confounding: Sequence[SourceConfounding] = ()
    exact_duplicates: int = 0
    near_duplicates: int = 0
    near_duplicates_across_sources: int = 0
    notes: Sequence[str] = ()
    screening: CohortScreening | None = None
