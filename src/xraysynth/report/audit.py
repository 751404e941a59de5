"""What a page shows of the audit of a cohort."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class SplitCount:
    """Images of one class in one split; patients are None where they were not counted."""

    label: str
    split: str
    images: int
    patients: int | None = None


@dataclass(frozen=True)
class SourceCount:
    """Images of one class from one source."""

    source: str
    label: str
    images: int


@dataclass(frozen=True)
class SourceConfounding:
    """How well the data source alone tells a class from the others.

    `by_chance` is the balanced accuracy that 1 % of cohorts exceed whose labels are dealt out at random,
    None in audits of earlier versions.
    """

    label: str
    accuracy: float
    balanced_accuracy: float
    chance_threshold: float | None = None


@dataclass(frozen=True, kw_only=True)
class CohortAudit:
    """The audit of a cohort: its images, how its classes hang on its sources, and its duplicates."""

    by_split: Sequence[SplitCount] = ()
    by_source: Sequence[SourceCount] = ()
    cramers_v: float | None = None
    source_confounding: Sequence[SourceConfounding] = ()
    exact_duplicates: int = 0
    near_duplicates: int = 0
    near_duplicates_across_sources: int = 0
    notes: Sequence[str] = ()
