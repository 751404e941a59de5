"""Prepare the real images: one cohort that is split by patient and audited for leakage.

Reads the selected sources, puts every image into the study's format (grey, square, size_px), splits
by patient, and looks for leakage and source confounding. Writes below paths.output/cohorts: a folder
of images per source, cohort-<key>.parquet and audit-<key>.json. Sources selected with test_source=…
become external test sets in external-<key>.parquet. They are only tested on, and refused where they
share patients or images with the cohort.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from xraysynth import tracking
from xraysynth.config import Config
from xraysynth.data.audit import (
    Audit,
    audit_cohort,
    drop_cross_split_images,
    require_no_confounding,
)
from xraysynth.data.cohort import (
    PreparedCohort,
    SourceCollection,
    assign_patients,
    format_person_notes,
    require_known_splits,
    split_by_person,
)
from xraysynth.data.duplicates import Pairs, find_near_duplicates, fingerprint_files
from xraysynth.data.leakage import require_no_leakage
from xraysynth.data.persons import find_linked_patients
from xraysynth.data.screening import ScreenedImage, ScreeningSummary, format_two_label_notes
from xraysynth.data.source_images import SourceImages
from xraysynth.data.splits import require_classes_in_splits, require_enough_images
from xraysynth.files import explain_unreadable, write_atomically
from xraysynth.jobs.job import Job, ResultLine
from xraysynth.manifest import Manifest
from xraysynth.records import SPLITS, from_json, to_json
from xraysynth.seeds import digest
from xraysynth.stages import _external_test_sets
from xraysynth.stages._screening import (
    has_more_usable_images,
    is_within_policy,
    print_screening,
    screening_table_path,
    summarize_screening,
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

SECTIONS = (
    "classes",
    "size_px",
    "missing_patient_id",
    "acknowledge_confounding",
    "source",
    "test_source",
    "screening",
    "splits",
)
"""The options that this stage reads."""


def run(workspace: Workspace) -> ResultLine:
    """Prepare the cohort and the external test sets, unless this is done already.

    Stored images that were damaged since are read again, and so are files that could not be opened: if
    they can be used now, the cohort is prepared again.

    Returns:
        The result of the cohort's job; if there are external test sets, that of their job is its entry
        "external".
    """
    result = _run(workspace)
    if result["skipped"]:
        images = read_sources(workspace, workspace.collection)
        if has_more_usable_images(result, images.counts()):
            Path(result["audit"]).unlink()  # a job without its outputs is done again
            result = _run(workspace)
    if workspace.external_collection is None:
        return result
    return result | {"external": _run_external(workspace)}


def _run_external(workspace: Workspace) -> ResultLine:
    """Prepare the external test sets as `run` does the cohort."""
    assert workspace.external_collection is not None
    result = _external_test_sets.run(workspace)
    if result["skipped"]:
        images = read_sources(workspace, workspace.external_collection)
        if has_more_usable_images(result, images.counts()):
            Path(result["manifest"]).unlink()
            result = _external_test_sets.run(workspace)
    return result


def jobs(workspace: Workspace) -> list[Job]:
    """List the job of the cohort and, if external test sets are selected, their job."""
    prepare_jobs = [build_job(workspace)]
    if workspace.config.test_source:
        prepare_jobs.append(_external_test_sets.build_job(workspace))
    return prepare_jobs


def build_job(workspace: Workspace) -> Job:
    """Build the job that prepares the cohort; its outputs are the manifest and the audit.

    Its identity includes the rows that the sources list. When an image is added, removed or changed,
    a new cohort is prepared therefore, and the earlier one is kept. When images that are not used change,
    the same cohort is prepared again, because its audit counts them.
    """
    config, collection = workspace.config, workspace.collection
    identity = {
        **sources_identity(config, collection),
        "acknowledged": config.acknowledge_confounding,
        "splits": asdict(config.splits),
    }
    if _depends_on_linking(config, collection):
        identity |= PERSON_LINKING
    job = Job("prepare", identity, config.output)
    folder = cohorts_folder(workspace)
    return replace(
        job,
        outputs=(folder / f"cohort-{job.key}.parquet", folder / f"audit-{job.key}.json"),
        further_outputs=(screening_table_path(folder, job.key),),
        input_digests={"not_used": collection.digests_not_used()},
    )


def prepare_cohort(workspace: Workspace) -> Manifest:
    """Return the cohort, and prepare it first if it is missing."""
    result = _run(workspace)
    return Manifest.read(Path(result["manifest"]), classes=workspace.config.classes)


def load_audit(workspace: Workspace) -> Audit:
    """Return the audit of the cohort, and prepare the cohort first if it is missing."""
    _ = workspace.cohort
    return from_json(Audit, _read_audit(workspace))


def audit_digest(workspace: Workspace) -> str:
    """Return a digest of the audit file as it is on disk, where an earlier version may have written it."""
    return digest(_read_audit(workspace))


def _read_audit(workspace: Workspace) -> Any:
    """Read the audit file as JSON."""
    _, audit_path = build_job(workspace).outputs
    with explain_unreadable(Path(audit_path), f"delete it and run: {workspace.command('prepare')}"):
        return json.loads(Path(audit_path).read_text())


def prepare_external_test_set(workspace: Workspace) -> Manifest | None:
    """Return the images of all external test sets in split "test"; None where none is selected.

    Raises:
        LeakageError: If patients or images are in the cohort too; the message names them. With
            splits.drop_duplicates=true these images are left out instead.
    """
    if workspace.external_collection is None:
        return None
    result = _external_test_sets.run(workspace)
    return Manifest.read(Path(result["manifest"]), classes=workspace.config.classes)


def resolve_linked_patients(cohort: Manifest, cohort_audit: Audit) -> Sequence[Sequence[str]]:
    """Return groups of patient keys; near-duplicate images show that each group is one person.

    Audits of earlier versions do not list the groups. If such an audit reports near-duplicates, the
    groups are found again from the images.

    Args:
        cohort: The prepared cohort.
        cohort_audit: Its audit.
    """
    if cohort_audit.linked_patients is not None or not cohort_audit.has_linked_patients:
        return cohort_audit.linked_patients or []
    pairs = find_near_duplicates(fingerprint_files(cohort.listed_files))
    return find_linked_patients(cohort.table, pairs)


def _run(workspace: Workspace) -> ResultLine:
    """Prepare the cohort, unless this is done already."""
    job = build_job(workspace)
    if job.done and not is_within_policy(job, workspace.config.screening):
        read_sources(workspace, workspace.collection)  # raises the error that names the images
    return workspace.run_job(job, partial(work, workspace, job))


def _depends_on_linking(config: Config, collection: SourceCollection) -> bool:
    """Return whether the cohort may depend on which patients are linked to one person."""
    has_official_split = collection.has_value("split")
    has_official = config.splits.official and has_official_split.any()
    if has_official and (config.splits.drop_duplicates or not has_official_split.all()):
        return True
    return collection.can_infer_patients(config.missing_patient_id.value)


def work(workspace: Workspace, job: Job) -> PreparedCohort:
    """Read the sources, assign patients and splits, audit the cohort, and write manifest and audit.

    Args:
        workspace: Holds the options on sources, classes and splits.
        job: The job, whose outputs are the paths of manifest and audit.

    Returns:
        The paths and the digest of the cohort, and its numbers of images, patients and near-duplicates.

    Raises:
        ImageError: If more images cannot be used than screening.most_left_out allows.
        ManifestError: If images have no patient and missing_patient_id is "error", a picture is there
            under two labels, or a class has too few images.
        LeakageError: If near-duplicates lie in different splits and are not to be dropped.
        ConfoundingError: If the source predicts a class and this is not acknowledged.
    """
    config, collection = workspace.config, workspace.collection
    _require_enough_images(config, collection)
    require_known_splits(collection.rows.values(), config.splits)
    screened = read_sources(workspace, collection)
    images = screened.table
    _require_enough_usable_images(config, screened)
    pairs = find_near_duplicates(fingerprint_files(image_files(workspace, images)))
    images["patient_id"] = assign_patients(
        images,
        pairs,
        missing_patient_id=config.missing_patient_id.value,
        notes=collection.notes,
    )
    images["split"] = split_by_person(images, pairs, config.splits)
    pictures = cohorts_folder(workspace) / f"screening-{job.key}"
    screening = summarize_screening(collection, screened, pairs, pictures=pictures)
    print_screening(screening.counts)

    table = images
    if config.splits.drop_duplicates:
        table, pairs = drop_cross_split_images(images, pairs)
    dropped = images[~images["image_id"].isin(table["image_id"])]
    require_classes_in_splits(table, config.classes)
    cohort = Manifest(table, cohorts_folder(workspace), tuple(config.classes))
    require_no_leakage(cohort, pairs)
    audit = _audit(workspace, cohort, pairs, dropped, screening)

    manifest_path, audit_path = map(Path, job.outputs)
    cohort.write(manifest_path)
    write_atomically(audit_path, json.dumps(to_json(audit), indent=1).encode())
    table_path = screening_table_path(cohorts_folder(workspace), job.key)
    result = PreparedCohort(
        manifest=str(manifest_path),
        audit=str(audit_path),
        digest=cohort.digest(),
        images=len(cohort),
        patients=count_patients(table),
        splits={split: cohort.split(split).class_counts() for split in SPLITS},
        near_duplicates=len(pairs),
        dropped=len(dropped),
        dropped_patients=count_patients(dropped),
        simulated=audit.simulated,
        confounding=audit.acknowledged,
        screening=screening.counts,
        screening_table=write_screening_table(screened, table_path),
        not_used=collection.digests_not_used(),
    )
    with tracking.open_run(config, job) as run:
        tracking.log_cohort(run, cohort, patients=result.patients, near_duplicates=len(pairs))
    return result


def _require_enough_images(config: Config, collection: SourceCollection) -> None:
    """Raise an error before any image is read if a class has too few of them to be split."""
    labels = [table["label"] for table in collection.rows.values()]
    not_used: list[ScreenedImage] = []
    for name in collection.rows:
        not_used += collection.not_used(name)
    minimum = config.splits.minimum_per_class
    require_enough_images(pd.concat(labels), config.classes, minimum=minimum, not_used=not_used)


def _require_enough_usable_images(config: Config, images: SourceImages) -> None:
    """Raise an error if a class has too few images that could be read."""
    not_used = [image for image in images.screened if image.status in ("left out", "unusable")]
    require_enough_images(
        images.table["label"],
        config.classes,
        minimum=config.splits.minimum_per_class,
        not_used=not_used,
    )


def _audit(
    workspace: Workspace,
    cohort: Manifest,
    pairs: Pairs,
    dropped: pd.DataFrame,
    screening: ScreeningSummary,
) -> Audit:
    """Audit the cohort; refuse source confounding that the user has not acknowledged."""
    collection = workspace.collection
    linked_patients = find_linked_patients(cohort.table, pairs)
    notes = [*collection.notes, *format_person_notes(linked_patients, dropped)]
    audit = replace(
        audit_cohort(cohort, pairs),
        simulated=collection.simulated_sources,
        linked_patients=linked_patients,
        notes=[*notes, *format_two_label_notes(screening)],
        screening=screening,
    )
    acknowledged = require_no_confounding(
        audit, acknowledged=workspace.config.acknowledge_confounding
    )
    return replace(audit, acknowledged=acknowledged)
