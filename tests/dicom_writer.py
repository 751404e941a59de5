"""Small DICOM files for tests: toy radiographs with any header."""

from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import UID, ExplicitVRLittleEndian, generate_uid

DX = "1.2.840.10008.5.1.4.1.1.1.1"
CR = "1.2.840.10008.5.1.4.1.1.1"
CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
CT = "1.2.840.10008.5.1.4.1.1.2"


def toy_chest(number: int = 0, size: int = 72, top: int = 4095) -> np.ndarray:
    """A caricature in [0, 0.6 top], `(size, size)` uint16: dark edges and lungs, bright mediastinum."""
    rng = np.random.default_rng(number)
    picture = np.full((size, size), 0.36)
    edge, lung_top, lung_end = size // 11, size // 5, 2 * size // 3
    picture[:, :edge] = picture[:, -edge:] = 0.02
    picture[lung_top:lung_end, size // 5 : 2 * size // 5] = 0.14
    picture[lung_top:lung_end, 3 * size // 5 : 4 * size // 5] = 0.14
    picture[:, 4 * size // 9 : 5 * size // 9] = 0.56
    picture += rng.normal(0, 0.01, picture.shape)
    return np.rint(picture.clip(0, 0.6) * top).astype(np.uint16)


def write_dicom(path: Path, stored: np.ndarray | None = None, **tags: Any) -> Path:
    """Write a DX image of a toy chest with 12 of 16 bits, and set elements of its data set.

    Args:
        path: The file.
        stored: `(H, W)` or `(H, W, 3)` of any integer type; None for a toy chest.
        tags: Keyword of the element -> value; None writes it empty, `...` leaves it out. `syntax` is the
            transfer syntax.
    """
    stored = toy_chest() if stored is None else stored
    dataset = new_dataset(UID(tags.pop("syntax", ExplicitVRLittleEndian)))
    set_pixels(dataset, stored)
    for keyword, value in tags.items():
        if value is ...:
            delattr(dataset, keyword)
        else:
            setattr(dataset, keyword, value)
    dataset.file_meta.MediaStorageSOPClassUID = dataset.get("SOPClassUID") or DX
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.get("SOPInstanceUID") or generate_uid()
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)
    return path


def new_dataset(syntax: UID) -> FileDataset:
    """A data set without pixels, with the elements that every DX image has."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = syntax
    dataset = FileDataset(
        "",
        {},
        file_meta=meta,
        preamble=bytes(128),
        is_implicit_VR=syntax.is_implicit_VR,
        is_little_endian=syntax.is_little_endian,
    )
    dataset.SOPClassUID, dataset.SOPInstanceUID, dataset.Modality = DX, generate_uid(), "DX"
    dataset.StudyInstanceUID, dataset.BodyPartExamined = generate_uid(), "CHEST"
    dataset.PatientID, dataset.PatientSex, dataset.PatientAge = "P1", "F", "050Y"
    dataset.ViewPosition = "PA"
    return dataset


def set_pixels(dataset: FileDataset, stored: np.ndarray) -> None:
    """Set the pixel data and the elements that describe them: 12 of 16 bits, or 8 of 8."""
    dataset.Rows, dataset.Columns = stored.shape[:2]
    dataset.SamplesPerPixel = 1 if stored.ndim == 2 else stored.shape[2]
    dataset.PhotometricInterpretation = "MONOCHROME2" if stored.ndim == 2 else "RGB"
    if stored.ndim == 3:
        dataset.PlanarConfiguration = 0
    dataset.BitsAllocated = 8 * stored.itemsize
    dataset.BitsStored = 12 if stored.itemsize == 2 else dataset.BitsAllocated
    dataset.HighBit = dataset.BitsStored - 1
    dataset.PixelRepresentation = int(stored.dtype.kind == "i")
    order = "<" if dataset.file_meta.TransferSyntaxUID.is_little_endian else ">"
    dataset.PixelData = stored.astype(stored.dtype.newbyteorder(order)).tobytes()
    dataset["PixelData"].VR = "OW" if stored.itemsize == 2 else "OB"


def code_sequence(*meanings: str) -> Sequence:
    """A sequence of codes with these meanings."""
    items = []
    for number, meaning in enumerate(meanings):
        item = FileDataset("", {})
        item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = (
            str(number),
            "99TEST",
            meaning,
        )
        items.append(item)
    return Sequence(items)
