"""What the page of a study shows of screening."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xraysynth.data.cohort import PreparedExternalSets
from xraysynth.data.screening import ScreeningCounts, ScreeningSummary, Status
from xraysynth.manifest import ListedFile
from xraysynth.records import to_json
from xraysynth.report.audit import CohortScreening, ScreenedImages, ScreenedSource
from xraysynth.seeds import digest
from xraysynth.stages import _external_test_sets, prepare
from xraysynth.stages._screening import screening_table_path
from xraysynth.stages._sources import cohorts_folder
from xraysynth.stages._workspace import Workspace

MAX_PICTURES = 6
"""Number of pictures that the page shows of one source, status and reason."""


@dataclass(frozen=True)
class StudyScreening:
    """What is recorded of screening.

    Attributes:
        summary: That of the cohort; empty in audits of earlier versions.
        external: Name of the external test set -> its numbers of images.
    """

    summary: ScreeningSummary
    external: Mapping[str, ScreeningCounts]

    @property
    def is_eventful(self) -> bool:
        """Whether an image was not simply used."""
        return any(counts.is_eventful or counts.unknown for counts in self._all_counts())

    def identity(self) -> dict[str, Any]:
        """Return the entry in the identity of the report; empty where all images are simply used."""
        if not self.is_eventful:
            return {}
        values = to_json(self)
        for example in values["summary"]["examples"]:
            if not example["thumbnail_sha256"]:  # reports of earlier versions keep their keys
                del example["thumbnail_sha256"]
        return {"screening": digest(values)}

    def _all_counts(self) -> list[ScreeningCounts]:
        return [*self.summary.counts.values(), *self.external.values()]


def load_screening(workspace: Workspace) -> StudyScreening:
    """Load what is recorded of the screening of the cohort and of the external test sets."""
    external: Mapping[str, ScreeningCounts] = {}
    if workspace.config.test_source:
        record = _external_test_sets.build_job(workspace).record()
        if record.state == "done":
            external = record.result_as(PreparedExternalSets).screening
    return StudyScreening(workspace.audit.screening or ScreeningSummary(), external)


def build_cohort_screening(workspace: Workspace) -> CohortScreening | None:
    """Build what the page shows of screening; None where all images are simply used."""
    screening = load_screening(workspace)
    if not screening.is_eventful:
        return None
    folder, summary = cohorts_folder(workspace), screening.summary
    sources, groups = [], []
    for name, counts in summary.counts.items():
        sources.append(ScreenedSource(name, counts.used, counts.unknown))
        for status, reason, count in _iterate_reasons(counts):
            pictures = _example_pictures(summary, (name, status, reason), folder)
            groups.append(ScreenedImages(name, status, reason, count, pictures))
    for name, counts in screening.external.items():
        source = f"{name} (external)"
        sources.append(ScreenedSource(source, counts.used, counts.unknown))
        for status, reason, count in _iterate_reasons(counts):
            groups.append(ScreenedImages(source, status, reason, count))
    table = screening_table_path(folder, prepare.build_job(workspace).key)
    name_of_table = f"{folder.name}/{table.name}" if table.is_file() else ""
    return CohortScreening(sources, groups, name_of_table)


def _iterate_reasons(counts: ScreeningCounts) -> Iterator[tuple[Status, str, int]]:
    """Iterate over the statuses and reasons of the images of one source, with the number of images."""
    reasons_by_status: dict[Status, dict[str, int]] = {
        "repaired": counts.repaired,
        "flagged": counts.flagged,
        "left out": counts.left_out,
        "unusable": counts.unusable,
    }
    for status, reasons in reasons_by_status.items():
        for reason, count in reasons.items():
            yield status, reason, count


def _example_pictures(
    summary: ScreeningSummary, group: tuple[str, Status, str], folder: Path
) -> list[ListedFile]:
    """Return the files of pictures of one source, status and reason."""
    pictures = []
    for image in summary.examples:
        if image.thumbnail and (image.source, image.status, *image.reasons) == group:
            pictures.append(ListedFile(folder / image.thumbnail, image.thumbnail_sha256))
    return pictures[:MAX_PICTURES]
