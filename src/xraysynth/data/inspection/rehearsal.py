"""What preparing a cohort would stop at, and the options with which it does not.

The functions are those that `prepare` calls, on the images that were looked at.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd

from xraysynth.data.audit import (
    CONFOUNDING_THRESHOLD,
    compute_source_confounding,
    drop_cross_split_images,
)
from xraysynth.data.cohort import assign_patients, split_by_person
from xraysynth.data.duplicates import find_near_duplicates
from xraysynth.data.inspection.looking import Look, stack_fingerprints
from xraysynth.data.persons import assign_persons
from xraysynth.data.recipe import Screening, Splits, TwoLabels
from xraysynth.data.source_images import BLANK_FLAG
from xraysynth.data.splits import require_classes_in_splits, require_enough_images
from xraysynth.data.two_labels import choose_rows_to_leave_out, find_two_labels
from xraysynth.errors import ManifestError
from xraysynth.manifest import patient_keys


@dataclass(frozen=True)
class Need:
    """An option that a study needs, and why."""

    option: str
    value: object
    reason: str


@dataclass(frozen=True)
class Rehearsal:
    """What would become of the images of a study.

    Attributes:
        table: One row per image that is used, with `patient_id`, `split` and `person`.
        near_duplicates: Pairs of near-duplicates as row numbers of the table, `(P, 2)`.
        needs: Options that the study needs, and why.
        obstacles: Why no option makes a study possible; empty if one is.
        clustered: Number of images whose patient is unknown.
    """

    table: pd.DataFrame
    near_duplicates: np.ndarray
    needs: list[Need] = field(default_factory=list)
    obstacles: list[str] = field(default_factory=list)
    clustered: int = 0


def rehearse(
    table: pd.DataFrame,
    looks: Mapping[int, Look],
    *,
    classes: Sequence[str],
    splits: Splits,
    screening: Screening,
    is_sample: bool,
) -> Rehearsal:
    """Assign patients and splits as `prepare` does, and collect what it would stop at.

    Args:
        table: One row per image that is used, with the columns of a source's rows, labels mapped to
            classes, `number`, by which `looks` holds what was seen of it, and `sha256`, which equal
            pictures share.
        looks: Number of the image -> what was seen of it.
        classes: The study's classes.
        splits: The options of the splits.
        screening: The options of screening.
        is_sample: Whether only a part of the images was looked at.
    """
    table, needs = _without_two_labels(table.reset_index(drop=True), looks, screening)
    try:
        require_enough_images(table["label"], classes, minimum=splits.minimum_per_class)
    except ManifestError as error:
        return Rehearsal(table, np.empty((0, 2), int), obstacles=[str(error)])
    pairs = _near_duplicates(table, looks)
    unknown = int((table["patient_id"].fillna("").astype(str) == "").sum())
    if unknown:
        needs.append(_cluster_need(unknown, len(table)))
    table["official_split"] = table["split"].fillna("") if "split" in table else ""
    table["patient_id"] = assign_patients(table, pairs, missing_patient_id="cluster")
    table["person"] = assign_persons(table, pairs)
    table, kept, split_needs, obstacle = _split(table, pairs, splits, classes, is_sample=is_sample)
    needs += split_needs + _confounding_needs(kept)
    return Rehearsal(table, pairs, needs, [obstacle] if obstacle else [], unknown)


def _split(
    table: pd.DataFrame,
    pairs: np.ndarray,
    splits: Splits,
    classes: Sequence[str],
    *,
    is_sample: bool,
) -> tuple[pd.DataFrame, pd.DataFrame, list[Need], str]:
    """Split as the source says or, where its splits lack a class, by patient.

    Returns:
        The table with its splits, the rows that remain, the options needed, and why no splits do.
    """
    table = table.assign(split=table["official_split"])
    table["split"] = split_by_person(table, pairs, splits)
    kept, needs = _drop_needs(table, pairs, splits, is_sample=is_sample)
    obstacle = _missing_classes(kept, classes)
    if not (obstacle and splits.official and _has_official(table)):
        return table, kept, needs, obstacle
    reason = (
        f"the given splits ({_list_splits(table)}) do not hold every class in train, val and test: the "
        "study splits by patient itself"
    )
    own = replace(splits, official=False)
    table, kept, needs, obstacle = _split(table, pairs, own, classes, is_sample=is_sample)
    return table, kept, [Need("splits.official", False, reason), *needs], obstacle


def _missing_classes(table: pd.DataFrame, classes: Sequence[str]) -> str:
    """Why the splits do not do; "" if every class is in every split."""
    try:
        require_classes_in_splits(table, classes)
    except ManifestError as error:
        return str(error)
    return ""


def _list_splits(table: pd.DataFrame) -> str:
    counts = table["official_split"].replace("", "none").value_counts()
    return ", ".join(f"{name} {count:,}" for name, count in counts.items())


def _without_two_labels(
    table: pd.DataFrame, looks: Mapping[int, Look], screening: Screening
) -> tuple[pd.DataFrame, list[Need]]:
    """The table without pictures under two labels, as far as no rule says which label holds."""
    blank = [number for number, look in looks.items() if BLANK_FLAG in look.flags]
    ids = table.loc[table["number"].isin(blank), "image_id"]
    pictures = find_two_labels(table, ignored_ids=ids)
    rule = replace(screening, two_labels=TwoLabels.leave_out)
    reasons = choose_rows_to_leave_out(pictures, rule)
    kept = table.drop(index=list(reasons)).reset_index(drop=True)
    undecided = [picture for picture in pictures if set(picture.rows) <= set(reasons)]
    if not undecided or screening.two_labels is TwoLabels.leave_out:
        return kept, []
    reason = (
        f"{len(undecided):,} {'picture has' if len(undecided) == 1 else 'pictures have'} two labels, of "
        "which at most one is right: all images of these are left out; remove the wrong files to use them"
    )
    return kept, [Need("screening.two_labels", TwoLabels.leave_out.value, reason)]


def _near_duplicates(table: pd.DataFrame, looks: Mapping[int, Look]) -> np.ndarray:
    """Pairs of near-duplicates among the rows that were looked at."""
    row_of_number = dict(zip(table["number"], range(len(table)), strict=True))
    seen = {number: looks[number] for number in row_of_number if number in looks}
    numbers, fingerprints = stack_fingerprints(seen)
    rows = np.array([row_of_number[number] for number in numbers], dtype=int)
    return np.sort(rows[find_near_duplicates(fingerprints)].reshape(-1, 2), axis=1)


def _cluster_need(unknown: int, total: int) -> Need:
    images = "no image has" if unknown == total else f"{unknown:,} of {total:,} images have no"
    return Need(
        "missing_patient_id",
        "cluster",
        f"{images} {'a ' if unknown == total else ''}patient: near-duplicates count as one patient, every "
        "other image as a patient of its own; a person may then be in train and in test, and results "
        "look better than they are",
    )


def _drop_needs(
    table: pd.DataFrame, pairs: np.ndarray, splits: Splits, *, is_sample: bool
) -> tuple[pd.DataFrame, list[Need]]:
    """The rows that remain, and the option that drops persons from all splits but the last."""
    splits_per_person = table.groupby("person")["split"].nunique()
    torn = int((splits_per_person > 1).sum())
    has_own_splits = splits.official and _has_official(table)
    if torn:
        kept, _ = drop_cross_split_images(table, pairs)
        reason = (
            f"{torn:,} persons have images (or near-duplicates) in several of the given splits: "
            f"{len(table) - len(kept):,} images are dropped from the earlier split"
        )
        return kept, [Need("splits.drop_duplicates", True, reason)]
    if is_sample and has_own_splits:
        reason = (
            "only a part of the images was compared: should near-duplicates lie in several of the "
            "given splits, they are dropped from the earlier one"
        )
        return table, [Need("splits.drop_duplicates", True, reason)]
    return table, []


def _has_official(table: pd.DataFrame) -> bool:
    return bool((table["official_split"] != "").any())


def _confounding_needs(table: pd.DataFrame) -> list[Need]:
    """The option that acknowledges that the source predicts a class."""
    confounded = []
    for label, scores in compute_source_confounding(table).items():
        threshold = max(CONFOUNDING_THRESHOLD, scores.get("by_chance", 0.0) + 1e-9)
        if scores["balanced_accuracy"] >= threshold:
            confounded.append(f"{label} ({scores['balanced_accuracy']:.0%})")
    if not confounded:
        return []
    reason = (
        f"confounded: the data source alone predicts {', '.join(confounded)} by balanced accuracy, so a "
        "classifier can learn the source instead of the disease; without this option the study stops, "
        "with it every report says so at its top"
    )
    return [Need("acknowledge_confounding", True, reason)]


def screening_needs(unusable: int, listed: int, policy: Screening, *, source: str) -> list[Need]:
    """Return the option that leaves out more unusable images than the policy allows, and why."""
    if not listed or unusable <= policy.most_left_out * listed:
        return []
    fraction = min(1.0, math.ceil(100 * unusable / listed) / 100)
    reason = (
        f"{unusable:,} of {listed:,} images of {source} cannot be used, more than "
        f"screening.most_left_out={policy.most_left_out:g} allows: they are left out"
    )
    return [Need("screening.most_left_out", fraction, reason)]


def count_patients(table: pd.DataFrame) -> int:
    """Return the number of patients with a known id, each counted once per source."""
    known = table[table["patient_id"].fillna("").astype(str) != ""]
    return int(patient_keys(known).nunique())
