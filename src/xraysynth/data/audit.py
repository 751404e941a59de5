"""The audit of a cohort: counts, near-duplicates across splits, and source confounding."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from xraysynth.data.duplicates import Pairs, pair_indices
from xraysynth.data.persons import assign_persons
from xraysynth.data.screening import ScreeningSummary
from xraysynth.errors import ConfoundingError
from xraysynth.manifest import Manifest
from xraysynth.quoting import quote_override
from xraysynth.records import formerly

CONFOUNDING_THRESHOLD = 0.9
"""Balanced accuracy of the source alone from which a class counts as confounded with the source."""

CHANCE_QUANTILE = 0.99
"""Quantile of the balanced accuracies under permuted labels that is reported as `by_chance`."""

SPLIT_RANK = {"train": 0, "val": 1, "test": 2}
"""A person whose images lie in several splits belongs to the split of the highest rank."""


def compute_source_confounding(table: pd.DataFrame) -> dict[str, dict[str, float]]:
    """Compute how well the data source alone predicts each class.

    Each source votes for the more probable side (the class, or all other classes): once by count,
    once by class-weighted count. The votes are scored on the images that decide them, so many small
    sources predict every class well; `by_chance` says how well under permuted labels.

    Args:
        table: One row per image with the columns `source` and `label`.

    Returns:
        Class -> `accuracy`, `balanced_accuracy`, and `by_chance`: the balanced accuracy that 1 of
        100 cohorts with permuted labels exceeds. All lie in [0, 1].
    """
    class_counts = pd.crosstab(table["source"], table["label"])
    counts = class_counts.to_numpy()
    permuted_counts = _permute_labels(counts)
    source_sizes = class_counts.sum(axis=1)
    confounding = {}
    for class_index, label in enumerate(class_counts):
        of_class = class_counts[label]
        correct_votes = np.maximum(of_class, source_sizes - of_class).sum()
        permuted = _balanced_accuracy(permuted_counts, class_index)
        confounding[str(label)] = {
            "accuracy": float(correct_votes / len(table)),
            "balanced_accuracy": float(_balanced_accuracy(counts, class_index)),
            "by_chance": float(np.quantile(permuted, CHANCE_QUANTILE, method="higher")),
        }
    return confounding


def _balanced_accuracy(counts: np.ndarray, class_index: int) -> np.ndarray:
    """Balanced accuracy of the source for one class against the rest; counts `(…, sources, classes)`."""
    of_class = counts[..., class_index]
    of_rest = counts.sum(-1) - of_class
    if not of_rest.any():  # there is one class only
        return np.full(counts.shape[:-2], 0.5)
    class_fractions = of_class / of_class.sum(-1, keepdims=True)
    rest_fractions = of_rest / of_rest.sum(-1, keepdims=True)
    return np.asarray(np.maximum(class_fractions, rest_fractions).sum(-1) / 2)


def _permute_labels(counts: np.ndarray, draws: int = 1000) -> np.ndarray:
    """Counts `(draws, sources, classes)` under permuted labels; row and column sums stay."""
    from scipy.stats import random_table

    rows, columns = counts.sum(1), counts.sum(0)
    return np.asarray(random_table(rows, columns, seed=0).rvs(draws), np.int64)


def cramers_v(table: pd.DataFrame) -> float:
    """Compute Cramér's V between class and source.

    Args:
        table: One row per image with the columns `source` and `label`.

    Returns:
        A value in [0, 1]: 0 means no association, 1 means that one determines the other. 0 with one
        class or one source only.
    """
    from scipy.stats.contingency import association

    counts = pd.crosstab(table["source"], table["label"]).to_numpy()
    return float(association(counts, method="cramer")) if min(counts.shape) > 1 else 0.0


@formerly(source_confounding="source_tells")
@dataclass(frozen=True)
class Audit:
    """Everything a reader must know about a cohort before its results.

    Attributes:
        counts: Images and patients by class and split, one record per combination.
        by_source: Images by source and class, one record per combination.
        cramers_v: Cramér's V between class and source (`cramers_v`).
        source_confounding: Class -> how well the source predicts it (`compute_source_confounding`).
        exact_duplicates: Number of pairs of images with the same bytes.
        near_duplicates: Number of pairs of near-duplicates, exact duplicates included.
        near_duplicates_across_splits: Number of pairs whose images lie in different splits.
        near_duplicates_across_sources: Number of pairs whose images come from different sources.
        examples: Up to 20 pairs of near-duplicates as "image id ~ image id".
        simulated: Names of the sources whose images are simulated.
        linked_patients: Keys of the patients of each person who has several; None in audits of
            versions that did not record them.
        notes: Sentences for the reader, from the sources and on persons.
        acknowledged: Sentences on source confounding that the user has acknowledged.
        screening: What became of the images of the sources; None in audits of earlier versions.
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
    screening: ScreeningSummary | None = None

    @property
    def has_linked_patients(self) -> bool:
        """Whether patients share near-duplicates; where this is not recorded, whether there are any."""
        linked = self.linked_patients
        return bool(self.near_duplicates if linked is None else linked)


