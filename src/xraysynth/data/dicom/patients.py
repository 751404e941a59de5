"""Whose images the files of an export are: patient ids that tell patients apart, and those that do not."""

import itertools
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence

from xraysynth.data.dicom.headers import Header
from xraysynth.data.reading.ages import parse_age_years
from xraysynth.errors import format_some

MOST_YEARS_OF_ONE_PATIENT = 25
"""Ages of one patient in one export differ by less."""

LEAST_STUDIES_OF_EVERYBODY = 5
"""An id of most files that is on as many studies is not taken for one patient's."""

_PLACEHOLDER = re.compile(
    r"ANONYM\w*|ANON|DE-?IDENTIFIED|DEID|UNKNOWN|UNBEKANNT|NONE|NULL|N/?A|NAN|NO ?ID|NO ?NAME|PATIENT|"
    r"PATIENT ?ID|TEST|DUMMY|REMOVED|REDACTED|[\W_]+|X+",
    re.IGNORECASE,
)
_ZEROS = re.compile(r"0+")


def resolve_patients(headers: Sequence[Header], elsewhere: Sequence[str]) -> tuple[list[str], str]:
    """Return the patient of each image, "" if unknown, and a note for the reader of the audit.

    Placeholders such as "ANONYMOUS" are no patients, nor is an id that most files share although they
    show different patients. The same id from two issuers means two patients.

    Args:
        headers: The headers of the images; empty ones where an image is not used.
        elsewhere: The patient of each image as a table or a folder says it, "" if neither does; it holds
            where the header tells none.

    Returns:
        One id per image, and the note, "" if nothing was changed.
    """
    headers_of_id = defaultdict(list)
    for header in headers:
        headers_of_id[header.patient_id].append(header)
    headers_of_id.pop("", None)
    n_with_id = sum(map(len, headers_of_id.values()))
    shared_ids = [
        patient_id
        for patient_id, images in headers_of_id.items()
        if _is_placeholder(patient_id, images) or _is_everybody(images, n_with_id)
    ]
    issuers = {patient_id: _issuers(images) for patient_id, images in headers_of_id.items()}
    patients = []
    for header, other in zip(headers, elsewhere, strict=True):
        is_unknown = header.patient_id in ("", *shared_ids)
        patients.append(other if is_unknown else _qualify(header, issuers))
    is_replaced = [header.patient_id in shared_ids for header in headers]
    are_known = all(itertools.compress(patients, is_replaced))
    return patients, _format_note(shared_ids, headers_of_id, are_known=are_known)


def _is_placeholder(patient_id: str, images: Sequence[Header]) -> bool:
    """Whether an id is a word that anonymisers write; zeros may be somebody's, of a single study."""
    if _PLACEHOLDER.fullmatch(patient_id):
        return True
    is_zeros = bool(_ZEROS.fullmatch(patient_id))
    return is_zeros and (len(images) > 1 and len({image.study for image in images}) != 1)


def _is_everybody(images: Sequence[Header], n_files: int) -> bool:
    """Whether most files share the id of these images, which are of different patients."""
    if len(images) < 3 or len(images) <= n_files / 2:
        return False
    sexes = {image.sex.upper() for image in images} & {"M", "F"}
    births = {image.birth_date for image in images} - {""}
    ages = [parse_age_years(image.age) for image in images]
    years = [age for age in ages if age is not None]
    has_contradiction = len(sexes) > 1 or len(births) > 1
    if years and max(years) - min(years) > MOST_YEARS_OF_ONE_PATIENT:
        has_contradiction = True
    studies = {image.study for image in images} - {""}
    return has_contradiction or len(studies) >= LEAST_STUDIES_OF_EVERYBODY


def _issuers(images: Sequence[Header]) -> set[str]:
    return {image.issuer for image in images} - {""}


def _qualify(header: Header, issuers: Mapping[str, set[str]]) -> str:
    """The id of a patient, with its issuer if another issuer has given the same id."""
    if header.issuer and len(issuers[header.patient_id]) > 1:
        return f"{header.issuer}:{header.patient_id}"
    return header.patient_id


def _format_note(
    shared_ids: Sequence[str], headers_of_id: Mapping[str, Sequence[Header]], *, are_known: bool
) -> str:
    if not shared_ids:
        return ""
    n_images = sum(len(headers_of_id[patient_id]) for patient_id in shared_ids)
    source = "those of the table or the folders" if are_known else "unknown"
    return (
        f"{n_images} images have a patient id that does not tell patients apart "
        f"({format_some(map(repr, shared_ids))}); their patients are {source}"
    )
