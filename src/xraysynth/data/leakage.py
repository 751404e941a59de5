"""Leakage and contamination checks: no patient or image of a test set may reach training.

The checks compare splits of one cohort, external test sets with the cohort, pools with held-out images,
and what generators were fine-tuned on with held-out patients.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from xraysynth.data.duplicates import (
    Fingerprints,
    Pairs,
    find_near_duplicates,
    fingerprint_files,
    pair_indices,
)
from xraysynth.data.persons import assign_persons
from xraysynth.errors import LeakageError, format_some
from xraysynth.manifest import Manifest, patient_keys
from xraysynth.records import LearningRecord
from xraysynth.seeds import short_digest

HELD_OUT_SPLITS = ("val", "test")


def require_no_leakage(manifest: Manifest, pairs: Pairs) -> None:
    """Require that near-duplicates lie in one split.

    Args:
        manifest: The cohort.
        pairs: Near-duplicates as row numbers (i, j) of the manifest.

    Raises:
        LeakageError: Images of a pair lie in different splits; the message names them.
    """
    splits = manifest.table["split"].to_numpy()
    first, second = pair_indices(pairs)
    is_crossing = splits[first] != splits[second]
    if not is_crossing.any():
        return
    first, second = first[is_crossing], second[is_crossing]
    rows = manifest.table.iloc[np.union1d(first, second)]
    described = manifest.table["image_id"] + " (" + manifest.table["split"] + ")"
    pairs_described = _format_pairs(described.iloc[first], described.iloc[second])
    raise LeakageError(
        f"{len(first)} pairs of near-duplicate images, of {patient_keys(rows).nunique()} patients, "
        f"lie in different splits: {pairs_described}. The splits come from the source; set "
        "splits.drop_duplicates=true to drop the training images of these patients, or "
        "splits.official=false to split again with duplicates kept together"
    )


def require_no_held_out_duplicates(
    held_out: Manifest,
    pool: Manifest,
    *,
    name: str,
    held_out_fingerprints: Fingerprints | None = None,
) -> None:
    """Require that a pool holds no near-duplicate of a held-out image.

    Args:
        held_out: Images of the validation and test splits.
        pool: Synthetic images.
        name: Name of the pool, for the message.
        held_out_fingerprints: Fingerprints of `held_out`; None computes them.

    Raises:
        LeakageError: The pool holds near-duplicates; the message names them.
    """
    if held_out_fingerprints is None:
        held_out_fingerprints = fingerprint_files(held_out.listed_files)
    pool_fingerprints = fingerprint_files(pool.listed_files)
    fingerprints = Fingerprints(
        np.concatenate([held_out_fingerprints.hashes, pool_fingerprints.hashes]),
        np.concatenate([held_out_fingerprints.thumbnails, pool_fingerprints.thumbnails]),
    )
    first, second = pair_indices(find_near_duplicates(fingerprints))
    is_crossing = (first < len(held_out)) & (second >= len(held_out))
    if not is_crossing.any():
        return
    ids = pd.concat([held_out.table["image_id"], pool.table["image_id"]])
    copies = _format_pairs(ids.iloc[second[is_crossing]], ids.iloc[first[is_crossing]])
    raise LeakageError(
        f"pool {name} holds {is_crossing.sum()} near-duplicates of validation or test images: "
        f"{copies}; remove them from the pool, or test on other patients"
    )


def require_no_duplicates_in_pools(
    held_out_manifests: Sequence[Manifest], pools: Mapping[str, Manifest], *, cache: Path
) -> None:
    """Require that no pool holds a near-duplicate of a held-out image (`require_no_held_out_duplicates`).

    A check that has passed is remembered by the digests of both manifests and not repeated.

    Args:
        held_out_manifests: Manifests whose validation and test splits are held out.
        pools: Name of the pool -> its manifest.
        cache: Folder for one empty file per check that has passed.

    Raises:
        LeakageError: A pool holds near-duplicates; the message names them.
    """
    for manifest in held_out_manifests:
        held_out = manifest.where(manifest.table["split"].isin(HELD_OUT_SPLITS))
        fingerprints = None
        for name, pool in pools.items():
            key = short_digest([held_out.digest(), pool.digest()])
            passed = cache / f"firewall-{key}.passed"
            if passed.exists():
                continue
            fingerprints = fingerprints or fingerprint_files(held_out.listed_files)
            require_no_held_out_duplicates(
                held_out, pool, name=name, held_out_fingerprints=fingerprints
            )
            passed.parent.mkdir(parents=True, exist_ok=True)
            passed.touch()


def is_person_in_cohort(table: pd.DataFrame, cohort: Manifest, pairs: Pairs) -> np.ndarray:
    """Find the external images of persons who are in the cohort, by patient or by near-duplicates.

    All images of such a person are found, also over a chain of external patients.

    Args:
        table: The external test sets, one row per image, `(N,)` rows.
        cohort: The cohort.
        pairs: Near-duplicates as row numbers in the cohort followed by `table`.

    Returns:
        Whether the person of each external image is in the cohort, `(N,)` bool.
    """
    columns = ["source", "patient_id"]
    all_images = pd.concat([cohort.table[columns], table[columns]], ignore_index=True)
    person = assign_persons(all_images, pairs)
    return np.isin(person[len(cohort) :], person[: len(cohort)])


def format_cohort_overlap(
    table: pd.DataFrame, in_cohort: np.ndarray, cohort: Manifest, pairs: np.ndarray
) -> str:
    """Write the error message on external images whose persons are in the cohort.

    Args:
        table: The external test sets, one row per image.
        in_cohort: Which of these rows are of persons in the cohort (`is_person_in_cohort`).
        cohort: The cohort.
        pairs: Near-duplicates as row numbers in the cohort followed by `table`.
    """
    problems = []
    patients = patient_keys(table)
    shared_patients = patients[patients.isin(patient_keys(cohort.table))].unique()
    if len(shared_patients):
        problems.append(
            f"{len(shared_patients)} patients are in both: {format_some(shared_patients)} (if they are "
            "different people, give the external data set another name: test_source.<key>.name)"
        )
    first, second = pair_indices(pairs)
    is_crossing = (first < len(cohort)) & (second >= len(cohort))
    if is_crossing.any():
        external_ids = table["image_id"].iloc[second[is_crossing] - len(cohort)]
        cohort_ids = cohort.table["image_id"].iloc[first[is_crossing]]
        problems.append(
            f"{is_crossing.sum()} pairs of images are near-duplicates: "
            f"{_format_pairs(external_ids, cohort_ids)}"
        )
    return (
        "external test sets must share no patients and images with the cohort, but "
        f"{'; '.join(problems)}. Set splits.drop_duplicates=true to drop all {int(in_cohort.sum())} "
        f"external images of these {patients[in_cohort].nunique()} patients"
    )


def build_learning_record(manifest: Manifest) -> LearningRecord:
    """Build the record of a generator that is fine-tuned on these images (`require_no_contamination`).

    Raises:
        LeakageError: Images are not of the train split, or not real; the message names them.
    """
    is_outside = manifest.table["split"].ne("train").to_numpy()
    _require_none(
        is_outside, manifest, "a generator is fine-tuned on the train split only, but got others"
    )
    is_synthetic = manifest.table["is_synthetic"].to_numpy()
    _require_none(
        is_synthetic, manifest, "a generator is fine-tuned on real images only, but got others"
    )
    return LearningRecord(
        patients=sorted(set(known_patient_keys(manifest)) - {""}),
        sha256=sorted(set(manifest.table["sha256"]) - {""}),
    )


def require_no_contamination(
    real: Manifest,
    synthetic: Mapping[str, Manifest],
    learning_records: Mapping[str, LearningRecord | None] | None = None,
) -> None:
    """Require that held-out images and pools are separate (the contamination check).

    Args:
        real: The cohort; its val and test splits are held out.
        synthetic: Name of the pool -> its manifest.
        learning_records: Name of the pool -> the record of what its generator was fine-tuned on;
            None for a generator that was not fine-tuned.

    Raises:
        LeakageError: A held-out image is synthetic, a pool holds real images or exact copies of
            held-out ones, or its generator was fine-tuned on held-out patients or images.
    """
    held_out = real.where(real.table["split"].isin(HELD_OUT_SPLITS).to_numpy())
    is_synthetic = held_out.table["is_synthetic"].to_numpy()
    _require_none(is_synthetic, held_out, "val and test must be real")
    for name, pool in synthetic.items():
        is_real = ~pool.table["is_synthetic"].to_numpy()
        _require_none(is_real, pool, f"pool {name} holds images that are not synthetic")
        is_copy = _is_in(pool.table["sha256"], held_out.table["sha256"])
        _require_none(is_copy, pool, f"pool {name} holds exact copies of val or test images")
    for name, record in (learning_records or {}).items():
        if record is None:
            continue
        rule = f"the generator of pool {name} was fine-tuned on val or test"
        has_learned_patient = _is_in(known_patient_keys(held_out), record.patients)
        _require_none(has_learned_patient, held_out, f"{rule} patients")
        is_learned_image = _is_in(held_out.table["sha256"], record.sha256)
        _require_none(is_learned_image, held_out, f"{rule} images")


def require_left_out_unseen(
    leave_out: str, learning_records: Mapping[str, LearningRecord | None] | None
) -> None:
    """Require that no generator was fine-tuned on the left-out source.

    Fine-tuning uses the whole train split, so no fine-tuned generator is allowed.

    Args:
        leave_out: Name of the left-out source; "" for none.
        learning_records: Name of the pool -> the record of what its generator was fine-tuned on;
            None for a generator that was not fine-tuned.

    Raises:
        LeakageError: A source is left out and a generator was fine-tuned.
    """
    finetuned = []
    for name, record in (learning_records or {}).items():
        if record is not None:
            finetuned.append(name)
    if leave_out and finetuned:
        raise LeakageError(
            f"data.leave_out={leave_out}, but the generator of pool {format_some(finetuned)} was "
            "fine-tuned on the train split with that data set in it; use a generator that is not "
            "fine-tuned, or train on real images alone"
        )


def _format_pairs(first: pd.Series, second: pd.Series) -> str:
    return format_some(map("{} ~ {}".format, first, second))


def known_patient_keys(manifest: Manifest) -> pd.Series:
    """The key of each image's patient, "" where the patient is unknown."""
    has_patient = manifest.table["patient_id"] != ""
    return patient_keys(manifest.table).where(has_patient, "")


def _is_in(values: pd.Series, forbidden: Iterable[str]) -> np.ndarray:
    """Whether each value is one of the forbidden ones; "" never is."""
    return np.asarray(values.isin(set(forbidden) - {""}))


def _require_none(is_violation: np.ndarray, manifest: Manifest, rule: str) -> None:
    if not is_violation.any():
        return
    rows = manifest.table.loc[is_violation]
    patients = rows["patient_id"].where(rows["patient_id"] != "", "unknown")
    described = rows["image_id"] + " (patient " + patients + ")"
    raise LeakageError(
        f"{rule}: {format_some(described)}; remove them, or generate the pool from the train split"
    )
