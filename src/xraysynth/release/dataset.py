"""The data part of a release: images with their table, Croissant metadata and a data card."""

import shutil
from datetime import datetime
from pathlib import Path

from xraysynth import __version__
from xraysynth.generation.originals import original_files
from xraysynth.manifest import Manifest
from xraysynth.records import JsonObject
from xraysynth.release import hub
from xraysynth.release.cards import (
    TAGS,
    DataCard,
    GeneratorSummary,
    MemorisationSummary,
    format_number,
    licence_header,
    size_category,
    top_refused_prompts,
    write_card,
)
from xraysynth.release.croissant import write_croissant
from xraysynth.release.images import write_images
from xraysynth.release.inputs import ReleasedGenerator, StudyInfo

INTENDED_USES = (
    "Research on whether synthetic radiographs help to train classifiers that are tested on real ones.",
    "Research on generators: fidelity, diversity, memorisation, and telling synthetic images from real.",
)
INHERITED_BIASES = (
    "The images inherit the scanners, populations and labelling errors of what the generator has "
    "learned from."
)
LIMITATIONS = (
    "The images are not for diagnosis, not for teaching people to read radiographs, and not to be "
    "passed off as images of patients.",
    "A label is the class that was requested; no radiologist has confirmed that it can be seen.",
    "Scores of a classifier on these images say nothing about its scores on patients: test on real ones.",
    INHERITED_BIASES,
)


def write_dataset(
    folder: Path,
    study_info: StudyInfo,
    released: ReleasedGenerator,
    *,
    with_originals: bool,
    published: datetime,
) -> None:
    """Writes the images with their table, Croissant metadata and a data card.

    Args:
        folder: Folder of this part.
        study_info: Facts about the study.
        released: The generator, whose `images` must not be None.
        with_originals: Whether the images are added as the generator returned them.
        published: Time of the release.
    """
    assert released.images is not None
    summary = GeneratorSummary.from_generator(study_info, released)
    write_images(released.images, summary.origin.png_text(summary.licence.name), folder)
    original_count = 0
    if with_originals:
        original_count = _copy_originals(released.images, folder / "originals")
    card = _build_card(
        study_info, released, released.images, summary, has_originals=original_count > 0
    )
    write_card(folder, _build_header(card), card)
    _write_croissant(folder, study_info, card, published)


def _copy_originals(images: Manifest, folder: Path) -> int:
    """Copies the images as the generator returned them; returns how many the pool has kept."""
    files = [path for path in original_files(images) if path.parent.name == "archive"]
    for path in files:
        folder.mkdir(exist_ok=True)
        shutil.copyfile(path, folder / path.name)
    return len(files)


def _build_card(
    study_info: StudyInfo,
    released: ReleasedGenerator,
    images: Manifest,
    summary: GeneratorSummary,
    *,
    has_originals: bool,
) -> DataCard:
    return DataCard(
        summary=summary,
        images=len(images),
        counts=images.class_counts(),
        pool=images.table["pool"].iloc[0],
        has_originals=has_originals,
        outcomes=released.outcomes,
        refusals=top_refused_prompts(released.refusals),
        intended_uses=INTENDED_USES,
        limitations=[*LIMITATIONS, *study_info.notes],
        training_data=released.describe_training_data(study_info),
        train_split=study_info.train_split if released.has_seen_train_split(study_info) else None,
    )


def _build_header(card: DataCard) -> JsonObject:
    """Returns the fields that the Hub reads from the head of a data card."""
    summary = card.summary
    return {
        **licence_header(summary.licence),
        "pretty_name": f"{summary.study}: synthetic chest radiographs by {summary.origin.name}",
        "task_categories": ["text-to-image", "image-classification"],
        "size_categories": [size_category(card.images)],
        "annotations_creators": ["machine-generated"],
        "tags": TAGS,
        "configs": [
            {
                "config_name": "default",
                "data_files": [{"split": "train", "path": "train/**"}],
            }
        ],
    }


def _write_croissant(
    folder: Path, study_info: StudyInfo, card: DataCard, published: datetime
) -> None:
    origin = card.summary.origin
    personal_data = _describe_personal_data(card.training_data, card.summary.memorisation)
    write_croissant(
        folder,
        name=f"{study_info.study}-{origin.name}",
        description=f"Synthetic chest radiographs by {origin.title}; not for diagnosis.",
        licence=card.summary.licence.name,
        url=hub.repo_url(study_info.repo, folder.name),
        version=__version__,
        published=published,
        rai={
            "personal_sensitive_information": [personal_data],
            "data_use_cases": list(card.intended_uses),
            "data_limitations": list(card.limitations),
            "data_biases": [INHERITED_BIASES],
            "data_collection": f"Generated by {origin.title} from prompts; nothing was collected.",
        },
    )


def _describe_personal_data(training_data: str, memorisation: MemorisationSummary) -> str:
    metrics = []
    for row in memorisation.rows:
        metrics.append(f"{row.metric} ({row.encoder}) {format_number(row.value)}")
    return (
        f"The images show no person. What their generator has learned from: {training_data} "
        f"Memorisation: {'; '.join(metrics) or memorisation.reason}."
    )
