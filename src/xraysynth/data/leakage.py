"""What must not be seen twice: patients and pictures of the test set, in training or by a generator."""

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


def require_no_leakage(manifest: Manifest, pairs: Pairs) -> None:
    """Raise `LeakageError` when (near) duplicates lie in different splits."""
    split, name = manifest.table["split"].to_numpy(), manifest.table["image_id"].to_numpy()
    first, second = pair_indices(pairs)
    crossing = split[first] != split[second]
    if crossing.any():
        one, other = first[crossing], second[crossing]
        rows = manifest.table.iloc[np.union1d(one, other)]
        listed = format_some(
            f"{name[i]} ({split[i]}) ~ {name[j]} ({split[j]})"
            for i, j in zip(one, other, strict=True)
        )
        raise LeakageError(
            f"{len(one)} pairs of near-duplicate images, of {patient_keys(rows).nunique()} patients, "
            f"lie in different splits: {listed}. They come from the source's own splits; set "
            "splits.drop_duplicates=true to leave out what the training split has of these patients, or "
            "splits.official=false to split anew with duplicates kept together"
        )


def require_no_held_out_duplicates(
    held_out: Manifest,
    pool: Manifest,
    *,
    name: str,
    held_out_fingerprints: Fingerprints | None = None,
) -> None:
    """Raise `LeakageError` when a pool holds a near-duplicate of a validation or test image.

    `known` are the fingerprints of the images held out, where they have been taken before.
    """
    both = held_out_fingerprints or fingerprint_files(held_out.files), fingerprint_files(pool.files)
    hashes, thumbnails = (
        np.concatenate([getattr(prints, part) for prints in both])
        for part in ("hashes", "thumbnails")
    )
    pairs = find_near_duplicates(Fingerprints(hashes, thumbnails))
    ids = [*held_out.table["image_id"], *pool.table["image_id"]]
    copies = [f"{ids[j]} ~ {ids[i]}" for i, j in pairs if i < len(held_out) <= j]
    if copies:
        raise LeakageError(
            f"pool {name} holds {len(copies)} near-duplicates of validation or test images: "
            f"{format_some(copies)}; take them out of it, or test on other patients"
        )


def require_no_duplicates_in_pools(
    held_out_manifests: Sequence[Manifest], pools: Mapping[str, Manifest], *, cache: Path
) -> None:
    """`require_no_held_out_duplicates` of every pool from what is validated or tested on, once "
    "for the same images."""
    for manifest in held_out_manifests:
        held_out = manifest.where(manifest.table["split"].isin(["val", "test"]))
        known = None
        for name, images in pools.items():
            key = short_digest([held_out.digest(), images.digest()])
            passed = cache / f"firewall-{key}.passed"
            if not passed.exists():
                known = known or fingerprint_files(held_out.files)
                require_no_held_out_duplicates(
                    held_out, images, name=name, held_out_fingerprints=known
                )
                passed.parent.mkdir(parents=True, exist_ok=True)
                passed.touch()


def is_person_in_cohort(table: pd.DataFrame, cohort: Manifest, pairs: Pairs) -> np.ndarray:
    """The external images `(N,)` bool of persons who are in the cohort, by patient or by picture.

    `pairs` are near duplicates in the rows of the cohort and then those of `table`. A person's other
    images are the person's too, also over other external patients.
    """
    columns = ["source", "patient_id"]
    both = pd.concat([cohort.table[columns], table[columns]], ignore_index=True)
    person = assign_persons(both, pairs)
    return np.isin(person[len(cohort) :], person[: len(cohort)])


