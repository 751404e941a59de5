"""The SOP classes of DICOM that radiographs may have: what kind of object a file holds."""

DICOMDIR_CLASS = "1.2.840.10008.1.3.10"

FOR_PROCESSING_CLASS = "1.2.840.10008.5.1.4.1.1.1.1.1"

RADIOGRAPH_CLASSES = (
    "1.2.840.10008.5.1.4.1.1.1",  # Computed Radiography
    "1.2.840.10008.5.1.4.1.1.1.1",  # Digital X-Ray, for presentation
    FOR_PROCESSING_CLASS,  # Digital X-Ray as the detector gave it
)
"""SOP classes of projection radiographs; those of breasts and teeth have their own."""

CAPTURE_CLASSES = ("1.2.840.10008.5.1.4.1.1.7",)
"""SOP class of single-frame secondary captures, and those of its multi-frame kinds begin with it."""


def is_of_another_class(sop_class: str) -> bool:
    """Return whether a class is one of the standard that holds no radiograph.

    Vendors' own classes may hold anything.

    >>> is_of_another_class("1.2.840.10008.5.1.4.1.1.2"), is_of_another_class("1.3.46.670589.2.3.1.1")
    (True, False)
    """
    may_hold_radiographs = sop_class in RADIOGRAPH_CLASSES or sop_class.startswith(CAPTURE_CLASSES)
    return sop_class.startswith("1.2.840.10008.") and not may_hold_radiographs


def name_class(sop_class: str) -> str:
    """Return the name of a class of the standard.

    >>> name_class("1.2.840.10008.5.1.4.1.1.2"), name_class(DICOMDIR_CLASS)
    ('CT Image', 'DICOMDIR')
    """
    from pydicom.uid import UID

    if sop_class == DICOMDIR_CLASS:
        return "DICOMDIR"
    return str(UID(sop_class).name).partition(" Storage")[0]
