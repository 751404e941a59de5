"""Real images to one audited, split cohort.

Reads the selected sources, puts every image into the study's format (grey, square, size_px),
splits by patient, and looks for leakage and source confounding. Writes below paths.output/cohorts:
a folder of images per source, cohort-<key>.parquet and audit-<key>.json. Sources chosen with
test_source=… become external test sets, external-<key>.parquet: only ever tested on, and refused
where they share patients or images with the cohort.
"""

import json
import multiprocessing
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from xraysynth import tracking
from xraysynth.config import Config
from xraysynth.data.audit import (
    RANK,
    Pairs,
    audit,
    clusters,
    drop_crossing,
    fingerprint,
    linked_patients,
    near_duplicates,
    patient_keys,
    persons,
    require_no_confounding,
)
from xraysynth.data.leakage import require_no_leakage
from xraysynth.data.sources.base import Source, map_labels
from xraysynth.data.splits import assign_splits, require_images, require_splits
from xraysynth.errors import (
    ConfigError,
    ImageError,
    LeakageError,
    ManifestError,
    XraysynthError,
    some,
)
from xraysynth.files import write_atomically
from xraysynth.images import encode_png, study_format
from xraysynth.jobs.job import Job
from xraysynth.jobs.store import ImageStore
from xraysynth.manifest import COLUMNS, Manifest
from xraysynth.progress import progress
from xraysynth.seeds import digest, identity

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

BY_PERSON = {"linked": "persons"}
"""In the identity of a job whose result depends on it; jobs of earlier versions linked images."""


def run(config: Config, overrides: Sequence[str]) -> dict[str, Any]:
    """Prepare the cohort and the external test sets, or find them prepared."""
    result = _run(config, overrides)
    outside = _run_external(config, overrides)
    return result | ({"external": outside} if outside else {})


def _run(config: Config, overrides: Sequence[str]) -> dict[str, Any]:
    sources = config.sources()
    rows = _rows(config, sources)
    this = _job(config, sources, rows)
    return this.run(
        lambda: _prepare(config, sources, rows, this),
        config=config.plain(),
        overrides=overrides,
    )


def cohort(config: Config, overrides: Sequence[str]) -> tuple[Manifest, dict[str, Any]]:
    """The prepared cohort and its audit; prepares what is missing."""
    result = _run(config, overrides)
    manifest = Manifest.read(Path(result["manifest"]), classes=config.classes)
    return manifest, json.loads(Path(result["audit"]).read_text())


def external(config: Config, overrides: Sequence[str]) -> Manifest | None:
    """The external test sets, all in split test; None where none is chosen.

    Raises `LeakageError` naming patients and images that are in the cohort too;
    splits.drop_duplicates leaves these out.
    """
    result = _run_external(config, overrides)
    if not result:
        return None
    return Manifest.read(Path(result["manifest"]), classes=config.classes)


def external_job(config: Config, cohort: Manifest) -> Job:
    """The job that prepares the external test sets beside this cohort."""
    sources = config.test_sources()
    return _external_job(config, sources, _rows(config, sources), cohort)


def job(config: Config) -> Job:
    """The job that prepares this configuration's cohort."""
    sources = config.sources()
    return _job(config, sources, _rows(config, sources))


def audit_of(config: Config) -> dict[str, Any]:
    """The audit of this configuration's cohort; empty where it has not been prepared."""
    audit_path = Path(job(config).leaves[1])
    report: dict[str, Any] = json.loads(audit_path.read_text()) if audit_path.exists() else {}
    return report


def may_link_patients(report: Mapping[str, Any]) -> bool:
    """Whether patients of the audited cohort share near-duplicates, as far as the audit says."""
    return bool(report.get("linked_patients", report.get("near_duplicates", 0)))


def same_persons(cohort: Manifest, report: Mapping[str, Any]) -> list[list[str]]:
    """Keys of the patients who are one person, a list for each, of a cohort and its audit.

    An audit of an earlier version does not say; where it has near-duplicates they are looked for.
    """
    if "linked_patients" in report or not may_link_patients(report):
        return list(report.get("linked_patients", []))
    return linked_patients(cohort.table, near_duplicates(fingerprint(cohort.files)))


def _rows(config: Config, sources: Sequence[Source]) -> dict[str, pd.DataFrame]:
    if not sources:
        raise ConfigError("source must name at least one source; for example source=simulated")
    names = [source.name for source in sources]
    if len(set(names)) < len(names):
        raise ConfigError(
            f"sources need names of their own; got {', '.join(names)} (set source.<key>.name)"
        )
    return {source.name: _wanted(source, config.classes) for source in sources}


