"""Images of a page as small JPEGs inside its HTML: galleries, and pairs of likely copies."""

import base64
import io
import sys
from dataclasses import dataclass

from PIL import Image

from xraysynth.errors import ImageError
from xraysynth.evaluation.results import ClosestPair
from xraysynth.images import pad_and_resize, read_image
from xraysynth.manifest import ListedFile, Manifest, list_files
from xraysynth.report.content import Evaluation, PoolResults
from xraysynth.report.formatting import format_number, is_finite

THUMBNAIL_PX = 112
"""Side of a thumbnail in pixels."""

GRID_SIZE = 8
"""Number of images of a class that a gallery shows."""

MAX_PAIRS = 6
"""Number of closest pairs that a page shows of a generator."""


@dataclass(frozen=True)
class Thumbnail:
    """One small image.

    Attributes:
        src: The image as a data URL; empty where the file cannot be read.
        alt: Words for screen readers.
        prompt: The prompt that it was made from; empty for real images.
    """

    src: str
    alt: str
    prompt: str


def thumbnail_grid(manifest: Manifest, label: str, *, group_name: str) -> list[Thumbnail]:
    """Returns the first `GRID_SIZE` images of a class in the order of their SHA-256.

    The order cannot be chosen, so the images are not selected by their looks.

    Args:
        manifest: The images.
        label: The class.
        group_name: What the images are called in the words for screen readers, such as "real".
    """
    rows = manifest.where(manifest.table["label"] == label)
    table = rows.table.sort_values(["sha256", "image_id"]).head(GRID_SIZE)
    files = list_files(table, rows.folder)
    thumbnails = []
    for number, (file, row) in enumerate(zip(files, table.itertuples(), strict=True), 1):
        digest = str(row.sha256)[:8]
        alt = f"{group_name}, {label}, image {number} of {len(table)}, SHA-256 {digest}"
        thumbnails.append(Thumbnail(_encode_thumbnail(file), alt, str(row.prompt)))
    return thumbnails


def file_thumbnail(file: ListedFile, alt: str) -> Thumbnail:
    """Returns an image file as a thumbnail with words for screen readers."""
    return Thumbnail(_encode_thumbnail(file), alt, "")


def _encode_thumbnail(file: ListedFile) -> str:
    """Returns an image as the data URL of a JPEG; empty where the file cannot be read or was altered."""
    try:
        pixels = pad_and_resize(read_image(file.path, sha256=file.sha256), THUMBNAIL_PX)
    except ImageError as error:
        print(f"warning: a picture of the page is left out: {error}", file=sys.stderr, flush=True)
        return ""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="JPEG", quality=88)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


@dataclass(frozen=True)
class ThumbnailPair:
    """A synthetic image and the training image nearest to it.

    Attributes:
        synthetic: The synthetic image.
        train: The training image.
        distance: Their distance in units of the threshold below which images are flagged; empty without
            a threshold.
        flagged: Whether the synthetic image has a memorisation flag.
    """

    synthetic: Thumbnail
    train: Thumbnail
    distance: str
    flagged: bool


def closest_pairs(pool: PoolResults | Evaluation) -> list[ThumbnailPair]:
    """Returns the closest pairs of a pool, nearest first, at most `MAX_PAIRS`."""
    pairs = []
    for rank, closest in enumerate(pool.closest[:MAX_PAIRS], 1):
        pairs.append(_thumbnail_pair(closest, rank, pool.generator))
    return pairs


def _thumbnail_pair(closest: ClosestPair, rank: int, generator: str) -> ThumbnailPair:
    """Returns one pair with its distance in units of the threshold."""
    synthetic = Thumbnail(
        _encode_thumbnail(closest.synthetic_file), f"{generator}, pair {rank}", ""
    )
    nearest = f"training image nearest to {generator}, pair {rank}"
    relative = closest.distance / closest.threshold if closest.threshold > 0 else None
    distance = format_number(relative, 2) if is_finite(relative) else ""
    train = Thumbnail(_encode_thumbnail(closest.train_file), nearest, "")
    return ThumbnailPair(synthetic, train, distance, closest.flagged)
