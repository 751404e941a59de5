"""Images of sources, read once into the study's format: grey, square, `size_px` pixels a side."""

from pathlib import Path
from typing import Any

import pandas as pd

from xraysynth.config import Config
from xraysynth.data.cohort import SourceCollection
from xraysynth.data.source_images import SourceImages
from xraysynth.manifest import ListedFile, list_files, patient_keys
from xraysynth.stages._source_reader import SourceReader
from xraysynth.stages._workspace import Workspace

PERSON_LINKING = {"linked": "persons"}
"""Entry in the identity of jobs whose result depends on the linking of patients by near-duplicates.

Earlier versions linked images instead of persons; this entry gives their jobs other keys.
"""


def cohorts_folder(workspace: Workspace) -> Path:
    """Return the folder of prepared images, manifests and audits."""
    return workspace.output / "cohorts"


def sources_identity(config: Config, collection: SourceCollection) -> dict[str, Any]:
    """Return the settings and rows that decide the pixels, labels and patients of the images."""
    return {
        "classes": config.classes,
        "size_px": config.size_px,
        "missing_patient_id": config.missing_patient_id.value,
        **config.screening.pixel_identity(),
        **config.screening.label_identity(),
        **collection.identity(),
    }


def image_files(workspace: Workspace, table: pd.DataFrame) -> list[ListedFile]:
    """Return the file of every row of the table of `read_sources`, with its SHA-256."""
    return list_files(table, cohorts_folder(workspace))


def count_patients(table: pd.DataFrame) -> int:
    """Return the number of patients, each counted once per source."""
    return int(patient_keys(table).nunique())


def read_sources(workspace: Workspace, collection: SourceCollection) -> SourceImages:
    """Read and screen the images of all sources; images that were read before are not read again.

    Args:
        workspace: Gives the image size, the policy, and the folder that holds one image store per
            source.
        collection: The sources and their rows.

    Raises:
        ImageError: Too many images of a source cannot be used; those that were read are kept.
        ManifestError: A picture is there under two labels, and no rule says which holds.
    """
    config = workspace.config
    parts = []
    for source in collection.sources:
        reader = SourceReader(
            source,
            collection.not_used(source.name),
            policy=config.screening,
            size_px=config.size_px,
            folder=cohorts_folder(workspace),
        )
        parts.append(reader.read(collection.rows[source.name]))
    return SourceImages.concat(parts).with_rule_for_two_labels(config.screening)
