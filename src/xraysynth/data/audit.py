"""Leakage and source confounding in a cohort."""

from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from xraysynth.data.duplicates import Pairs, pair_indices
from xraysynth.data.persons import assign_persons
from xraysynth.errors import ConfoundingError
from xraysynth.manifest import Manifest
from xraysynth.manifest import patient_keys as patient_keys
from xraysynth.records import formerly

CONFOUNDING_THRESHOLD = 0.9
"""A class is known by its source when the source alone reaches this balanced accuracy."""


SPLIT_RANK = {"train": 0, "val": 1, "test": 2}
"""Of the splits that a person's images lie in, the one of the highest rank keeps them."""


def compute_source_confounding(table: pd.DataFrame) -> dict[str, dict[str, float]]:
    """Class -> how well the data source alone tells it from the rest.

    Each source votes for the more probable side, once by count (`accuracy`) and once by
    class-weighted count (`balanced_accuracy`). The votes are counted on the images that decide
    them, so that many small sources tell every class: `by_chance` is the balanced accuracy that 1
    of 100 cohorts exceeds whose labels are dealt out at random.
    """
    counts = pd.crosstab(table["source"], table["label"])
    dealt = _permute_labels(counts.to_numpy())
    result = {}
    for place, label in enumerate(counts):
        inside, outside = counts[label], counts.sum(axis=1) - counts[label]
        accuracy = np.maximum(inside, outside).sum() / len(table)
        by_chance = np.quantile(_balanced_accuracy(dealt, place), 0.99, method="higher")
        result[str(label)] = {
            "accuracy": float(accuracy),
            "balanced_accuracy": float(_balanced_accuracy(counts.to_numpy(), place)),
            "by_chance": float(by_chance),
        }
    return result


def _balanced_accuracy(counts: np.ndarray, class_index: int) -> np.ndarray:
    """Of telling class `place` from the rest by the source, from counts `(…, sources, classes)`."""
    inside = counts[..., class_index]
    outside = counts.sum(-1) - inside
    if not outside.any():  # one class alone
        return np.full(counts.shape[:-2], 0.5)
    shares = [side / side.sum(-1, keepdims=True) for side in (inside, outside)]
    return np.asarray(np.maximum(*shares).sum(-1) / 2)


def _permute_labels(counts: np.ndarray, draws: int = 1000) -> np.ndarray:
    """Counts `(times, sources, classes)` after dealing out the labels at random, sums kept."""
    from scipy.stats import random_table

    rows, columns = counts.sum(1), counts.sum(0)
    return np.asarray(random_table(rows, columns, seed=0).rvs(draws), np.int64)


def cramers_v(table: pd.DataFrame) -> float:
    """Cramér's V between class and source: 0 is no association, 1 means one tells the other."""
    from scipy.stats.contingency import association

    counts = pd.crosstab(table["source"], table["label"]).to_numpy()
    return float(association(counts, method="cramer")) if min(counts.shape) > 1 else 0.0


@formerly(source_confounding="source_tells")
@dataclass(frozen=True)
class Audit:
    """What a reader must know about a cohort.

    `counts` are images and patients by class and split, `by_source` images by source and class, and
    `source_tells` how well the source alone tells each class (`source_tells`). `linked_patients` is
    None in audits of earlier versions, which do not say who is one person.
    """

    counts: list[dict[str, str | int]] = field(default_factory=list)
    by_source: list[dict[str, str | int]] = field(default_factory=list)
    cramers_v: float = 0.0
    source_confounding: dict[str, dict[str, float]] = field(default_factory=dict)
    exact_duplicates: int = 0
    near_duplicates: int = 0
    near_duplicates_across_splits: int = 0
    near_duplicates_across_sources: int = 0
    examples: list[str] = field(default_factory=list)
    simulated: list[str] = field(default_factory=list)
    linked_patients: list[list[str]] | None = None
    notes: list[str] = field(default_factory=list)
    acknowledged: list[str] = field(default_factory=list)

    @property
    def has_linked_patients(self) -> bool:
        """Whether patients share near-duplicates, as far as the audit says."""
        linked = self.linked_patients
        return bool(self.near_duplicates if linked is None else linked)


def audit_cohort(manifest: Manifest, pairs: Pairs) -> Audit:
    """The audit of a cohort whose near duplicates are `pairs`."""
    table = manifest.table
    first, second = pair_indices(pairs)
    differ = {
        column: table[column].to_numpy()[first] != table[column].to_numpy()[second]
        for column in ("split", "source", "sha256")
    }
    examples = [f"{table['image_id'].iloc[i]} ~ {table['image_id'].iloc[j]}" for i, j in pairs[:20]]
    patients = table.groupby(["label", "split"])["patient_id"].agg(["size", "nunique"])
    return Audit(
        counts=[
            {"class": label, "split": split, "images": int(images), "patients": int(people)}
            for (label, split), images, people in patients.itertuples()
        ],
        by_source=table.groupby(["source", "label"])
        .size()
        .rename("images")
        .reset_index()
        .to_dict("records"),
        cramers_v=cramers_v(table),
        source_confounding=compute_source_confounding(table),
        exact_duplicates=int((~differ["sha256"]).sum()),
        near_duplicates=len(pairs),
        near_duplicates_across_splits=int(differ["split"].sum()),
        near_duplicates_across_sources=int(differ["source"].sum()),
        examples=examples,
    )


def drop_cross_split_images(table: pd.DataFrame, pairs: Pairs) -> tuple[pd.DataFrame, np.ndarray]:
    """The table with the images of each person in one split alone, and the pairs left.

    Of a person (`assign_persons`) whose images lie in several splits those of the last stay: train gives
    way to val, and val to test, so that what is tested on stays as it is.
    """
    rank = table["split"].map(SPLIT_RANK)
    last = rank.groupby(assign_persons(table, pairs)).transform("max")
    kept = ((rank == last) | rank.isna()).to_numpy()  # an unknown split is the manifest's to refuse
    first, second = pair_indices(pairs)
    place = np.cumsum(kept) - 1
    both = kept[first] & kept[second]
    left = np.stack([place[first[both]], place[second[both]]], axis=1)
    return table.loc[kept].reset_index(drop=True), left


def require_no_confounding(audit: Audit, *, acknowledged: bool) -> list[str]:
    """Sentences on classes known by their source; raises `ConfoundingError` unless acknowledged."""
    found = [
        f"the data source alone tells {label} from the other classes with {tells['accuracy']:.0%} accuracy "
        f"({tells['balanced_accuracy']:.0%} balanced)"
        for label, tells in audit.source_confounding.items()
        if tells["balanced_accuracy"]
        >= max(CONFOUNDING_THRESHOLD, tells.get("by_chance", 0.0) + 1e-9)
    ]
    if found and not acknowledged:
        raise ConfoundingError(
            f"confounded: {'; '.join(found)}; Cramér's V between class and source is "
            f"{audit.cramers_v:.2f}. A classifier can learn the source instead of the disease. Add "
            "sources that hold several classes, leave the class out (classes=[…]), or go on with "
            "acknowledge_confounding=true, which every report will then say at its head"
        )
    return found
