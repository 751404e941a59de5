"""Images and tables of a W&B run."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from xraysynth.images import read_file
from xraysynth.manifest import ListedFile, Manifest
from xraysynth.records import to_json

if TYPE_CHECKING:
    import numpy as np

IMAGES_PER_CLASS = 8
"""Images of a class in a W&B table. The order of their hashes selects them, so none is picked."""


def can_show_images(run: Any) -> bool:
    """Returns False where a source is under a data use agreement.

    Neither its images nor images of generators fine-tuned on them may reach a third party.
    """
    return not run.config["credentialed"]


def sample_images(images: Manifest) -> Iterator[tuple[ListedFile, Any]]:
    """Yields (file, row of the manifest) of `IMAGES_PER_CLASS` images of each class."""
    sample = images.table.sort_values("sha256").groupby("label").head(IMAGES_PER_CLASS)
    for row in sample.sort_values(["label", "sha256"]).itertuples():
        yield ListedFile(images.folder / str(row.path), str(row.sha256)), row


def to_wandb_image(pixels: "ListedFile | np.ndarray", caption: str | None = None) -> Any:
    """Returns a W&B image.

    Args:
        pixels: A file, whose name W&B then stores, or pixels `(H, W)` uint8. Real images must be
            pixels, since their file names may identify patients.
        caption: Text below the image.

    Raises:
        ImageError: The file is missing, or has not the SHA-256 that is listed.
    """
    import wandb

    if not isinstance(pixels, ListedFile):
        return wandb.Image(pixels, caption=caption)
    read_file(pixels.path, sha256=pixels.sha256)
    return wandb.Image(str(pixels.path), caption=caption)


def to_wandb_table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> Any:
    """Returns a W&B table; each row has one value per column."""
    import wandb

    return wandb.Table(columns=list(columns), data=list(map(list, rows)))


def frame_to_table(frame: Any) -> Any:
    """Converts a data frame to a W&B table; NaN and <NA> become None."""
    return to_wandb_table(list(frame.columns), json.loads(frame.to_json(orient="values")))


def log_tables(run: Any, tables: Mapping[str, Sequence[object]]) -> None:
    """Logs sequences of records as tables, by name; a column per field of the records' class."""
    for name, records in tables.items():
        rows = to_json(records)
        columns = list(rows[0]) if rows else []
        run.log({name: to_wandb_table(columns, [list(row.values()) for row in rows])})
