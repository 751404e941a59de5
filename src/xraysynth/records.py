"""Records that packages exchange: requests for images, results, and their conversion to JSON and back."""

import hashlib
import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from enum import Enum
from functools import cache
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from xraysynth.class_names import class_file_name
from xraysynth.errors import ConfigError, DamageError, ManifestError
from xraysynth.files import write_atomically
from xraysynth.seeds import digest

if TYPE_CHECKING:  # help pages must not import numpy
    import numpy as np

CLASSES = ("normal", "pneumonia", "covid19", "tuberculosis")
"""Classes of the simulated cohort and of the prompt bank; a study may name others."""

LEARNING_RECORD_FILE = "learned.json"
"""File with the `LearningRecord`, in the folder of a fine-tuned model and of its pools."""

SPLITS = ("train", "val", "test")

JsonObject = Mapping[str, Any]
"""An object of a JSON document that another program, or another version of this one, has written."""

Record = TypeVar("Record")


def to_json(record: Any) -> Any:
    """Convert a record (a dataclass, with everything in it) to values that `json.dumps` accepts.

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


def from_json(record_class: type[Record], values: Any) -> Record:
    """Convert the values of `to_json` back to a dataclass, and check them against its types.

    Missing fields get their defaults and unknown fields are ignored, so that files of earlier and
    later versions can be read.

    Raises:
        ManifestError: Values are of the wrong type, or fields without a default are missing; the
            message names each of them.

    >>> request = Request("normal", 0, "a chest X-ray", "", seed=7)
    >>> from_json(Request, to_json(request)) == request
    True
    """
    from pydantic import ValidationError

    try:
        record: Record = _type_adapter(record_class).validate_python(values)  # type: ignore[arg-type]  # a class is hashable
    except ValidationError as error:
        problems = []
        for problem in error.errors():
            field_name = ".".join(map(str, problem["loc"])) or "the record"
            problems.append(f"{field_name}: {problem['msg']}")
        raise ManifestError(
            f"a record of {record_class.__name__} cannot be read: {'; '.join(problems)}; the file was "
            "written by another program or by an unknown version: delete it and create it again"
        ) from None
    return record


def formerly(**former_names: str) -> Callable[[type[Record]], type[Record]]:
    """Decorate a dataclass so that `from_json` also accepts fields under earlier names.

    Args:
        former_names: Present name of the field = its earlier name.

    >>> @formerly(baseline="floor")
    ... @dataclass(frozen=True)
    ... class Row:
    ...     baseline: float
    >>> from_json(Row, {"floor": 0.5})
    Row(baseline=0.5)
    """
    present_names = dict(zip(former_names.values(), former_names, strict=True))

    def rename(values: Any) -> Any:
        if not isinstance(values, Mapping):
            return values
        names = [present_names.get(name, name) for name in values]
        return dict(zip(names, values.values(), strict=True))

    def schema(cls: Any, source: Any, handler: Callable[[Any], Any]) -> Any:
        from pydantic_core.core_schema import no_info_before_validator_function

        return no_info_before_validator_function(rename, handler(source))

    def decorate(kind: type[Record]) -> type[Record]:
        kind.__get_pydantic_core_schema__ = classmethod(schema)  # type: ignore[attr-defined]  # pydantic's hook
        return kind

    return decorate


@cache
def _type_adapter(kind: Any) -> Any:
    from pydantic import TypeAdapter

    return TypeAdapter(kind)


def require_inside(folder: Path, path: str) -> Path:
    """Return `folder / path`.

    Raises:
        ManifestError: The path is absolute or would leave the folder, itself or by a link.
    """
    parts = PurePosixPath(path.replace("\\", "/")).parts
    is_drive = bool(parts) and re.match(r"[A-Za-z]:($|[/\\])", path) is not None  # of Windows
    is_relative = parts and not PurePosixPath(path).is_absolute() and not is_drive
    if not is_relative or ".." in parts or "\0" in path:
        raise ManifestError(
            f"path {path!r} in the manifest of {folder} must be relative and stay inside that "
            "folder; move the file below it and give the path from there"
        )
    file = Path(folder) / path
    target, real_folder = os.path.realpath(file), os.path.realpath(folder)
    if not Path(target).is_relative_to(real_folder):
        raise ManifestError(
            f"path {path!r} in the manifest of {folder} is a link to {target}, outside that folder; copy "
            "the file in place of the link, or name a folder that holds both"
        )
    return file


def sha256_bytes(data: bytes) -> str:
    """Return the SHA-256 of bytes as hex digits."""
    return hashlib.sha256(data).hexdigest()


@dataclass(frozen=True)
class Request:
    """A request for one synthetic image.

    Attributes:
        label: Class of the image.
        index: Number of the image within its class, from 0.
        prompt: Text that describes the image.
        negative_prompt: Text that describes what the image must not show.
        seed: Seed of the generator for this image.
    """

    label: str
    index: int
    prompt: str
    negative_prompt: str
    seed: int

    @property
    def image_id(self) -> str:
        """Name of the image within its pool, such as "normal-000000"."""
        return f"{class_file_name(self.label)}-{self.index:06d}"


Outcome = Literal["image", "refused", "empty", "failed", "possibly_billed"]
"""`possibly_billed`: no response came, but the server may have worked and charged for it."""


@dataclass(frozen=True)
class GenerationResult:
    """The result of a request: an image, or the reason why there is none.

    Attributes:
        request: The request.
        outcome: Whether there is an image, and if not, why.
        pixels: `(H, W)` uint8 grey; only for the outcome "image".
        reason: Explanation of any other outcome.
        facts: Measurements such as `seconds` and `cost_usd`, which never enter the pool's manifest.
        archive: File suffix -> bytes of the response, stored unchanged next to the image: for a model
            behind an API this is the artefact that can be reproduced.
    """

    request: Request
    outcome: Outcome
    pixels: "np.ndarray | None" = None
    reason: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)
    archive: Mapping[str, bytes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if (self.outcome == "image") != (self.pixels is not None):
            raise ValueError(
                f"outcome {self.outcome!r}: a result has pixels if and only if its outcome is 'image'"
            )


@dataclass(frozen=True)
class LearningRecord:
    """The images of the study that a generator was fine-tuned on.

    A generator that was not fine-tuned on images of the study has no record, not an empty one.

    Attributes:
        patients: Keys of the patients (`manifest.patient_keys`).
        sha256: SHA-256 of the images.
    """

    patients: Sequence[str]
    sha256: Sequence[str]

    @classmethod
    def read(cls, path: Path) -> "LearningRecord | None":
        """Read the record in a file; None if there is no file.

        Raises:
            DamageError: The file is cut short, empty or altered, or names no image and no patient.
            ManifestError: The file holds something else.
        """
        if not path.exists():
            return None
        try:
            values = json.loads(path.read_text())
            checksum = values.pop("checksum", None)
        except (OSError, ValueError, AttributeError, TypeError) as error:
            raise _damaged_learning_record(path, f"cannot be read ({error})") from None
        record = from_json(cls, values)
        if checksum is not None and checksum != digest(values):
            raise _damaged_learning_record(path, "differs from its checksum")
        if not record.patients and not record.sha256:
            raise _damaged_learning_record(path, "names no image and no patient")
        return record

    def write(self, path: Path) -> None:
        """Write the record atomically."""
        values = to_json(self)
        write_atomically(path, json.dumps({**values, "checksum": digest(values)}).encode())


def _damaged_learning_record(path: Path, fault: str) -> DamageError:
    return DamageError(
        f"{path} {fault}; without it nobody can tell whether a generator was trained on test images. "
        "Restore it from a copy, or delete it: fine-tuning and generating again write a new one"
    )


@dataclass(frozen=True)
class CaptionedImages:
    """Images with captions, on which a generator is fine-tuned.

    Attributes:
        images: `(N, H, W)` uint8 grey.
        captions: One caption or more per image.
        labels: Class per image; may be empty if images are not selected by class.

    Raises:
        ConfigError: An image has no caption.
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

    def select_class(self, label: str) -> "CaptionedImages":
        """Return the images of one class with their captions."""
        rows = [row for row, name in enumerate(self.labels) if name == label]
        captions = [self.captions[row] for row in rows]
        return CaptionedImages(self.images[rows], captions, [label] * len(rows))
