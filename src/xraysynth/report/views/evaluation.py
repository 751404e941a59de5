"""View of the page that compares a folder of synthetic images with real ones."""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from xraysynth.manifest import Manifest
from xraysynth.report.content import Evaluation
from xraysynth.report.formatting import add_word_breaks
from xraysynth.report.views.appearance import AppearanceSection, appearance_section
from xraysynth.report.views.cells import Heading, build_headings
from xraysynth.report.views.measures import MeasuresSection, measures_section
from xraysynth.report.views.memorisation import MemorisationSection, memorisation_section


@dataclass(frozen=True)
class FolderRow:
    """The number of images in one folder.

    Attributes:
        role: What its images are: real, synthetic or training.
        name: Name of the folder.
        counts: Number of images by class.
        images: Number of all images.
    """

    role: str
    name: Markup
    counts: Sequence[int]
    images: int


@dataclass(frozen=True)
class EvaluationPage:
    """Everything on the page of an evaluation.

    Attributes:
        title: Title of the page.
        created: When the page was created.
        command: The command that creates it again.
        headings: Headings of the table of folders.
        folders: The folders that were compared.
        measures: Distances from real images.
        memorisation: Memorisation of the training images.
        appearance: Appearance and diversity.
        limits: Sentences on the limits of the comparison.
    """

    title: str
    created: str
    command: str
    headings: Sequence[Heading]
    folders: Sequence[FolderRow]
    measures: MeasuresSection
    memorisation: MemorisationSection
    appearance: AppearanceSection
    limits: Sequence[str]


def evaluation_page(evaluation: Evaluation) -> EvaluationPage:
    """Returns the page of an evaluation; its classes are those of the real images."""
    classes, pools = evaluation.real.classes, [evaluation]
    folders = [
        _folder_row("real", evaluation.real),
        _folder_row("synthetic", evaluation.synthetic),
    ]
    if evaluation.train:
        folders.append(_folder_row("training", evaluation.train))
    return EvaluationPage(
        title=evaluation.title,
        created=evaluation.created,
        command=evaluation.command,
        headings=build_headings("", "folder", *classes, "all", text_columns=2),
        folders=folders,
        measures=measures_section(pools, classes),
        memorisation=memorisation_section(pools),
        appearance=appearance_section(pools, classes, is_from_study=False),
        limits=evaluation.limits,
    )


def _folder_row(role: str, manifest: Manifest) -> FolderRow:
    counts = list(manifest.class_counts().values())
    return FolderRow(role, add_word_breaks(manifest.folder.name), counts, len(manifest))
