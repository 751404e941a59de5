"""Generator that reads images which exist already: from a retired model, or from another lab."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

import pandas as pd

from xraysynth.data.reading.image_tables import ImageTable, TableReader
from xraysynth.data.reading.label_classes import choose_classes
from xraysynth.data.reading.names import MISSING_WORDS
from xraysynth.errors import DataNotFoundError, ImageError
from xraysynth.generation.generators.base import GeneratorCard
from xraysynth.generation.ledger import Ledger
from xraysynth.images import decode_image, require_plain_file
from xraysynth.options import FROM_FILE, FolderName, PathText, expand_path
from xraysynth.records import (
    LEARNING_RECORD_FILE,
    GenerationResult,
    LearningRecord,
    Request,
    require_inside,
    sha256_bytes,
)
from xraysynth.seeds import digest


@dataclass(frozen=True)
class Archive:
    """A folder of images with a manifest, a table of any form that lists their paths and labels.

    `manifest` is the name of the manifest in `folder`. Its paths are relative to the folder. Three more
    columns are used if they exist: prompt, seed, and sha256, against which the files are checked.
    `labels` translates labels of the manifest to classes of the study. Request n of a class gets the
    n-th image of that class by path; when there are no more, the outcome is `empty`. Rows without a label
    or a file are left out. `origin` says what made the images, and `licence` how they may be used.
    """

    folder: PathText
    manifest: str = "manifest.csv"
    name: FolderName = "archive"
    origin: str = "unknown"
    licence: str = "unknown"
    labels: Annotated[dict[str, str], FROM_FILE] = field(default_factory=dict)

    @property
    def card(self) -> GeneratorCard:
        """How these images can be obtained."""
        return GeneratorCard(
            title=f"archived images ({self.origin})",
            access="archive",
            licence=self.licence,
            offline=True,
            seeds_reproducible=True,
            prompt_control="none",
            fine_tunable="no",
            hardware="none",
            set_up="images and a manifest in a folder",
            price="paid when they were made",
        )

    @property
    def block_size(self) -> None:
        """None, since images do not depend on each other."""

    @cached_property
    def listed(self) -> ImageTable:
        """The manifest as it was read, with the rows that are not used and why.

        Raises `DataNotFoundError` without a manifest or any file of it, and `ManifestError` if a column is
        missing, a path leaves the folder, or a path has two labels.
        """
        path = self._folder / self.manifest
        if not path.is_file():
            raise DataNotFoundError(
                f"generator.{self.name}: there is no manifest {path}; write one with the columns path and "
                f"label, or set generator.{self.name}.folder and generator.{self.name}.manifest"
            )
        return TableReader(path, self._folder, owner=f"generator.{self.name}").read()

    @cached_property
    def table(self) -> pd.DataFrame:
        """The rows that are used, sorted by path, with labels translated by `labels`."""
        rows = self.listed.used
        facts = self.listed.table.loc[rows.index]
        for column in ("prompt", "seed"):
            if column in facts:
                rows = rows.assign(**{column: facts[column]})
        rows = rows.assign(label=rows["label"].replace(self.labels))
        return rows.sort_values("path", ignore_index=True)

    @property
    def _folder(self) -> Path:
        return expand_path(self.folder)

    def content_digest(self) -> str:
        """Return the SHA-256 (hex) of labels, paths and the contents of the files."""
        files = [sha256_bytes(self._read(path)) for path in self.table["file"]]
        return digest([self._identity_cells(), files])

    def _identity_cells(self) -> list[list[Any]]:
        """The cells of the used rows by path, as earlier versions held them: missing ones as NaN."""
        path = self._folder / self.manifest
        used = self.listed.used
        with path.open("rb") as file:
            is_parquet = file.read(4) == b"PAR1"
        if is_parquet:  # the line of a row is its number
            cells = pd.read_parquet(path).iloc[[line - 1 for line in used.index]]
        else:
            cells = self.listed.table.loc[used.index]
            is_missing = cells.isin([*MISSING_WORDS, ""])
            cells = cells.astype(object).mask(is_missing, float("nan"))
        order = used["path"].reset_index(drop=True).sort_values(kind="stable").index
        cells = cells.iloc[order]
        label = self.listed.label_column
        if label:
            cells = cells.assign(**{label: cells[label].replace(self.labels)})
        values: list[list[Any]] = (cells.astype(str) if is_parquet else cells).to_numpy().tolist()
        return values

    def _read(self, path: str) -> bytes:
        file = require_inside(self._folder, path)
        try:
            require_plain_file(file)
            return file.read_bytes()
        except OSError as error:
            raise ImageError(f"{file}: {error.strerror}; correct {self.manifest}") from error

    def generate(self, requests: Sequence[Request]) -> Iterator[GenerationResult]:
        """Yield the archived image of each request, in order.

        Raises:
            ImageError: If a file is missing, is no image, or differs from its SHA-256 in the manifest.
        """
        for request in requests:
            rows = self._rows_of_class(request.label)
            if request.index >= len(rows):
                yield GenerationResult(
                    request, "empty", reason=self._describe_end(request.label, rows)
                )
                continue
            yield self._load_image(request, rows.iloc[request.index])

    def _rows_of_class(self, name: str) -> pd.DataFrame:
        """The rows whose label is a class, or if there are none, a usual word for it."""
        rows = self.table[self.table["label"] == name]
        if len(rows):
            return rows
        chosen = choose_classes(self.table["label"].unique(), {}, [name])
        return self.table[[chosen[label].name == name for label in self.table["label"]]]

    def _describe_end(self, name: str, rows: pd.DataFrame) -> str:
        """Why there is no further image of a class, with the rows of the manifest that are not used."""
        reason = f"the archive holds {len(rows)} images of {name}"
        not_used = [f"{count} {why}" for why, count in self.listed.count_not_used().items()]
        return f"{reason}; not used: {', '.join(not_used)}" if not_used else reason

    def learning_record(self) -> LearningRecord | None:
        """Return the learning record that lies next to the images if they are a pool; else None."""
        return LearningRecord.read(self._folder / LEARNING_RECORD_FILE)

    def model_ledger(self) -> Ledger:
        """Return an empty ledger, since no model is loaded."""
        return Ledger()

    def _load_image(self, request: Request, row: "pd.Series[str]") -> GenerationResult:
        """Return the image of a manifest row, for the request with the row's prompt and seed."""
        data = self._read(row["file"])
        expected = str(row.get("sha256", ""))
        if expected and sha256_bytes(data) != expected.lower():
            raise ImageError(
                f"{self.folder}/{row['path']}: SHA-256 differs from {self.manifest}; restore the file, or "
                "correct the manifest"
            )
        request = replace(
            request, prompt=row.get("prompt", ""), seed=_parse_seed(row.get("seed", ""))
        )
        return GenerationResult(
            request, "image", decode_image(data, f"{self.folder}/{row['path']}")
        )


def _parse_seed(text: str) -> int:
    """The number of a seed; 0 if it is not known."""
    return int(text) if text.isdecimal() else 0
