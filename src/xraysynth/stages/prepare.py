"""Real images to one audited, split cohort.

Reads the selected sources, puts every image into the study's format (grey, square, size_px),
splits by patient, and looks for leakage and source confounding. Writes below paths.output/cohorts:
a folder of images per source, cohort-<key>.parquet and audit-<key>.json.
"""

import json
import multiprocessing
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pandas as pd

from xraysynth.audit import (
    audit,
    clusters,
    drop_crossing,
    fingerprint,
    near_duplicates,
    require_no_confounding,
    require_no_leakage,
)
from xraysynth.config import Config
from xraysynth.errors import ConfigError, ImageError, ManifestError, XraysynthError, some
from xraysynth.images import encode_png, study_format
from xraysynth.job import Job
from xraysynth.manifest import COLUMNS, Manifest
from xraysynth.progress import progress
from xraysynth.seeds import digest, identity
from xraysynth.sources.base import Source, map_labels
from xraysynth.splits import assign_splits, require_images, require_splits
from xraysynth.store import ImageStore, write_atomically

SECTIONS = (
    "classes",
    "size_px",
    "missing_patient_id",
    "acknowledge_confounding",
    "source",
    "splits",
)
"""The options that this stage reads."""


def run(config: Config, overrides: Sequence[str]) -> dict[str, Any]:
    """Prepare the cohort, or find it prepared."""
    sources = config.sources()
    rows = _rows(config, sources)
    this = _job(config, sources, rows)
    return this.run(
        lambda: _prepare(config, sources, rows, this.key),
        config=config.plain(),
        overrides=overrides,
    )


def cohort(config: Config, overrides: Sequence[str]) -> tuple[Manifest, dict[str, Any]]:
    """The prepared cohort and its audit; prepares what is missing."""
    result = run(config, overrides)
    manifest = Manifest.read(Path(result["manifest"]), classes=config.classes)
    return manifest, json.loads(Path(result["audit"]).read_text())


def job(config: Config) -> Job:
    """The job that prepares this configuration's cohort."""
    sources = config.sources()
    return _job(config, sources, _rows(config, sources))


def _rows(config: Config, sources: Sequence[Source]) -> dict[str, pd.DataFrame]:
    if not sources:
        raise ConfigError("source must name at least one source; for example source=simulated")
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
        "classes": config.classes,
        "size_px": config.size_px,
        "missing_patient_id": config.missing_patient_id.value,
        "acknowledged": config.acknowledge_confounding,
        "splits": asdict(config.splits),
        "sources": [identity(source) for source in sources],
        "rows": {
            name: digest(table.astype(str).to_numpy().tolist()) for name, table in rows.items()
        },
    }
    this = Job("prepare", decides, config.output)
    return replace(this, leaves=_leaves(config, this.key))


def _leaves(config: Config, key: str) -> tuple[Path, Path]:
    """The cohort's manifest and its audit."""
    folder = config.output / "cohorts"
    return folder / f"cohort-{key}.parquet", folder / f"audit-{key}.json"


def _prepare(
    config: Config, sources: Sequence[Source], rows: Mapping[str, pd.DataFrame], key: str
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
    if config.splits.drop_duplicates:
        table, pairs = drop_crossing(table, pairs)
    require_splits(table, config.classes)
    manifest = Manifest(table, folder, tuple(config.classes))
    require_no_leakage(manifest, pairs)
    report = audit(manifest, pairs) | {"simulated": [s.name for s in sources if s.simulated]}
    report["notes"] = [note for s in sources if (note := getattr(s, "note", ""))]
    report["acknowledged"] = require_no_confounding(
        report, acknowledged=config.acknowledge_confounding
    )
    manifest_path, audit_path = _leaves(config, key)
    manifest.write(manifest_path)
    write_atomically(audit_path, json.dumps(report, indent=1).encode())
    return {
        "manifest": str(manifest_path),
        "audit": str(audit_path),
        "digest": manifest.digest(),
        "images": len(manifest),
        "patients": int(table.groupby("source")["patient_id"].nunique().sum()),
        "splits": {name: manifest.split(name).counts() for name in ("train", "val", "test")},
        "near_duplicates": len(pairs),
        "simulated": report["simulated"],
        "confounding": report["acknowledged"],
    }


def _read_all(source: Source, rows: pd.DataFrame, size_px: int, folder: Path) -> pd.DataFrame:
    """Every image of a source in the study's format; returns its rows with path and sha256."""
    store = ImageStore(folder, source.name, {"source": identity(source), "size_px": size_px})
    # An image that changed on disk has another stamp, and with it another name in the store.
    names = [f"{r.image_id}-{digest(r.stamp)[:6]}" for r in rows.itertuples()]
    rows = rows.assign(name=names)
    bad = []
    with store.writer() as writer:
        entries = store.entries()
        todo = rows.loc[~rows["name"].isin(entries.keys())]
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
    entries = store.entries()
    known = rows[[name for name in rows.columns if name in COLUMNS]]
    found = pd.DataFrame([entries[name]["columns"] for name in rows["name"]], index=rows.index)
    return pd.concat([known.drop(columns=list(found), errors="ignore"), found], axis=1).assign(
        image_id=[f"{source.name}-{image_id}" for image_id in rows["image_id"]],
        path=[f"{store.folder.name}/images/{name}.png" for name in rows["name"]],
        sha256=[entries[name]["sha256"] for name in rows["name"]],
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


def _patients(table: pd.DataFrame, pairs: Sequence[tuple[int, int]], config: Config) -> pd.Series:
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
    return table["patient_id"].astype(object).where(~missing, groups)


def _splits(table: pd.DataFrame, pairs: Sequence[tuple[int, int]], splits: Any) -> pd.Series:
    """The source's own split where it has one and splits.official holds; else by patient."""
    given = (
        table["split"].fillna("")
        if "split" in table and splits.official
        else pd.Series("", table.index)
    )
    open_rows = (given == "").to_numpy()
    codes = pd.factorize(table["source"] + "/" + table["patient_id"])[0]
    first = {code: row for row, code in reversed(list(enumerate(codes)))}
    links = [*pairs, *((first[code], row) for row, code in enumerate(codes))]
    linked = pd.Series(clusters(len(table), links))
    # A group is named after its patients, so that its place does not depend on the row order.
    names = (table["source"] + "/" + table["patient_id"]).groupby(linked).transform("min")
    fractions = {"val": splits.val_fraction, "test": splits.test_fraction}
    chosen = given.astype(object).copy()
    if open_rows.any():
        chosen[open_rows] = assign_splits(
            table["label"][open_rows], names[open_rows], fractions=fractions, seed=splits.seed
        )
    return chosen
