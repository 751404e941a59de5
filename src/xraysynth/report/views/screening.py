"""View of screening: what became of the images that the sources list, with examples."""

from collections.abc import Sequence
from dataclasses import dataclass

from xraysynth.report.audit import CohortScreening, ScreenedImages
from xraysynth.report.thumbnails import Thumbnail, file_thumbnail
from xraysynth.report.views.cells import Heading, build_headings


@dataclass(frozen=True)
class ScreeningRow:
    """Images of one source with the same status and reason.

    Attributes:
        source: Name of the source.
        status: What became of them.
        reason: Why; empty for images that are simply used.
        images: Number of images.
    """

    source: str
    status: str
    reason: str
    images: str


@dataclass(frozen=True)
class ScreeningExamples:
    """Pictures of images with the same status and reason."""

    title: str
    images: Sequence[Thumbnail]


@dataclass(frozen=True)
class ScreeningView:
    """What became of the images of all sources.

    Attributes:
        headings: Headings of the table.
        rows: Its rows, by source.
        examples: Pictures by source, status and reason.
        table: Name of the CSV that lists all images that are not simply used; empty for none.
        unknown: Number of images of which no repairs and flags are recorded; empty for none.
    """

    headings: Sequence[Heading]
    rows: Sequence[ScreeningRow]
    examples: Sequence[ScreeningExamples]
    table: str
    unknown: str


def screening_view(screening: CohortScreening | None, real: str) -> ScreeningView | None:
    """Returns what became of the images; None where all are simply used.

    Args:
        screening: What is recorded of it.
        real: What images that are not synthetic are called.
    """
    if screening is None:
        return None
    rows, examples = [], []
    for source in screening.sources:
        groups = [group for group in screening.groups if group.source == source.source]
        rows.append(ScreeningRow(source.source, "used", "", str(source.used)))
        for group in groups:
            rows.append(ScreeningRow(source.source, group.status, group.reason, str(group.images)))
    for group in screening.groups:
        if group.examples:
            examples.append(_build_examples(group, real))
    unknown = sum(source.unknown for source in screening.sources)
    return ScreeningView(
        headings=build_headings("source", "images are", "reason", "N", text_columns=3),
        rows=rows,
        examples=examples,
        table=screening.table,
        unknown=str(unknown) if unknown else "",
    )


def _build_examples(group: ScreenedImages, real: str) -> ScreeningExamples:
    """Returns the pictures of a group, with words that name neither file nor patient."""
    title = f"{group.source}, {group.status}: {group.reason}"
    pictures = []
    for number, file in enumerate(group.examples, 1):
        # A release keeps only pictures whose words begin with the name of a generator.
        alt = f"{real}, {title}, image {number} of {len(group.examples)}"
        pictures.append(file_thumbnail(file, alt))
    return ScreeningExamples(title, pictures)
