"""Reading the pixel data of a DICOM file: one frame, decompressed by a decoder that is installed."""

import contextlib
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from xraysynth.data.dicom.bounded import read_elements
from xraysynth.data.dicom.headers import format_value
from xraysynth.errors import ImageError
from xraysynth.images import describe_error, require_plain_file, require_plausible_size

if TYPE_CHECKING:
    from pydicom import Dataset

GREY_PHOTOMETRICS = ("MONOCHROME1", "MONOCHROME2")
PALETTE_PHOTOMETRIC = "PALETTE COLOR"

PHOTOMETRICS = (
    *GREY_PHOTOMETRICS,
    PALETTE_PHOTOMETRIC,
    "RGB",
    "YBR_FULL",
    "YBR_FULL_422",
    "YBR_RCT",
    "YBR_ICT",
)
"""Photometric Interpretations that are read."""

INSTALL_DECODERS = "pip install 'xraysynth[dicom]'"
"""The command that installs a decoder for every transfer syntax of radiographs."""

_LAST_TAG_OF_HEADER, _PIXEL_TAG = 0x7FDFFFFF, 0x7FE00010
_FIRST_DECODER = "pillow"
_FLOAT_PIXELS = ("FloatPixelData", "DoubleFloatPixelData")


def read_dataset(path: Path) -> "Dataset":
    """Read a file with pixel data; set the transfer syntax where the file meta is missing.

    Raises:
        ImageError: The file is too large, cannot be read or holds no image.
    """
    try:
        require_plain_file(path)
        read_elements(path, _LAST_TAG_OF_HEADER)  # refuses a header that would take all memory
        dataset = _read_pixels(path)
        has_pixels = "PixelData" in dataset and "Rows" in dataset and "Columns" in dataset
        has_fractions = any(keyword in dataset for keyword in _FLOAT_PIXELS)
    except ImageError:
        raise
    except Exception as error:  # pydicom raises nearly any type on foreign bytes
        raise ImageError(
            f"{path}: this is not a readable DICOM file ({describe_error(error)}); copy it again"
        ) from error
    if has_fractions:
        raise ImageError(f"{path}: the pixels are fractions, not grey levels; export it again")
    if not has_pixels:
        raise ImageError(f"{path}: this is not a DICOM image (no pixel data); remove or replace it")
    if "TransferSyntaxUID" not in dataset.file_meta:
        dataset.file_meta.TransferSyntaxUID = _guess_syntax(dataset)
    return dataset


def _read_pixels(path: Path) -> "Dataset":
    """Read a file up to its pixels, without what may follow them."""
    from pydicom.filereader import read_partial

    with path.open("rb") as file:
        return read_partial(file, lambda tag, vr, length: tag > _PIXEL_TAG, force=True)


def _guess_syntax(dataset: "Dataset") -> Any:
    """The uncompressed transfer syntax in which a file without file meta was read."""
    from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

    is_implicit, is_little_endian = dataset.original_encoding
    if not is_little_endian:
        return ExplicitVRBigEndian
    return ImplicitVRLittleEndian if is_implicit else ExplicitVRLittleEndian


def read_photometric(dataset: "Dataset", name: str) -> str:
    """Return the Photometric Interpretation of an image with one frame of plausible size.

    Raises:
        ImageError: It is none that is read, or the image has several frames or no plausible size.
    """
    photometric = format_value(dataset.get("PhotometricInterpretation")).upper()
    frames = format_value(dataset.get("NumberOfFrames")) or "1"
    problem = ""
    if photometric not in PHOTOMETRICS:
        problem = (
            f"Photometric Interpretation is {photometric or 'missing'}, but one of "
            f"{', '.join(PHOTOMETRICS)} is needed; export it again"
        )
    elif frames.lstrip("0") != "1":
        problem = f"the file has {frames} frames, but a radiograph has one; extract one frame"
    if problem:
        raise ImageError(f"{name}: {problem}")
    require_plausible_size(int(dataset.Columns), int(dataset.Rows), name, is_greedy=True)
    return photometric


def decode_pixels(dataset: "Dataset", name: str) -> np.ndarray:
    """Decode the pixels of an image: stored values, without unused bits; YBR colours become RGB.

    Returns:
        `(H, W)` or `(H, W, 3)` of an integer type.

    Raises:
        ImageError: There is no decoder for the transfer syntax, or the pixels are damaged.
    """
    first_error: Exception | None = None
    decoders = _list_decoders(dataset, name)
    for decoder in decoders:
        try:
            return _decode_with(dataset, decoder)
        except Exception as error:  # decoders raise their own types
            first_error = first_error or error
    reason = " ".join(describe_error(first_error or ValueError()).split())
    more_decoders = f", {INSTALL_DECODERS}" if decoders == [_FIRST_DECODER] else ""
    raise ImageError(
        f"{name}: the pixels cannot be decoded ({reason}); copy the file again{more_decoders}, or "
        "decompress it with gdcmconv --raw"
    ) from first_error


def _list_decoders(dataset: "Dataset", name: str) -> list[str]:
    """Names of the installed decoders of the transfer syntax, always in one order; [""] for none needed."""
    from pydicom.pixels.decoders.base import get_decoder

    syntax = dataset.file_meta.TransferSyntaxUID
    available: list[str] = []
    if syntax.is_transfer_syntax and (not syntax.is_compressed or syntax.is_deflated):
        return [""]
    with contextlib.suppress(NotImplementedError):
        available = list(get_decoder(syntax).available_plugins)
    if not available:
        raise ImageError(
            f"{name}: transfer syntax {syntax.name} ({syntax}) needs a decoder that is not "
            f"installed; {INSTALL_DECODERS}, or decompress the file with gdcmconv --raw"
        )
    # An installed extra must not change the pixels of a file that was read without it.
    return sorted(available, key=lambda decoder: (decoder != _FIRST_DECODER, decoder))


def _decode_with(dataset: "Dataset", decoder: str) -> np.ndarray:
    from pydicom.pixels.decoders.base import get_decoder

    shift = 0 if decoder else _count_bits_below(dataset)
    pydicom_decoder = get_decoder(dataset.file_meta.TransferSyntaxUID)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom warns of padding after the pixels, for one
        stored, _ = pydicom_decoder.as_array(
            dataset,
            decoding_plugin=decoder,
            correct_unused_bits=not shift,  # type: ignore[arg-type]  # annotated as all options at once
        )
    stored = np.asarray(stored)
    return _extract_bits(stored, dataset, shift) if shift else stored


def _count_bits_below(dataset: "Dataset") -> int:
    """Number of unused bits below the stored ones, which older files have; 0 for a senseless high bit."""
    n_stored, n_allocated = int(dataset.BitsStored), int(dataset.BitsAllocated)
    high_bit = int(dataset.get("HighBit") or 0)
    return high_bit + 1 - n_stored if n_stored <= high_bit < n_allocated else 0


def _extract_bits(stored: np.ndarray, dataset: "Dataset", shift: int) -> np.ndarray:
    """The values in the bits from `shift` on, with their sign."""
    unused_above = int(dataset.BitsAllocated) - int(dataset.BitsStored) - shift
    return np.asarray((stored << unused_above) >> (unused_above + shift), stored.dtype)
