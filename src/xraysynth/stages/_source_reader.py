"""Reading the images of one source into its store, once: what cannot be used is recorded there too."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from xraysynth.data.recipe import Screening
from xraysynth.data.screening import (
    ScreenedImage,
    Status,
    file_of_locator,
)
from xraysynth.data.source_images import Origin, SourceImages
from xraysynth.data.sources.base import Source
from xraysynth.data.sources.parallel import ReadImage, UnreadableImage, load_images
from xraysynth.data.unusable import count_unusable, require_few_unusable
from xraysynth.jobs.store import ImageStore, StoreWriter, find_damaged_images
from xraysynth.manifest import COLUMNS
from xraysynth.progress import progress_bar
from xraysynth.records import JsonObject
from xraysynth.seeds import digest, identity
from xraysynth.stages._reader_versions import reader_versions

UNUSABLE = "unusable"
"""Outcome in the journal of a store, of a file that cannot be used."""


@dataclass(frozen=True)
class SourceReader:
    """Reads the images of one source.

    Attributes:
        source: The source.
        not_used: Its images that are left out or unusable by what the source says of them.
        policy: How many images may be unusable, and whether borders are cropped.
        size_px: Width and height of the study's images.
        folder: The folder of the source's store.
    """

    source: Source
    not_used: Sequence[ScreenedImage]
    policy: Screening
    size_px: int
    folder: Path

    @property
    def store(self) -> ImageStore:
        """The store of the source's images."""
        pixel_identity = {"size_px": self.size_px, **self.policy.pixel_identity()}
        identity_of_store = {"source": identity(self.source), **pixel_identity}
        return ImageStore(self.folder, self.source.name, identity_of_store)

    def read(self, rows: pd.DataFrame) -> SourceImages:
        """Read the images that the store lacks, and return all images that are used.

        Args:
            rows: The rows of the source that are used by what the source says of them.

        Raises:
            ImageError: Too many images cannot be used; those that were read are kept.
        """
        self._require_few_unusable([], n_rows=len(rows))
        rows = rows.assign(name=_stored_names(rows))
        failures = self._store_missing_images(rows)
        is_readable = ~rows["name"].isin(failures.keys())
        reasons = {name: [failure.reason] for name, failure in failures.items()}
        unusable = self._screened_images(rows[~is_readable], "unusable", reasons)
        self._require_few_unusable(unusable, n_rows=len(rows))
        self._record_failures(failures)
        return self._collect(rows[is_readable], unusable)

    def _require_few_unusable(self, unreadable: Sequence[ScreenedImage], *, n_rows: int) -> None:
        require_few_unusable(
            [*self.not_used, *unreadable],
            source=self.source.name,
            listed=n_rows + count_unusable(self.not_used),
            policy=self.policy,
        )

    def _store_missing_images(self, rows: pd.DataFrame) -> dict[str, UnreadableImage]:
        """Add the images that the store lacks or holds damaged; return those that cannot be used, by name."""
        with self.store.writer() as writer:
            stored = self.store.table()
            damaged = find_damaged_images(stored, folder=self.store.folder)
            intact = stored.loc[~stored["path"].isin(damaged.keys()), "image_id"]
            missing = rows.loc[~rows["name"].isin(intact)]
            recorded = _recorded_failures(self.store)
            is_recorded = missing["name"].isin(recorded.keys())
            failures = {name: recorded[name] for name in missing.loc[is_recorded, "name"]}
            return failures | self._read_images(missing[~is_recorded], writer)

    def _read_images(self, rows: pd.DataFrame, writer: StoreWriter) -> dict[str, UnreadableImage]:
        """Read images into the store; return those that cannot be used, by name."""
        failures = {}
        locators, crop_borders = list(rows["locator"]), self.policy.crop_borders
        images = load_images(self.source, locators, self.size_px, crop_borders=crop_borders)
        with progress_bar(f"read {self.source.name}", len(rows)) as bar:
            for name, image in zip(rows["name"], images, strict=True):
                if isinstance(image, ReadImage):
                    facts = {"repairs": image.repairs, "flags": image.flags}
                    writer.add(name, image.png, columns=image.columns, facts=facts)
                else:
                    failures[name] = image
                bar.update()
        return failures

    def _record_failures(self, failures: Mapping[str, UnreadableImage]) -> None:
        """Record the files that cannot be used: they are not read again until they change."""
        recorded = _recorded_failures(self.store)
        final = {name: failure for name, failure in failures.items() if failure.is_final}
        with self.store.writer() as writer:
            for name in final.keys() - recorded.keys():
                facts = {"reason": final[name].reason, "readers": reader_versions()}
                writer.add(name, None, outcome=UNUSABLE, facts=facts)

    def _collect(self, rows: pd.DataFrame, unusable: Sequence[ScreenedImage]) -> SourceImages:
        """Join the rows whose images are stored with what is recorded of these images."""
        name = self.source.name
        facts = self.store.map_entries(lambda entry: entry.facts)
        facts = {image: facts[image] for image in rows["name"]}
        screened = [*self.not_used, *unusable]
        screened += self._list_recorded(rows, facts, "repaired", "repairs")
        screened += self._list_recorded(rows, facts, "flagged", "flags")
        n_unknown = sum(not known for known in facts.values())
        return SourceImages(
            self._join_with_store(rows),
            origins=self._origins(rows),
            screened=screened,
            unknown={name: 0 if self.source.is_simulated else n_unknown},
        )

    def _list_recorded(
        self, rows: pd.DataFrame, facts: Mapping[str, JsonObject], status: Status, fact: str
    ) -> list[ScreenedImage]:
        """List the images of which the store records repairs or flags."""
        reasons = {}
        for name, known in facts.items():
            if known.get(fact):
                reasons[name] = list(known[fact])
        images = self._screened_images(rows[rows["name"].isin(reasons.keys())], status, reasons)
        folder = self.store.folder.name
        paths = [f"{folder}/images/{name}.png" for name in rows["name"] if name in reasons]
        return [replace(image, thumbnail=path) for image, path in zip(images, paths, strict=True)]

    def _screened_images(
        self, rows: pd.DataFrame, status: Status, reasons: Mapping[str, list[str]]
    ) -> list[ScreenedImage]:
        """Build the records of rows, whose reasons are given by name in the store."""
        images = []
        for row in rows[["name", "image_id", "label", "locator"]].itertuples(index=False):
            name, image_id, label, locator = map(str, row)
            file = file_of_locator(locator)
            images.append(
                ScreenedImage(image_id, self.source.name, label, file, status, reasons[name])
            )
        return images

    def _origins(self, rows: pd.DataFrame) -> dict[str, Origin]:
        """Image id in the cohort -> where the image comes from."""
        origins = {}
        for row in rows[["image_id", "locator"]].itertuples(index=False):
            image_id, locator = map(str, row)
            origin = Origin(self.source.name, image_id, file_of_locator(locator))
            origins[f"{self.source.name}-{image_id}"] = origin
        return origins

    def _join_with_store(self, rows: pd.DataFrame) -> pd.DataFrame:
        """Join rows with what reading their images has found; the latter takes precedence."""
        stored = self.store.table().set_index("image_id").loc[rows["name"]].set_index(rows.index)
        read_columns = stored.drop(columns=["path", "sha256"]).dropna(axis=1, how="all")
        manifest_columns = rows[[name for name in rows.columns if name in COLUMNS]]
        listed_columns = manifest_columns.drop(columns=list(read_columns), errors="ignore")
        return pd.concat([listed_columns, read_columns], axis=1).assign(
            image_id=f"{self.source.name}-" + rows["image_id"].astype(str),
            path=f"{self.store.folder.name}/images/" + rows["name"] + ".png",
            sha256=stored["sha256"],
        )


def _stored_names(rows: pd.DataFrame) -> list[str]:
    """Name of each image in the store; an image that changed on disk has another stamp and name."""
    names = []
    for image_id, stamp in zip(rows["image_id"], rows["stamp"], strict=True):
        names.append(f"{image_id}-{digest(stamp)[:6]}")
    return names


def _recorded_failures(store: ImageStore) -> dict[str, UnreadableImage]:
    """Name -> why an image cannot be used, as found by the readers that are installed now."""
    failures = {}
    readers = reader_versions()
    for entry in store.attempts():
        if entry.outcome == UNUSABLE and entry.facts.get("readers") == readers:
            failures[entry.image_id] = UnreadableImage(entry.facts["reason"], is_final=True)
    return failures
