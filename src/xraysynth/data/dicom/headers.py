"""What selection, patients and labels need of a DICOM header, read without pixels."""

import warnings
from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xraysynth.data.dicom.bounded import read_elements, read_file_meta
from xraysynth.data.dicom.sop_classes import is_of_another_class
from xraysynth.errors import ImageError
from xraysynth.images import describe_error, require_plain_file

if TYPE_CHECKING:
    from pydicom import Dataset

VALUE_SEPARATOR = "\\"
"""What separates the values of one element in a `Header`, as in the file."""

_KEYWORDS = {
    "sop_class": "SOPClassUID",
    "sop_instance": "SOPInstanceUID",
    "study": "StudyInstanceUID",
    "series": "SeriesInstanceUID",
    "accession_number": "AccessionNumber",
    "modality": "Modality",
    "body_part": "BodyPartExamined",
    "image_type": "ImageType",
    "conversion_type": "ConversionType",
    "presentation_intent": "PresentationIntentType",
    "study_description": "StudyDescription",
    "series_description": "SeriesDescription",
    "protocol_name": "ProtocolName",
    "processing_description": "AcquisitionDeviceProcessingDescription",
    "view_position": "ViewPosition",
    "patient_orientation": "PatientOrientation",
    "patient_id": "PatientID",
    "issuer": "IssuerOfPatientID",
    "sex": "PatientSex",
    "age": "PatientAge",
    "birth_date": "PatientBirthDate",
    "n_frames": "NumberOfFrames",
}
_CODE_SEQUENCES = {"view_codes": "ViewCodeSequence", "anatomy_codes": "AnatomicRegionSequence"}
_SIZE_KEYWORDS = ("Rows", "Columns")
_LAST_TAG = 0x00540220  # ViewCodeSequence


@dataclass(frozen=True)
class Header:
    """Elements of a DICOM header as text, "" where one is missing, empty or cannot be read.

    Several values are joined by `VALUE_SEPARATOR`; of a code sequence these are the meanings. `has_size`
    says whether the header gives the rows and columns of an image, and `error` why it cannot be read.
    """

    sop_class: str = ""
    sop_instance: str = ""
    study: str = ""
    series: str = ""
    accession_number: str = ""
    modality: str = ""
    body_part: str = ""
    anatomy_codes: str = ""
    image_type: str = ""
    conversion_type: str = ""
    presentation_intent: str = ""
    study_description: str = ""
    series_description: str = ""
    protocol_name: str = ""
    processing_description: str = ""
    view_position: str = ""
    view_codes: str = ""
    patient_orientation: str = ""
    patient_id: str = ""
    issuer: str = ""
    sex: str = ""
    age: str = ""
    birth_date: str = ""
    n_frames: str = ""
    has_size: bool = False
    error: str = ""


HEADER_COLUMNS = tuple(column.name for column in fields(Header))


def read_header(path: Path) -> Header:
    """Read the header of a DICOM file; one that cannot be read has an `error` that names the file."""
    keywords = [*_KEYWORDS.values(), *_CODE_SEQUENCES.values(), *_SIZE_KEYWORDS]
    try:
        require_plain_file(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pydicom warns of values that break the standard
            meta, _ = read_file_meta(path)
            sop_class = _read_text(meta, "MediaStorageSOPClassUID")
            if is_of_another_class(sop_class):  # directories and reports may have long headers
                return Header(sop_class=sop_class)
            return parse_header(read_elements(path, _LAST_TAG, keywords))
    except ImageError as error:
        return Header(error=str(error))
    except Exception as error:  # pydicom raises nearly any type on a damaged file
        reason = f"{path}: the DICOM header cannot be read ({describe_error(error)}); copy it again"
        return Header(error=reason)


def parse_header(dataset: "Dataset") -> Header:
    """Return what a `Header` holds of a data set."""
    values = {name: _read_text(dataset, keyword) for name, keyword in _KEYWORDS.items()}
    for name, keyword in _CODE_SEQUENCES.items():
        values[name] = _read_meanings(dataset, keyword)
    if not values["sop_class"]:
        values["sop_class"] = _read_text(dataset.file_meta, "MediaStorageSOPClassUID")
    has_size = all(_read_text(dataset, keyword) for keyword in _SIZE_KEYWORDS)
    return Header(**values, has_size=has_size)


def _read_text(dataset: Any, keyword: str) -> str:
    try:
        value = dataset.get(keyword)
    except Exception:  # a value that is not of its VR raises nearly any type, when it is looked at
        return ""
    return format_value(value)


def format_value(value: Any) -> str:
    """Return the value of an element as text without padding, several joined by `VALUE_SEPARATOR`.

    >>> format_value(["PA ", "AP"]), format_value(None)
    ('PA\\\\AP', '')
    """
    if value is None:
        return ""
    if isinstance(value, Iterable) and not isinstance(value, str | bytes):
        return VALUE_SEPARATOR.join(map(format_value, value))
    text = value.decode("latin-1") if isinstance(value, bytes) else str(value)
    return text.strip("\0 \t\r\n")


def _read_meanings(dataset: "Dataset", keyword: str) -> str:
    """The meanings of the codes in a sequence, or the codes where no meaning is given."""
    try:
        items = list(dataset.get(keyword) or [])
        meanings = [item.get("CodeMeaning") or item.get("CodeValue") for item in items]
    except Exception:  # it is no sequence, or one of something else
        return ""
    return format_value(meanings)
