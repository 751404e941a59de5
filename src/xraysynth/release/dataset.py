"""A pool's images with their table, Croissant metadata and a data card."""

import shutil
from datetime import datetime
from pathlib import Path

from xraysynth import __version__
from xraysynth.generation.pool import originals
from xraysynth.manifest import Manifest
from xraysynth.release import hub
from xraysynth.release.cards import (
    TAGS,
    DataCard,
    Privacy,
    Subject,
    figure,
    licence_header,
    most_refused,
    size_category,
    write_card,
)
from xraysynth.release.croissant import write_croissant
from xraysynth.release.images import write_images
from xraysynth.release.inputs import Background, Made

USES = (
    "Research on whether synthetic radiographs help to train classifiers that are tested on real ones.",
    "Research on generators: fidelity, diversity, memorisation, and telling synthetic images from real.",
)
LIMITS = (
    "Not for diagnosis, not for teaching people to read radiographs, and not to be passed off as "
    "images of patients.",
    "A label is the class that was asked for; no radiologist has confirmed that it can be seen.",
    "Scores of a classifier on these images say nothing of its scores on patients: test on real ones.",
    "What the generator has learned comes with it: its scanners, populations and labelling errors.",
)


def write_data(
    folder: Path, about: Background, made: Made, *, with_originals: bool, published: datetime
) -> None:
    """The images with their table, Croissant metadata and a data card."""
    assert made.images is not None
    images, subject = made.images, Subject.of(about, made)
    source, terms = subject.origin, subject.licence
    write_images(images, source.png_text(terms.name), folder)
    kept = _write_originals(images, folder / "originals") if with_originals else 0
    header = {
        **licence_header(terms),
        "pretty_name": f"{about.study}: synthetic chest radiographs by {source.name}",
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
    limits = [*LIMITS, *about.notes]
    card = DataCard(
        subject=subject,
        images=len(images),
        counts=images.counts(),
        pool=images.table["pool"].iloc[0],
        has_originals=bool(kept),
        outcomes=made.outcomes,
        refusals=most_refused(made.refusals),
        uses=USES,
        limits=limits,
        learned_from=made.learned_of(about),
        trained=about.trained if made.saw(about) else None,
    )
    write_card(folder, header, card)
    write_croissant(
        folder,
        name=f"{about.study}-{source.name}",
        description=f"Synthetic chest radiographs by {source.title}; not for diagnosis.",
        licence=terms.name,
        url=hub.url(about.repo, folder.name),
        version=__version__,
        published=published,
        rai={
            "personal_sensitive_information": [_personal(card.learned_from, subject.privacy)],
            "data_use_cases": list(USES),
            "data_limitations": limits,
            "data_biases": [LIMITS[-1]],
            "data_collection": f"Drawn by {source.title} from prompts; nothing was collected.",
        },
    )


def _write_originals(images: Manifest, folder: Path) -> int:
    """Copy the files as the generator returned them, where they were kept; how many."""
    files = [path for path in originals(images) if path.parent.name == "archive"]
    for path in files:
        folder.mkdir(exist_ok=True)
        shutil.copyfile(path, folder / path.name)
    return len(files)


def _personal(learned_from: str, privacy: Privacy) -> str:
    figures = [f"{row.metric} ({row.encoder}) {figure(row.value)}" for row in privacy.rows]
    return (
        f"The images show no person. What their generator has learned from: {learned_from} "
        f"Memorisation: {'; '.join(figures) or privacy.reason}."
    )
