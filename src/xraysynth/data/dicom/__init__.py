"""DICOM as hospitals export it: which files are images of it, and what their headers say.

`files` tells DICOM by its content, `headers` reads what selection, patients and labels need, `selection` and
`views` say which files are no frontal chest radiograph and why, and `listing` does so for a folder.

    >>> from xraysynth.data.dicom.headers import Header
    >>> from xraysynth.data.dicom.selection import explain_left_out
    >>> explain_left_out(Header(modality="DX", body_part="CHEST", view_position="LL", has_size=True))
    'lateral view'
"""

__all__ = ["files", "headers", "listing", "selection", "views"]
