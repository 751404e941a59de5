"""Real images to one audited, split cohort.

Reads the selected sources, puts every image into the study's format (grey, square, size_px),
splits by patient, and looks for leakage and source confounding. Writes below paths.output/cohorts:
a folder of images per source, cohort-<key>.parquet and audit-<key>.json. Sources chosen with
test_source=… become external test sets, external-<key>.parquet: only ever tested on, and refused
where they share patients or images with the cohort.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from xraysynth import tracking
from xraysynth.data import cohort as images
from xraysynth.data.audit import (
    Audit,
    audit_cohort,
    drop_cross_split_images,
    require_no_confounding,
)
from xraysynth.data.cohort import PreparedCohort, PreparedExternalSets, SourceCollection
from xraysynth.data.duplicates import find_near_duplicates, fingerprint_files
from xraysynth.data.leakage import format_cohort_overlap, is_person_in_cohort, require_no_leakage
from xraysynth.data.persons import find_linked_patients
from xraysynth.data.sources.base import Source
from xraysynth.data.sources.parallel import load_images
from xraysynth.data.splits import require_classes_in_splits, require_enough_images
from xraysynth.errors import ImageError, LeakageError
from xraysynth.files import write_atomically
from xraysynth.jobs.job import Job, ResultLine
from xraysynth.jobs.store import ImageStore
from xraysynth.manifest import COLUMNS, Manifest, patient_keys
from xraysynth.progress import progress_bar
from xraysynth.records import from_json, to_json
from xraysynth.seeds import digest, identity
from xraysynth.stages._workspace import Workspace

SECTIONS = (
    "classes",
    "size_px",
    "missing_patient_id",
    "acknowledge_confounding",
    "source",
    "test_source",
    "splits",
)
"""The options that this stage reads."""

PERSON_LINKING = {"linked": "persons"}
"""In the identity of a job whose result depends on it; jobs of earlier versions linked images."""


def run(workspace: Workspace) -> ResultLine:
    """Prepare the cohort and the external test sets, or find them prepared."""
    line = _run(workspace)
    if workspace.external_collection is None:
        return line
    return line | {"external": _run_external(workspace)}


def jobs(workspace: Workspace) -> list[Job]:
    """The jobs that prepare the cohort and, where there are any, the external test sets."""
    first = build_job(workspace)
    return [first, *([build_external_job(workspace)] if workspace.config.test_source else [])]


def build_job(workspace: Workspace) -> Job:
    """The job that prepares the cohort; what it leaves are the manifest and its audit."""
    config, collection = workspace.config, workspace.collection
    decides = {
        **_identity(workspace, collection),
        "acknowledged": config.acknowledge_confounding,
        "splits": asdict(config.splits),
    }
    if _depends_on_linking(workspace, collection):
        decides |= PERSON_LINKING
    this, folder = Job("prepare", decides, config.output), _folder(workspace)
    paths = (folder / f"cohort-{this.key}.parquet", folder / f"audit-{this.key}.json")
    return replace(this, outputs=paths)


def build_external_job(workspace: Workspace) -> Job:
    """The job that prepares the external test sets beside the cohort."""
    config, collection = workspace.config, workspace.external_collection
    assert collection is not None  # who asks has looked
    decides = {
        **_identity(workspace, collection),
        "beside": workspace.cohort.digest(),
        "drop_duplicates": config.splits.drop_duplicates,
    }
    lends = collection.can_infer_patients(config.missing_patient_id.value)
    if config.splits.drop_duplicates or lends:
        decides |= PERSON_LINKING
    this = Job("prepare", decides, config.output)
    return replace(this, outputs=(_folder(workspace) / f"external-{this.key}.parquet",))


def prepare_cohort(workspace: Workspace) -> Manifest:
    """The prepared cohort; prepares what is missing."""
    return Manifest.read(Path(_run(workspace)["manifest"]), classes=workspace.config.classes)


def load_audit(workspace: Workspace) -> Audit:
    """The audit of the cohort; prepares what is missing."""
    _ = workspace.cohort
    return from_json(Audit, json.loads(Path(build_job(workspace).outputs[1]).read_text()))


def audit_digest(workspace: Workspace) -> str:
    """What tells an audit from another, as it is written: of one version or another."""
    return digest(json.loads(Path(build_job(workspace).outputs[1]).read_text()))


def prepare_external_test_set(workspace: Workspace) -> Manifest | None:
    """The external test sets, all in split test; None where none is chosen.

    Raises `LeakageError` naming patients and images that are in the cohort too;
    splits.drop_duplicates leaves these out.
    """
    if workspace.external_collection is None:
        return None
    line = _run_external(workspace)
    return Manifest.read(Path(line["manifest"]), classes=workspace.config.classes)


def resolve_linked_patients(cohort: Manifest, cohort_audit: Audit) -> Sequence[Sequence[str]]:
    """Keys of the patients who are one person, a list for each, of a cohort and its audit.

    An audit of an earlier version does not say; where it has near-duplicates they are looked for.
    """
    if cohort_audit.linked_patients is not None or not cohort_audit.has_linked_patients:
        return cohort_audit.linked_patients or []
    return find_linked_patients(cohort.table, find_near_duplicates(fingerprint_files(cohort.files)))


def _run(workspace: Workspace) -> ResultLine:
    this = build_job(workspace)
    return workspace.run_job(this, partial(work, workspace, this))


def _run_external(workspace: Workspace) -> ResultLine:
    this = build_external_job(workspace)
    return workspace.run_job(this, partial(work_external, workspace, this))


def _folder(workspace: Workspace) -> Path:
    return workspace.output / "cohorts"


def _identity(workspace: Workspace, collection: SourceCollection) -> dict[str, Any]:
    config = workspace.config
    return {
        "classes": config.classes,
        "size_px": config.size_px,
        "missing_patient_id": config.missing_patient_id.value,
        **collection.identity(),
    }


def _depends_on_linking(workspace: Workspace, collection: SourceCollection) -> bool:
    """Whether it can change the cohort that near-duplicates link patients, and not only images."""
    splits, official = workspace.config.splits, collection.has_value("split")
    follows = official.any() and not official.all()
    drops = official.any() and splits.drop_duplicates
    lends = collection.can_infer_patients(workspace.config.missing_patient_id.value)
    return bool(splits.official and (follows or drops)) or lends


def work(workspace: Workspace, job: Job) -> PreparedCohort:
    """Read, split and audit the cohort."""
    config, collection = workspace.config, workspace.collection
    labels = pd.concat([table["label"] for table in collection.rows.values()])
    require_enough_images(labels, config.classes, minimum=config.splits.minimum_per_class)
    folder = _folder(workspace)
    everyone = _read_sources(workspace, collection)
    pairs = find_near_duplicates(fingerprint_files(folder / path for path in everyone["path"]))
    missing = config.missing_patient_id.value
    everyone["patient_id"] = images.assign_patients(everyone, pairs, missing_patient_id=missing)
    everyone["split"] = images.split_by_person(everyone, pairs, config.splits)
    table = everyone
    if config.splits.drop_duplicates:
        table, pairs = drop_cross_split_images(everyone, pairs)
    dropped = everyone[~everyone["image_id"].isin(table["image_id"])]
    require_classes_in_splits(table, config.classes)
    manifest = Manifest(table, folder, tuple(config.classes))
    require_no_leakage(manifest, pairs)
    linked = find_linked_patients(table, pairs)
    report = replace(
        audit_cohort(manifest, pairs),
        simulated=collection.simulated_sources,
        linked_patients=linked,
        notes=[*collection.notes, *images.format_person_notes(linked, dropped)],
    )
    acknowledged = require_no_confounding(report, acknowledged=config.acknowledge_confounding)
    report = replace(report, acknowledged=acknowledged)
    manifest_path, audit_path = map(Path, job.outputs)
    manifest.write(manifest_path)
    write_atomically(audit_path, json.dumps(to_json(report), indent=1).encode())
    result = PreparedCohort(
        manifest=str(manifest_path),
        audit=str(audit_path),
        digest=manifest.digest(),
        images=len(manifest),
        patients=_count_patients(table),
        splits={name: manifest.split(name).class_counts() for name in ("train", "val", "test")},
        near_duplicates=len(pairs),
        dropped=len(dropped),
        dropped_patients=patient_keys(dropped).nunique(),
        simulated=report.simulated,
        confounding=acknowledged,
    )
    with tracking.open_run(config, job) as tracked:
        tracking.log_cohort(
            tracked, manifest, patients=result.patients, near_duplicates=result.near_duplicates
        )
    return result


def work_external(workspace: Workspace, job: Job) -> PreparedExternalSets:
    """Read the external test sets, and refuse what the cohort has too."""
    config, collection, beside = workspace.config, workspace.external_collection, workspace.cohort
    assert collection is not None
    folder, n = _folder(workspace), len(beside)
    table = _read_sources(workspace, collection)
    prints = fingerprint_files([*beside.files, *(folder / path for path in table["path"])])
    pairs = find_near_duplicates(prints)
    # Files of one name may lie in several collections, whose images must stay apart.
    table["image_id"] = "external-" + table["image_id"]
    own, missing = pairs[pairs[:, 0] >= n] - n, config.missing_patient_id.value
    table["patient_id"] = images.assign_patients(table, own, missing_patient_id=missing)
    table["split"] = "test"
    linked = is_person_in_cohort(table, beside, pairs)
    if linked.any() and not config.splits.drop_duplicates:
        raise LeakageError(format_cohort_overlap(table, linked, beside, pairs))
    dropped, table = table[linked], table[~linked].reset_index(drop=True)
    if table.empty:
        raise LeakageError(
            "every external test image is left out: each is of a person who is in the cohort, by the "
            "patient or by near-duplicates; choose another test_source"
        )
    manifest = Manifest(table, folder, tuple(config.classes))
    (path,) = job.outputs
    manifest.write(Path(path))
    return PreparedExternalSets(
        manifest=str(path),
        digest=manifest.digest(),
        images=len(manifest),
        patients=_count_patients(table),
        counts={
            str(name): part["label"].value_counts().to_dict()
            for name, part in table.groupby("source")
        },
        dropped=len(dropped),
        dropped_patients=patient_keys(dropped).nunique(),
        simulated=collection.simulated_sources,
    )


def _count_patients(table: pd.DataFrame) -> int:
    return int(patient_keys(table).nunique())


def _read_sources(workspace: Workspace, collection: SourceCollection) -> pd.DataFrame:
    """Every image of all sources in the study's format; its rows with path and sha256."""
    size_px, folder = workspace.config.size_px, _folder(workspace)
    tables = [_read_source(s, collection.rows[s.name], size_px, folder) for s in collection.sources]
    return pd.concat(tables, ignore_index=True)


