"""Seeds and keys as hashes, so that nothing depends on order, batch size or resume point."""

import hashlib
import json
from dataclasses import fields
from typing import Any

_JSON_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), default=str)
"""One for all: making it anew takes longer than encoding a short value."""


def digest(value: Any) -> str:
    """SHA-256 (hex) of a JSON-serialisable value, independent of the order of mapping keys."""
    return hashlib.sha256(_JSON_ENCODER.encode(value).encode()).hexdigest()


def short_digest(value: Any) -> str:
    """The first 12 hex digits of `digest(value)`: the name of a folder."""
    return digest(value)[:12]


def derive_seed(root: int, *path: str | int) -> int:
    """A seed in [0, 2**63) that depends on the root seed and on every element of the path.

    >>> derive_seed(0, "covid19", 3) == derive_seed(0, "covid19", 3)
    True
    >>> derive_seed(0, "covid19", 3) == derive_seed(0, "covid19", 4)
    False
    """
    return int(digest([root, *path])[:16], 16) >> 1


def identity(record: Any) -> dict[str, Any]:
    """The fields of a dataclass that decide what it makes, with its type.

    A field opts out with `metadata={"identity": False}`: a device or a batch size, for example.
    A record that depends on files adds their digest by a method `content_digest()`.
    """
    values = {
        f.name: getattr(record, f.name) for f in fields(record) if f.metadata.get("identity", True)
    }
    if hasattr(record, "content_digest"):
        values["content"] = record.content_digest()
    return {"type": type(record).__name__, **values}
