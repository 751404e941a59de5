"""Repairs of image files as people have them, and what stays refused."""

import doctest
import io

import numpy as np
import pytest
from PIL import Image

from xraysynth import decoding, grey_levels, images
from xraysynth.decoding import REPAIRS
from xraysynth.errors import ImageError
from xraysynth.grey_levels import crop_borders, scale_to_8bit


@pytest.fixture
def grey():
    return np.random.default_rng(0).integers(0, 256, (40, 30), dtype=np.uint8)


def encode(picture, file_format="PNG", **options):
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    buffer = io.BytesIO()
    image.save(buffer, format=file_format, **options)
    return buffer.getvalue()


def decode(picture, file_format="PNG", **options):
    return images.decode_radiograph(encode(picture, file_format, **options), "a.x")


def with_alpha(grey, alpha):
    return np.dstack([grey, grey, grey, alpha]).astype(np.uint8)


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
@pytest.mark.parametrize("file_format", ["PNG", "TIFF", "WEBP", "JPEG2000"])
def test_an_opaque_alpha_is_removed_and_counted(grey, mode, file_format):
    options = {"lossless": True} if file_format == "WEBP" else {}
    decoded = decode(Image.fromarray(grey).convert(mode), file_format, **options)
    assert np.array_equal(decoded.pixels, grey)
    dropped_by_pillow = file_format == "WEBP"  # its encoder leaves out an opaque channel
    assert decoded.repairs == (() if dropped_by_pillow else ("opaque alpha removed",))


@pytest.mark.parametrize("transparency", [0, 128, 254])
def test_one_transparency_for_all_pixels_says_nothing(grey, transparency):
    decoded = decode(with_alpha(grey, np.full_like(grey, transparency)))
    assert np.array_equal(decoded.pixels, grey)
    assert decoded.repairs == ("opaque alpha removed",)


@pytest.mark.parametrize("hidden", [0, 255])
def test_a_transparent_border_becomes_black(grey, hidden):
    alpha = np.full_like(grey, 255)
    alpha[:5] = 0
    expected = grey.copy()
    expected[:5] = 0
    grey[:5] = hidden
    decoded = decode(with_alpha(grey, alpha))
    assert np.array_equal(decoded.pixels, expected)
    assert decoded.repairs == ("transparent part made black",)


def test_transparency_that_hides_a_part_of_the_picture_is_refused_and_its_remedy_works(grey):
    hiding, half = np.full_like(grey, 255), np.full_like(grey, 255)
    hiding[:9], half[:9] = 0, 128
    for alpha in (hiding, half):
        with pytest.raises(ImageError, match=r"^a\.x: parts .* transparent.*flatten its alpha"):
            decode(with_alpha(grey, alpha))
        flattened = Image.fromarray(with_alpha(grey, alpha)).convert("RGB").convert("L")
        assert decode(flattened).pixels.shape == grey.shape


def test_a_palette_is_resolved_and_one_bit_widened(grey):
    palette = Image.fromarray(grey).convert("RGB").quantize(64)
    decoded = decode(palette)
    assert np.array_equal(decoded.pixels, np.asarray(palette.convert("RGB").convert("L")))
    assert decoded.repairs == ("palette resolved",)
    decoded = decode(Image.fromarray(grey > 127))
    assert np.array_equal(decoded.pixels, np.where(grey > 127, 255, 0))
    assert decoded.repairs == ("1 bit widened",)


@pytest.mark.parametrize("file_format", ["PNG", "BMP", "TIFF", "PPM", "JPEG2000", "WEBP"])
def test_plain_grey_of_any_lossless_format_is_no_repair(grey, file_format):
    options = {"lossless": True} if file_format == "WEBP" else {}
    decoded = decode(grey, file_format, **options)
    assert np.array_equal(decoded.pixels, grey)
    assert decoded.repairs == ()
    assert decoded.flags == ()


def deep_ramp(low, high):
    return np.linspace(low, high, 1200).reshape(40, 30).astype(np.uint16)


