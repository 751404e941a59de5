"""Images that exist already, from a model that is gone or another lab: a generator like any other."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import pandas as pd

from xraysynth.errors import DataNotFoundError, ImageError, ManifestError, format_some
from xraysynth.generation.generators.base import GeneratorCard
from xraysynth.generation.ledger import Ledger
from xraysynth.images import decode_image
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

    Paths are relative to the folder. Further columns are used where they are there: prompt, seed,
    and sha256, against which files are checked. Request n of a class is the n-th image of that class
    by path; when there are no more, the outcome is `empty`. `origin` says what made the images.
    """

    folder: str
    manifest: str = "manifest.csv"
    name: str = "archive"
    origin: str = "unknown"
    licence: str = "unknown"
    labels: dict[str, str] = field(default_factory=dict)

    @property
    def card(self) -> GeneratorCard:
        """How these images can be had."""
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
        """Images have nothing to do with each other."""

    @cached_property
    def table(self) -> pd.DataFrame:
        """The manifest, ordered by path, labels translated."""
        path = Path(self.folder).expanduser() / self.manifest
        if not path.is_file():
            raise DataNotFoundError(
                f"generator.{self.name}: no manifest {path}; write one with the columns path and label, or "
                f"set generator.{self.name}.folder and generator.{self.name}.manifest"
            )
        table = pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path, dtype=str)
        missing = {"path", "label"} - set(table.columns)
        if missing:
            raise ManifestError(
                f"{path}: needs the columns path and label, but has no {format_some(missing)}"
            )
        blank = table["path"].isna() | table["label"].isna()
        if blank.any() or table["path"].duplicated().any():
            rows = table.loc[blank | table["path"].duplicated(), "path"]
            raise ManifestError(
                f"{path}: every row needs a path of its own and a label: {format_some(rows)}"
            )
        table = table.assign(label=table["label"].replace(self.labels))
        return table.sort_values("path", ignore_index=True)

    def content_digest(self) -> str:
        """SHA-256 over labels, paths and the files themselves."""
        files = [sha256_bytes(self._read(path)) for path in self.table["path"]]
        return digest([self.table.astype(str).to_numpy().tolist(), files])

    def _read(self, path: str) -> bytes:
        file = require_inside(Path(self.folder).expanduser(), path)
        try:
            return file.read_bytes()
        except OSError as error:
            raise ImageError(f"{file}: {error.strerror}; correct {self.manifest}") from error

    def generate(self, requests: Sequence[Request]) -> Iterator[GenerationResult]:
        """The archived image of each request, in order."""
        for request in requests:
            rows = self.table[self.table["label"] == request.label]
            if request.index >= len(rows):
                reason = f"the archive holds {len(rows)} images of {request.label}"
                yield GenerationResult(request, "empty", reason=reason)
                continue
            yield self._load_image(request, rows.iloc[request.index])

    def learning_record(self) -> LearningRecord | None:
        """What lies beside the images, if they are a pool."""
        return LearningRecord.read(Path(self.folder).expanduser() / LEARNING_RECORD_FILE)

    def model_ledger(self) -> Ledger:
        """Nothing is loaded, and nothing computed."""
        return Ledger()

    def _load_image(self, request: Request, row: "pd.Series[str]") -> GenerationResult:
        data = self._read(row["path"])
        expected = row.get("sha256")
        if isinstance(expected, str) and expected and sha256_bytes(data) != expected:
            raise ImageError(f"{self.folder}/{row['path']}: SHA-256 differs from {self.manifest}")
        prompt, seed = row.get("prompt"), row.get("seed")
        request = replace(
            request,
            prompt=prompt if isinstance(prompt, str) else "",
            seed=int(seed) if pd.notna(seed) and str(seed) else 0,
        )
        return GenerationResult(request, "image", decode_image(data, row["path"]))
