"""Image files that start programs, ask for much memory or time, or make decoders fail in odd ways."""

import io
import json
import os
import pickle
import re
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from mutated_images import FORMATS
from PIL import EpsImagePlugin, Image

from xraysynth import images
from xraysynth.data.reading import folders
from xraysynth.data.sources.dicom import DicomSource
from xraysynth.data.sources.folder import FolderSource
from xraysynth.data.sources.medmnist import MedMnistSource
from xraysynth.data.sources.table import TableSource
from xraysynth.data.sources.xrv import XrvSource
from xraysynth.errors import ImageError, ManifestError
from xraysynth.evaluation.folders import choose_common_size, from_folder
from xraysynth.generation.generators.archive import Archive
from xraysynth.generation.images_api.pixels import decode_grey_pixels
from xraysynth.records import Request
from xraysynth.release.images import with_png_text

SOURCE = Path(images.__file__).parent
POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n%%EOF\n"
IN_DOS_HEADER = (
    b"\xc5\xd0\xd3\xc6" + struct.pack("<II", 32, len(POSTSCRIPT)) + bytes(20) + POSTSCRIPT
)
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width=9, height=9, text=b""):
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    rows = zlib.compress(bytes((width + 1) * height))
    parts = chunk(b"IHDR", header), text, chunk(b"IDAT", rows), chunk(b"IEND", b"")
    return PNG_SIGNATURE + b"".join(parts)


@pytest.fixture
def ghostscript(tmp_path, monkeypatch):
    """A program in the place of Ghostscript, and the file that it writes when it is started."""
    program, trace = tmp_path / "gs", tmp_path / "started"
    program.write_text(f"#!/bin/sh\ntouch {trace}\n")
    program.chmod(0o755)
    monkeypatch.setattr(EpsImagePlugin, "gs_binary", str(program))
    return trace


def ways_in(folder):
    """Name of a way in -> function that takes the file `normal/x.png` of the folder, which is evil."""
    file = folder / "normal" / "x.png"
    pd.DataFrame({"path": ["normal/x.png"], "label": ["normal"]}).to_csv(folder / "manifest.csv")
    (folder / "nih.csv").write_text(
        "Image Index,Finding Labels,Patient ID,View Position,Patient Age,Patient Gender\n"
        "x.png,No Finding,1,PA,50,F\n"
    )
    table = TableSource(name="mine", path=str(folder / "manifest.csv"))
    nih = XrvSource(
        name="nih",
        dataset="NIH_Dataset",
        imgpath=str(file.parent),
        csvpath=str(folder / "nih.csv"),
        options={"unique_patients": False},
        labels={"No Finding": "normal"},
    )
    request = Request("normal", 0, "", "", 1)
    return {
        "folder": lambda: FolderSource(name="mine", root=str(folder)).load("normal/x.png", 64),
        "table": lambda: table.load(table.rows()["locator"][0], 64),
        "torchxrayvision": lambda: nih.load(nih.rows()["locator"][0], 64),
        "archive": lambda: list(Archive(str(folder)).generate([request])),
        "evaluated folder": lambda: choose_common_size(from_folder(folder)),
        "colours": lambda: images.read_colour(file),
        "answer of an API": lambda: decode_grey_pixels(file.read_bytes()),
        "release": lambda: with_png_text(file.read_bytes(), {}, str(file)),
    }


@pytest.mark.parametrize("data", [POSTSCRIPT, IN_DOS_HEADER])
def test_postscript_under_the_name_of_an_image_starts_no_program(tmp_path, ghostscript, data):
    (tmp_path / "normal").mkdir()
    (tmp_path / "normal" / "x.png").write_bytes(data)
    for name, take in ways_in(tmp_path).items():
        with pytest.raises(
            ImageError, match=r"Encapsulated Postscript \(EPS\).*save it as"
        ) as error:
            take()
        assert name == "answer of an API" or "x.png" in str(error.value)
    assert not ghostscript.exists()


@pytest.mark.parametrize(
    ("data", "title"),
    [
        (b"GRIB\0\0\1\1" + bytes(90), "GRIB"),
        (b"\x89HDF\r\n\x1a\n" + bytes(90), "HDF5"),
        (b"\xd7\xcd\xc6\x9a\x00\x00" + bytes(90), "Windows Metafile"),
        (b"8BPS\x00\x01" + bytes(90), "Adobe Photoshop"),
    ],
)
def test_other_formats_are_refused_by_name(data, title):
    with pytest.raises(ImageError, match=rf"^x\.png: the content is {title} \(.*remove it$"):
        images.decode_image(data, "x.png")


def test_the_formats_that_are_promised_are_read():
    for file_format in images.IMAGE_FORMATS:
        buffer = io.BytesIO()
        Image.new("L", (30, 20), 100).save(buffer, format=file_format)
        assert images.decode_image(buffer.getvalue(), "x").shape == (20, 30)


