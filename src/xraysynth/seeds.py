"""Seeds and digests: both are hashes, so no result depends on order, batch size or resume point."""

import hashlib
import json
from dataclasses import fields
from typing import Any

_JSON_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), default=str)
"""Created once, because creating an encoder takes longer than encoding a short value."""


def digest(value: Any) -> str:
    """Return the SHA-256 of a value as hex digits, independent of the order of mapping keys.

    Args:
        value: Anything that JSON can hold; other objects are hashed by their `str`.
    """
    return hashlib.sha256(_JSON_ENCODER.encode(value).encode()).hexdigest()


def short_digest(value: Any) -> str:
    """Return the first 12 hex digits of `digest(value)`, for the names of folders."""
    return digest(value)[:12]


def derive_seed(root: int, *path: str | int) -> int:
    """Derive a seed in [0, 2**63) from a root seed and every element of a path.

    >>> derive_seed(0, "covid19", 3) == derive_seed(0, "covid19", 3)
    True
    >>> derive_seed(0, "covid19", 3) == derive_seed(0, "covid19", 4)
    False
    """
    return int(digest([root, *path])[:16], 16) >> 1


def identity(record: Any) -> dict[str, Any]:
    """Return the name of a dataclass and the fields that its results depend on, for job identities.

    A field such as a device or a batch size is excluded by `metadata={"identity": False}`. A record
    whose results depend on files adds their digest with a method `content_digest()`.
    """
    values: dict[str, Any] = {"type": type(record).__name__}
    for field in fields(record):
        if field.metadata.get("identity", True):
            values[field.name] = getattr(record, field.name)
    if hasattr(record, "content_digest"):
        values["content"] = record.content_digest()
    return values
