"""Guards on decoding, and the one format of a study."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from xraysynth import images
from xraysynth.errors import ImageError


def encoded(array, mode=None, file_format="PNG"):
    buffer = io.BytesIO()
    image = Image.fromarray(array)
    (image.convert(mode) if mode else image).save(buffer, format=file_format)
    return buffer.getvalue()


@pytest.fixture
def grey():
    return np.random.default_rng(0).integers(0, 256, (40, 30), dtype=np.uint8)


def white_png(width, height):
    """A one-bit PNG of any size in a few kilobytes."""

    def chunk(kind, data):
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    rows = zlib.compress((b"\0" + b"\xff" * ((width + 7) // 8)) * height, 9)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    )


def test_grey_comes_back_unchanged(grey):
    assert np.array_equal(images.decode_image(encoded(grey), "a.png"), grey)


def test_colour_becomes_luma(grey):
    rgb = np.dstack([grey, grey, grey])
    assert np.array_equal(images.decode_image(encoded(rgb), "a.png"), grey)
    red = np.zeros((4, 4, 3), np.uint8)
    red[..., 0] = 255
    assert (images.decode_image(encoded(red), "a.png") == 76).all()


def test_a_palette_is_resolved_to_its_colours():
    image = Image.new("P", (4, 4), 1)
    image.putpalette([0, 0, 0, 200, 200, 200])
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    assert (images.decode_image(buffer.getvalue(), "a.png") == 200).all()


def test_damaged_files_are_refused_by_name(grey):
    good = encoded(grey, file_format="JPEG")
    for data, reason in {
        b"": "empty",
        b"<html>404</html>": "not a readable image",
        good[: len(good) // 2]: "not a readable image",
        encoded(grey)[:-40]: "not a readable image",
        good[:10]: "not a readable image",
    }.items():
        with pytest.raises(ImageError, match=rf"x/bad\.jpg: .*{reason}"):
            images.decode_image(data, "x/bad.jpg")


@pytest.mark.parametrize(("width", "height"), [(10000, 10000), (30000, 30000)])
def test_a_huge_image_is_refused_before_it_is_decoded(width, height, monkeypatch):
    data = white_png(width, 1).replace(
        *(struct.pack(">II", width, rows) for rows in (1, height))
    )  # the header alone claims the height
    fixed = data[:29] + struct.pack(">I", zlib.crc32(data[12:29])) + data[33:]
    monkeypatch.setattr(Image.Image, "convert", lambda *_: pytest.fail("decoded"))
    with pytest.raises(ImageError, match=r"a\.png: .*megapixels.*downscale it"):
        images.decode_image(fixed, "a.png")


def test_the_limit_is_where_it_is_said_to_be(monkeypatch):
    monkeypatch.setattr(images, "MAX_MEGAPIXELS", 1)
    assert images.decode_image(white_png(1000, 1000), "a.png").shape == (1000, 1000)
    with pytest.raises(ImageError, match="more than the 1 allowed"):
        images.decode_image(white_png(1000, 1001), "a.png")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ImageError, match=r"none\.png: there is no such file"):
        images.read_image(tmp_path / "none.png")


def test_read_decodes_a_file(tmp_path, grey):
    (tmp_path / "a.png").write_bytes(encoded(grey))
    assert np.array_equal(images.read_image(tmp_path / "a.png"), grey)


@pytest.mark.parametrize(("height", "width"), [(100, 50), (50, 100)])
def test_padding_is_black_centred_and_keeps_the_aspect_ratio(height, width):
    square = images.pad_and_resize(np.full((height, width), 200, np.uint8), 64)
    assert square.shape == (64, 64)
    bright = square > 100
    across, along = (1, 0) if height > width else (0, 1)
    assert bright.any(axis=across).sum() == 64
    columns = np.flatnonzero(bright.any(axis=along))
    assert (columns[0], columns[-1]) == (16, 47)
    band = np.take(square, range(14), axis=1 if along == 0 else 0)
    assert (band == 0).all()


def test_an_image_in_study_format_is_left_alone(grey):
    square = grey[:30, :30]
    assert np.array_equal(images.pad_and_resize(square, 30), square)


def test_downscaling_is_antialiased():
    stripes = np.tile(np.array([0, 255], np.uint8), (256, 128))
    small = images.pad_and_resize(stripes, 32)
    assert np.abs(small[4:-4, 4:-4].astype(int) - 128).max() < 10


def test_png_bytes_are_deterministic_and_bare(grey):
    data = images.encode_png(grey)
    assert data == images.encode_png(grey.copy())
    assert np.array_equal(images.decode_image(data, "a.png"), grey)
    assert set(Image.open(io.BytesIO(data)).info) == set()


def test_colour_is_kept_where_it_is_asked_for(tmp_path):
    for mode, shape in (("L", (4, 5)), ("RGB", (4, 5, 3)), ("RGBA", (4, 5, 3))):
        Image.new(mode, (5, 4)).save(tmp_path / "x.png")
        assert images.read_colour(tmp_path / "x.png").shape == shape
