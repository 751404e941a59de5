"""How one DICOM image is shown: windows, tables, masks, colours, decoders, and what is never burnt in."""

import tomllib
from pathlib import Path

import numpy as np
import pydicom
import pytest
from dicom_writer import toy_chest, write_dicom
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.pixels.decoders.base import Decoder, get_decoder
from pydicom.uid import (
    HTJ2K,
    UID,
    HTJ2KLossless,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from xraysynth.data.sources.dicom import DicomSource
from xraysynth.errors import ImageError

PYPROJECT = Path(__file__).resolve().parents[3] / "pyproject.toml"
RAMP = np.tile(np.arange(256, dtype=np.uint16) * 16, (64, 1))  # 0 … 4080, a column each

pytestmark = pytest.mark.filterwarnings("ignore")


def load(folder, stored=None, **tags):
    write_dicom(folder / "normal/a", stored, **tags)
    return DicomSource(name="mine", root=str(folder)).load("normal/a", 64)


def lookup_item(descriptor, data, vr="US"):
    item = Dataset()
    item.add_new("LUTDescriptor", "SS" if descriptor[1] < 0 else "US", descriptor)
    item.add_new("LUTData", vr, data)
    return item


def test_a_linear_window_shows_its_part_of_the_range(tmp_path):
    tags = {"WindowCenter": 2048, "WindowWidth": 1024}
    column = load(tmp_path, RAMP, **tags).pixels[0].astype(int)
    shown = np.clip((RAMP[0].astype(float) - 2047.5) / 1023 + 0.5, 0, 1) * 255
    assert np.abs(column - np.rint(shown)).max() <= 1
    exact = load(tmp_path, RAMP, **tags, VOILUTFunction="LINEAR_EXACT").pixels[0].astype(int)
    shown = np.clip((RAMP[0].astype(float) - 2048) / 1024 + 0.5, 0, 1) * 255
    assert np.abs(exact - np.rint(shown)).max() <= 1


def test_a_sigmoid_window_is_a_sigmoid(tmp_path):
    tags = {"WindowCenter": 2048, "WindowWidth": 1024, "VOILUTFunction": "SIGMOID"}
    column = load(tmp_path, RAMP, **tags).pixels[0].astype(int)
    shown = 255 / (1 + np.exp(-4 * (RAMP[0].astype(float) - 2048) / 1024))
    assert np.abs(column - np.rint(shown)).max() <= 1


def test_of_several_windows_the_first_that_is_valid_is_used(tmp_path):
    one = load(tmp_path, RAMP, WindowCenter=2048, WindowWidth=1024)
    several = load(tmp_path, RAMP, WindowCenter=[2048, 100], WindowWidth=[1024, 50])
    after_invalid = load(tmp_path, RAMP, WindowCenter=[7, 2048], WindowWidth=[0, 1024])
    assert np.array_equal(one.pixels, several.pixels)
    assert np.array_equal(one.pixels, after_invalid.pixels)
    assert one.repairs == ()
    assert several.repairs == ("first of several windows used",)
    assert after_invalid.repairs == ("invalid window ignored",)


def test_a_window_without_contrast_gives_way_to_the_range_of_the_image(tmp_path):
    without = load(tmp_path, RAMP)
    far = load(tmp_path, RAMP, WindowCenter=60000, WindowWidth=10)
    assert np.array_equal(without.pixels, far.pixels)
    assert far.repairs == ("window without contrast ignored", "16 bits scaled to their range")


def test_a_negative_slope_inverts_the_values_and_not_the_window(tmp_path):
    tags = {"RescaleSlope": -1, "RescaleIntercept": 4095}
    plain = load(tmp_path, RAMP, **tags).pixels[0].astype(int)
    window = load(tmp_path, RAMP, **tags, WindowCenter=2048, WindowWidth=1024).pixels[0].astype(int)
    assert plain[10] > plain[-10]
    assert window[10] == 255
    assert window[-10] == 0


@pytest.mark.parametrize("vr", ["US", "OW"])
@pytest.mark.parametrize("bits", [8, 12, 16])
def test_lookup_tables_of_any_depth_map_values(tmp_path, vr, bits):
    curve = np.rint(np.linspace(0, 1, 4096) ** 2 * (2**bits - 1)).astype(np.uint16)
    data = curve.tolist() if vr == "US" else curve.tobytes()
    item = lookup_item([4096, 0, bits], data, vr)
    for keyword in ("VOILUTSequence", "ModalityLUTSequence"):
        column = load(tmp_path, RAMP, **{keyword: [item]}).pixels[0].astype(int)
        values = curve[RAMP[0]].astype(float)
        if keyword == "VOILUTSequence":
            low, high = values.min(), values.max()
        else:
            low, high = np.percentile(curve[RAMP], [0.5, 99.5])
        expected = np.rint(np.clip((values - low) / (high - low), 0, 1) * 255)
        assert np.abs(column - expected).max() <= 1


def test_a_table_goes_before_a_window_and_a_damaged_one_gives_way_to_it(tmp_path):
    window = {"WindowCenter": 2048, "WindowWidth": 1024}
    inverse = lookup_item([4096, 0, 12], list(range(4095, -1, -1)))
    by_window = load(tmp_path, RAMP, **window).pixels
    by_table = load(tmp_path, RAMP, **window, VOILUTSequence=[inverse, inverse])
    assert by_table.pixels[0, 0] > by_table.pixels[0, -1]
    assert by_table.repairs == ("first of several VOI lookup tables used",)
    inverse.LUTDescriptor = [9000, 0, 12]
    damaged = load(tmp_path, RAMP, **window, VOILUTSequence=[inverse])
    assert np.array_equal(damaged.pixels, by_window)
    assert damaged.repairs == ("invalid VOI lookup table ignored",)
    with pytest.raises(ImageError, match=r"normal/a: the grey levels cannot be computed"):
        load(tmp_path, RAMP, ModalityLUTSequence=[inverse])


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_padding_is_black_and_does_not_set_the_range(tmp_path, photometric):
    chest = toy_chest()
    padded = np.full((72, 112), 4000, np.uint16)
    padded[:, 20:92] = chest
    plain = load(tmp_path, chest, PhotometricInterpretation=photometric).pixels
    shown = load(tmp_path, padded, PhotometricInterpretation=photometric, PixelPaddingValue=4000)
    assert np.array_equal(shown.pixels[:, 20:92], plain)
    assert not shown.pixels[:, :20].any()
    assert "padding painted black" in shown.repairs
    padded[:, :20] = 4050
    tags = {"PixelPaddingValue": 4000, "PixelPaddingRangeLimit": 4095}
    ranged = load(tmp_path, padded, PhotometricInterpretation=photometric, **tags).pixels
    assert np.array_equal(ranged, shown.pixels)


def test_shutters_are_black_and_do_not_set_the_range(tmp_path):
    chest = toy_chest()
    bright = chest.copy()
    bright[:8], bright[:, 64:] = 4095, 4095
    rectangle = {
        "ShutterShape": "RECTANGULAR",
        "ShutterLeftVerticalEdge": 1,
        "ShutterRightVerticalEdge": 64,
        "ShutterUpperHorizontalEdge": 9,
        "ShutterLowerHorizontalEdge": 72,
    }
    polygon = {
        "ShutterShape": "POLYGONAL",
        "VerticesOfThePolygonalShutter": [9, 1, 9, 64, 72, 64, 72, 1],
    }
    shown = load(tmp_path, bright, **rectangle)
    assert not shown.pixels[:8].any()
    assert not shown.pixels[:, 64:].any()
    assert shown.repairs == ("16 bits scaled to their range", "shutter painted black")
    seen = chest[8:, :64].astype(float)
    low, high = np.percentile(seen, [0.5, 99.5])
    expected = np.rint(np.clip((seen - low) / (high - low), 0, 1) * 255)
    assert np.abs(shown.pixels[8:, :64] - expected).max() <= 1
    assert np.array_equal(load(tmp_path, bright, **polygon).pixels, shown.pixels)


def test_a_circular_shutter_leaves_a_circle_and_a_senseless_one_is_ignored(tmp_path):
    tags = {"ShutterShape": "CIRCULAR", "CenterOfCircularShutter": [36, 36]}
    circle = load(tmp_path, **tags, RadiusOfCircularShutter=30).pixels
    assert circle[35, 35] > 0
    assert not circle[:5].any()
    assert not circle[2, 2]
    tiny = load(tmp_path, **tags, RadiusOfCircularShutter=3)
    assert np.array_equal(tiny.pixels, load(tmp_path).pixels)
    assert "senseless shutter ignored" in tiny.repairs


def test_overlays_and_collimators_leave_the_picture_as_it_is(tmp_path):
    plain = load(tmp_path).pixels
    folder = tmp_path / "more"
    path = write_dicom(folder / "normal/a", CollimatorShape="RECTANGULAR")
    dataset = pydicom.dcmread(path)
    for keyword in ("LeftVertical", "RightVertical", "UpperHorizontal", "LowerHorizontal"):
        setattr(dataset, f"Collimator{keyword}Edge", -184)
    for element, value in ((0x10, 72), (0x11, 72), (0x100, 1), (0x102, 0)):
        dataset.add_new((0x6000, element), "US", value)
    dataset.add_new((0x6000, 0x3000), "OW", b"\xff" * 648)
    dataset.save_as(path)
    shown = DicomSource(name="mine", root=str(folder)).load("normal/a", 64)
    assert np.array_equal(shown.pixels, plain)
    assert shown.repairs == ("16 bits scaled to their range", "overlay left off")


def test_an_overlay_in_unused_bits_is_cut_off(tmp_path):
    with_overlay = toy_chest()
    with_overlay[10:20, 10:20] |= 1 << 15
    assert np.array_equal(load(tmp_path, with_overlay).pixels, load(tmp_path).pixels)


def test_bits_at_the_top_of_the_word_are_read(tmp_path):
    shifted = toy_chest() << 4
    plain = load(tmp_path).pixels
    assert np.array_equal(load(tmp_path, shifted | 7, HighBit=15).pixels, plain)


def test_signed_values_are_read(tmp_path):
    signed = (toy_chest().astype(np.int32) - 2000).astype(np.int16)
    tags = {"PixelRepresentation": 1, "BitsStored": 16, "HighBit": 15}
    assert np.array_equal(load(tmp_path, signed, **tags).pixels, load(tmp_path).pixels)


@pytest.mark.parametrize("sign", [1, -1])
def test_the_sign_of_the_intensity_counts_only_if_the_picture_agrees(tmp_path, sign):
    upright = load(tmp_path, PixelIntensityRelationshipSign=sign)
    raw = load(tmp_path, 4095 - toy_chest(), PixelIntensityRelationshipSign=sign)
    assert upright.flags == ()
    if sign == 1:  # lower values mean less intensity: bones are dark as they are stored
        assert "inverted by its pixel intensity relationship" in raw.repairs
        assert np.abs(raw.pixels.astype(int) - upright.pixels).max() <= 1
    else:
        assert raw.flags == ("inverted",)


def test_a_presentation_lut_shape_inverts_once(tmp_path):
    inverted = 4095 - toy_chest()
    first = load(tmp_path, inverted, PhotometricInterpretation="MONOCHROME1")
    tags = {"PresentationLUTShape": "INVERSE"}
    both = load(tmp_path, inverted, PhotometricInterpretation="MONOCHROME1", **tags)
    shape = load(tmp_path, inverted, **tags)
    assert np.array_equal(first.pixels, both.pixels)
    assert np.array_equal(first.pixels, shape.pixels)
    assert "inverted by its presentation LUT shape" in shape.repairs


@pytest.mark.parametrize("keyword", ["PixelSpacing", "ImagerPixelSpacing", "PixelAspectRatio"])
def test_pixels_that_are_not_square_are_made_so(tmp_path, keyword):
    plain = load(tmp_path).pixels
    tall = load(tmp_path, **{keyword: [2, 1]})
    assert tall.pixels.shape == (144, 72)
    assert "pixels made square" in tall.repairs
    expected = Image.fromarray(plain).resize((72, 144), Image.Resampling.BICUBIC)
    assert np.array_equal(tall.pixels, np.asarray(expected))
    assert load(tmp_path, **{keyword: [1, 2]}).pixels.shape == (72, 144)
    for square in ([1, 1], [1000, 1001], [0, 0], [1, 900], None):
        assert np.array_equal(load(tmp_path, **{keyword: square}).pixels, plain)


def colours(grey, tint):
    return np.stack([grey, grey, (grey * tint).astype(np.uint8)], axis=2)


@pytest.mark.parametrize("tint", [1.0, 0.2])
def test_colours_become_luma_and_are_flagged_where_they_are_more_than_grey(tmp_path, tint):
    grey = (toy_chest() // 16).astype(np.uint8)
    rgb = colours(grey, tint)
    shown = load(tmp_path, rgb)
    assert np.array_equal(shown.pixels, np.asarray(Image.fromarray(rgb).convert("L")))
    assert shown.flags == (() if tint == 1.0 else ("colour photograph",))
    deep = load(tmp_path, rgb.astype(np.uint16) * 257, BitsStored=16, HighBit=15)
    assert np.array_equal(deep.pixels, shown.pixels)


def test_a_palette_is_resolved(tmp_path):
    grey = (toy_chest() // 16).astype(np.uint8)
    palette = np.arange(256, dtype=np.uint16)[::-1] * 257
    tags = {"PhotometricInterpretation": "PALETTE COLOR"}
    for colour in ("Red", "Green", "Blue"):
        tags[f"{colour}PaletteColorLookupTableDescriptor"] = [256, 0, 16]
        tags[f"{colour}PaletteColorLookupTableData"] = palette.tobytes()
    shown = load(tmp_path, grey, **tags)
    assert np.abs(shown.pixels.astype(int) - (255 - grey)).max() <= 1
    assert shown.repairs == ("palette resolved",)
    tags["RedPaletteColorLookupTableData"] = b"\0\0"
    with pytest.raises(ImageError, match=r"normal/a: the palette cannot be applied"):
        load(tmp_path, grey, **tags)


@pytest.mark.parametrize("kind", [..., "GREY", "MONOCHROME1"])
def test_an_option_says_what_a_missing_or_false_photometric_interpretation_should(tmp_path, kind):
    write_dicom(tmp_path / "normal/a", PhotometricInterpretation=kind)
    source = DicomSource(name="mine", root=str(tmp_path), photometric="MONOCHROME2")
    shown = source.load("normal/a", 64)
    assert np.array_equal(shown.pixels, load(tmp_path / "plain").pixels)
    assert shown.flags == ()


RADIOGRAPH_SYNTAXES = (
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    JPEG2000Lossless,
    HTJ2K,
    HTJ2KLossless,
    RLELossless,
)


@pytest.mark.parametrize("syntax", RADIOGRAPH_SYNTAXES, ids=lambda syntax: syntax.keyword)
def test_the_extra_brings_a_decoder_for_every_syntax_of_radiographs(syntax):
    assert get_decoder(syntax).is_available


@pytest.mark.parametrize(
    "syntax", [RLELossless, JPEG2000Lossless], ids=lambda syntax: syntax.keyword
)
def test_compressed_pixels_are_those_that_were_compressed(tmp_path, syntax):
    plain = load(tmp_path).pixels
    path = tmp_path / "normal/a"
    dataset = pydicom.dcmread(path)
    dataset.compress(syntax)
    dataset.save_as(path)
    shown = DicomSource(name="mine", root=str(tmp_path)).load("normal/a", 64)
    assert np.array_equal(shown.pixels, plain)


def compress_as(folder, syntax, frame):
    path = write_dicom(folder / "normal/a", (toy_chest() // 16).astype(np.uint8))
    dataset = pydicom.dcmread(path)
    dataset.file_meta.TransferSyntaxUID = UID(syntax)
    dataset.PixelData = pydicom.encaps.encapsulate([frame])
    dataset["PixelData"].VR = "OB"
    dataset["PixelData"].is_undefined_length = True
    dataset.save_as(path)
    return DicomSource(name="mine", root=str(folder))


def test_a_missing_decoder_is_named_with_an_extra_that_exists(tmp_path, monkeypatch):
    source = compress_as(tmp_path, JPEGLosslessSV1, b"\xff\xd8\xff\xd9")
    with monkeypatch.context() as patch:
        patch.setattr(Decoder, "available_plugins", ())
        with pytest.raises(
            ImageError, match=r"needs a decoder .*; pip install 'xraysynth\[dicom\]'"
        ):
            source.load("normal/a", 64)
    extras = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"][
        "optional-dependencies"
    ]
    required = " ".join(extras["dicom"])
    for package in ("pydicom", "pylibjpeg>", "pylibjpeg-libjpeg", "pylibjpeg-openjpeg"):
        assert package in required
    with pytest.raises(ImageError, match=r"normal/a: the pixels cannot be decoded") as error:
        source.load("normal/a", 64)
    assert "pip install" not in str(error.value)  # it is installed, and would change nothing


def test_the_extra_does_not_change_pixels_that_are_read_without_it(tmp_path):
    grey = (toy_chest() // 16).astype(np.uint8)
    path = tmp_path / "frame.jpg"
    Image.fromarray(grey).save(path, quality=60)
    source = compress_as(tmp_path, JPEGBaseline8Bit, path.read_bytes())
    assert np.array_equal(source.load("normal/a", 64).pixels, np.asarray(Image.open(path)))
    assert "pylibjpeg" in get_decoder(JPEGBaseline8Bit).available_plugins
