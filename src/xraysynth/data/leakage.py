"""What must not be seen twice: patients and pictures of the test set, in training or by a generator."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from xraysynth.data.duplicates import Fingerprints, Pairs, fingerprint, near_duplicates, sides
from xraysynth.data.persons import persons
from xraysynth.errors import LeakageError, some
from xraysynth.manifest import Manifest, patient_keys
from xraysynth.records import LearningRecord
from xraysynth.seeds import key12


def require_no_leakage(manifest: Manifest, pairs: Pairs) -> None:
    """Raise `LeakageError` when (near) duplicates lie in different splits."""
    split, name = manifest.table["split"].to_numpy(), manifest.table["image_id"].to_numpy()
    first, second = sides(pairs)
    crossing = split[first] != split[second]
    if crossing.any():
        one, other = first[crossing], second[crossing]
        rows = manifest.table.iloc[np.union1d(one, other)]
        listed = some(
            f"{name[i]} ({split[i]}) ~ {name[j]} ({split[j]})"
            for i, j in zip(one, other, strict=True)
        )
        raise LeakageError(
            f"{len(one)} pairs of near-duplicate images, of {patient_keys(rows).nunique()} patients, "
            f"lie in different splits: {listed}. They come from the source's own splits; set "
            "splits.drop_duplicates=true to leave out what the training split has of these patients, or "
            "splits.official=false to split anew with duplicates kept together"
        )


def require_no_copies(
    held_out: Manifest, pool: Manifest, *, name: str, known: Fingerprints | None = None
) -> None:
    """Raise `LeakageError` when a pool holds a near-duplicate of a validation or test image.

    `known` are the fingerprints of the images held out, where they have been taken before.
    """
    both = known or fingerprint(held_out.files), fingerprint(pool.files)
    hashes, thumbnails = (
        np.concatenate([getattr(prints, part) for prints in both])
        for part in ("hashes", "thumbnails")
    )
    pairs = near_duplicates(Fingerprints(hashes, thumbnails))
    ids = [*held_out.table["image_id"], *pool.table["image_id"]]
    copies = [f"{ids[j]} ~ {ids[i]}" for i, j in pairs if i < len(held_out) <= j]
    if copies:
        raise LeakageError(
            f"pool {name} holds {len(copies)} near-duplicates of validation or test images: "
            f"{some(copies)}; take them out of it, or test on other patients"
        )


def require_no_copies_of_held_out(
    tested_on: Sequence[Manifest], pools: Mapping[str, Manifest], *, cache: Path
) -> None:
    """`require_no_copies` of every pool from what is validated or tested on, once for the same images."""
    for manifest in tested_on:
        held_out = manifest.where(manifest.table["split"].isin(["val", "test"]))
        known = None
        for name, images in pools.items():
            key = key12([held_out.digest(), images.digest()])
            passed = cache / f"firewall-{key}.passed"
            if not passed.exists():
                known = known or fingerprint(held_out.files)
                require_no_copies(held_out, images, name=name, known=known)
                passed.parent.mkdir(parents=True, exist_ok=True)
                passed.touch()


def linked_to(table: pd.DataFrame, beside: Manifest, pairs: Pairs) -> np.ndarray:
    """The external images `(N,)` bool of persons who are in the cohort, by patient or by picture.

    `pairs` are near duplicates in the rows of the cohort and then those of `table`. A person's other
    images are the person's too, also over other external patients.
    """
    columns = ["source", "patient_id"]
    both = pd.concat([beside.table[columns], table[columns]], ignore_index=True)
    person = persons(both, pairs)
    return np.isin(person[len(beside) :], person[: len(beside)])


def shared_with(
    table: pd.DataFrame, linked: np.ndarray, beside: Manifest, pairs: np.ndarray
) -> str:
    """What of the external images is in the cohort too, and the way out."""
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


def learned_from(manifest: Manifest) -> LearningRecord:
    """The record of a generator that has seen these images, for `check_firewall`.

    Raises `LeakageError` naming images that are not of the train split, or not real.
    """
    outside = manifest.table["split"].ne("train").to_numpy()
    _refuse("a generator learns from the train split only, but got others", manifest, outside)
    synthetic = manifest.table["is_synthetic"].to_numpy()
    _refuse("a generator learns from real images only, but got others", manifest, synthetic)
    return LearningRecord(
        patients=sorted(set(_patients(manifest)) - {""}),
        sha256=sorted(set(manifest.table["sha256"]) - {""}),
    )


def check_firewall(
    real: Manifest,
    synthetic: Mapping[str, Manifest],
    learned: Mapping[str, LearningRecord | None] | None = None,
) -> None:
    """Nothing of the real val and test splits reaches a pool, and nothing synthetic reaches them.

    `learned` maps a pool's name to the record of its generator, None for one that has not learned.
    Raises `LeakageError` naming the offenders.
    """
    held_out = real.where(real.table["split"].isin(["val", "test"]).to_numpy())
    _refuse("val and test must be real", held_out, held_out.table["is_synthetic"].to_numpy())
    for name, pool in synthetic.items():
        _refuse(
            f"pool {name} holds images that are not synthetic",
            pool,
            ~pool.table["is_synthetic"].to_numpy(),
        )
        copies = _is_in(pool.table["sha256"], held_out.table["sha256"])
        _refuse(f"pool {name} holds exact copies of val or test images", pool, copies)
    for name, record in (learned or {}).items():
        if record is None:
            continue
        rule = f"the generator of pool {name} has learned from val or test"
        _refuse(f"{rule} patients", held_out, _is_in(_patients(held_out), record.patients))
        _refuse(f"{rule} images", held_out, _is_in(held_out.table["sha256"], record.sha256))


def check_left_out(leave_out: str, learned: Mapping[str, LearningRecord | None] | None) -> None:
    """What is left out of training reaches it through no generator either.

    A generator that has learned did so from the whole train split. Raises `LeakageError`.
    """
    taught = [name for name, record in (learned or {}).items() if record is not None]
    if leave_out and taught:
        raise LeakageError(
            f"data.leave_out={leave_out}, but the generator of pool {some(taught)} has learned from the "
            "train split with that data set in it; use a generator that does not learn, or train on "
            "real images alone"
        )


def _patients(manifest: Manifest) -> list[str]:
    """The key of each image's patient, "" where nobody knows it."""
    known = manifest.table["patient_id"] != ""
    return list(patient_keys(manifest.table).where(known, ""))


def _is_in(values: Iterable[str], forbidden: Iterable[str]) -> np.ndarray:
    known = set(forbidden) - {""}
    return np.array([value in known for value in values], bool)


def _refuse(rule: str, manifest: Manifest, offends: np.ndarray) -> None:
    if offends.any():
        rows = manifest.table.loc[offends]
        who = (f"{r.image_id} (patient {r.patient_id or 'unknown'})" for r in rows.itertuples())
        raise LeakageError(
            f"{rule}: {some(who)}; remove them, or make the pool from the train split"
        )
