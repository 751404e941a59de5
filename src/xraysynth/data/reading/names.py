"""The names that people give to the columns of a table of radiographs."""

import re
from collections.abc import Mapping
from types import MappingProxyType

ROLES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "path": (
            *("path", "file path", "image path", "img path", "file", "file name", "filename"),
            *("image file", "image file name", "image name", "x ray image name", "image index"),
            *("image", "img", "img name", "dicom path", "relative path", "rel path", "full path"),
            *("imgpath", "image_id", "dateipfad", "dateiname", "datei", "bild"),
        ),
        "label": (
            *("label", "labels", "image label", "class", "class name", "classes", "category"),
            *("finding", "findings", "finding labels", "diagnosis", "diagnose", "target"),
            *("pathology", "disease", "dx", "ground truth", "gt", "y", "status", "befund"),
        ),
        "patient_id": (
            *("patient id", "patient", "patient identifier", "patient number", "patient no"),
            *("subject id", "subject", "participant id", "pid", "patienten id", "case id"),
        ),
        "split": (
            *("split", "data split", "dataset split", "set", "subset", "partition", "dataset type"),
            *("phase", "usage", "fold", "dataset"),
        ),
        "view": (
            *("view", "view position", "projection", "frontal/lateral", "ap/pa", "orientation"),
        ),
        "sex": ("sex", "gender", "patient sex", "patient gender", "geschlecht"),
        "age": ("age", "patient age", "age years", "age in years", "alter"),
    }
)
"""Role of a column -> names that it may have, the most certain first; case, spaces and dashes are free."""

EXACT_ROLES: Mapping[str, str] = MappingProxyType(
    {
        "image_id": "image_id",
        "source": "source_dataset",
        "license": "license",
        "sha256": "sha256",
    }
)
"""Role of a column -> the one name by which it is found without being asked for."""

IMAGE_NAME = re.compile(
    r".+\.(png|jpe?g|jpe|jfif|bmp|tiff?|webp|gif|jp2|j2k|jpx|pgm|ppm|dcm|dicom|nii(\.gz)?)", re.I
)
"""What the name of an image file looks like."""


MISSING_WORDS = frozenset(
    [
        *(
            "#N/A",
            "#N/A N/A",
            "#NA",
            "N/A",
            "n/a",
            "NA",
            "<NA>",
            "NULL",
            "null",
            "None",
            "NaN",
            "nan",
        ),
        *("-NaN", "-nan", "1.#IND", "-1.#IND", "1.#QNAN", "-1.#QNAN"),
    ]
)
"""Words that say that a value is missing, in every column but path and label."""


def simplify_name(name: str) -> str:
    """Return a name of a column in lower case without spaces, dashes and underscores.

    >>> simplify_name(" Patient_ID"), simplify_name("Follow-up #"), simplify_name("PatientID")
    ('patientid', 'followup#', 'patientid')
    """
    return re.sub(r"[\s_.\-]+", "", name.casefold())


def rank_as(role: str, name: str) -> int | None:
    """Return the place of a column's name among those of a role; None if it is none of them.

    >>> rank_as("label", "Finding Labels") is None, rank_as("label", "Age") is None
    (False, True)
    """
    return _RANKS[role].get(simplify_name(name))


def _build_ranks() -> dict[str, dict[str, int]]:
    ranks = {}
    for role, names in ROLES.items():
        simple_names = list(dict.fromkeys(map(simplify_name, names)))
        ranks[role] = {name: rank for rank, name in enumerate(simple_names)}
    return ranks


_RANKS = _build_ranks()


def is_column_name(text: str) -> bool:
    """Return whether a text is the usual name of a column of a table of radiographs."""
    return text.strip() in EXACT_ROLES.values() or any(
        rank_as(role, text) is not None for role in ROLES
    )
