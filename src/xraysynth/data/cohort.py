"""The making of a cohort: its images are listed, get a patient each, and are split by person."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from xraysynth.data.audit import SPLIT_RANK
from xraysynth.data.duplicates import Pairs, cluster_pairs
from xraysynth.data.persons import assign_persons
from xraysynth.data.reading.splits import split_of_word
from xraysynth.data.recipe import Splits
from xraysynth.data.screening import ScreenedImage, ScreeningCounts, list_not_used, split_rows
from xraysynth.data.source_labels import note_on_labels
from xraysynth.data.sources.base import Source, screen_labels
from xraysynth.data.splits import assign_splits
from xraysynth.errors import ConfigError, ManifestError, format_some
from xraysynth.manifest import patient_keys
from xraysynth.seeds import digest, identity


@dataclass(frozen=True)
class PreparedCohort:
    """The result of preparing a cohort, as it is printed and recorded.

    Attributes:
        manifest: Path of the cohort's manifest.
        audit: Path of the audit.
        digest: Digest of the manifest.
        images: Number of images.
        patients: Number of patients.
        splits: Split -> class -> number of images.
        near_duplicates: Number of pairs of near-duplicates.
        dropped: Number of images dropped with `splits.drop_duplicates`.
        dropped_patients: Number of patients of the dropped images.
        simulated: Names of the sources whose images are simulated.
        confounding: Sentences on the source confounding that the user has acknowledged.
        screening: Name of the source -> its numbers of images that are used, repaired, flagged, left out
            and unusable.
        screening_table: Path of the table of all images that are not simply used; "" without any.
        not_used: Name of the source -> digest of the rows that it lists and that are not used.
    """

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
    screening: dict[str, ScreeningCounts] = field(default_factory=dict)
    screening_table: str = ""
    not_used: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class PreparedExternalSets:
    """The result of preparing the external test sets, as it is printed and recorded.

    Attributes:
        manifest: Path of the manifest of all external test sets.
        digest: Digest of the manifest.
        images: Number of images.
        patients: Number of patients.
        counts: Source -> class -> number of images.
        dropped: Number of images dropped because their person is in the cohort.
        dropped_patients: Number of patients of the dropped images.
        simulated: Names of the sources whose images are simulated.
        screening: As in `PreparedCohort`.
        screening_table: As in `PreparedCohort`.
        not_used: As in `PreparedCohort`.
    """

    manifest: str
    digest: str
    images: int
    patients: int
    counts: dict[str, dict[str, int]]
    dropped: int = 0
    dropped_patients: int = 0
    simulated: list[str] = field(default_factory=list)
    screening: dict[str, ScreeningCounts] = field(default_factory=dict)
    screening_table: str = ""
    not_used: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class SourceCollection:
    """The selected sources and the images that each of them lists.

    Attributes:
        sources: The sources, with unique names.
        rows: Name of the source -> its rows that are used (`Source.rows`), labels mapped to the study's
            classes.
        not_used_rows: Name of the source -> its other rows, whose columns `left_out` and `unusable` say
            why they are not used.
        label_notes: Sentences on labels that were recognised without being mapped to a class.
    """

    sources: Sequence[Source]
    rows: Mapping[str, pd.DataFrame]
    not_used_rows: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    label_notes: Sequence[str] = ()

    @classmethod
    def from_sources(cls, sources: Sequence[Source], classes: Sequence[str]) -> "SourceCollection":
        """List the images of every source.

        Raises:
            ConfigError: There is no source, or two sources have the same name.
            ManifestError: A source lists an image id twice, or a label that belongs to no class.
            DataNotFoundError: The files of a source are missing.
        """
        if not sources:
            raise ConfigError("source must name at least one source; for example source=simulated")
        names = [source.name for source in sources]
        if len(set(names)) < len(names):
            raise ConfigError(
                f"every source needs a different name; got {', '.join(names)} "
                "(set source.<key>.name)"
            )
        rows, not_used_rows, label_notes = {}, {}, []
        for source in sources:
            used, not_used_rows[source.name] = _read_source_rows(source, classes)
            labels = used.pop(_LISTED_LABEL)
            label_notes.append(note_on_labels(labels, used["label"], source.labels, source.name))
            rows[source.name] = used
        return cls(sources, rows, not_used_rows, list(filter(None, label_notes)))

    def identity(self) -> dict[str, Any]:
        """Return what determines the pixels and labels of a cohort, as part of the job's identity."""
        row_digests = {}
        for name, table in self.rows.items():
            row_digests[name] = digest(table.astype(str).to_numpy().tolist())
        return {"sources": list(map(identity, self.sources)), "rows": row_digests}

    def not_used(self, name: str) -> list[ScreenedImage]:
        """List the images of a source that are left out or unusable by what the source says of them."""
        rows = self.not_used_rows.get(name)
        return [] if rows is None else list_not_used(rows, name)

    def locators_not_used(self) -> dict[tuple[str, str], str]:
        """Return source and image id -> locator of every image that is not used."""
        locators = {}
        for name, rows in self.not_used_rows.items():
            for image_id, locator in zip(rows["image_id"], rows["locator"], strict=True):
                locators[name, str(image_id)] = str(locator)
        return locators

    def digests_not_used(self) -> dict[str, str]:
        """Return a digest of the rows that are not used, by source; without them, a source has none."""
        digests = {}
        for name, rows in self.not_used_rows.items():
            if len(rows):
                columns = rows[["image_id", "label", "left_out", "unusable"]]
                digests[name] = digest(columns.astype(str).to_numpy().tolist())
        return digests

    @property
    def simulated_sources(self) -> list[str]:
        """Names of the sources whose images are simulated."""
        return [source.name for source in self.sources if source.is_simulated]

    @property
    def notes(self) -> list[str]:
        """The sources' notes, which the audit shows to its reader."""
        notes = (getattr(source, "note", "") for source in self.sources)
        return [*filter(None, notes), *self.label_notes]

    def has_value(self, column: str) -> pd.Series:
        """Return whether each of the N rows of all sources has a value in a column, bool `(N,)`."""
        return _has_value(self.rows.values(), column)

    def can_infer_patients(self, missing_patient_id: str) -> bool:
        """Return whether an image without a patient can get the patient of a near-duplicate.

        That is so with `missing_patient_id` "cluster", if some images of a source have a patient and
        others of the same source have none.
        """
        if missing_patient_id != "cluster":
            return False
        for table in self.rows.values():
            has_patient = _has_value([table], "patient_id")
            if has_patient.any() and not has_patient.all():
                return True
        return False


