"""Looking at people's files before a study: what they are, and what a study would make of them.

`survey` lists what a folder holds, `known_sets` recognises public collections, `proposals` names the source
that reads it (`class_folders`, `image_tables`, `other_files` for each kind), `patients` finds the pattern of
patients in file names, `classes` chooses the study's classes, `looking` reads headers and pixels, `copies`
finds files with the same bytes, and `rehearsal` says what preparing the images would stop at.

    >>> from xraysynth.data.inspection.classes import standard_class
    >>> standard_class("No Finding"), standard_class("Lungenentzündung")
    ('normal', 'pneumonia')
"""

__all__ = [
    "class_folders",
    "classes",
    "copies",
    "image_tables",
    "known_sets",
    "looking",
    "other_files",
    "patients",
    "proposals",
    "rehearsal",
    "survey",
]
