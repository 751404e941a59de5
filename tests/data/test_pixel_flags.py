"""Flags of images: made-up positives are recognised, and published radiographs are left alone."""

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from xraysynth import images
from xraysynth.data.burnt_in_text import has_burnt_in_text
from xraysynth.data.pixel_flags import (
    FLAGS,
    flag_pixels,
    looks_blank,
    looks_inverted,
    looks_lateral,
    shows_several_films,
)


def chest(seed=0, height=240, width=220):
    """A toy frontal radiograph: dark edges and lungs, a bright mediastinum."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
    grey = np.full((height, width), 18.0)
    grey[((x - 0.5) / 0.46) ** 2 + ((y - 0.55) / 0.52) ** 2 < 1] = 150
    for side in (0.29, 0.71):
        grey[((x - side) / 0.15) ** 2 + ((y - 0.45) / 0.30) ** 2 < 1] = 60
    grey[(abs(x - 0.5) < 0.08) & (y > 0.1)] = 215
    return (grey + rng.normal(0, 4, grey.shape)).clip(0, 255).astype(np.uint8)


def lateral(seed=0):
    """A toy lateral radiograph: one dark lung in the middle of a body with dark edges."""
    y, x = np.mgrid[0:1:240j, 0:1:220j]
    grey = np.full((240, 220), 12.0)
    grey[((x - 0.5) / 0.4) ** 2 + ((y - 0.55) / 0.55) ** 2 < 1] = 180
    grey[((x - 0.5) / 0.28) ** 2 + ((y - 0.4) / 0.3) ** 2 < 1] = 90
    grey += np.random.default_rng(seed).normal(0, 4, grey.shape)
    return grey.clip(0, 255).astype(np.uint8)


def with_text(pixels, text, grey=255, size=16):
    picture = Image.fromarray(pixels).resize((512, 512))
    ImageDraw.Draw(picture).text((20, 12), text, fill=grey, font=ImageFont.load_default(size))
    return np.asarray(picture)


def test_a_plain_chest_has_no_flag():
    assert flag_pixels(chest()) == ()


@pytest.mark.parametrize("value", [0, 255, 90])
def test_an_empty_image_and_noise_are_blank(value):
    empty = np.full((120, 100), value, np.uint8)
    assert flag_pixels(empty) == ("blank",)
    noise = np.random.default_rng(0).normal(100, 12, (640, 640)).clip(0, 255).astype(np.uint8)
    assert looks_blank(noise)
    assert not looks_blank(chest() // 8)  # dark, but a picture


def test_an_inverted_chest_is_flagged():
    assert flag_pixels(255 - chest()) == ("inverted",)


def test_a_lateral_chest_is_flagged_and_its_inverse_is_not():
    assert flag_pixels(lateral()) == ("lateral view",)
    assert not looks_lateral(255 - lateral())
    assert not looks_lateral(chest())


@pytest.mark.parametrize("gap", [6, 14])
def test_films_put_together_are_flagged(gap):
    pair = [np.pad(chest(seed), ((0, 0), (0, gap)), constant_values=255) for seed in (1, 2)]
    assert flag_pixels(np.hstack(pair)) == ("several films",)
    assert flag_pixels(np.vstack(pair)) == ("several films",)
    assert flag_pixels(np.vstack([np.hstack(pair)] * 2)) == ("several films",)
    assert not shows_several_films(chest(width=400))  # wide, but one


def test_words_are_flagged_but_markers_of_the_side_are_not():
    assert flag_pixels(with_text(chest(), "PORTABLE 12:40")) == ("text burnt in",)
    for marker in ("R", "L", "AP"):
        assert not has_burnt_in_text(with_text(chest(), marker, size=28))
    assert not has_burnt_in_text(with_text(chest(), "PORTABLE", grey=120))
    assert not has_burnt_in_text(np.full((600, 500), 255, np.uint8))


@pytest.mark.parametrize("shape", [(28, 28), (63, 400), (400, 63)])
def test_a_small_side_is_flagged(shape):
    assert "tiny" in flag_pixels(chest(height=shape[0], width=shape[1]))
    assert "tiny" not in flag_pixels(chest(height=64, width=64))


def test_a_tiny_image_has_no_flag_that_needs_its_detail():
    small = np.asarray(Image.fromarray(chest()).resize((28, 28), Image.Resampling.BILINEAR))
    assert flag_pixels(small) == ("tiny",)


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (2, 300), (65, 64)])
def test_any_shape_is_taken(shape):
    assert set(flag_pixels(np.full(shape, 7, np.uint8))) <= set(FLAGS)


@pytest.fixture(scope="module")
def published(shared_data):
    """Every fifth of the published radiographs."""
    files = []
    for name in ("cxr-mini", "covid-cxnet", "tb-nlm128", "kermany224"):
        files += sorted((shared_data / name).glob("*/*.jp*g"))[::5]
    return [images.read_image(file) for file in files]


def test_published_radiographs_are_flagged_as_rarely_as_is_said(published):
    counts = Counter(flag for pixels in published for flag in flag_pixels(pixels))
    n = len(published)
    assert n > 1000
    assert counts["blank"] == counts["inverted"] == counts["tiny"] == 0
    assert counts["lateral view"] <= 0.004 * n
    assert counts["several films"] <= 0.002 * n
    assert 0 < counts["text burnt in"] <= 0.02 * n


def test_made_up_positives_of_published_radiographs_are_recognised_as_often_as_is_said(published):
    n = len(published)
    assert sum(looks_inverted(255 - pixels) for pixels in published) >= 0.97 * n
    square = [np.asarray(Image.fromarray(pixels).resize((200, 200))) for pixels in published[::4]]
    pairs = list(pairwise(square))
    assert sum(shows_several_films(np.hstack(pair)) for pair in pairs) >= 0.65 * len(pairs)
    assert sum(shows_several_films(np.vstack(pair)) for pair in pairs) >= 0.65 * len(pairs)
    grown = [with_text(pixels, "SMITH JOHN 1953") for pixels in published[:200]]
    assert sum(map(has_burnt_in_text, grown)) >= 0.7 * len(grown)
