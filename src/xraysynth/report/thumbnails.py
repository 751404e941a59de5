"""Images of the page as small JPEGs inside it: galleries, and pairs of likely copies."""

import base64
import io
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from xraysynth.errors import ImageError
from xraysynth.evaluation.results import ClosestPair
from xraysynth.images import pad_and_resize, read_image
from xraysynth.manifest import Manifest
from xraysynth.report.content import Evaluation, PoolResults
from xraysynth.report.formatting import format_number, is_finite

THUMBNAIL_PX = 112
GRID_SIZE = 8
MAX_PAIRS = 6


@dataclass(frozen=True)
class Thumbnail:
    """One image of a grid; `src` is a data address, empty where the file cannot be read."""

    src: str
    alt: str
    prompt: str


def thumbnail_grid(manifest: Manifest, label: str, *, group_name: str) -> list[Thumbnail]:
    """The first `GRID_SIZE` images of a class in the order of their SHA-256, which nobody picks."""
    rows = manifest.where(manifest.table["label"] == label)
    files = [str(file) for file in rows.files]
    table = rows.table.assign(file=files).sort_values(["sha256", "image_id"]).head(GRID_SIZE)
    return [
        Thumbnail(
            src=_encode_thumbnail(Path(str(row.file))),
            alt=f"{group_name}, {label}, image {number} of {len(table)}, SHA-256 {str(row.sha256)[:8]}",
            prompt=str(row.prompt),
        )
        for number, row in enumerate(table.itertuples(), 1)
    ]


def _encode_thumbnail(file: Path) -> str:
    try:
        pixels = pad_and_resize(read_image(file), THUMBNAIL_PX)
    except ImageError:
        return ""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="JPEG", quality=88)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


@dataclass(frozen=True)
class ThumbnailPair:
    """A synthetic image beside the training image nearest to it.

    `distance` is in units of the threshold below which images are flagged, empty where there is none.
    """

    synthetic: Thumbnail
    train: Thumbnail
    distance: str
    flagged: bool


def closest_pairs(pool: PoolResults | Evaluation) -> list[ThumbnailPair]:
    """The closest pairs of a pool, nearest first, `PAIRS` at most."""
    return [
        _thumbnail_pair(row, rank, pool.generator)
        for rank, row in enumerate(pool.closest[:MAX_PAIRS], 1)
    ]


def _thumbnail_pair(closest: ClosestPair, rank: int, generator: str) -> ThumbnailPair:
    synthetic = Thumbnail(_encode_thumbnail(closest.synthetic), f"{generator}, pair {rank}", "")
    nearest = f"training image nearest to {generator}, pair {rank}"
    relative = closest.distance / closest.threshold if closest.threshold > 0 else None
    distance = format_number(relative, 2) if is_finite(relative) else ""
    train = Thumbnail(_encode_thumbnail(closest.train), nearest, "")
    return ThumbnailPair(synthetic, train, distance, closest.flagged)
