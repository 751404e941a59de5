"""Which DICOM files are no radiograph of the chest, and why, by what their headers say."""

import re
from pathlib import Path

from xraysynth.data.dicom.headers import VALUE_SEPARATOR, Header
from xraysynth.data.dicom.sop_classes import (
    CAPTURE_CLASSES,
    FOR_PROCESSING_CLASS,
    RADIOGRAPH_CLASSES,
    is_of_another_class,
    name_class,
)
from xraysynth.data.dicom.views import FRONTAL_VIEWS, resolve_view

RADIOGRAPH_MODALITIES = ("CR", "DX", "RG", "DR", "XR")
"""Modalities of projection radiographs; DR and XR are no terms of the standard, but written.

RF is fluoroscopy: the standard has it for moving images, and single ones are taken at another dose.
"""

_OPEN_MODALITIES = ("", "OT", "SC", "HC")
_DOCUMENT_CONVERSIONS = {"SD": "scanned document", "DRW": "drawing", "SYN": "synthetic image"}
_NO_BODY_PARTS = ("UNKNOWN", "NONE", "NA", "N/A", "OTHER", "UNDEFINED", "DEFAULT", "GENERAL")

_CHEST = re.compile(
    r"CHEST|\bCXR|THORAX|\bT[OÓ]RAX|\bTORACE|\bTH[OÓ]RAX|\bLUNG|\bPULM|\bPOUMON|胸|ГРУД|ОГК",
    re.IGNORECASE,
)
_OTHER_PART = re.compile(
    r"ABD|\bKUB\b|SPINE|SPINAL|VERTEBRA|LUMBAR|CERVICAL|SACRUM|COCCYX|[CTL]-?SPINE|PELVIS|\bHIPS?\b|HAND|"
    r"WRIST|FINGER|THUMB|ELBOW|FOREARM|HUMERUS|\bARMS?\b|SHOULDER|CLAVIC|SCAPULA|KNEE|PATELLA|ANKLE|"
    r"\bFOOT|\bFEET|\bTOES?\b|CALCAN|\bHEEL|FEMUR|TIBIA|FIBULA|\bLEGS?\b|EXTREM|SKULL|\bHEAD|\bNECK|SINUS|"
    r"FACIAL|ORBIT|NASAL|MANDIB|\bJAW|TEETH|DENTAL|\bRIBS?\b|STERN|BREAST|MAMM|WHOLE ?BODY|BABYGRAM|"
    r"BECKEN|\bKNIE|H[ÜU]FTE|SCHULTER|WIRBEL|\b[HBL]WS\b|SCH[ÄA]DEL|\bFU(?:SS|ß)|PHANTOM|\bQC\b",
    re.IGNORECASE,
)
_LOCALIZER = re.compile(r"LOCALI[SZ]ER|SCOUT|TOPOGRAM", re.IGNORECASE)
_DOCUMENT = re.compile(
    r"\bDOSE ?(?:INFO|SUMMARY|RECORD|SHEET)|REPORT|SCREEN ?(?:SAVE|CAPTURE|SHOT)|WORKSHEET|REQUISITION|"
    r"DOCUMENT|PROTOCOL ?PAGE|\bBEFUND|\bDOSIS(?:BERICHT|PROTOKOLL)|CONSENT",
    re.IGNORECASE,
)
_COMPUTED = re.compile(
    r"BONE ?SUPP|SUBTRACT|DUAL ?ENERGY|TOMO(?:SYN|GR)|\bCAD\b|HEAT ?MAP|SOFT ?TISSUE ?IMAGE",
    re.IGNORECASE,
)
_OTHER_MODALITY_WORD = re.compile(
    r"\b(?:CT|MRI?|MRT|US|PET|ECHO|SONO\w*|HRCT|ECG|EKG)\b", re.IGNORECASE
)


