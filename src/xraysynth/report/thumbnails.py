"""Images of the page as small JPEGs inside it: galleries, and pairs of likely copies."""

import base64
import io
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from xraysynth.errors import ImageError
from xraysynth.evaluation.results import ClosestPair
from xraysynth.images import read, study_format
from xraysynth.manifest import Manifest
from xraysynth.report.content import Evaluation, PoolView
from xraysynth.report.formatting import known, number

THUMBNAIL_PX = 112
GRID_SIZE = 8
PAIRS = 6


@dataclass(frozen=True)
class Thumbnail:
    """One image of a grid; `src` is a data address, empty where the file cannot be read."""

    src: str
    alt: str
    prompt: str


def grid(manifest: Manifest, label: str, *, who: str) -> list[Thumbnail]:
    """The first `GRID_SIZE` images of a class in the order of their SHA-256, which nobody picks."""
    rows = manifest.where(manifest.table["label"] == label)
    files = [str(file) for file in rows.files]
    table = rows.table.assign(file=files).sort_values(["sha256", "image_id"]).head(GRID_SIZE)
    return [
        Thumbnail(
            src=_thumbnail(Path(str(row.file))),
            alt=f"{who}, {label}, image {number} of {len(table)}, SHA-256 {str(row.sha256)[:8]}",
            prompt=str(row.prompt),
        )
        for number, row in enumerate(table.itertuples(), 1)
    ]


def _thumbnail(file: Path) -> str:
    try:
        pixels = study_format(read(file), THUMBNAIL_PX)
    except ImageError:
        return ""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="JPEG", quality=88)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


@dataclass(frozen=True)
class Pair:
    """A synthetic image beside the training image nearest to it.

    `distance` is in units of the threshold below which images are flagged, empty where there is none.
    """

    synthetic: Thumbnail
    train: Thumbnail
    distance: str
    flagged: bool


def pairs(pool: PoolView | Evaluation) -> list[Pair]:
    """The closest pairs of a pool, nearest first, `PAIRS` at most."""
    return [_pair(row, rank, pool.generator) for rank, row in enumerate(pool.closest[:PAIRS], 1)]


def _pair(pair: ClosestPair, rank: int, who: str) -> Pair:
    synthetic = Thumbnail(_thumbnail(pair.synthetic), f"{who}, pair {rank}", "")
    nearest = f"training image nearest to {who}, pair {rank}"
    relative = pair.distance / pair.threshold if pair.threshold > 0 else None
    distance = number(relative, 2) if known(relative) else ""
    train = Thumbnail(_thumbnail(pair.train), nearest, "")
    return Pair(synthetic, train, distance, pair.flagged)
