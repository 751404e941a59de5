"""Encodes real and synthetic images in the same way, so that no file reveals which is which.

Every image takes one path: black bars cropped, centre square, size, range of grey levels. Then up to
`TILES_PER_SHEET` images, with the same mix of cells in each sheet, become one grey JPEG of fixed quality:
no image has a file, a compression or a length of its own. What the pixels themselves show, such as the
smoothness of a generator or traces of an earlier JPEG, stays, because readers are asked about it.
"""

import base64
import io
from collections.abc import Hashable, Sequence
from operator import itemgetter

import numpy as np
from PIL import Image

from xraysynth.evaluation.reader_study.sample import partition_by_cell

TILES_PER_ROW, TILES_PER_SHEET = 4, 16
JPEG_BLOCK_PX = 8
"""Side of a JPEG block: images of a sheet start at multiples of it, so that no block holds two images."""

JPEG_QUALITY = 95
RANGE_PERCENTILES = (1, 99)
"""Percentiles of grey levels that become black and white."""

BLACK_LEVEL, BRIGHT_ONE_IN = 16, 50


def normalise_image(pixels: np.ndarray, side_px: int, seed: int) -> np.ndarray:
    """Returns an image `(H, W)` uint8 as `(side_px, side_px)` uint8 with the range of all others.

    Noise of one grey level fills the gaps that stretching the range would leave in the histogram, which
    would tell what the range was.

    Args:
        pixels: The image.
        side_px: The side to resize to, in pixels.
        seed: The seed of the noise.
    """
    square = crop_square(crop_bars(pixels)).astype(np.float32)
    resized = Image.fromarray(square).resize((side_px, side_px), Image.Resampling.BICUBIC)
    noise = np.random.default_rng(seed).random((side_px, side_px), np.float32) - 0.5
    noisy = np.asarray(resized) + noise
    low, high = np.percentile(noisy, RANGE_PERCENTILES)
    stretched = (noisy - low) * (255 / max(high - low, 1.0))
    normalised: np.ndarray = np.clip(np.round(stretched), 0, 255).astype(np.uint8)
    return normalised


def crop_bars(pixels: np.ndarray) -> np.ndarray:
    """Crops the black bars on two opposite sides that padding to a square leaves.

    A generator that was trained on padded images makes bars that are nearly black: a row or column belongs
    to the image if at least one in `BRIGHT_ONE_IN` of its pixels is above `BLACK_LEVEL`.
    """
    is_bright = pixels > BLACK_LEVEL
    is_image_row = is_bright.mean(axis=1) * BRIGHT_ONE_IN >= 1
    is_image_column = is_bright.mean(axis=0) * BRIGHT_ONE_IN >= 1
    if not (is_image_row.any() and is_image_column.any()):
        return pixels
    top, left = _bar_width(is_image_row), _bar_width(is_image_column)
    height, width = pixels.shape
    return pixels[top : height - top, left : width - left]


def _bar_width(is_image: np.ndarray) -> int:
    """Returns the width of the narrower bar, the number of False at the start or at the end."""
    return min(int(np.argmax(is_image)), int(np.argmax(is_image[::-1])))


def crop_square(pixels: np.ndarray) -> np.ndarray:
    """Crops the largest square around the centre, because readers would know real images by their shape."""
    height, width = pixels.shape
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return pixels[top : top + side, left : left + side]


def sheet_positions(
    cells: Sequence[Hashable], side_px: int, seed: int
) -> list[tuple[int, int, int]]:
    """Places images on sheets at random, with the same mix of cells on every sheet.

    Otherwise the size of a sheet would tell how many of its images are of the kind that compresses well.

    Args:
        cells: The cell of each image.
        side_px: The side of an image in pixels.
        seed: The seed of the places.

    Returns:
        The sheet of each image, and the left and upper edge in this sheet in pixels: (sheet, x, y).
    """
    rng = np.random.default_rng(seed)
    pitch = _tile_pitch(side_px)
    n_sheets = -(-len(cells) // TILES_PER_SHEET)
    positions: dict[int, tuple[int, int, int]] = {}
    for sheet, images in enumerate(partition_by_cell(cells, n_sheets, rng)):
        for tile, image in enumerate(rng.permutation(images).tolist()):
            row, column = divmod(tile, TILES_PER_ROW)
            positions[image] = (sheet, pitch * column, pitch * row)
    return [positions[image] for image in range(len(cells))]


def encode_sheets(
    images: Sequence[np.ndarray], positions: Sequence[tuple[int, int, int]]
) -> list[bytes]:
    """Encodes images `(S, S)` uint8 at their positions (sheet, x, y), one JPEG per sheet."""
    tiles: dict[int, list[tuple[np.ndarray, int, int]]] = {}
    for pixels, (sheet, x, y) in zip(images, positions, strict=True):
        tiles.setdefault(sheet, []).append((pixels, x, y))
    return [_encode_sheet(tiles[sheet]) for sheet in sorted(tiles)]


def data_uri(jpeg: bytes) -> str:
    """Returns a JPEG as a data URI for a page."""
    return "data:image/jpeg;base64," + base64.b64encode(jpeg).decode()


def _tile_pitch(side_px: int) -> int:
    """Returns the distance of images in a sheet, the side rounded up to whole JPEG blocks."""
    return -(-side_px // JPEG_BLOCK_PX) * JPEG_BLOCK_PX


def _encode_sheet(tiles: Sequence[tuple[np.ndarray, int, int]]) -> bytes:
    """Encodes one sheet; the edge of an image fills the rest of its last JPEG blocks."""
    side = len(tiles[0][0])
    pitch = _tile_pitch(side)
    _, _, last_y = max(tiles, key=itemgetter(2))
    canvas = np.zeros((last_y + pitch, TILES_PER_ROW * pitch), np.uint8)
    for pixels, x, y in tiles:
        canvas[y : y + pitch, x : x + pitch] = np.pad(pixels, (0, pitch - side), mode="edge")
    buffer = io.BytesIO()
    Image.fromarray(canvas).save(buffer, format="JPEG", quality=JPEG_QUALITY)
    return buffer.getvalue()
