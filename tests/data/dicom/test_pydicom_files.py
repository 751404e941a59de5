"""The test files of pydicom: each is read right, or left out or refused by name, as the table beside says.

`listing` is what becomes of a file in a folder of a source, `picture` what becomes of its pixels.
"""

import csv
from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.pixels.processing import apply_color_lut, apply_modality_lut, apply_voi_lut

from xraysynth.data.dicom.listing import list_dicom_files
from xraysynth.data.sources.dicom import DicomSource
from xraysynth.errors import ImageError

FOLDER = Path(pydicom.__file__).parent / "data" / "test_files"
TABLE = Path(__file__).parent / "pydicom_files.csv"

with TABLE.open(encoding="utf-8") as lines:
    FILES = list(csv.DictReader(lines))

SHOWN = [row["file"] for row in FILES if row["picture"] == "shown"]
REFUSED = [row for row in FILES if row["picture"] != "shown"]

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def listed():
    return {entry.file: entry for entry in list_dicom_files(FOLDER)}


def test_the_table_names_every_file(listed):
    assert sorted(listed) == sorted(row["file"] for row in FILES)
    assert len(FILES) == 176
    assert len(SHOWN) == 82


@pytest.mark.parametrize("row", FILES, ids=lambda row: row["file"])
def test_a_file_is_listed_as_the_table_says(listed, row):
    entry = listed[row["file"]]
    kind, _, reason = row["listing"].partition(": ")
    if kind == "left out":
        assert entry.left_out == reason
    else:
        assert kind == "unusable"
        assert f"{row['file']}: {reason}" in entry.unusable


@pytest.mark.parametrize("row", REFUSED, ids=lambda row: row["file"])
def test_a_file_without_a_picture_is_refused_by_name_with_the_reason(row):
    source = DicomSource(name="pydicom", root=str(FOLDER))
    with pytest.raises(ImageError) as error:
        source.load(row["file"], 64)
    assert row["file"] in str(error.value)
    assert row["picture"] in str(error.value)


@pytest.mark.parametrize("file", SHOWN)
def test_a_picture_is_the_one_that_pydicom_and_pillow_make(file):
    shown = DicomSource(name="pydicom", root=str(FOLDER)).load(file, 64).pixels
    dataset = pydicom.dcmread(FOLDER / file)
    expected = with_square_pixels(picture_of(dataset), dataset.get("PixelSpacing"))
    assert shown.shape == expected.shape
    # Two decoders of a lossy JPEG differ by one or two levels.
    assert np.abs(expected - shown).max() <= 3


def with_square_pixels(picture, spacing):
    """As the localizers of one scanner need it, whose pixels are 11 wide and 10 high."""
    if not spacing or abs(spacing[0] / spacing[1] - 1) < 0.01:
        return picture
    assert spacing[0] < spacing[1]
    width = round(picture.shape[1] * spacing[1] / spacing[0])
    image = Image.fromarray(picture.astype(np.uint8))
    size = (width, picture.shape[0])
    return np.asarray(image.resize(size, Image.Resampling.BICUBIC)).astype(int)


def picture_of(dataset):
    """Grey levels by pydicom's own functions, `(H, W)`."""
    stored = dataset.pixel_array
    if dataset.PhotometricInterpretation == "PALETTE COLOR":
        stored = apply_color_lut(stored, dataset)
    if stored.ndim == 3:
        largest = {8: 255, 16: 65535, 32: 2**32 - 1}[8 * stored.itemsize]
        rgb = np.rint(stored / largest * 255).astype(np.uint8)
        return np.asarray(Image.fromarray(rgb).convert("L")).astype(int)
    values = apply_modality_lut(stored, dataset)
    has_window = bool(dataset.get("WindowWidth"))
    shown = apply_voi_lut(values, dataset).astype(float) if has_window else values.astype(float)
    padding = dataset.get("PixelPaddingValue")
    is_padding = np.zeros(stored.shape, bool) if padding is None else stored == padding
    if stored.dtype == np.uint8 and not has_window:
        return shown.astype(int)
    seen = shown[~is_padding]
    low, high = seen.min(), seen.max()
    if not has_window or low == high:
        shown = values.astype(float)
        low, high = np.percentile(shown[~is_padding], [0.5, 99.5])
    picture = np.rint(np.clip((shown - low) / (high - low), 0, 1) * 255).astype(int)
    if dataset.PhotometricInterpretation == "MONOCHROME1":
        picture = 255 - picture
    picture[is_padding] = 0
    return picture
