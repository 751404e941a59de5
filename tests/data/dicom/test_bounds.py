"""Files that are made to take all time or memory are refused, or read without the part that would."""

import struct

import numpy as np
import pytest
from dicom_writer import write_dicom

from xraysynth.data.dicom.listing import list_dicom_files
from xraysynth.data.sources.dicom import DicomSource
from xraysynth.errors import ImageError

PIXELS = struct.pack("<HH", 0x7FE0, 0x0010)
MAX_READS = 5_000
N_ELEMENTS = 6_000


@pytest.fixture(autouse=True)
def few_reads(monkeypatch):
    monkeypatch.setattr("xraysynth.data.dicom.bounded.MAX_READS", MAX_READS)


def elements(group, count):
    """Empty elements of one group, explicit VR; the same ones again after 65,536."""
    numbers = np.zeros((count, 4), "<u2")
    numbers[:, 0], numbers[:, 1] = group, np.arange(count) % 65536
    numbers[:, 2] = int.from_bytes(b"LO", "little")
    return numbers.tobytes()


def items(count):
    """A private sequence of empty items, of undefined length."""
    item = struct.pack("<HHI", 0xFFFE, 0xE000, 0)
    end = struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
    head = struct.pack("<HH2sHI", 0x0009, 0x1001, b"SQ", 0, 0xFFFFFFFF)
    return head + item * count + end


def nested(depth):
    """Sequences within sequences."""
    head = struct.pack("<HH2sHI", 0x0009, 0x1001, b"SQ", 0, 0xFFFFFFFF)
    return (head + struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF)) * depth


def insert(path, before, data):
    whole = path.read_bytes()
    place = whole.index(before)
    path.write_bytes(whole[:place] + data + whole[place:])


def listed_and_loaded(folder):
    [entry] = list_dicom_files(folder)
    with pytest.raises(ImageError) as error:
        DicomSource(name="mine", root=str(folder)).load("normal/a.dcm", 64)
    return entry.left_out or entry.unusable, str(error.value)


@pytest.mark.parametrize("flood", ["elements", "items"])
def test_a_header_of_too_many_elements_is_refused(tmp_path, flood):
    path = write_dicom(tmp_path / "normal/a.dcm")
    data = elements(0x0009, N_ELEMENTS) if flood == "elements" else items(N_ELEMENTS)
    insert(path, struct.pack("<HH", 0x0010, 0x0020), data)
    for reason in listed_and_loaded(tmp_path):
        assert "normal/a.dcm: the header is in more than the 5000 pieces allowed" in reason


def test_a_flood_just_before_the_pixels_is_refused_on_load(tmp_path):
    path = write_dicom(tmp_path / "normal/a.dcm")
    insert(path, PIXELS, elements(0x0061, N_ELEMENTS))
    assert [entry.is_used for entry in list_dicom_files(tmp_path)] == [True]
    with pytest.raises(
        ImageError, match=r"a\.dcm: the header is in more than the 5000 pieces allowed"
    ):
        DicomSource(name="mine", root=str(tmp_path)).load("normal/a.dcm", 64)


def test_what_follows_the_pixels_is_not_read(tmp_path):
    source = DicomSource(name="mine", root=str(tmp_path))
    path = write_dicom(tmp_path / "normal/a.dcm")
    plain = source.load("normal/a.dcm", 64)
    with path.open("ab") as file:
        file.write(elements(0x7FE1, N_ELEMENTS))
    assert np.array_equal(source.load("normal/a.dcm", 64).pixels, plain.pixels)


def test_sequences_nested_without_end_are_refused(tmp_path):
    path = write_dicom(tmp_path / "normal/a.dcm")
    insert(path, struct.pack("<HH", 0x0010, 0x0020), nested(3000))
    for reason in listed_and_loaded(tmp_path):
        assert "normal/a.dcm" in reason


def test_a_header_that_is_too_large_is_refused(tmp_path):
    path = write_dicom(tmp_path / "normal/a.dcm")
    overlay = struct.pack("<HH2sHI", 0x6000, 0x3000, b"OW", 0, 9_000_000) + bytes(9_000_000)
    insert(path, PIXELS, overlay)
    with pytest.raises(ImageError, match=r"a\.dcm: the header has more than the 8 MB allowed"):
        DicomSource(name="mine", root=str(tmp_path)).load("normal/a.dcm", 64)


def test_a_large_directory_is_left_out_unread(tmp_path):
    path = write_dicom(tmp_path / "normal/a.dcm", SOPClassUID="1.2.840.10008.1.3.10")
    insert(path, struct.pack("<HH", 0x0010, 0x0020), items(N_ELEMENTS))
    assert [entry.left_out for entry in list_dicom_files(tmp_path)] == ["DICOMDIR"]


def test_a_large_overlay_is_no_flood(tmp_path):
    path = write_dicom(tmp_path / "normal/a.dcm")
    overlay = struct.pack("<HH2sHI", 0x6000, 0x3000, b"OW", 0, 4_000_000) + bytes(4_000_000)
    insert(path, PIXELS, overlay)
    assert DicomSource(name="mine", root=str(tmp_path)).load("normal/a.dcm", 64).pixels.any()
