"""Reading other people's folders and tables as their owners mean them.

Sources, archives of generated images and the comparison of folders share these readers. `folders` lists
files, `tables` reads tables.

    >>> from xraysynth.data.reading.folders import IMAGE_SUFFIXES
    >>> ".png" in IMAGE_SUFFIXES
    True
"""

__all__ = ["folders", "tables"]
