"""Damages small images at random and decodes them by every way that the package has; a program of its own.

python tests/mutated_images.py --count 100 PNG JPEG
"""

import argparse
import functools
import io
import json
import resource
import struct
import sys
import tempfile
import time
import warnings
import zlib
from pathlib import Path

import numpy as np
import pydicom
from PIL import Image, PngImagePlugin
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGBaseline8Bit,
    RLELossless,
)

from xraysynth.data.dicom.listing import list_dicom_files
from xraysynth.data.sources.base import load_radiograph
from xraysynth.data.sources.dicom import DicomSource
from xraysynth.errors import ImageError
from xraysynth.generation.images_api.pixels import decode_grey_pixels
from xraysynth.grey_levels import crop_borders
from xraysynth.images import IMAGE_FORMATS, decode_image, pad_and_resize, read_colour

FORMATS = (*IMAGE_FORMATS, "DICOM")
EXTREMES = (
    b"\0\0\0\0",
    b"\xff\xff\xff\xff",
    b"\x7f\xff\xff\xff",
    b"\xff\xff\xff\x7f",
    b"\0\0\x80\0",
)

DEEP = np.random.default_rng(1).integers(300, 4000, (24, 20), dtype=np.uint16)
GREY = np.random.default_rng(0).integers(0, 256, (24, 20), dtype=np.uint8)
PICTURES = {
    "L": Image.fromarray(GREY),
    "RGB": Image.fromarray(np.dstack([GREY, GREY[::-1], GREY])),
    "P": Image.fromarray(GREY).quantize(16),
    "1": Image.fromarray(GREY).convert("1"),
    "LA": Image.merge("LA", [Image.fromarray(GREY), Image.new("L", (20, 24), 255)]),
    "RGBA": Image.fromarray(np.dstack([GREY, GREY, GREY, (GREY > 99) * np.uint8(255)])),
    "I;16": Image.fromarray(DEEP),
    "I": Image.fromarray(DEEP.astype(np.int32) * 70_000),
    "F": Image.fromarray(DEEP.astype(np.float32) / 4000),
    "CMYK": Image.fromarray(GREY).convert("RGB").convert("CMYK"),
}
PLAIN = ("L", "RGB", "P", "1")
LYING = Image.Exif()
LYING[274] = 6  # orientation


def save(mode, file_format, **options):
    buffer = io.BytesIO()
    PICTURES[mode].save(buffer, format=file_format, **options)
    return buffer.getvalue()


def png_samples():
    text = PngImagePlugin.PngInfo()
    text.add_text("Comment", "x" * 300, zip=True)
    text.add_itxt("Title", "y" * 300, zip=True)
    plain = [save(mode, "PNG") for mode in (*PLAIN, "LA", "RGBA", "I;16")]
    animated = save("L", "PNG", save_all=True, append_images=[PICTURES["L"].rotate(180)])
    with_text = save("RGB", "PNG", pnginfo=text, icc_profile=b"profile" * 30)
    return [*plain, with_text, save("I;16", "PNG", exif=LYING), animated]


def jpeg_samples():
    comments = {"comment": b"c" * 50, "exif": Image.Exif(), "icc_profile": b"profile" * 30}
    plain = [save(mode, "JPEG", progressive=p) for mode in ("L", "RGB") for p in (False, True)]
    lying = [save(mode, "JPEG", exif=LYING) for mode in ("L", "CMYK")]
    return [*plain, save("RGB", "JPEG", **comments), *lying]


def tiff_samples():
    kinds = (None, "tiff_lzw", "tiff_adobe_deflate", "jpeg", "packbits")
    grey = [save("L", "TIFF", compression=kind) for kind in kinds]
    deep = [save(mode, "TIFF", exif=LYING) for mode in ("I;16", "I", "F", "CMYK", "RGBA")]
    inverted = save("I;16", "TIFF", tiffinfo={262: 0})
    pages = save("L", "TIFF", save_all=True, append_images=[PICTURES["L"].reduce(2)])
    plain = [save("1", "TIFF", compression="group4"), save("RGB", "TIFF"), save("P", "TIFF")]
    return [*grey, *plain, *deep, inverted, pages]


def bmp_samples():
    """All modes, and eight bits with run-length encoding, which Pillow does not write."""
    run_length_encoded = bytearray(save("L", "BMP"))
    run_length_encoded[30] = 1  # BI_RLE8
    return [*(save(mode, "BMP") for mode in (*PLAIN, "RGBA")), bytes(run_length_encoded)]


def animated_samples(file_format):
    frames = [PICTURES["L"].transpose(Image.Transpose.ROTATE_180)]
    animated = save("L", file_format, save_all=True, append_images=frames)
    lying = save("RGBA", file_format, **({"exif": LYING} if file_format == "WEBP" else {}))
    return [animated, lying, *(save(mode, file_format) for mode in ("L", "RGB", "P"))]


def ppm_samples():
    plain = f"P2 20 24 255 {' '.join(map(str, GREY.ravel()))}".encode()
    return [*(save(mode, "PPM") for mode in ("L", "RGB", "1", "I;16", "F")), plain]