@pytest.mark.parametrize("file_format", ["PNG", "TIFF", "PPM", "JPEG2000"])
def test_deep_grey_is_scaled_to_the_range_that_it_uses(file_format):
    decoded = decode(deep_ramp(400, 1930), file_format)
    assert decoded.repairs == ("16 bits scaled to their range",)
    assert (decoded.pixels[0, 0], decoded.pixels[-1, -1]) == (0, 255)
    assert np.all(np.diff(decoded.pixels.ravel().astype(int)) >= 0)
    assert abs(int(decoded.pixels[20, 0]) - 128) <= 2


def test_a_marker_and_dead_pixels_do_not_set_the_scale():
    marked = deep_ramp(400, 1930)
    marked[0, :3], marked[-1, 0] = 65535, 0
    difference = decode(marked).pixels.astype(int) - decode(deep_ramp(400, 1930)).pixels
    assert np.abs(difference[1:-1]).max() <= 3


@pytest.mark.parametrize("step", [1, 256, 257])
def test_8_bits_in_a_deeper_file_are_read_exactly(grey, step):
    grey[0, 0] = 3
    decoded = decode(grey.astype(np.uint16) * step)
    assert np.array_equal(decoded.pixels, grey)
    assert decoded.repairs == (() if step == 1 else ("16 bits scaled to their range",))


def test_32_bits_and_fractions_are_scaled_too(grey):
    ramp = np.linspace(-1000, 3000, 1200).reshape(40, 30)
    for values in (ramp.astype(np.int32), ramp.astype(np.float32), ramp.astype(np.float32) / 1e5):
        decoded = decode(values, "TIFF")
        assert decoded.repairs == ("32 bits scaled to their range",)
        assert abs(int(decoded.pixels[20, 0]) - 128) <= 2
    assert np.array_equal(decode(grey.astype(np.float32), "TIFF").pixels, grey)


def test_pixels_without_a_value_are_refused():
    values = np.ones((20, 20), np.float32)
    values[3, 3] = np.nan
    with pytest.raises(ImageError, match=r"a\.x: there are pixels without a value"):
        decode(values, "TIFF")


@pytest.mark.parametrize(("value", "expected"), [(0, 0), (40, 40), (5000, 0)])
def test_a_deep_image_of_one_value_is_dark_not_an_error(value, expected):
    assert (scale_to_8bit(np.full((9, 9), value, np.uint16)) == expected).all()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_tiff_whose_white_is_zero_is_read_with_bones_white(dtype):
    tifffile = pytest.importorskip("tifffile")
    ramp = deep_ramp(0, 200 if dtype == np.uint8 else 4000).astype(dtype)
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, ramp, photometric="miniswhite")
    pixels = images.decode_image(buffer.getvalue(), "a.tif")
    assert pixels[0, 0] == 255
    assert pixels[-1, -1] < 60


def test_signed_bytes_are_refused_as_programs_differ():
    tifffile = pytest.importorskip("tifffile")
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, np.arange(-60, 60, dtype=np.int8).reshape(10, 12))
    with pytest.raises(ImageError, match=r"a\.tif: this is a TIFF of signed bytes.*save it as"):
        images.decode_image(buffer.getvalue(), "a.tif")


@pytest.mark.parametrize(("top", "is_read"), [(65535, True), (4095, False)])
def test_colour_of_16_bits_is_read_if_its_upper_bits_hold_the_picture(top, is_read):
    tifffile = pytest.importorskip("tifffile")
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, np.dstack([deep_ramp(0, top)] * 3), photometric="rgb")
    if is_read:
        decoded = images.decode_radiograph(buffer.getvalue(), "a.tif")
        assert decoded.repairs == ("16 bits of colour cut to 8",)
        assert np.abs(decoded.pixels.astype(int) - (deep_ramp(0, top) >> 8)).max() <= 1
    else:
        with pytest.raises(ImageError, match="uses only 16 of their 256 levels; save it as 16-bit"):
            images.decode_image(buffer.getvalue(), "a.tif")