def test_every_image_is_opened_in_one_place():
    opening = re.compile(r"Image\.open\(|\bimread\(|ImageFile\.Parser")
    places = [file.name for file in SOURCE.rglob("*.py") if opening.search(file.read_text("utf-8"))]
    assert places == ["images.py"]


@pytest.mark.parametrize(
    ("size", "rule"),
    [
        ((63_000_000, 1), "a side may have 16384"),
        ((1, 16_000), "10 times"),
        ((101, 10), "10 times"),
    ],
)
def test_an_image_of_an_odd_shape_is_refused_before_it_is_decoded(size, rule, monkeypatch):
    monkeypatch.setattr(Image.Image, "load", lambda _: pytest.fail("decoded"))
    with pytest.raises(
        ImageError, match=rf"^a\.png: the image has {size[0]} x {size[1]} pixels.*{rule}"
    ):
        images.decode_image(png(*size), "a.png")


@pytest.mark.parametrize("file_format", ["WEBP", "JPEG2000"])
def test_formats_whose_decoders_need_much_memory_have_a_lower_limit(file_format, monkeypatch):
    monkeypatch.setattr(images, "MAX_MEGAPIXELS_OF_GREEDY_DECODERS", 1)
    for height, is_allowed in ((1000, True), (1001, False)):
        buffer = io.BytesIO()
        Image.new("L", (1000, height), 100).save(buffer, format=file_format)
        if is_allowed:
            assert images.decode_image(buffer.getvalue(), "a").shape == (1000, 1000)
        else:
            with pytest.raises(ImageError, match="more than the 1 allowed"):
                images.decode_image(buffer.getvalue(), "a")


