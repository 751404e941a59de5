"""A pool's images with their table, Croissant metadata and a data card."""

import shutil
from datetime import datetime
from pathlib import Path

from xraysynth import __version__
from xraysynth.generation.pool import original_files
from xraysynth.manifest import Manifest
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
LIMITATIONS = (
    "Not for diagnosis, not for teaching people to read radiographs, and not to be passed off as "
    "images of patients.",
    "A label is the class that was asked for; no radiologist has confirmed that it can be seen.",
    "Scores of a classifier on these images say nothing of its scores on patients: test on real ones.",
    "What the generator has learned comes with it: its scanners, populations and labelling errors.",
)


def write_dataset(
    folder: Path,
    study_info: StudyInfo,
    released: ReleasedGenerator,
    *,
    with_originals: bool,
    published: datetime,
) -> None:
    """The images with their table, Croissant metadata and a data card."""
    assert released.images is not None
    images, subject = released.images, GeneratorSummary.from_generator(study_info, released)
    source, terms = subject.origin, subject.licence
    write_images(images, source.png_text(terms.name), folder)
    kept = _copy_originals(images, folder / "originals") if with_originals else 0
    header = {
        **licence_header(terms),
        "pretty_name": f"{study_info.study}: synthetic chest radiographs by {source.name}",
        "task_categories": ["text-to-image", "image-classification"],
        "size_categories": [size_category(len(images))],
        "annotations_creators": ["machine-generated"],
        "tags": TAGS,
        "configs": [
            {
                "config_name": "default",
                "data_files": [{"split": "train", "path": "train/**"}],
            }
        ],
    }
    limits = [*LIMITATIONS, *study_info.notes]
    card = DataCard(
        summary=subject,
        images=len(images),
        counts=images.class_counts(),
        pool=images.table["pool"].iloc[0],
        has_originals=bool(kept),
        outcomes=released.outcomes,
        refusals=top_refused_prompts(released.refusals),
        intended_uses=INTENDED_USES,
        limitations=limits,
        training_data=released.describe_training_data(study_info),
        train_split=study_info.train_split if released.has_seen_train_split(study_info) else None,
    )
    write_card(folder, header, card)
    write_croissant(
        folder,
        name=f"{study_info.study}-{source.name}",
        description=f"Synthetic chest radiographs by {source.title}; not for diagnosis.",
        licence=terms.name,
        url=hub.repo_url(study_info.repo, folder.name),
        version=__version__,
        published=published,
        rai={
            "personal_sensitive_information": [
                _describe_personal_data(card.training_data, subject.memorisation)
            ],
            "data_use_cases": list(INTENDED_USES),
            "data_limitations": limits,
            "data_biases": [LIMITATIONS[-1]],
            "data_collection": f"Drawn by {source.title} from prompts; nothing was collected.",
        },
    )


def _copy_originals(images: Manifest, folder: Path) -> int:
    """Copy the files as the generator returned them, where they were kept; how many."""
    files = [path for path in original_files(images) if path.parent.name == "archive"]
    for path in files:
        folder.mkdir(exist_ok=True)
        shutil.copyfile(path, folder / path.name)
    return len(files)


def _describe_personal_data(training_data: str, memorisation: MemorisationSummary) -> str:
    figures = [
        f"{row.metric} ({row.encoder}) {format_number(row.value)}" for row in memorisation.rows
    ]
    return (
        f"The images show no person. What their generator has learned from: {training_data} "
        f"Memorisation: {'; '.join(figures) or memorisation.reason}."
    )