def test_cmyk_is_read_where_the_file_says_how(grey):
    picture = Image.fromarray(grey)
    cmyk = picture.convert("RGB").convert("CMYK")
    for file_format in ("JPEG", "TIFF"):
        data = encode(cmyk, file_format)
        pixels = images.decode_image(data, "a.x")
        assert np.corrcoef(pixels.ravel(), grey.ravel())[0, 1] > 0.9
    without_mark = encode(cmyk, "JPEG").replace(b"Adobe", b"Other")
    with pytest.raises(ImageError, match=r"a\.x: this is a CMYK JPEG without the mark.*save it as"):
        images.decode_image(without_mark, "a.x")


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_picture_that_lies_or_stands_on_its_head_is_turned_upright(file_format, orientation):
    upright = np.zeros((64, 48), np.uint8)
    upright[:32, :24] = 240
    upright[:16, 24:] = 120
    back = {5: 5, 6: 8, 7: 7, 8: 6}.get(orientation, orientation)
    turn = decoding._TURN_OF_ORIENTATION
    stored = Image.fromarray(upright)
    if back in turn:
        stored = stored.transpose(turn[back])
    exif = Image.Exif()
    exif[274] = orientation
    decoded = decode(stored, file_format, exif=exif)
    assert decoded.pixels.shape == (64, 48)
    assert np.abs(decoded.pixels.astype(int) - upright).mean() < 6
    assert decoded.repairs == (() if orientation == 1 else ("turned upright",))


def test_an_orientation_that_does_not_exist_and_damaged_metadata_are_ignored(grey):
    exif = Image.Exif()
    exif[274] = 77
    assert decode(grey, exif=exif).repairs == ()
    damaged = encode(grey, "JPEG", exif=b"Exif\0\0garbage")
    assert images.decode_radiograph(damaged, "a.jpg").repairs == ()


@pytest.mark.parametrize("file_format", ["GIF", "PNG", "WEBP", "TIFF"])
def test_several_frames_are_refused_by_name(grey, file_format):
    frames = [Image.fromarray(grey[::-1])]
    with pytest.raises(ImageError, match=r"^a\.x: the file has several pages or frames"):
        decode(grey, file_format, save_all=True, append_images=frames)
    assert decode(grey, file_format, save_all=True).pixels.shape == grey.shape


def test_small_copies_in_a_tiff_are_no_pages_of_their_own(grey):
    tifffile = pytest.importorskip("tifffile")
    for subfile, is_read in ((1, True), (0, False)):
        buffer = io.BytesIO()
        with tifffile.TiffWriter(buffer) as writer:
            writer.write(grey)
            writer.write(grey[::2, ::2], subfiletype=subfile)
            writer.write(grey[::4, ::4], subfiletype=subfile)
        if is_read:
            assert np.array_equal(images.decode_image(buffer.getvalue(), "a.tif"), grey)
        else:
            with pytest.raises(ImageError, match="several pages"):
                images.decode_image(buffer.getvalue(), "a.tif")


def test_colours_are_flagged_but_not_grey_saved_as_colour_nor_an_arrow(grey):
    big = np.asarray(Image.fromarray(grey).resize((300, 400)))
    plain = np.dstack([big] * 3)
    arrow = plain.copy()
    arrow[100:140, 50:200] = (255, 0, 0)
    screen = (plain * np.array([0.7, 0.85, 1.0])).astype(np.uint8)
    for quality in (40, 75, 95):
        for picture, flags in ((plain, ()), (arrow, ()), (screen, ("colour photograph",))):
            assert decode(picture, "JPEG", quality=quality).flags == flags


def test_borders_are_cropped_to_the_picture(grey):
    framed = np.full((60, 50), 250, np.uint8)
    framed[10:50, 15:45] = grey
    assert np.array_equal(crop_borders(framed), grey)
    assert np.array_equal(crop_borders(grey), grey)
    for mostly_blank in (np.full((60, 50), 250, np.uint8), np.pad(grey, 100)):
        assert np.array_equal(crop_borders(mostly_blank), mostly_blank)


def test_every_repair_is_of_the_vocabulary(grey):
    alpha = np.full_like(grey, 255)
    alpha[:5], grey[:5] = 0, 0
    exif = Image.Exif()
    exif[274] = 3
    decoded = decode(with_alpha(grey, alpha), exif=exif)
    assert decoded.repairs == ("transparent part made black", "turned upright")
    assert set(decoded.repairs) < set(REPAIRS)


def test_examples():
    assert doctest.testmod(grey_levels).failed == 0
