"""Names of classes in file names: a class may be called as its owner calls it, in any language."""

import hashlib
import re
import unicodedata

_MAX_LENGTH = 100
"""File systems allow 255 bytes, of which ids and suffixes need some."""


def class_file_name(label: str) -> str:
    """Return the name of a class in file names and ids, which all file systems and archives take.

    A name of letters, digits, ".", "_" and "-" stays as it is unless it begins with ".". Of others the
    readable part is kept, with a hash of the whole name, so that two classes never share one.

    >>> class_file_name("covid19"), class_file_name("Lungenentz\u00fcndung")
    ('covid19', 'Lungenentzundung-a158a412')

    Args:
        label: The class.
    """
    if re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9._-]*", label) and len(label) <= _MAX_LENGTH:
        return label
    letters = unicodedata.normalize("NFKD", label).encode("ascii", "ignore").decode()
    readable = re.sub(r"[^A-Za-z0-9]+", "-", letters).strip("-")[:40].strip("-")
    return f"{readable or 'class'}-{hashlib.sha256(label.encode()).hexdigest()[:8]}"
