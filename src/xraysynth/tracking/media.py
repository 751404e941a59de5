"""Images and tables of a W&B run."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from xraysynth.manifest import Manifest
from xraysynth.records import to_json

IMAGES_PER_CLASS = 8
"""Images of a class in a W&B table, in the order of their hashes: none is picked."""


def can_show_images(run: Any) -> bool:
    """Images of, or learned from, data under a use agreement reach no third party."""
    return not run.config["credentialed"]


def sample_images(images: Manifest) -> Iterator[tuple[Path, Any]]:
    """A few images of each class, in the order of their hashes."""
    chosen = images.table.sort_values("sha256").groupby("label").head(IMAGES_PER_CLASS)
    for row in chosen.sort_values(["label", "sha256"]).itertuples():
        yield images.folder / str(row.path), row


def to_wandb_image(pixels: Any, caption: str | None = None) -> Any:
    """A file, whose name goes with it, or pixels `(H, W)` uint8, as real images have to be."""
    import wandb

    return wandb.Image(str(pixels) if isinstance(pixels, Path) else pixels, caption=caption)


def to_wandb_table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> Any:
    """Rows under their columns."""
    import wandb

    return wandb.Table(columns=list(columns), data=[list(row) for row in rows])


def log_tables(run: Any, tables: Mapping[str, Sequence[object]]) -> None:
    """Records of one class as a table, by its name."""
    for name, records in tables.items():
        rows = to_json(records)
        columns = list(rows[0]) if rows else []
        run.log(
            {name: to_wandb_table(columns, [[row[column] for column in columns] for row in rows])}
        )
