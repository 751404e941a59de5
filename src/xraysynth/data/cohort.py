"""From the rows of sources to one cohort: patients, splits by person, and what a reader must know of them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from xraysynth.data.audit import SPLIT_RANK
from xraysynth.data.duplicates import Pairs, cluster_pairs
from xraysynth.data.persons import assign_persons
from xraysynth.data.sources.base import Source, map_labels
from xraysynth.data.splits import assign_splits
from xraysynth.errors import ConfigError, ManifestError, format_some
from xraysynth.manifest import patient_keys
from xraysynth.seeds import digest, identity


@dataclass(frozen=True)
class PreparedCohort:
    """What a cohort came to: its files, and how many images, patients and near-duplicates it has."""

    manifest: str
    audit: str
    digest: str
    images: int
    patients: int
    splits: dict[str, dict[str, int]]
    near_duplicates: int
    dropped: int = 0
    dropped_patients: int = 0
    simulated: list[str] = field(default_factory=list)
    confounding: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class PreparedExternalSets:
    """The same of the external test sets, whose `counts` are images by source and class."""

    manifest: str
    digest: str
    images: int
    patients: int
    counts: dict[str, dict[str, int]]
    dropped: int = 0
    dropped_patients: int = 0
    simulated: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class SourceCollection:
    """Sources and the images that each lists, by the source's name, their labels in the study's classes."""

    sources: Sequence[Source]
    rows: Mapping[str, pd.DataFrame]

    @classmethod
    def from_sources(cls, sources: Sequence[Source], classes: Sequence[str]) -> "SourceCollection":
        """What the sources list; raises `ConfigError` where they cannot be told apart, or are none."""
        if not sources:
            raise ConfigError("source must name at least one source; for example source=simulated")
        names = [source.name for source in sources]
        if len(set(names)) < len(names):
            raise ConfigError(
                f"sources need names of their own; got {', '.join(names)} (set source.<key>.name)"
            )
        return cls(sources, {source.name: _read_source_rows(source, classes) for source in sources})

    def identity(self) -> dict[str, Any]:
        """What decides the pixels and labels that come of it."""
        return {
            "sources": [identity(source) for source in self.sources],
            "rows": {
                name: digest(table.astype(str).to_numpy().tolist())
                for name, table in self.rows.items()
            },
        }

    @property
    def simulated_sources(self) -> list[str]:
        """Names of the sources whose images are of no patient."""
        return [source.name for source in self.sources if source.is_simulated]

    @property
    def notes(self) -> list[str]:
        """What the sources say of themselves that a reader must know."""
        return [note for source in self.sources if (note := getattr(source, "note", ""))]

    def has_value(self, column: str) -> pd.Series:
        """Which of all rows have a value in this column."""
        return _has_value(self.rows.values(), column)

    def can_infer_patients(self, missing_patient_id: str) -> bool:
        """Whether an image without a patient can be the near-duplicate of one with a patient."""
        known = [_has_value([table], "patient_id") for table in self.rows.values()]
        partly = any(patients.any() and not patients.all() for patients in known)
        return partly and missing_patient_id == "cluster"


def _has_value(tables: Iterable[pd.DataFrame], column: str) -> pd.Series:
    values = [table.get(column, pd.Series("", table.index)) for table in tables]
    return pd.concat(values, ignore_index=True).fillna("").astype(str) != ""


def _read_source_rows(source: Source, classes: Sequence[str]) -> pd.DataFrame:
    rows = map_labels(source.rows(), source.labels, classes, name=source.name)
    twice = rows["image_id"].duplicated(keep=False)
    if twice.any():
        raise ManifestError(
            f"source {source.name}: image ids must be unique, but {int(twice.sum())} rows share theirs: "
            f"{format_some(rows.loc[twice, 'image_id'].unique())}"
        )
    return rows


def assign_patients(table: pd.DataFrame, pairs: Pairs, *, missing_patient_id: str) -> pd.Series:
    """A patient for every image: its own, or with "cluster" that of its near-duplicates.

    Raises `ManifestError` naming images without a patient where `missing_patient_id` is "error".
    """
    missing = table["patient_id"].fillna("").astype(str) == ""
    if missing.any() and missing_patient_id == "error":
        raise ManifestError(
            f"{int(missing.sum())} of {len(table)} images have no patient id, so the same patient could be "
            f"in train and test: {format_some(table.loc[missing, 'image_id'])}. Give the column "
            "or pattern that "
            "holds it, or go on with missing_patient_id=cluster, which takes near-duplicate images for "
            "one patient and every other image for a patient of its own"
        )
    number = pd.Series(cluster_pairs(len(table), pairs), index=table.index)
    groups = "cluster-" + table["image_id"].groupby(number).transform("min")
    own = _infer_patients(table.assign(number=number), ~missing)
    return table["patient_id"].astype(object).where(~missing, own.where(own.notna(), groups))


def _infer_patients(table: pd.DataFrame, has_patient: pd.Series) -> pd.Series:
    """The patient of the same source among the images of one `number`, the first of several.

    An id means something only within its source; likeness to another source's image is a link
    between two patients, which keeps them together but gives no id.
    """
    keys = ["source", "number"]
    patients = table.loc[has_patient, [*keys, "patient_id"]].sort_values("patient_id")
    found = table[keys].merge(patients.drop_duplicates(keys), how="left", on=keys)
    return found["patient_id"].set_axis(table.index).astype(object)


def split_by_person(table: pd.DataFrame, pairs: Pairs, splits: Any) -> pd.Series:
    """The source's own split where it has one and splits.official holds; else by person.

    A person some of whose images have a split of the source gives it to the others too, the last
    of train, val and test where there are several.
    """
    given = (
        table["split"].fillna("")
        if "split" in table and splits.official
        else pd.Series("", table.index)
    )
    person = assign_persons(table, pairs)
    ranks = given.map(SPLIT_RANK).astype(float)
    names_of_ranks = {rank: name for name, rank in SPLIT_RANK.items()}
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


def format_person_notes(
    linked_patients: Sequence[Sequence[str]], dropped_rows: pd.DataFrame
) -> list[str]:
    """What a reader of the audit must know of persons: who is taken for one, and who is left out."""
    notes = []
    if linked_patients:
        notes.append(
            f"{sum(map(len, linked_patients))} patients share near-duplicate images with others, "
            "and are taken "
            f"for {len(linked_patients)} persons: {format_some(' = '.join(keys) for keys in linked_patients)}"
        )
    if len(dropped_rows):
        notes.append(
            f"{len(dropped_rows)} images of {patient_keys(dropped_rows).nunique()} patients are "
            "left out, because "
            "these persons have images in a split that comes before theirs (splits.drop_duplicates)"
        )
    return notes