def explain_left_out(header: Header) -> str:
    """Return why a file is no frontal radiograph of the chest; "" if nothing in its header says so.

    A file that should be one and cannot be used is another matter (`explain_unusable`).

    >>> explain_left_out(Header(modality="CR", body_part="HAND", has_size=True))
    'body part HAND'
    """
    checks = (_explain_class, _explain_kind, _explain_body_part, _explain_view)
    for explain in checks:
        reason = explain(header)
        if reason:
            return reason
    return ""


def explain_unusable(header: Header, file: Path) -> str:
    """Return why a radiograph cannot be used by its header alone; "" if nothing in it says so.

    Args:
        header: The header.
        file: Its file, for the message.
    """
    if header.error:
        return header.error
    if not header.has_size:
        return f"{file}: the file holds no image (no rows and columns); export it again"
    if header.n_frames.isdecimal() and int(header.n_frames) > 1:
        return (
            f"{file}: the file has {int(header.n_frames)} frames, but a radiograph has one; extract one "
            "frame"
        )
    return ""


def is_for_processing(header: Header) -> bool:
    """Return whether an image is a detector's raw one, which is not meant to be looked at."""
    is_raw_class = header.sop_class == FOR_PROCESSING_CLASS
    return is_raw_class or header.presentation_intent.upper() == "FOR PROCESSING"


def _explain_class(header: Header) -> str:
    """Why the SOP class or the modality is none of a radiograph."""
    if header.error:
        return ""
    modality = header.modality.upper()
    if is_of_another_class(header.sop_class):
        return name_class(header.sop_class)
    is_capture = header.sop_class.startswith(CAPTURE_CLASSES)
    if modality in RADIOGRAPH_MODALITIES:
        return ""
    if modality not in _OPEN_MODALITIES:
        return f"modality {modality}"
    if header.sop_class in RADIOGRAPH_CLASSES or not header.sop_class:
        return ""  # every object has a class: a header without one was stripped or is damaged
    if is_capture and _is_said_to_be_chest_radiograph(header):
        return ""
    return "secondary capture of unknown content" if is_capture else "no image of a known kind"


def _is_said_to_be_chest_radiograph(header: Header) -> bool:
    texts = (
        header.body_part,
        header.anatomy_codes,
        header.series_description,
        header.protocol_name,
        header.study_description,
    )
    text = _separate(" ".join(texts))
    return bool(_CHEST.search(text)) and not _OTHER_MODALITY_WORD.search(text)


def _separate(text: str) -> str:
    """A text whose words are separated by spaces."""
    return text.replace("_", " ").replace(VALUE_SEPARATOR, " ")


def _explain_kind(header: Header) -> str:
    """Why an image is no radiograph as taken: a localizer, a document, something computed from it."""
    if header.conversion_type.upper() in _DOCUMENT_CONVERSIONS:
        return _DOCUMENT_CONVERSIONS[header.conversion_type.upper()]
    kinds = _separate(header.image_type)
    if _LOCALIZER.search(kinds):
        return "localizer"
    text = f"{kinds} {_separate(header.series_description)}"
    if _DOCUMENT.search(text):
        return "report or document"
    return "image computed from a radiograph" if _COMPUTED.search(text) else ""


def _explain_body_part(header: Header) -> str:
    """Why an image shows another part of the body; the first element that names a part decides."""
    body_part = header.body_part.upper()
    if body_part and body_part not in _NO_BODY_PARTS:
        words = _separate(body_part)
        is_chest = _CHEST.search(words) and not _OTHER_PART.search(words)
        return "" if is_chest else f"body part {body_part}"
    descriptions = (header.anatomy_codes, header.series_description, header.protocol_name)
    for text in (*descriptions, header.study_description):
        words = _separate(text)
        if _CHEST.search(words):
            return ""
        other_part = _OTHER_PART.search(words)
        if other_part:
            return f"body part {other_part[0].upper()}"
    return ""


def _explain_view(header: Header) -> str:
    view = resolve_view(header)
    return "" if view in (*FRONTAL_VIEWS, "") else view