def format_cohort_overlap(
    table: pd.DataFrame, in_cohort: np.ndarray, cohort: Manifest, pairs: np.ndarray
) -> str:
    """What of the external images is in the cohort too, and the way out."""
    n, ids, others = len(cohort), table["image_id"], cohort.table["image_id"]
    found = []
    patients = patient_keys(table)
    shared = patients[patients.isin(patient_keys(cohort.table))].unique()
    if len(shared):
        found.append(
            f"{len(shared)} patients are in both: {format_some(shared)} (if they are other people, give the "
            "external data set a name of its own: test_source.<key>.name=…)"
        )
    crossing = pairs[(pairs[:, 0] < n) & (pairs[:, 1] >= n)] - [0, n]
    if len(crossing):
        copies = format_some(f"{ids[j]} ~ {others[i]}" for i, j in crossing)
        found.append(f"{len(crossing)} pairs of images are near-duplicates: {copies}")
    return (
        f"external test sets must be apart from the cohort, but {'; '.join(found)}. Set "
        f"splits.drop_duplicates=true to leave out all {int(in_cohort.sum())} external images of these "
        f"{patients[in_cohort].nunique()} patients"
    )


def build_learning_record(manifest: Manifest) -> LearningRecord:
    """The record of a generator that has seen these images, for `require_no_contamination`.

    Raises `LeakageError` naming images that are not of the train split, or not real.
    """
    outside = manifest.table["split"].ne("train").to_numpy()
    _raise_if_any("a generator learns from the train split only, but got others", manifest, outside)
    synthetic = manifest.table["is_synthetic"].to_numpy()
    _raise_if_any("a generator learns from real images only, but got others", manifest, synthetic)
    return LearningRecord(
        patients=sorted(set(_known_patient_keys(manifest)) - {""}),
        sha256=sorted(set(manifest.table["sha256"]) - {""}),
    )


def require_no_contamination(
    real: Manifest,
    synthetic: Mapping[str, Manifest],
    learning_records: Mapping[str, LearningRecord | None] | None = None,
) -> None:
    """Nothing of the real val and test splits reaches a pool, and nothing synthetic reaches them.

    `learned` maps a pool's name to the record of its generator, None for one that has not learned.
    Raises `LeakageError` naming the offenders.
    """
    held_out = real.where(real.table["split"].isin(["val", "test"]).to_numpy())
    _raise_if_any("val and test must be real", held_out, held_out.table["is_synthetic"].to_numpy())
    for name, pool in synthetic.items():
        _raise_if_any(
            f"pool {name} holds images that are not synthetic",
            pool,
            ~pool.table["is_synthetic"].to_numpy(),
        )
        copies = _is_in(pool.table["sha256"], held_out.table["sha256"])
        _raise_if_any(f"pool {name} holds exact copies of val or test images", pool, copies)
    for name, record in (learning_records or {}).items():
        if record is None:
            continue
        rule = f"the generator of pool {name} has learned from val or test"
        _raise_if_any(
            f"{rule} patients", held_out, _is_in(_known_patient_keys(held_out), record.patients)
        )
        _raise_if_any(f"{rule} images", held_out, _is_in(held_out.table["sha256"], record.sha256))


def require_left_out_unseen(
    leave_out: str, learning_records: Mapping[str, LearningRecord | None] | None
) -> None:
    """What is left out of training reaches it through no generator either.

    A generator that has learned did so from the whole train split. Raises `LeakageError`.
    """
    taught = [name for name, record in (learning_records or {}).items() if record is not None]
    if leave_out and taught:
        raise LeakageError(
            f"data.leave_out={leave_out}, but the generator of pool {format_some(taught)} has "
            "learned from the "
            "train split with that data set in it; use a generator that does not learn, or train on "
            "real images alone"
        )


def _known_patient_keys(manifest: Manifest) -> list[str]:
    """The key of each image's patient, "" where nobody knows it."""
    known = manifest.table["patient_id"] != ""
    return list(patient_keys(manifest.table).where(known, ""))


def _is_in(values: Iterable[str], forbidden: Iterable[str]) -> np.ndarray:
    known = set(forbidden) - {""}
    return np.array([value in known for value in values], bool)


def _raise_if_any(rule: str, manifest: Manifest, violations: np.ndarray) -> None:
    if violations.any():
        rows = manifest.table.loc[violations]
        who = (f"{r.image_id} (patient {r.patient_id or 'unknown'})" for r in rows.itertuples())
        raise LeakageError(
            f"{rule}: {format_some(who)}; remove them, or make the pool from the train split"
        )
