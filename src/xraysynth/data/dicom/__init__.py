"""DICOM as hospitals export it: which files are chest radiographs, whose they are, and how they are shown.

`files` tells DICOM by its content, `headers` reads what selection, patients and labels need, `selection`,
`sop_classes` and `views` say which files are no frontal chest radiograph and why, and `listing` does so for a
folder.
`patients` tells ids of patients from placeholders, `labels` and `label_tables` find what an image shows.
`rendering` shows one: `decoding` reads its stored values, `lookup` and `windows` turn them into displayed
ones, `grey` scales these, and `masks` blackens padding and shutters. `aspect` makes pixels
square, and `bounded` limits what is read.

    >>> from xraysynth.data.dicom.headers import Header
    >>> from xraysynth.data.dicom.selection import explain_left_out
    >>> explain_left_out(Header(modality="DX", body_part="CHEST", view_position="LL", has_size=True))
    'lateral view'
"""

__all__ = [
    "aspect",
    "bounded",
    "decoding",
    "files",
    "grey",
    "headers",
    "label_tables",
    "labels",
    "listing",
    "lookup",
    "masks",
    "patients",
    "rendering",
    "selection",
    "sop_classes",
    "views",
    "windows",
]
