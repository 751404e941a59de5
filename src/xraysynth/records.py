"""The class vocabulary, what passes between prompts and pools, and the checks of records and options."""

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field, fields, is_dataclass
from enum import Enum
from functools import cache
from pathlib import Path, PurePosixPath
from types import GenericAlias
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar, get_type_hints

from xraysynth.errors import ConfigError, ManifestError, format_option_errors
from xraysynth.files import write_atomically

if TYPE_CHECKING:  # help pages are made without numpy
    import numpy as np

CLASSES = ("normal", "pneumonia", "covid19", "tuberculosis")
"""The classes the embedded cohort and the prompt bank know; a study may name others."""

LEARNING_RECORD_FILE = "learned.json"
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


def from_json(record_class: type[Record], values: Any) -> Record:
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
        record: Record = _type_adapter(record_class).validate_python(values)  # type: ignore[arg-type]  # a class is hashable
    except ValidationError as error:
        wrong = "; ".join(
            f"{'.'.join(map(str, one['loc'])) or 'all'}: {one['msg']}" for one in error.errors()
        )
        raise ManifestError(
            f"a record of {record_class.__name__} cannot be read: {wrong}; the file was written by another "
            "program or by a version that is not known: make it anew"
        ) from None
    return record


def formerly(**former_names: str) -> Callable[[type[Record]], type[Record]]:
    """Class decorator: `from_json` also takes fields under the names of earlier versions.

    >>> @formerly(baseline="floor")
    ... @dataclass(frozen=True)
    ... class Row:
    ...     baseline: float
    >>> from_json(Row, {"floor": 0.5})
    Row(baseline=0.5)
    """
    present_names = {former: present for present, former in former_names.items()}

    def rename(values: Any) -> Any:
        if not isinstance(values, Mapping):
            return values
        return {present_names.get(name, name): value for name, value in values.items()}

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


@dataclass(frozen=True)
class Rule:
    """What an option must do, for pydantic to ask: `Annotated[int, Rule("be even", is_even)]`.

    `words` go on from "must". `known` are the words that are taken, if the option is one of some; None
    keeps a value that may be secret out of the error.
    """

    description: str
    is_valid: Callable[[Any], object]
    choices: Sequence[str] | None = ()

    def __get_pydantic_core_schema__(self, kind: Any, handler: Callable[[Any], Any]) -> Any:
        from pydantic_core.core_schema import no_info_after_validator_function

        return no_info_after_validator_function(self._validate, handler(kind))

    def _validate(self, value: Any) -> Any:
        if not self.is_valid(value):
            raise ValueError(self.description, self.choices)
        return value


def at_least(low: float) -> Rule:
    """A lower limit."""
    return Rule(f"be at least {low}", lambda value: value >= low)


def between(low: float, high: float) -> Rule:
    """Two limits that both are allowed."""
    return Rule(f"lie in [{low}, {high}]", lambda value: low <= value <= high)


def one_of(choices: Sequence[str], remedy: str = "") -> Rule:
    """A choice of words."""
    return Rule(f"be one of {', '.join(choices)}{remedy}", choices.__contains__, choices)


def match_pattern(pattern: str, description: str) -> Rule:
    """A text that a regular expression matches from end to end."""
    return Rule(description, re.compile(pattern).fullmatch)


NOT_EMPTY = Rule("hold at least one value", len)
Count = Annotated[int, at_least(1)]
Positive = Annotated[float, Rule("be above 0", lambda value: value > 0)]
NonNegative = Annotated[float, at_least(0)]
Fraction = Annotated[float, between(0, 1)]
PositiveFraction = Annotated[float, Rule("lie in (0, 1]", lambda value: 0 < value <= 1)]


_is_validating: ContextVar[bool] = ContextVar("_composing", default=False)


def from_options(options_class: type[Record], values: Any, section: str = "") -> Record:
    """The class of options with these values, each of the type, in the range and of a name it knows.

    Raises `ConfigError` with a line for each value that is not; `at` is where the class stands in
    the configuration, which the names in the error begin with.
    """
    from pydantic import ValidationError

    wrong, composing = (
        list(_bool_for_number_errors(options_class, values, section)),
        _is_validating.set(True),
    )
    try:
        adapter = _options_adapter(options_class)  # type: ignore[arg-type]  # a class is hashable
        (record,) = adapter.validate_python((values,))
    except ValidationError as error:
        wrong += format_option_errors(error.errors(), options_class, section)
    finally:
        _is_validating.reset(composing)
    if wrong:
        raise ConfigError(*wrong)
    return record  # type: ignore[no-any-return]


def require_valid(options: Any, section: str) -> None:
    """The same for options that were made in Python: what their `__post_init__` begins with."""
    if not _is_validating.get():
        from_options(
            type(options),
            {item.name: getattr(options, item.name) for item in fields(options)},
            section,
        )


def _bool_for_number_errors(options_class: Any, values: Any, section: str) -> Iterator[str]:
    """Numbers that were given as true or false, which pydantic takes for 1 and 0."""
    types = (
        get_type_hints(options_class)
        if is_dataclass(options_class) and isinstance(values, Mapping)
        else {}
    )
    for name, expected in types.items():
        value, full_name = values.get(name), f"{section}.{name}" if section else name
        if isinstance(value, bool) and expected in (int, float, int | None, float | None):
            yield f"{full_name} must be a number; got {value}"
        yield from _bool_for_number_errors(expected, value, full_name)


@cache
def _options_adapter(options_class: Any) -> Any:
    from pydantic import ConfigDict, TypeAdapter

    strictness = ConfigDict(
        extra="forbid", coerce_numbers_to_str=True, arbitrary_types_allowed=True
    )
    tuple_of: Any = GenericAlias(tuple, (options_class,))  # a dataclass itself takes no config
    return TypeAdapter(tuple_of, config=strictness)


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
class GenerationResult:
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
class CaptionedImages:
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

    def select_class(self, label: str) -> "CaptionedImages":
        """Those of one class."""
        rows = [n for n, name in enumerate(self.labels) if name == label]
        captions = [self.captions[n] for n in rows]
        return CaptionedImages(self.images[rows], captions, [label] * len(rows))
