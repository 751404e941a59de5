"""The words by which tables name the view of a radiograph."""

from xraysynth.data.dicom.views import FRONTAL_VIEWS, parse_view

_SHORT_WORDS = {"l": "lateral view", "rl": "lateral view", "f": "frontal"}
"""Words that mean a view in a column of views alone."""


def view_of_word(text: str) -> str:
    """Return the view that a word in a column of views names; "" if it names none.

    >>> view_of_word("AP Supine"), view_of_word("L"), view_of_word("Left lateral"), view_of_word("?")
    ('AP', 'lateral view', 'lateral view', '')
    """
    return _SHORT_WORDS.get(text.strip().casefold()) or parse_view(text)


def reason_to_leave_out(text: str) -> str:
    """Return the view that a word names, if it is not frontal; "" if it is, or is not known.

    >>> reason_to_leave_out("LL"), reason_to_leave_out("PA")
    ('lateral view', '')
    """
    view = view_of_word(text)
    return "" if view in FRONTAL_VIEWS else view