def _wanted(source: Source, classes: Sequence[str]) -> pd.DataFrame:
    rows = map_labels(source.rows(), source.labels, classes, name=source.name)
    twice = rows["image_id"].duplicated(keep=False)
    if twice.any():
        raise ManifestError(
            f"source {source.name}: image ids must be unique, but {int(twice.sum())} rows share theirs: "
            f"{some(rows.loc[twice, 'image_id'].unique())}"
        )
    return rows


def _job(config: Config, sources: Sequence[Source], rows: Mapping[str, pd.DataFrame]) -> Job:
    decides = {
        **_decides(config, sources, rows),
        "acknowledged": config.acknowledge_confounding,
        "splits": asdict(config.splits),
    }
    if _links_patients(config, rows):
        decides |= BY_PERSON
    this = Job("prepare", decides, config.output)
    return replace(this, leaves=_leaves(config, this.key))


def _decides(
    config: Config, sources: Sequence[Source], rows: Mapping[str, pd.DataFrame]
) -> dict[str, Any]:
    return {
        "classes": config.classes,
        "size_px": config.size_px,
        "missing_patient_id": config.missing_patient_id.value,
        "sources": [identity(source) for source in sources],
        "rows": {
            name: digest(table.astype(str).to_numpy().tolist()) for name, table in rows.items()
        },
    }


def _links_patients(config: Config, rows: Mapping[str, pd.DataFrame]) -> bool:
    """Whether it can change the cohort that near-duplicates link patients, and not only images."""
    splits, official = config.splits, _known(rows.values(), "split")
    follows = official.any() and not official.all()
    drops = official.any() and splits.drop_duplicates
    return bool(splits.official and (follows or drops)) or _lends_patients(config, rows)


def _lends_patients(config: Config, rows: Mapping[str, pd.DataFrame]) -> bool:
    """Whether an image without a patient can be the near-duplicate of one with a patient."""
    known = [_known([table], "patient_id") for table in rows.values()]
    partly = any(patients.any() and not patients.all() for patients in known)
    return partly and config.missing_patient_id.value == "cluster"


def _known(tables: Iterable[pd.DataFrame], column: str) -> pd.Series:
    """Which of all rows have a value in this column."""
    values = [table.get(column, pd.Series("", table.index)) for table in tables]
    return pd.concat(values, ignore_index=True).fillna("").astype(str) != ""


def _leaves(config: Config, key: str) -> tuple[Path, Path]:
    """The cohort's manifest and its audit."""
    folder = config.output / "cohorts"
    return folder / f"cohort-{key}.parquet", folder / f"audit-{key}.json"


def _prepare(
    config: Config, sources: Sequence[Source], rows: Mapping[str, pd.DataFrame], this: Job
) -> dict[str, Any]:
    labels = pd.concat([table["label"] for table in rows.values()])
    require_images(labels, config.classes, minimum=config.splits.minimum_per_class)
    folder = config.output / "cohorts"
    tables = [_read_all(s, rows[s.name], config.size_px, folder) for s in sources]
    table = pd.concat(tables, ignore_index=True)
    prints = fingerprint(folder / path for path in table["path"])
    pairs = near_duplicates(prints)
    table["patient_id"] = _patients(table, pairs, config)
    table["split"] = _splits(table, pairs, config.splits)
    everyone = table
    if config.splits.drop_duplicates:
        table, pairs = drop_crossing(table, pairs)
    dropped = everyone[~everyone["image_id"].isin(table["image_id"])]
    require_splits(table, config.classes)
    manifest = Manifest(table, folder, tuple(config.classes))
    require_no_leakage(manifest, pairs)
    report = audit(manifest, pairs) | {"simulated": [s.name for s in sources if s.simulated]}
    report["linked_patients"] = linked_patients(table, pairs)
    report["notes"] = [note for s in sources if (note := getattr(s, "note", ""))]
    report["notes"] += _person_notes(report["linked_patients"], dropped)
    report["acknowledged"] = require_no_confounding(
        report, acknowledged=config.acknowledge_confounding
    )
    manifest_path, audit_path = _leaves(config, this.key)
    manifest.write(manifest_path)
    write_atomically(audit_path, json.dumps(report, indent=1).encode())
    summary = {
        "manifest": str(manifest_path),
        "audit": str(audit_path),
        "digest": manifest.digest(),
        "images": len(manifest),
        "patients": int(table.groupby("source")["patient_id"].nunique().sum()),
        "splits": {name: manifest.split(name).counts() for name in ("train", "val", "test")},
        "near_duplicates": len(pairs),
        "dropped": len(dropped),
        "dropped_patients": patient_keys(dropped).nunique(),
        "simulated": report["simulated"],
        "confounding": report["acknowledged"],
    }
    with tracking.tracked(config, this) as run:
        tracking.log_cohort(run, manifest, summary)
    return summary