def _read_source(source: Source, rows: pd.DataFrame, size_px: int, folder: Path) -> pd.DataFrame:
    """The same of one source; what has been read before is not read again."""
    store = ImageStore(folder, source.name, {"source": identity(source), "size_px": size_px})
    # An image that changed on disk has another stamp, and with it another name in the store.
    names = [f"{r.image_id}-{digest(r.stamp)[:6]}" for r in rows.itertuples()]
    rows = rows.assign(name=names)
    bad = []
    with store.writer() as writer:
        done = store.map_entries(lambda entry: True)
        todo = rows.loc[~rows["name"].isin(done.keys())]
        loaded = load_images(source, list(todo["locator"]), size_px)
        with progress_bar(f"read {source.name}", len(todo)) as bar:
            for name, result in zip(todo["name"], loaded, strict=True):
                if isinstance(result, str):
                    bad.append(result)
                else:
                    writer.add(name, result[0], columns=result[1])
                bar.update()
    if bad:
        raise ImageError(
            f"source {source.name}: {len(bad)} of {len(rows)} images cannot be used (the others are kept "
            f"and will not be read again):\n  " + "\n  ".join(bad[:20])
        )
    made = store.table().set_index("image_id").loc[rows["name"]].set_index(rows.index)
    known = rows[[name for name in rows.columns if name in COLUMNS]]
    found = made.drop(columns=["path", "sha256"]).dropna(axis=1, how="all")
    return pd.concat([known.drop(columns=list(found), errors="ignore"), found], axis=1).assign(
        image_id=[f"{source.name}-{image_id}" for image_id in rows["image_id"]],
        path=[f"{store.folder.name}/images/{name}.png" for name in rows["name"]],
        sha256=made["sha256"],
    )
