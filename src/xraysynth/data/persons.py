"""Persons: patients who share near-duplicate images count as one person."""

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

from xraysynth.data.duplicates import Pairs, cluster_pairs
from xraysynth.manifest import patient_keys


def assign_persons(table: pd.DataFrame, pairs: Pairs) -> np.ndarray:
    """Number the person behind each image.

    All images of a patient belong to one person, and patients who share a near-duplicate are one
    person too, over any chain of patients. What holds for one image of a person, such as that a
    classifier is tested on it, concerns every other image of that person.

    Args:
        table: One row per image with the columns `source` and `patient_id`.
        pairs: Near-duplicates as row numbers (i, j) of the table.

    Returns:
        The person's number per image, `(N,)` integers from 0.
    """
    patient_codes = pd.factorize(patient_keys(table))[0]
    first_rows = np.unique(patient_codes, return_index=True)[1]
    same_patient = np.stack([first_rows[patient_codes], np.arange(len(patient_codes))], axis=1)
    duplicates = np.asarray(pairs, dtype=np.int64).reshape(-1, 2)
    return cluster_pairs(len(table), np.concatenate([duplicates, same_patient]))


def find_linked_patients(table: pd.DataFrame, pairs: Pairs) -> list[list[str]]:
    """List the patients who share near-duplicates: one sorted group of keys per person of several.

    Args:
        table: One row per image with the columns `source` and `patient_id`.
        pairs: Near-duplicates as row numbers (i, j) of the table.
    """
    patients = pd.DataFrame(
        {"key": patient_keys(table).array, "person": assign_persons(table, pairs)}
    )
    by_person = patients.drop_duplicates().groupby("person", sort=False)["key"]
    return sorted(sorted(keys) for _, keys in by_person if len(keys) > 1)


def person_keys(table: pd.DataFrame, linked_patients: Iterable[Sequence[str]]) -> pd.Series:
    """Return `patient_keys` in which the patients of one person share the key of the first.

    Args:
        table: One row per image with the columns `source` and `patient_id`.
        linked_patients: Per person of several patients their keys (`find_linked_patients`).
    """
    first_keys: dict[str, str] = {}
    for keys in linked_patients:
        first_keys |= dict.fromkeys(keys, keys[0])
    return patient_keys(table).map(lambda key: first_keys.get(key, key))