def _person_notes(linked: Sequence[Sequence[str]], dropped: pd.DataFrame) -> list[str]:
    """What a reader of the audit must know of persons: who is taken for one, and who is left out."""
    notes = []
    if linked:
        notes.append(
            f"{sum(map(len, linked))} patients share near-duplicate images with others, and are taken "
            f"for {len(linked)} persons: {some(' = '.join(keys) for keys in linked)}"
        )
    if len(dropped):
        notes.append(
            f"{len(dropped)} images of {patient_keys(dropped).nunique()} patients are left out, because "
            "these persons have images in a split that comes before theirs (splits.drop_duplicates)"
        )
    return notes


def _external_job(
    config: Config,
    sources: Sequence[Source],
    rows: Mapping[str, pd.DataFrame],
    cohort: Manifest,
) -> Job:
    decides = {
        **_decides(config, sources, rows),
        "beside": cohort.digest(),
        "drop_duplicates": config.splits.drop_duplicates,
    }
    if config.splits.drop_duplicates or _lends_patients(config, rows):
        decides |= BY_PERSON
    this = Job("prepare", decides, config.output)
    return replace(this, leaves=(config.output / "cohorts" / f"external-{this.key}.parquet",))


def _run_external(config: Config, overrides: Sequence[str]) -> dict[str, Any]:
    if not config.test_source:
        return {}
    beside, _ = cohort(config, overrides)
    sources = config.test_sources()
    rows = _rows(config, sources)
    this = _external_job(config, sources, rows, beside)
    return this.run(
        lambda: _prepare_external(config, sources, rows, beside, this),
        config=config.plain(),
        overrides=overrides,
    )


def _prepare_external(
    config: Config,
    sources: Sequence[Source],
    rows: Mapping[str, pd.DataFrame],
    beside: Manifest,
    this: Job,
) -> dict[str, Any]:
    folder = config.output / "cohorts"
    tables = [_read_all(s, rows[s.name], config.size_px, folder) for s in sources]
    table = pd.concat(tables, ignore_index=True)
    prints = fingerprint([*beside.files, *(folder / path for path in table["path"])])
    pairs = near_duplicates(prints)
    n = len(beside)
    own = pairs[pairs[:, 0] >= n] - n
    # Files of one name may lie in several collections, whose images must stay apart.
    table["image_id"] = "external-" + table["image_id"]
    table["patient_id"] = _patients(table, own, config)
    table["split"] = "test"
    linked = _linked_to(table, beside, pairs)
    if linked.any() and not config.splits.drop_duplicates:
        raise LeakageError(_shared_with(table, linked, beside, pairs))
    dropped, table = table[linked], table[~linked].reset_index(drop=True)
    if table.empty:
        raise LeakageError(
            "every external test image is left out: each is of a person who is in the cohort, by the "
            "patient or by near-duplicates; choose another test_source"
        )
    manifest = Manifest(table, folder, tuple(config.classes))
    (path,) = this.leaves
    manifest.write(Path(path))
    return {
        "manifest": str(path),
        "digest": manifest.digest(),
        "images": len(manifest),
        "patients": int(table.groupby("source")["patient_id"].nunique().sum()),
        "counts": {
            str(name): part["label"].value_counts().to_dict()
            for name, part in table.groupby("source")
        },
        "dropped": len(dropped),
        "dropped_patients": patient_keys(dropped).nunique(),
        "simulated": [s.name for s in sources if s.simulated],
    }


def _linked_to(table: pd.DataFrame, beside: Manifest, pairs: Pairs) -> np.ndarray:
    """The external images `(N,)` bool of persons who are in the cohort, by patient or by picture.

    `pairs` are near duplicates in the rows of the cohort and then those of `table`. A person's other
    images are the person's too, also over other external patients.
    """
    columns = ["source", "patient_id"]
    both = pd.concat([beside.table[columns], table[columns]], ignore_index=True)
    person = persons(both, pairs)
    return np.isin(person[len(beside) :], person[: len(beside)])


def _shared_with(
    table: pd.DataFrame, linked: np.ndarray, beside: Manifest, pairs: np.ndarray
) -> str:
    n, ids, others = len(beside), table["image_id"], beside.table["image_id"]
    found = []
    patients = patient_keys(table)
    shared = patients[patients.isin(patient_keys(beside.table))].unique()
    if len(shared):
        found.append(
            f"{len(shared)} patients are in both: {some(shared)} (if they are other people, give the "
            "external data set a name of its own: test_source.<key>.name=…)"
        )
    crossing = pairs[(pairs[:, 0] < n) & (pairs[:, 1] >= n)] - [0, n]
    if len(crossing):
        copies = some(f"{ids[j]} ~ {others[i]}" for i, j in crossing)
        found.append(f"{len(crossing)} pairs of images are near-duplicates: {copies}")
    return (
        f"external test sets must be apart from the cohort, but {'; '.join(found)}. Set "
        f"splits.drop_duplicates=true to leave out all {int(linked.sum())} external images of these "
        f"{patients[linked].nunique()} patients"
    )


