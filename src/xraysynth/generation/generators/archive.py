"""Generator that reads images which exist already: from a retired model, or from another lab."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import pandas as pd

from xraysynth.data.reading.tables import read_table_file
from xraysynth.errors import DataNotFoundError, ImageError, ManifestError, format_some
from xraysynth.generation.generators.base import GeneratorCard
from xraysynth.generation.ledger import Ledger
from xraysynth.images import decode_image, require_plain_file
from xraysynth.options import FolderName
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
    """A folder of images with a manifest (CSV or Parquet) that has the columns path and label.

    `manifest` is the name of the manifest in `folder`. Its paths are relative to the folder. Three more
    columns are used if they exist: prompt, seed, and sha256, against which the files are checked.
    `labels` translates labels of the manifest to classes of the study. Request n of a class gets the
    n-th image of that class by path; when there are no more, the outcome is `empty`. `origin` says what
    made the images, and `licence` how they may be used.
    """

    folder: str
    manifest: str = "manifest.csv"
    name: FolderName = "archive"
    origin: str = "unknown"
    licence: str = "unknown"
    labels: dict[str, str] = field(default_factory=dict)

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
    def table(self) -> pd.DataFrame:
        """The manifest, sorted by path, with labels translated by `labels`.

        Raises `DataNotFoundError` without a manifest, and `ManifestError` if a column or a value is
        missing or a path is not unique.
        """
        path = Path(self.folder).expanduser() / self.manifest
        if not path.is_file():
            raise DataNotFoundError(
                f"generator.{self.name}: there is no manifest {path}; write one with the columns path and "
                f"label, or set generator.{self.name}.folder and generator.{self.name}.manifest"
            )
        table = read_table_file(path)
        missing = {"path", "label"} - set(table.columns)
        if missing:
            raise ManifestError(
                f"{path}: a manifest needs the columns path and label, but this one has no "
                f"{format_some(missing)}"
            )
        has_blank = table["path"].isna() | table["label"].isna()
        is_duplicate = table["path"].duplicated()
        wrong_rows = has_blank | is_duplicate
        if wrong_rows.any():
            raise ManifestError(
                f"{path}: every row needs a label and a path of its own; correct the rows "
                f"{format_some(table.loc[wrong_rows, 'path'])}"
            )
        table = table.assign(label=table["label"].replace(self.labels))
        return table.sort_values("path", ignore_index=True)

    def content_digest(self) -> str:
        """Return the SHA-256 (hex) of labels, paths and the contents of the files."""
        files = [sha256_bytes(self._read(path)) for path in self.table["path"]]
        return digest([self.table.astype(str).to_numpy().tolist(), files])

    def _read(self, path: str) -> bytes:
        file = require_inside(Path(self.folder).expanduser(), path)
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
            rows = self.table[self.table["label"] == request.label]
            if request.index >= len(rows):
                reason = f"the archive holds {len(rows)} images of {request.label}"
                yield GenerationResult(request, "empty", reason=reason)
                continue
            yield self._load_image(request, rows.iloc[request.index])

    def learning_record(self) -> LearningRecord | None:
        """Return the learning record that lies next to the images if they are a pool; else None."""
        return LearningRecord.read(Path(self.folder).expanduser() / LEARNING_RECORD_FILE)

    def model_ledger(self) -> Ledger:
        """Return an empty ledger, since no model is loaded."""
        return Ledger()

    def _load_image(self, request: Request, row: "pd.Series[str]") -> GenerationResult:
        """Return the image of a manifest row, for the request with the row's prompt and seed."""
        data = self._read(row["path"])
        expected = row.get("sha256")
        if isinstance(expected, str) and expected and sha256_bytes(data) != expected:
            raise ImageError(
                f"{self.folder}/{row['path']}: SHA-256 differs from {self.manifest}; restore the file, or "
                "correct the manifest"
            )
        prompt, seed = row.get("prompt"), row.get("seed")
        request = replace(
            request,
            prompt=prompt if isinstance(prompt, str) else "",
            seed=int(seed) if pd.notna(seed) and str(seed) else 0,
        )
        return GenerationResult(
            request, "image", decode_image(data, f"{self.folder}/{row['path']}")
        )
