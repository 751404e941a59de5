"""The images of sources after screening: a table of those that are used, and what became of the others."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import pandas as pd

from xraysynth.data.recipe import Screening
from xraysynth.data.screening import ScreenedImage, ScreeningCounts, count_images
from xraysynth.data.two_labels import (
    choose_rows_to_leave_out,
    find_two_labels,
    require_rule_for_two_labels,
)

BLANK_FLAG = "blank"
"""Images with this flag show nobody, so that two of them are not one picture under two labels."""


@dataclass(frozen=True)
class Origin:
    """Where an image that is used comes from: its source, its id there, and its file."""

    source: str
    image_id: str
    file: str


@dataclass(frozen=True)
class SourceImages:
    """The images of one source or several.

    Attributes:
        table: One row per image that is used, with the columns of a manifest that the sources fill,
            `path` (relative to the folder of cohorts) and `sha256`.
        origins: Image id in `table` -> where the image comes from.
        screened: The images that are not simply used.
        unknown: Name of the source -> number of images of which an earlier version has recorded neither
            repairs nor flags.
    """

    table: pd.DataFrame
    origins: Mapping[str, Origin]
    screened: Sequence[ScreenedImage]
    unknown: Mapping[str, int]

    @classmethod
    def concat(cls, parts: Sequence["SourceImages"]) -> "SourceImages":
        """Join the images of several sources."""
        origins: dict[str, Origin] = {}
        screened: list[ScreenedImage] = []
        unknown: dict[str, int] = {}
        for part in parts:
            origins |= part.origins
            screened += part.screened
            unknown |= part.unknown
        table = pd.concat([part.table for part in parts], ignore_index=True)
        return cls(table, origins, screened, unknown)

    def counts(self) -> dict[str, ScreeningCounts]:
        """Count the images of each source by what became of them."""
        n_used = Counter(self.origins[image_id].source for image_id in self.table["image_id"])
        counts = {}
        for source, unknown in self.unknown.items():
            images = [image for image in self.screened if image.source == source]
            counts[source] = count_images(images, used=n_used[source], unknown=unknown)
        return counts

    def with_rule_for_two_labels(self, policy: Screening) -> "SourceImages":
        """Return the images without those under a label that does not hold (`two_labels`).

        Raises:
            ManifestError: A picture is there under two labels, and no rule says which holds.
        """
        pictures = find_two_labels(self.table, ignored_ids=self._blank_ids())
        if not pictures:
            return self
        files = {image_id: origin.file for image_id, origin in self.origins.items()}
        require_rule_for_two_labels(pictures, self.table, files, policy)
        return self.leave_out(choose_rows_to_leave_out(pictures, policy))

    def _blank_ids(self) -> list[str]:
        """Ids in the table of the images that show nothing."""
        blank = set()
        for image in self.screened:
            if image.status == "flagged" and BLANK_FLAG in image.reasons:
                blank.add((image.source, image.image_id))
        ids = []
        for image_id, origin in self.origins.items():
            if (origin.source, origin.image_id) in blank:
                ids.append(image_id)
        return ids

    def leave_out(self, reasons: Mapping[int, str]) -> "SourceImages":
        """Return the images without some rows of the table, which are then counted as left out.

        Args:
            reasons: Row number -> why the image is left out.
        """
        left_out = [self._left_out_image(row, reason) for row, reason in reasons.items()]
        gone = {(image.source, image.image_id) for image in left_out}
        others = [image for image in self.screened if (image.source, image.image_id) not in gone]
        is_used = ~pd.Series(range(len(self.table))).isin(reasons.keys()).to_numpy()
        table = self.table[is_used].reset_index(drop=True)
        return replace(self, table=table, screened=[*others, *left_out])

    def _left_out_image(self, row: int, reason: str) -> ScreenedImage:
        values = self.table.iloc[row]
        origin = self.origins[values["image_id"]]
        return ScreenedImage(
            origin.image_id,
            origin.source,
            label=str(values["label"]),
            file=origin.file,
            status="left out",
            reasons=[reason],
            thumbnail=str(values["path"]),
        )
