"""The class vocabulary, what passes between prompts, generators and pools, and records as JSON."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from enum import Enum
from functools import cache
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from xraysynth.errors import ConfigError, ManifestError
from xraysynth.files import write_atomically

if TYPE_CHECKING:  # a wrong option must be refused before numpy is there
    import numpy as np

CLASSES = ("normal", "pneumonia", "covid19", "tuberculosis")
"""The classes the embedded cohort and the prompt bank know; a study may name others."""

LEARNED = "learned.json"
"""File in the folder of a fine-tuned model, and of its pools, with the record of what it has seen."""

SPLITS = ("train", "val", "test")

JsonObject = Mapping[str, Any]
"""An object of a JSON document whose fields another program decides, or an earlier version of this one."""

Record = TypeVar("Record")


def to_json(record: Any) -> Any:
    """A result (a dataclass, and what is in it) as plain values that `json.dumps` takes.

    >>> to_json(Request("normal", 0, "a chest X-ray", "", seed=7))["seed"]
    7
    """
    if is_dataclass(record) and not isinstance(record, type):
        return {item.name: to_json(getattr(record, item.name)) for item in fields(record)}
    if isinstance(record, Mapping):
        return {str(key): to_json(value) for key, value in record.items()}
    if isinstance(record, list | tuple):
        return [to_json(value) for value in record]
    if isinstance(record, Enum):
        return record.value
    if isinstance(record, Path):
        return str(record)
    return record.item() if hasattr(record, "item") else record


def from_json(kind: type[Record], values: Any) -> Record:
    """The dataclass that `to_json` made these values of, its fields checked against their types.

    Fields that the values lack get their defaults, fields that the class lacks are passed over, so
    that run.json of earlier and later versions can be read. Raises `ManifestError` naming each field
    that does not fit.

    >>> request = Request("normal", 0, "a chest X-ray", "", seed=7)
    >>> from_json(Request, to_json(request)) == request
    True
    """
    from pydantic import ValidationError

    try:
        record: Record = _adapter(kind).validate_python(values)  # type: ignore[arg-type]  # a class is hashable
    except ValidationError as error:
        wrong = "; ".join(
            f"{'.'.join(map(str, one['loc'])) or 'all'}: {one['msg']}" for one in error.errors()
        )
        raise ManifestError(
            f"a record of {kind.__name__} cannot be read: {wrong}; the file was written by another "
            "program or by a version that is not known: make it anew"
        ) from None
    return record


@cache
def _adapter(kind: Any) -> Any:
    from pydantic import TypeAdapter

    return TypeAdapter(kind)


def require_inside(folder: Path, path: str) -> Path:
    """`folder / path`, or a `ManifestError` when the relative path would leave the folder."""
    parts = PurePosixPath(path.replace("\\", "/")).parts
    if not parts or PurePosixPath(path).is_absolute() or ".." in parts or ":" in parts[0]:
        raise ManifestError(
            f"path {path!r} in the manifest of {folder} must be relative and stay inside that "
            "folder; move the file below it and give the path from there"
        )
    return Path(folder) / path


def sha256_bytes(data: bytes) -> str:
    """SHA-256 of a file's bytes, hex."""
    return hashlib.sha256(data).hexdigest()


@dataclass(frozen=True)
class Request:
    """One image to be made."""

    label: str
    index: int
    prompt: str
    negative_prompt: str
    seed: int

    @property
    def image_id(self) -> str:
        """Name of the image within its pool."""
        return f"{self.label}-{self.index:06d}"


Outcome = Literal["image", "refused", "empty", "failed", "possibly_billed"]
"""`possibly_billed`: no answer came, but the server may have worked and charged for it."""


@dataclass(frozen=True)
class Generated:
    """What became of a request: pixels only for the outcome `image`, `(H, W)` uint8 grey.

    `facts` holds what is measured, such as `seconds` and `cost_usd`, and never enters the pool's
    manifest. `archive` holds what came back, file suffix to bytes, to be kept beside the image as
    it is: for a model behind an API this is the artefact that can be reproduced.
    """

    request: Request
    outcome: Outcome
    pixels: "np.ndarray | None" = None
    reason: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)
    archive: Mapping[str, bytes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if (self.outcome == "image") != (self.pixels is not None):
            raise ValueError(f"outcome {self.outcome!r}: exactly an image has pixels")


@dataclass(frozen=True)
class LearningRecord:
    """What a generator has learned from: the patients' keys, and the SHA-256 of the images.

    A generator that has seen none of a study's images has no record, not an empty one.
    """

    patients: Sequence[str]
    sha256: Sequence[str]

    @classmethod
    def read(cls, path: Path) -> "LearningRecord | None":
        """The record in a file, None where there is no file; `ManifestError` for another content."""
        return from_json(cls, json.loads(path.read_text())) if path.is_file() else None

    def write(self, path: Path) -> None:
        """Write the record, seen whole or not at all."""
        write_atomically(path, json.dumps(to_json(self)).encode())


@dataclass(frozen=True)
class Captioned:
    """Images to learn from: `(N, H, W)` uint8 grey, one caption or more each, and their classes.

    `labels` may be left out where nothing is asked by class.
    """

    images: "np.ndarray"
    captions: Sequence[Sequence[str]]
    labels: Sequence[str] = ()

    def __post_init__(self) -> None:
        if len(self.images) != len(self.captions) or not all(self.captions):
            raise ConfigError(
                f"every image needs a caption; got {len(self.images)} images and captions for "
                f"{sum(map(bool, self.captions))}"
            )

    def __len__(self) -> int:
        return len(self.images)

    def of(self, label: str) -> "Captioned":
        """Those of one class."""
        rows = [n for n, name in enumerate(self.labels) if name == label]
        captions = [self.captions[n] for n in rows]
        return Captioned(self.images[rows], captions, [label] * len(rows))
