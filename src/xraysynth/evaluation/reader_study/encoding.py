"""Real and synthetic images as the same kind of pixels, in files without a size of their own.

Every image takes one path: black bars off, centre square, size, range. Then up to `TILES_PER_SHEET` of
them, a like mix in each, become one grey JPEG of fixed quality: no image has a file, a compression
or a length of its own that could tell what it is. What the pixels themselves show,
such as the smoothness of a generator or traces of an earlier JPEG, is what readers are asked about
and stays.
"""

import base64
import io
from collections.abc import Hashable, Sequence

import numpy as np
from PIL import Image

from xraysynth.evaluation.reader_study.sample import partition_by_cell

TILES_PER_ROW, TILES_PER_SHEET = 4, 16
JPEG_BLOCK_PX = 8
"""Side of a JPEG block: images of a sheet start at multiples of it, and do not touch each other's."""

JPEG_QUALITY = 95
RANGE_PERCENTILES = (1, 99)
"""Percentiles that become black and white."""

BLACK_LEVEL, BRIGHT_ONE_IN = 16, 50


def normalise_image(pixels: np.ndarray, side_px: int, seed: int) -> np.ndarray:
    """`(H, W)` uint8 -> `(side_px, side_px)` uint8 with the range and the size of all others.

    Noise of one grey level, before the range is stretched, fills the gaps that stretching would
    leave in the histogram, which would tell what the range was.
    """
    square = crop_square(crop_bars(pixels)).astype(np.float32)
    resized = Image.fromarray(square).resize((side_px, side_px), Image.Resampling.BICUBIC)
    noise = np.random.default_rng(seed).random((side_px, side_px), np.float32) - 0.5
    dithered = np.asarray(resized) + noise
    low, high = np.percentile(dithered, RANGE_PERCENTILES)
    stretched = (dithered - low) * (255 / max(high - low, 1.0))
    whole: np.ndarray = np.clip(np.round(stretched), 0, 255).astype(np.uint8)
    return whole


def crop_bars(pixels: np.ndarray) -> np.ndarray:
    """The image without the black bars on two opposite sides that padding to a square leaves.

    A generator that learned from padded images makes bars that are nearly black: a row or column
    belongs to the image if one in `BRIGHT_ONE_IN` of its pixels is above `BLACK_LEVEL`.
    """
    seen = pixels > BLACK_LEVEL
    rows, columns = (seen.mean(axis=axis) * BRIGHT_ONE_IN >= 1 for axis in (1, 0))
    if not (rows.any() and columns.any()):
        return pixels
    top, left = (min(_first_true(held), _first_true(held[::-1])) for held in (rows, columns))
    height, width = pixels.shape
    return pixels[top : height - top, left : width - left]


def crop_square(pixels: np.ndarray) -> np.ndarray:
    """The largest square around the centre: readers would know a real image by its shape."""
    height, width = pixels.shape
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return pixels[top : top + side, left : left + side]


def _first_true(mask: np.ndarray) -> int:
    return int(np.argmax(mask))


def sheet_positions(
    cells: Sequence[Hashable], side_px: int, seed: int
) -> list[tuple[int, int, int]]:
    """(sheet, x, y) of each image, given the cell it was drawn from.

    Every sheet has the same mix of cells: else its size would tell how many of its images are of
    the kind that compresses well.
    """
    rng = np.random.default_rng(seed)
    found: dict[int, tuple[int, int, int]] = {}
    for sheet, held in enumerate(partition_by_cell(cells, -(-len(cells) // TILES_PER_SHEET), rng)):
        for slot, image in enumerate(rng.permutation(held).tolist()):
            row, column = divmod(slot, TILES_PER_ROW)
            found[image] = (sheet, _tile_pitch(side_px) * column, _tile_pitch(side_px) * row)
    return [found[image] for image in range(len(cells))]


def encode_sheets(
    images: Sequence[np.ndarray], positions: Sequence[tuple[int, int, int]]
) -> list[bytes]:
    """JPEGs with the images `(S, S)` uint8 at their places."""
    tiles: dict[int, list[tuple[np.ndarray, int, int]]] = {}
    for pixels, (sheet, x, y) in zip(images, positions, strict=True):
        tiles.setdefault(sheet, []).append((pixels, x, y))
    return [_encode_sheet(tiles[sheet]) for sheet in sorted(tiles)]


def data_uri(jpeg: bytes) -> str:
    """A JPEG as it stands in a page."""
    return "data:image/jpeg;base64," + base64.b64encode(jpeg).decode()


def _tile_pitch(side_px: int) -> int:
    return -(-side_px // JPEG_BLOCK_PX) * JPEG_BLOCK_PX


def _encode_sheet(tiles: Sequence[tuple[np.ndarray, int, int]]) -> bytes:
    side = len(tiles[0][0])
    pitch = _tile_pitch(side)
    canvas = np.zeros((max(y for *_, y in tiles) + pitch, TILES_PER_ROW * pitch), np.uint8)
    for pixels, x, y in tiles:
        canvas[y : y + pitch, x : x + pitch] = np.pad(pixels, (0, pitch - side), mode="edge")
    buffer = io.BytesIO()
    Image.fromarray(canvas).save(buffer, format="JPEG", quality=JPEG_QUALITY)
    return buffer.getvalue()
