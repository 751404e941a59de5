"""External test sets: images of other sources than the cohort's, which classifiers are only tested on."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from xraysynth.data.cohort import PreparedExternalSets, assign_patients
from xraysynth.data.duplicates import find_near_duplicates, fingerprint_files
from xraysynth.data.leakage import format_cohort_overlap, is_person_in_cohort
from xraysynth.errors import LeakageError
from xraysynth.jobs.job import Job, ResultLine
from xraysynth.manifest import Manifest
from xraysynth.stages._screening import (
    is_within_policy,
    print_screening,
    screening_table_path,
    write_screening_table,
)
from xraysynth.stages._sources import (
    PERSON_LINKING,
    cohorts_folder,
    count_patients,
    image_files,
    read_sources,
    sources_identity,
)
from xraysynth.stages._workspace import Workspace


def build_job(workspace: Workspace) -> Job:
    """Build the job that prepares the external test sets for this cohort; its output is their manifest.

    The workspace must select an external test set. The cohort is in the job's identity, because images
    of its persons are dropped or refused.
    """
    config, collection = workspace.config, workspace.external_collection
    assert collection is not None
    identity = {
        **sources_identity(config, collection),
        "beside": workspace.cohort.digest(),
        "drop_duplicates": config.splits.drop_duplicates,
    }
    infers_patients = collection.can_infer_patients(config.missing_patient_id.value)
    if config.splits.drop_duplicates or infers_patients:
        identity |= PERSON_LINKING
    job = Job("prepare", identity, config.output)
    folder = cohorts_folder(workspace)
    return replace(
        job,
        outputs=(folder / f"external-{job.key}.parquet",),
        further_outputs=(screening_table_path(folder, job.key),),
        input_digests={"not_used": collection.digests_not_used()},
    )


def run(workspace: Workspace) -> ResultLine:
    """Prepare the external test sets, unless they are prepared."""
    job = build_job(workspace)
    if job.done and not is_within_policy(job, workspace.config.screening):
        assert workspace.external_collection is not None
        read_sources(
            workspace, workspace.external_collection
        )  # raises the error that names the images
    return workspace.run_job(job, partial(work, workspace, job))


def work(workspace: Workspace, job: Job) -> PreparedExternalSets:
    """Read the external test sets, and drop or refuse images of persons who are in the cohort.

    A person is in the cohort if a patient id or a near-duplicate image is.

    Args:
        workspace: Names the external sources and the cohort.
        job: The job whose output is the manifest.

    Returns:
        The manifest's path, and the numbers of images and patients that were taken and dropped.

    Raises:
        ImageError: If more images cannot be used than screening.most_left_out allows.
        LeakageError: If persons are in the cohort too and splits.drop_duplicates is false, or if
            dropping their images leaves none.
    """
    config, cohort = workspace.config, workspace.cohort
    collection = workspace.external_collection
    assert collection is not None
    screened = read_sources(workspace, collection)
    print_screening(screened.counts())
    images = screened.table.copy()
    # Files of one name may lie in several collections, whose images must stay apart.
    images["image_id"] = "external-" + images["image_id"]
    pairs = _find_near_duplicates(workspace, images)
    external_pairs = pairs[pairs[:, 0] >= len(cohort)] - len(cohort)
    images["patient_id"] = assign_patients(
        images,
        external_pairs,
        missing_patient_id=config.missing_patient_id.value,
        notes=collection.notes,
    )
    images["split"] = "test"

    in_cohort = is_person_in_cohort(images, cohort, pairs)
    if in_cohort.any() and not config.splits.drop_duplicates:
        raise LeakageError(format_cohort_overlap(images, in_cohort, cohort, pairs))
    dropped = images[in_cohort]
    table = images[~in_cohort].reset_index(drop=True)
    if table.empty:
        raise LeakageError(
            "every external test image is left out, because patient ids or near-duplicates show that each "
            "is of a person who is in the cohort; choose another test_source"
        )
    manifest = Manifest(table, cohorts_folder(workspace), tuple(config.classes))
    (manifest_path,) = map(Path, job.outputs)
    manifest.write(manifest_path)
    return PreparedExternalSets(
        manifest=str(manifest_path),
        digest=manifest.digest(),
        images=len(manifest),
        patients=count_patients(table),
        counts=_count_by_source_and_class(table),
        dropped=len(dropped),
        dropped_patients=count_patients(dropped),
        simulated=collection.simulated_sources,
        screening=screened.counts(),
        screening_table=write_screening_table(
            screened, screening_table_path(cohorts_folder(workspace), job.key)
        ),
        not_used=collection.digests_not_used(),
    )


def _find_near_duplicates(workspace: Workspace, images: pd.DataFrame) -> np.ndarray:
    """Return pairs of row numbers `(P, 2)`: first the rows of the cohort, then those of `images`."""
    files = [*workspace.cohort.listed_files, *image_files(workspace, images)]
    return find_near_duplicates(fingerprint_files(files))


def _count_by_source_and_class(table: pd.DataFrame) -> dict[str, dict[str, int]]:
    """Count images by source, then by class; classes without images are left out."""
    counts = {}
    for source, rows in table.groupby("source"):
        counts[str(source)] = rows["label"].value_counts().to_dict()
    return counts