def claiming(width, height):
    """A PNG of a hundred bytes whose header claims a size."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return PNG_SIGNATURE + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(99)))


def test_an_image_of_ten_gigapixels_is_refused_by_every_way_in(tmp_path, monkeypatch):
    monkeypatch.setattr(Image.Image, "load", lambda _: pytest.fail("decoded"))
    (tmp_path / "normal").mkdir()
    (tmp_path / "normal" / "x.png").write_bytes(claiming(100_000, 100_000))
    for name, take in ways_in(tmp_path).items():
        with pytest.raises(ImageError, match=r"64 megapixels allowed; downscale it") as error:
            take()
        assert name == "answer of an API" or "x.png" in str(error.value)


class Trap:
    """What a pickle calls when it is loaded."""

    def __reduce__(self):
        return Path.touch, (Path(os.environ["TRAP_FILE"]),)


def test_a_pickle_under_the_name_of_an_image_is_not_loaded(tmp_path, monkeypatch):
    trap = tmp_path / "called"
    monkeypatch.setenv("TRAP_FILE", str(trap))
    data = pickle.dumps(Trap())
    pickle.loads(data)
    assert trap.exists()  # it would work
    trap.unlink()
    (tmp_path / "normal").mkdir()
    (tmp_path / "normal" / "x.png").write_bytes(data)
    (tmp_path / "normal" / "model").write_bytes(data)
    for take in ways_in(tmp_path).values():
        with pytest.raises(ImageError, match=r"not a readable image|are not an image"):
            take()
    assert FolderSource(name="mine", root=str(tmp_path)).rows()["locator"].tolist() == [
        "normal/x.png"
    ]
    assert not trap.exists()


def test_a_tiff_whose_pages_go_round_or_on_without_end_is_refused_or_read(tmp_path):
    buffer = io.BytesIO()
    picture = Image.fromarray(np.arange(600, dtype=np.uint16).reshape(20, 30).astype(np.uint8))
    picture.save(buffer, format="TIFF")
    data = bytearray(buffer.getvalue())
    first = struct.unpack("<I", data[4:8])[0]
    entries = struct.unpack("<H", data[first : first + 2])[0]
    end = first + 2 + 12 * entries
    data[end : end + 4] = struct.pack("<I", first)  # the next page is this one
    assert images.decode_image(bytes(data), "x.tif").shape == (20, 30)
    many = io.BytesIO()
    picture.save(many, format="TIFF", save_all=True, append_images=[picture] * 3000)
    with pytest.raises(ImageError, match=r"x\.tif: the file has several pages"):
        images.decode_image(many.getvalue(), "x.tif")


def test_what_is_no_file_is_not_looked_into(tmp_path):
    (tmp_path / "normal").mkdir()
    os.mkfifo(tmp_path / "normal" / "pipe")
    (tmp_path / "normal" / "zero").symlink_to("/dev/zero")
    (tmp_path / "normal" / "lost").symlink_to("nowhere")
    with (tmp_path / "normal" / "huge").open("wb") as file:
        file.truncate(10**12)
    listing = folders.list_images(tmp_path)
    assert listing.images == []
    assert listing.other_files == {"no suffix": 2}


def test_a_long_image_within_the_limit_is_read():
    assert images.decode_image(png(100, 10), "a.png").shape == (10, 100)


def compressed_text(size):
    return chunk(b"zTXt", b"Comment\0\0" + zlib.compress(b"x" * size))


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@pytest.mark.parametrize(
    "data",
    [
        png(text=compressed_text(2**20 + 1)),
        png(text=compressed_text(2**20 - 9) * 70),
        png()[:20],
        png()[: len(PNG_SIGNATURE) + 12],
        b"BM" + bytes(10),
        b"RIFF\x10\0\0\0WEBPVP8 ",
        b"II*\0\x08\0\0\0\x01\0\0\x01\x03\0",
        b"P5 9",
        b"\0\0\0\x0cjP  \r\n\x87\n" + b"\xff" * 40,
    ],
)
def test_whatever_a_decoder_raises_names_the_file(tmp_path, data):
    path = tmp_path / "bad.png"
    path.write_bytes(data)
    for read in (images.read_image, images.read_colour):
        with pytest.raises(ImageError, match=r"bad\.png: .*; \w+ ") as error:
            read(path)
        assert "object at 0x" not in str(error.value)


def test_a_jpeg_of_many_scans_is_refused():
    buffer = io.BytesIO()
    Image.new("L", (64, 64), 100).save(buffer, format="JPEG", progressive=True)
    data = buffer.getvalue()
    assert images.decode_image(data, "a.jpg").shape == (64, 64)
    last = data.rindex(b"\xff\xda")
    with pytest.raises(
        ImageError, match=r"a\.jpg: the JPEG has \d+ scans, more than the 100 allowed"
    ):
        images.decode_image(data[:last] + data[last:-2] * 100 + data[-2:], "a.jpg")


def test_a_pipe_a_folder_and_a_huge_file_are_refused_before_they_are_read(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "folder.png").mkdir()
    with (tmp_path / "huge.png").open("wb") as file:
        file.truncate(300_000_000)
    for name, rule in {
        "pipe": "not a file",
        "folder": "not a file",
        "huge": "300 MB, more",
    }.items():
        with pytest.raises(ImageError, match=rf"{name}\.png: .*{rule}"):
            images.read_image(tmp_path / f"{name}.png")


def test_an_array_that_inflates_without_measure_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("xraysynth.data.sources._inflation.MAX_FILE_MB", 1)
    arrays = {
        f"{split}_labels": np.zeros((2_000_000, 1), np.uint8) for split in ("train", "val", "test")
    }
    np.savez_compressed(tmp_path / "toy.npz", **arrays)
    with pytest.raises(
        ManifestError, match=r"toy\.npz.*train_labels\.npy inflates from \d+ to 2000128"
    ):
        MedMnistSource(name="toy", root=str(tmp_path), flag="toy").rows()


@pytest.mark.parametrize("data", [b"", b"path,label\n\xff\xfe,\x00", b'path,label\n"open'])
def test_a_table_that_cannot_be_read_is_named_by_all_who_read_one(tmp_path, data):
    table = tmp_path / "manifest.csv"
    table.write_bytes(data)
    (tmp_path / "normal").mkdir()
    (tmp_path / "normal" / "a.dcm").write_bytes(b"")
    dicom = DicomSource(name="mine", root=str(tmp_path / "normal"), table=str(table))
    readers = {
        "table": TableSource(name="mine", path=str(table)).rows,
        "archive": lambda: Archive(str(tmp_path)).table,
        "evaluated folder": lambda: from_folder(tmp_path),
        "DICOM": dicom.rows,
    }
    for read in readers.values():
        with pytest.raises(ManifestError, match=r"manifest\.csv: this is not a readable CSV"):
            read()


def require_harmless(folder, formats, count, images_expected=1):
    """Decodes mutants in a process of its own, so that its memory is theirs."""
    program = Path(__file__).with_name("mutated_images.py")
    command = [sys.executable, str(program), *formats, "--count", str(count)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=True
    )
    outcomes = [json.loads(line) for line in process.stdout.splitlines()]
    assert [outcome["format"] for outcome in outcomes] == list(formats)
    for outcome in outcomes:
        assert not outcome["wrong"], outcome
        assert outcome["slowest_seconds"] < 5, outcome
        assert outcome["peak_mb"] < 1000, outcome
        assert outcome["images"] >= images_expected, outcome
    assert not list(folder.iterdir())


def test_mutated_images_are_decoded_or_refused_by_name(tmp_path):
    require_harmless(tmp_path, FORMATS, 300)


@pytest.mark.slow
@pytest.mark.parametrize("file_format", FORMATS)
def test_20_000_mutated_images_of_a_format_are_decoded_or_refused(tmp_path, file_format):
    require_harmless(tmp_path, [file_format], 20_000)
