"""The words by which tables and DICOM files name the view of a radiograph."""

import re

_LATERAL = re.compile(
    r"(l|ll|rl|lat|lateral|llat|rlat|xtable ?lat.*|.*\blateral\b.*)", re.IGNORECASE
)
_FRONTAL = re.compile(
    r"(pa|ap|frontal|(ap|pa)[ _-].*|.*\bfrontal\b.*|postero-?anterior.*|antero-?posterior.*)",
    re.IGNORECASE,
)


def is_lateral_word(text: str) -> bool:
    """Return whether a word names a lateral view.

    >>> is_lateral_word("LL"), is_lateral_word("Left lateral"), is_lateral_word("AP Supine")
    (True, True, False)
    """
    return _LATERAL.fullmatch(text.strip()) is not None and not is_frontal_word(text)


def is_frontal_word(text: str) -> bool:
    """Return whether a word names a frontal view.

    >>> is_frontal_word("PA"), is_frontal_word("AP semi erect"), is_frontal_word("L")
    (True, True, False)
    """
    return _FRONTAL.fullmatch(text.strip()) is not None