def audit_cohort(manifest: Manifest, pairs: Pairs) -> Audit:
    """Audit a cohort, given the pairs of near-duplicates among its images.

    Args:
        manifest: The cohort.
        pairs: Near-duplicates as row numbers (i, j) of the manifest.

    Returns:
        The audit without `simulated`, `linked_patients`, `notes`, `acknowledged` and `screening`.
    """
    table = manifest.table
    ids = table["image_id"]
    images_by_source = table.groupby(["source", "label"]).size().rename("images").reset_index()
    return Audit(
        counts=_count_by_class_and_split(table),
        by_source=images_by_source.to_dict("records"),
        cramers_v=cramers_v(table),
        source_confounding=compute_source_confounding(table),
        exact_duplicates=len(pairs) - _count_differing_pairs(table["sha256"], pairs),
        near_duplicates=len(pairs),
        near_duplicates_across_splits=_count_differing_pairs(table["split"], pairs),
        near_duplicates_across_sources=_count_differing_pairs(table["source"], pairs),
        examples=[f"{ids.iloc[first]} ~ {ids.iloc[second]}" for first, second in pairs[:20]],
    )


def _count_by_class_and_split(table: pd.DataFrame) -> list[dict[str, str | int]]:
    patients = table.groupby(["label", "split"])["patient_id"].agg(["size", "nunique"])
    names = {"label": "class", "size": "images", "nunique": "patients"}
    counts = patients.reset_index().rename(columns=names)
    records: list[dict[str, str | int]] = counts.to_dict("records")
    return records


def _count_differing_pairs(column: pd.Series, pairs: Pairs) -> int:
    """The number of pairs whose two images have different values in a column."""
    values = column.to_numpy()
    first, second = pair_indices(pairs)
    return int((values[first] != values[second]).sum())


def drop_cross_split_images(table: pd.DataFrame, pairs: Pairs) -> tuple[pd.DataFrame, np.ndarray]:
    """Drop images until each person's images lie in one split.

    Of a person (`assign_persons`) whose images lie in several splits, those in the split of the highest
    rank stay (`SPLIT_RANK`): train gives way to val, and val to test, so the test set stays
    unchanged.

    Args:
        table: One row per image with the columns of a manifest.
        pairs: Near-duplicates as row numbers (i, j) of the table.

    Returns:
        The remaining rows, renumbered from 0, and the pairs `(P, 2)` between them.
    """
    person = assign_persons(table, pairs)
    rank = table["split"].map(SPLIT_RANK)
    highest_rank = rank.groupby(person).transform("max")
    has_unknown_split = rank.isna()  # such rows stay, so that the manifest can reject them
    remains = ((rank == highest_rank) | has_unknown_split).to_numpy()
    first, second = pair_indices(pairs)
    pair_remains = remains[first] & remains[second]
    new_row_number = np.cumsum(remains) - 1
    remaining_pairs = np.stack(
        [new_row_number[first[pair_remains]], new_row_number[second[pair_remains]]], axis=1
    )
    return table.loc[remains].reset_index(drop=True), remaining_pairs


def require_no_confounding(audit: Audit, *, acknowledged: bool) -> list[str]:
    """Require that no class can be predicted from its source.

    A class is confounded when the balanced accuracy of its source reaches `CONFOUNDING_THRESHOLD` and
    exceeds `by_chance`.

    Args:
        audit: The audit of the cohort.
        acknowledged: Whether the user has acknowledged the confounding and wants to continue.

    Returns:
        One sentence per confounded class, for the reports.

    Raises:
        ConfoundingError: A class is confounded and `acknowledged` is false.
    """
    problems, confounded = [], []
    for label, scores in audit.source_confounding.items():
        threshold = max(CONFOUNDING_THRESHOLD, scores.get("by_chance", 0.0) + 1e-9)
        if scores["balanced_accuracy"] >= threshold:
            confounded.append(label)
            problems.append(
                f"the data source alone predicts {label} with {scores['accuracy']:.0%} accuracy "
                f"({scores['balanced_accuracy']:.0%} balanced)"
            )
    if problems and not acknowledged:
        raise ConfoundingError(
            f"confounded: {'; '.join(problems)}; Cramér's V between class and source is "
            f"{audit.cramers_v:.2f}. A classifier can learn the source instead of the disease. Add "
            f"sources that hold several classes, {_leave_out(confounded, audit.source_confounding)}or "
            "continue with acknowledge_confounding=true, which every report will then state at its top"
        )
    return problems


def _leave_out(confounded: Sequence[str], classes: Iterable[str]) -> str:
    """The words on the option that leaves classes out; "" if fewer than two others remain."""
    others = [label for label in classes if label not in confounded]
    return f"leave the class out with {quote_override('classes', others)}, " if others[1:] else ""
