"""The page of one folder of synthetic images beside real ones."""

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
    """The images of one folder, class by class and in all."""

    role: str
    name: Markup
    counts: Sequence[int]
    images: int


@dataclass(frozen=True)
class EvaluationPage:
    """Everything on the page of two folders."""

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
    """The page of an evaluation; the classes are those of the real images."""
    classes, pools = evaluation.real.classes, [evaluation]
    folders = {"real": evaluation.real, "synthetic": evaluation.synthetic}
    if evaluation.train:
        folders["training"] = evaluation.train
    return EvaluationPage(
        title=evaluation.title,
        created=evaluation.created,
        command=evaluation.command,
        headings=build_headings("", "folder", *classes, "all", text_columns=2),
        folders=[_folder_row(role, manifest) for role, manifest in folders.items()],
        measures=measures_section(pools, classes),
        memorisation=memorisation_section(pools),
        appearance=appearance_section(pools, classes, is_from_study=False),
        limits=evaluation.limits,
    )


def _folder_row(role: str, manifest: Manifest) -> FolderRow:
    counts = list(manifest.class_counts().values())
    return FolderRow(role, add_word_breaks(manifest.folder.name), counts, len(manifest))
