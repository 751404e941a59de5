"""Who is one person: patients who share near-duplicate images are."""

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

from xraysynth.data.duplicates import Pairs, cluster_pairs
from xraysynth.manifest import patient_keys as patient_keys


def assign_persons(table: pd.DataFrame, pairs: Pairs) -> np.ndarray:
    """The number of the person behind each image, `(N,)`; `pairs` are near duplicates.

    All images of a patient (`source` and `patient_id`) are of one person, and patients who share a
    near-duplicate are one person too, over any chain of patients: what holds of one image of a
    person, such as that a classifier is tested on it, concerns every other.
    """
    codes = pd.factorize(patient_keys(table))[0]
    first = np.unique(codes, return_index=True)[1]
    same_patient = np.stack([first[codes], np.arange(len(codes))], axis=1)
    links = np.asarray(pairs, dtype=np.int64).reshape(-1, 2)
    return cluster_pairs(len(table), np.concatenate([links, same_patient]))


def find_linked_patients(table: pd.DataFrame, pairs: Pairs) -> list[list[str]]:
    """Keys of the patients who share near-duplicates, a list for each person of several patients."""
    patients = pd.DataFrame(
        {"key": patient_keys(table).array, "person": assign_persons(table, pairs)}
    )
    by_person = patients.drop_duplicates().groupby("person", sort=False)["key"]
    return sorted(sorted(keys) for _, keys in by_person if len(keys) > 1)


def person_keys(table: pd.DataFrame, linked_patients: Iterable[Sequence[str]]) -> pd.Series:
    """`patient_keys`, in which patients who are one person (`linked_patients`) share the first key."""
    names = {key: keys[0] for keys in linked_patients for key in keys}
    return patient_keys(table).map(lambda key: names.get(key, key))