def _has_value(tables: Iterable[pd.DataFrame], column: str) -> pd.Series:
    """Whether each row of the tables, one after another, has a value that is not empty."""
    values = [table.get(column, pd.Series("", table.index)) for table in tables]
    return pd.concat(values, ignore_index=True).fillna("").astype(str) != ""


_LISTED_LABEL = "listed_label"
"""Column that holds the label as the source lists it, where `label` is the class."""


def _read_source_rows(source: Source, classes: Sequence[str]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """List the rows of a source that are used, with `_LISTED_LABEL`, and those that are not."""
    listed = source.rows()
    listed = listed.assign(**{_LISTED_LABEL: listed["label"]})
    screened = screen_labels(listed, source.labels, classes, name=source.name)
    rows, not_used = split_rows(screened)
    is_duplicated = rows["image_id"].duplicated(keep=False)
    if is_duplicated.any():
        duplicated_ids = rows.loc[is_duplicated, "image_id"].unique()
        raise ManifestError(
            f"source {source.name}: image ids must be unique, but {int(is_duplicated.sum())} rows "
            f"have the id of another row: {format_some(duplicated_ids)}"
        )
    return rows, not_used.drop(columns=_LISTED_LABEL)


def assign_patients(
    table: pd.DataFrame, pairs: Pairs, *, missing_patient_id: str, notes: Sequence[str] = ()
) -> pd.Series:
    """Assign a patient to every image.

    An image that has a patient keeps it. With `missing_patient_id` "cluster", an image without a
    patient gets that of a near-duplicate from the same source. Images that still have none get a new
    patient, `cluster-<first image id>`, which near-duplicates share.

    Args:
        table: One row per image with `image_id`, `source` and `patient_id` ("" or NaN if unknown).
        pairs: Near-duplicates as row numbers (i, j) of the table.
        missing_patient_id: "error" or "cluster" (`MissingPatientId`).
        notes: The sources' notes, which may say why patients are unknown.

    Returns:
        The patient id per image, with the index of the table.

    Raises:
        ManifestError: Images have no patient and `missing_patient_id` is "error".
    """
    is_missing = table["patient_id"].fillna("").astype(str) == ""
    if is_missing.any() and missing_patient_id == "error":
        reasons = "".join(f"{note}. " for note in notes)
        raise ManifestError(
            f"{int(is_missing.sum())} of {len(table)} images have no patient id, so the same patient "
            f"could be in train and test: {format_some(table.loc[is_missing, 'image_id'])}. {reasons}"
            "Name the column or pattern that holds it, or continue with missing_patient_id=cluster, which "
            "treats near-duplicate images as one patient and every other image as a patient of its own"
        )
    cluster = pd.Series(cluster_pairs(len(table), pairs), index=table.index)
    new_patients = "cluster-" + table["image_id"].groupby(cluster).transform("min")
    inferred = _infer_patients(table.assign(cluster=cluster), ~is_missing)
    inferred_or_new = inferred.where(inferred.notna(), new_patients)
    return table["patient_id"].astype(object).where(~is_missing, inferred_or_new)


def _infer_patients(table: pd.DataFrame, has_patient: pd.Series) -> pd.Series:
    """Return, for each image, the first patient id of its source in its `cluster`; NaN for none.

    A patient id is valid within its source only. A near-duplicate from another source therefore
    does not give its patient id to the image, although both are kept in one split.
    """
    keys = ["source", "cluster"]
    patients = table.loc[has_patient, [*keys, "patient_id"]].sort_values("patient_id")
    inferred = table[keys].merge(patients.drop_duplicates(keys), how="left", on=keys)
    return inferred["patient_id"].set_axis(table.index).astype(object)


def split_by_person(table: pd.DataFrame, pairs: Pairs, splits: Splits) -> pd.Series:
    """Assign every image to a split, one split per person except where sources define several.

    With `splits.official`, images keep the split that their source defines. If only some images of a
    person have such a split, the person's other images get the same one, or the one of the highest
    rank (`SPLIT_RANK`) if there are several. All other persons are split by `assign_splits`.

    Args:
        table: One row per image with the columns of a manifest; `split` is optional.
        pairs: Near-duplicates as row numbers (i, j) of the table.
        splits: The options of the splits.

    Returns:
        "train", "val" or "test" per image, with the index of the table.
    """
    official = _official_splits(table, splits)
    person = assign_persons(table, pairs)
    highest_rank = official.map(SPLIT_RANK).astype(float).groupby(person).transform("max")
    split_of_rank = dict(enumerate(SPLIT_RANK))
    person_split = highest_rank.map(split_of_rank)
    split = official.astype(object).where(official != "", person_split)
    is_unassigned = split.isna().to_numpy()
    if is_unassigned.any():
        # A group is named after its patients, so that its split does not depend on the row order.
        groups = patient_keys(table).groupby(person).transform("min")
        split[is_unassigned] = assign_splits(
            table["label"][is_unassigned],
            groups[is_unassigned],
            fractions={"val": splits.val_fraction, "test": splits.test_fraction},
            seed=splits.seed,
        )
    return split


def _official_splits(table: pd.DataFrame, splits: Splits) -> pd.Series:
    """Return each image's split as its source defines it; "" if undefined or not `splits.official`."""
    if "split" not in table or not splits.official:
        return pd.Series("", table.index)
    require_known_splits([table], splits)
    words = table["split"].fillna("").astype(str).str.strip()
    return words.map(lambda word: split_of_word(word) or "").astype(object)


def require_known_splits(tables: Iterable[pd.DataFrame], splits: Splits) -> None:
    """Require that sources name their splits by words that are known, unless these are not used.

    Args:
        tables: The rows of each source, with or without a column `split`.
        splits: The options of the splits.

    Raises:
        ManifestError: A word names no split (`split_of_word`).
    """
    words: set[str] = set()
    for table in tables:
        if "split" in table and splits.official:
            words.update(table["split"].fillna("").astype(str).str.strip())
    unknown = sorted(word for word in words if word and split_of_word(word) is None)
    if unknown:
        raise ManifestError(
            f"the sources name splits {format_some(map(repr, unknown))}, but a split is train, val or test, "
            "or a usual word for one such as valid; rename them, or split the images anew by patient with "
            "splits.official=false"
        )


def format_person_notes(
    linked_patients: Sequence[Sequence[str]], dropped_rows: pd.DataFrame
) -> list[str]:
    """Write the notes of an audit on linked patients and on dropped images.

    Args:
        linked_patients: For each person with several patients, their keys (`find_linked_patients`).
        dropped_rows: The rows that `splits.drop_duplicates` has removed from the cohort.
    """
    notes = []
    if linked_patients:
        persons = map(" = ".join, linked_patients)
        notes.append(
            f"{sum(map(len, linked_patients))} patients share near-duplicate images with others and "
            f"are treated as {len(linked_patients)} persons: {format_some(persons)}"
        )
    if len(dropped_rows):
        notes.append(
            f"{len(dropped_rows)} images of {patient_keys(dropped_rows).nunique()} patients are "
            "dropped, because these persons also have images in a later split "
            "(splits.drop_duplicates)"
        )
    return notes