def dicom_sample(syntax, pixels, frame=None):
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.1"
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    dataset.PatientID, dataset.PatientAge, dataset.ViewPosition = "p1", "045Y", "PA"
    dataset.WindowCenter, dataset.WindowWidth = 128, 200
    dataset.RescaleSlope, dataset.RescaleIntercept = 1, 0
    dataset.Rows, dataset.Columns = pixels.shape
    dataset.BitsAllocated = dataset.BitsStored = pixels.itemsize * 8
    dataset.HighBit, dataset.SamplesPerPixel = dataset.BitsStored - 1, 1
    dataset.PixelRepresentation, dataset.PhotometricInterpretation = 0, "MONOCHROME2"
    dataset.PixelData = pydicom.encaps.encapsulate([frame]) if frame else pixels.tobytes()
    dataset["PixelData"].VR = "OB" if frame else "OW"
    dataset["PixelData"].is_undefined_length = bool(frame)
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def dicom_samples():
    deep = GREY.astype(np.uint16) * 16
    syntaxes = (ExplicitVRLittleEndian, ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian)
    plain = [dicom_sample(syntax, deep) for syntax in syntaxes]
    rle = pydicom.dcmread(io.BytesIO(plain[0]))
    rle.compress(RLELossless)
    buffer = io.BytesIO()
    rle.save_as(buffer)
    jpeg = dicom_sample(JPEGBaseline8Bit, GREY, save("L", "JPEG"))
    return [*plain, buffer.getvalue(), jpeg]


SAMPLES = {
    "PNG": png_samples,
    "JPEG": jpeg_samples,
    "TIFF": tiff_samples,
    "BMP": bmp_samples,
    "WEBP": functools.partial(animated_samples, "WEBP"),
    "GIF": functools.partial(animated_samples, "GIF"),
    "PPM": ppm_samples,
    "JPEG2000": lambda: [save(mode, "JPEG2000") for mode in ("L", "RGB", "LA", "RGBA", "I;16")],
    "DICOM": dicom_samples,
}


def mutate(data, rng):
    """A copy with one damage or a few; most of them near the start, where the header is."""
    mutant = bytearray(data)
    for _ in range(int(rng.geometric(0.6))):
        reach = len(mutant) if rng.random() < 0.5 else min(len(mutant), 120)
        if not reach:
            break
        start = int(rng.integers(reach))
        length = int(rng.integers(1, 40))
        kind = rng.integers(7)
        if kind == 0:
            mutant[start] ^= 1 << int(rng.integers(8))
        elif kind == 1:
            mutant[start] = int(rng.integers(256))
        elif kind == 2:
            mutant[start : start + 4] = EXTREMES[rng.integers(len(EXTREMES))]
        elif kind == 3:
            del mutant[start : start + length]
        elif kind == 4:
            mutant[start:start] = mutant[start : start + length] * int(rng.integers(1, 20))
        elif kind == 5:
            mutant[start:start] = rng.bytes(length)
        else:
            del mutant[start:]
    return bytes(mutant)


def with_checksums(data):
    """A PNG with right checksums, without which a decoder would not look into a changed chunk."""
    fixed, position = bytearray(data), 8
    while position + 12 <= len(fixed):
        end = position + 8 + struct.unpack(">I", fixed[position : position + 4])[0]
        if end + 4 > len(fixed):
            break
        fixed[end : end + 4] = struct.pack(">I", zlib.crc32(fixed[position + 4 : end]))
        position = end + 4
    return bytes(fixed)


def ways_to_decode(file_format, data, folder):
    """Name of a way -> function without arguments that decodes the data in this way."""
    path = folder / "normal" / "mutant"
    path.write_bytes(data)
    if file_format == "DICOM":
        source = DicomSource(name="mutants", root=str(folder))
        return {
            "headers": lambda: list_dicom_files(folder),
            "load": lambda: source.load("normal/mutant", 64),
        }
    return {
        "grey": lambda: pad_and_resize(load_radiograph(data, "normal/mutant").pixels, 64),
        "repaired": lambda: crop_borders(decode_image(data, "normal/mutant")),
        "colour": lambda: read_colour(path),
        "answer": lambda: decode_grey_pixels(data),  # of an API, which has no file
    }


def decode(name, way):
    """Decodes in one way; returns what went wrong ("" if nothing), and whether it is an image."""
    try:
        way()
    except ImageError as error:
        text = str(error)
        is_named = name == "answer" or "normal/mutant: " in text
        return "" if is_named and " object at 0x" not in text else f"{name}: {text}", False
    except Exception as error:
        return f"{name}: {type(error).__name__}: {error}", False
    return "", True


def attack(file_format, count, seed, folder):
    """Decodes mutants of a format.

    Returns how many are images still, CPU seconds of the slowest, peak memory and what went wrong.
    """
    rng = np.random.default_rng([seed, FORMATS.index(file_format)])
    samples = SAMPLES[file_format]()
    slowest, images, wrong = 0.0, 0, []
    for number in range(count):
        data = mutate(samples[number % len(samples)], rng)
        if file_format == "PNG" and number % 2:
            data = with_checksums(data)
        start = time.process_time()
        for name, way in ways_to_decode(file_format, data, folder).items():
            problem, is_image = decode(name, way)
            images += is_image and name in ("grey", "load")
            wrong += [f"mutant {number}, {problem}"] if problem else []
        slowest = max(slowest, time.process_time() - start)
    return {
        "images": images,
        "slowest_seconds": slowest,
        "peak_mb": peak_memory_mb(),
        "wrong": wrong,
    }


def peak_memory_mb():
    """The most memory that this process has had, without what it inherits from its parent's count."""
    status = Path("/proc/self/status")
    if status.exists():
        return int(status.read_text().split("VmHWM:")[1].split()[0]) / 1e3
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1e6 if sys.platform == "darwin" else 1e3)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("formats", nargs="*", default=FORMATS)
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    warnings.simplefilter("ignore")  # decoders warn of damages that they repair
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "normal").mkdir()
        for file_format in options.formats:
            outcome = attack(file_format, options.count, options.seed, folder)
            print(json.dumps({"format": file_format, **outcome}), flush=True)


if __name__ == "__main__":
    main()
