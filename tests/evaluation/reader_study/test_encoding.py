import io

import numpy as np
import pytest
from PIL import Image

from xraysynth.evaluation.reader_study.encoding import (
    JPEG_BLOCK_PX,
    TILES_PER_SHEET,
    crop_bars,
    crop_square,
    encode_sheets,
    normalise_image,
    sheet_positions,
)


def noise(height=64, width=64, low=30, high=120, seed=0):
    return np.random.default_rng(seed).integers(low, high, (height, width)).astype(np.uint8)


def opened(jpeg):
    return np.asarray(Image.open(io.BytesIO(jpeg))).astype(int)


@pytest.mark.parametrize("pixels", [noise(), noise(48, 96), noise(300, 200, 0, 256), noise(8, 8)])
def test_images_of_any_size_and_range_get_the_same(pixels):
    found = normalise_image(pixels, 64, 1)
    assert found.shape == (64, 64)
    assert found.dtype == np.uint8
    assert (found.min(), found.max()) == (0, 255)
    assert 0.005 < (found == 0).mean() < 0.02
    assert 0.005 < (found == 255).mean() < 0.02


def test_stretching_leaves_no_comb_in_the_histogram():
    few = noise(256, 256, 100, 130)
    used = np.bincount(normalise_image(few, 256, 1).ravel(), minlength=256)
    assert (used > 0).all()
    plain = np.bincount(((few - 100.0) * 255 / 29).astype(np.uint8).ravel(), minlength=256)
    assert (plain > 0).mean() < 0.2  # which would have told the range of the original


def test_a_flat_image_is_no_error():
    assert normalise_image(np.full((32, 32), 7, np.uint8), 32, 1).shape == (32, 32)
    assert normalise_image(np.zeros((32, 32), np.uint8), 32, 1).shape == (32, 32)


def test_the_noise_depends_on_the_seed_alone():
    pixels = noise()
    assert (normalise_image(pixels, 64, 1) == normalise_image(pixels, 64, 1)).all()
    assert (normalise_image(pixels, 64, 1) != normalise_image(pixels, 64, 2)).any()


def test_what_was_grey_before_is_as_grey_in_relation():
    pixels = np.tile(np.arange(64, dtype=np.uint8) * 2 + 20, (64, 1))
    found = normalise_image(pixels, 64, 1).astype(float)
    assert np.corrcoef(found.ravel(), pixels.ravel().astype(float))[0, 1] > 0.999


def test_bars_of_padding_go_and_dark_lungs_stay():
    inside = noise(64, 40)
    padded = np.zeros((64, 64), np.uint8)
    padded[:, 12:52] = inside
    assert (crop_bars(padded) == inside).all()
    nearly = padded.copy()
    nearly[:, :12] = nearly[:, 52:] = 9  # as a generator makes them
    assert (crop_bars(nearly) == inside).all()
    one_side = noise()
    one_side[:, :10] = 0
    assert crop_bars(one_side).shape == (64, 64)
    lungs = noise()
    lungs[20:40, 20:40] = 0
    assert (crop_bars(lungs) == lungs).all()


def test_padded_and_square_images_have_no_bars_afterwards():
    padded = np.zeros((64, 64), np.uint8)
    padded[:, 12:52] = noise(64, 40)
    for pixels in (padded, noise()):
        edge = normalise_image(pixels, 64, 1)[:, [0, -1]]
        assert edge.mean() > 60


def test_the_centre_of_a_rectangle():
    assert (crop_square(noise(20, 30)) == noise(20, 30)[:, 5:25]).all()
    assert (crop_square(noise(31, 20)) == noise(31, 20)[5:25]).all()


@pytest.mark.parametrize("side", [64, 60, 33])
@pytest.mark.parametrize("count", [1, 15, 16, 17, 33])
def test_every_image_is_found_where_its_place_says(side, count):
    images = [normalise_image(noise(seed=n), side, n) for n in range(count)]
    where = sheet_positions([n % 4 for n in range(count)], side, 7)
    files = [opened(jpeg) for jpeg in encode_sheets(images, where)]
    assert len(files) == -(-count // TILES_PER_SHEET)
    assert len(set(where)) == count
    for pixels, (sheet, x, y) in zip(images, where, strict=True):
        assert x % JPEG_BLOCK_PX == y % JPEG_BLOCK_PX == 0
        found = files[sheet][y : y + side, x : x + side]
        assert abs(found - pixels.astype(int)).mean() < 4


def test_an_image_does_not_bleed_into_its_neighbour():
    dark, bright = np.zeros((60, 60), np.uint8), np.full((60, 60), 255, np.uint8)
    where = sheet_positions([0, 0], 60, 0)
    (one,) = encode_sheets([dark, bright], where)
    (_, x, y), (_, u, v) = where
    assert opened(one)[y : y + 60, x : x + 60].max() <= 1
    assert opened(one)[v : v + 60, u : u + 60].min() >= 254


def test_every_sheet_has_the_same_mix_so_that_its_size_says_nothing():
    cells = ["real"] * 100 + ["synthetic"] * 100  # in the order shown, as bad as can be
    where = sheet_positions(cells, 32, 0)
    mixes = [sum(n < 100 for n, (s, *_) in enumerate(where) if s == sheet) for sheet in range(13)]
    assert max(mixes) - min(mixes) <= 1
    assert sheet_positions(cells, 32, 0) == where != sheet_positions(cells, 32, 1)
