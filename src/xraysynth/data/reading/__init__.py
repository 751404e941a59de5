"""Reading other people's folders and tables as their owners mean them.

Sources, archives of generated images and the comparison of folders share these readers. `folders` lists
files, `tables` reads tables, `columns` tells what their columns hold, `labels` and `splits` know the words
for classes and splits, `ages` reads ages.

    >>> from xraysynth.data.reading.folders import IMAGE_SUFFIXES
    >>> ".png" in IMAGE_SUFFIXES
    True
"""

__all__ = ["ages", "columns", "folders", "labels", "names", "splits", "tables"]