def _read_all(source: Source, rows: pd.DataFrame, size_px: int, folder: Path) -> pd.DataFrame:
    """Every image of a source in the study's format; returns its rows with path and sha256."""
    store = ImageStore(folder, source.name, {"source": identity(source), "size_px": size_px})
    # An image that changed on disk has another stamp, and with it another name in the store.
    names = [f"{r.image_id}-{digest(r.stamp)[:6]}" for r in rows.itertuples()]
    rows = rows.assign(name=names)
    bad = []
    with store.writer() as writer:
        done = store.committed(lambda entry: True)
        todo = rows.loc[~rows["name"].isin(done.keys())]
        with progress(f"read {source.name}", len(todo)) as bar:
            for name, result in zip(todo["name"], _load(source, todo, size_px), strict=True):
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


def _load(
    source: Source, rows: pd.DataFrame, size_px: int
) -> Iterator[str | tuple[bytes, dict[str, Any]]]:
    """PNG bytes and columns per row, in order, or the message of what is wrong with it."""
    work = [(source, locator, size_px) for locator in rows["locator"]]
    workers = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    if len(work) < 64 or workers == 1:
        yield from map(_load_one, work)
        return
    # Forking a process that has used torch can hang; spawned workers cost seconds, once.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_one_thread) as executor:
        yield from executor.map(_load_one, work, chunksize=8)


def _one_thread() -> None:
    os.environ["OMP_NUM_THREADS"] = "1"


def _load_one(work: tuple[Source, str, int]) -> str | tuple[bytes, dict[str, Any]]:
    source, locator, size_px = work
    try:
        loaded = source.load(locator, size_px)
    except XraysynthError as error:
        return str(error)
    return encode_png(study_format(loaded.pixels, size_px)), dict(loaded.columns)


def _patients(table: pd.DataFrame, pairs: Pairs, config: Config) -> pd.Series:
    missing = table["patient_id"].fillna("").astype(str) == ""
    if missing.any() and config.missing_patient_id.value == "error":
        raise ManifestError(
            f"{int(missing.sum())} of {len(table)} images have no patient id, so the same patient could be "
            f"in train and test: {some(table.loc[missing, 'image_id'])}. Give the column or pattern that "
            "holds it, or go on with missing_patient_id=cluster, which takes near-duplicate images for "
            "one patient and every other image for a patient of its own"
        )
    number = pd.Series(clusters(len(table), pairs), index=table.index)
    groups = "cluster-" + table["image_id"].groupby(number).transform("min")
    own = _patient_of_likeness(table.assign(number=number), ~missing)
    return table["patient_id"].astype(object).where(~missing, own.where(own.notna(), groups))


def _patient_of_likeness(table: pd.DataFrame, known: pd.Series) -> pd.Series:
    """The patient of the same source among the images of one `number`, the first of several.

    An id means something only within its source; likeness to another source's image is a link
    between two patients, which keeps them together but gives no id.
    """
    keys = ["source", "number"]
    patients = table.loc[known, [*keys, "patient_id"]].sort_values("patient_id")
    found = table[keys].merge(patients.drop_duplicates(keys), how="left", on=keys)
    return found["patient_id"].set_axis(table.index).astype(object)


def _splits(table: pd.DataFrame, pairs: np.ndarray, splits: Any) -> pd.Series:
    """The source's own split where it has one and splits.official holds; else by person.

    A person some of whose images have a split of the source gives it to the others too, the last
    of train, val and test where there are several.
    """
    given = (
        table["split"].fillna("")
        if "split" in table and splits.official
        else pd.Series("", table.index)
    )
    person = persons(table, pairs)
    ranks = given.map(RANK).astype(float)
    names_of_ranks = {rank: name for name, rank in RANK.items()}
    followed = ranks.groupby(person).transform("max").map(names_of_ranks)
    chosen = given.astype(object).where(given != "", followed)
    open_rows = chosen.isna().to_numpy()
    # A group is named after its patients, so that its place does not depend on the row order.
    names = patient_keys(table).groupby(person).transform("min")
    fractions = {"val": splits.val_fraction, "test": splits.test_fraction}
    if open_rows.any():
        chosen[open_rows] = assign_splits(
            table["label"][open_rows], names[open_rows], fractions=fractions, seed=splits.seed
        )
    return chosen
