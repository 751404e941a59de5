"""Holds the answer key of a reading, which stays with the study's owner and never reaches a reader."""

import json
import re
from contextlib import suppress
from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import Path
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

from xraysynth.errors import XraysynthError, format_some
from xraysynth.evaluation.reader_study.protocol import ORIGINS, Question
from xraysynth.files import write_atomically
from xraysynth.records import JsonObject

FORMAT = "xraysynth-review-key/1"


@dataclass(frozen=True)
class Case:
    """One image of a reading.

    Attributes:
        origin: "real" or "synthetic".
        generator: The generator of a synthetic image, "" for a real one.
        label: The class.
        image_id: The id in the manifest.
        source: The data set.
        patient_id: The patient of a real image, "" for a synthetic one.
        sha256: The digest of the file.
    """

    origin: str
    generator: str
    label: str
    image_id: str
    source: str
    patient_id: str
    sha256: str


@dataclass(frozen=True)
class KitItem:
    """One showing of a case in a kit.

    Attributes:
        id: The id in the reader's file, which reveals nothing about the case.
        case: The id of the case in the key.
        repeat: Whether the case was shown before in this session.
        calibration: Whether the item is for practice, and does not count.
    """

    id: str
    case: str
    repeat: bool
    calibration: bool


@dataclass(frozen=True)
class Kit:
    """The file of one reader for one session.

    Attributes:
        reader: The reader's pseudonym.
        session: The number of the session, from 1.
        sessions: The number of sessions of each reader.
        file: The name of the file.
        items: The items in the order they are shown.
    """

    reader: str
    session: int
    sessions: int
    file: str
    items: list[KitItem]


@dataclass(frozen=True)
class AnswerKey:
    """Everything that the kits of a reading hide from readers.

    Attributes:
        study: The id of the reading.
        name: The name of the reading, review.name.
        created: The time when the key was made, ISO 8601.
        simulated: Whether the real images are simulated.
        classes: The classes of the images.
        questions: The questions in the order they are asked.
        pools: The key of each generator's pool.
        cohort: The digest of the real images.
        cases: The images by id.
        kits: The kits by id.
        made_by: The key of the job that wrote this file.
        secret: The secret (hex) that ids and orders are derived from, so that nothing in a kit can be
            worked out from the configuration alone.
    """

    study: str
    name: str
    created: str
    simulated: bool
    classes: list[str]
    questions: list[Question]
    pools: dict[str, str]
    cohort: str
    cases: dict[str, Case]
    kits: dict[str, Kit]
    made_by: str = ""
    secret: str = ""

    def write(self, path: Path) -> None:
        """Writes the key as JSON, atomically, readable by its owner alone."""
        values = asdict(self) | {"questions": [question.as_json() for question in self.questions]}
        text = json.dumps({"format": FORMAT, **values}, indent=1, ensure_ascii=False)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, (text + "\n").encode())
        path.chmod(0o600)

    @classmethod
    def read(cls, path: Path) -> "AnswerKey":
        """Reads a key and checks that it is consistent.

        Raises:
            XraysynthError: The file does not exist, or is not an answer key; the message says what is wrong.
        """
        values = _read_json(path)
        if not isinstance(values, dict) or values.get("format") != FORMAT:
            format_name = values.get("format") if isinstance(values, dict) else None
            raise _key_error(path, f"its format must be {FORMAT!r}; got {format_name!r}")
        del values["format"]
        key: AnswerKey = _parse_value(cls, values, path, "key")
        _require_consistent(key, path)
        return key


def _read_json(path: Path) -> Any:
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise XraysynthError(
            f"{path}: there is no such key; it is written with the kits, and only the study's owner has it"
        ) from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise _key_error(path, f"it is not JSON ({error})") from error


def _key_error(path: Path, reason: str) -> XraysynthError:
    return XraysynthError(f"{path} is not an answer key: {reason}; restore the file from your copy")


def _parse_value(expected_type: Any, value: Any, path: Path, location: str) -> Any:
    """Converts a JSON value to a type, with nested dataclasses; raises where the value does not fit.

    Args:
        expected_type: The type to convert to.
        value: The value from JSON.
        path: The file of the key, for the message.
        location: Where the value stands in the file, for the message.
    """
    inner = get_args(expected_type)
    if get_origin(expected_type) is dict and isinstance(value, dict):
        return {k: _parse_value(inner[1], v, path, f"{location}.{k}") for k, v in value.items()}
    if get_origin(expected_type) is list and isinstance(value, list):
        return [_parse_value(inner[0], v, path, f"{location}[{n}]") for n, v in enumerate(value)]
    if isinstance(expected_type, UnionType):
        for alternative in inner:
            with suppress(XraysynthError):
                return _parse_value(alternative, value, path, location)
    if hasattr(expected_type, "__dataclass_fields__") and isinstance(value, dict):
        return _parse_record(expected_type, value, path, location)
    if isinstance(expected_type, type) and type(value) is expected_type:
        return value
    type_name = getattr(expected_type, "__name__", expected_type)
    raise _key_error(path, f"{location} must be {type_name}; got {value!r:.60}")


def _parse_record(record_type: Any, values: JsonObject, path: Path, location: str) -> Any:
    """Converts a JSON object to a dataclass; raises for missing and for unknown fields."""
    types = get_type_hints(record_type)
    required = {field.name for field in fields(record_type) if field.default is MISSING}
    wrong = sorted((required - set(values)) | (set(values) - set(types)))
    if wrong:
        raise _key_error(path, f"{location} lacks or does not know {format_some(wrong)}")
    arguments = {}
    for name, value in values.items():
        arguments[name] = _parse_value(types[name], value, path, f"{location}.{name}")
    return record_type(**arguments)


def _require_consistent(key: AnswerKey, path: Path) -> None:
    """Requires unique item ids, known cases, origins and classes, and names of files in the kits' folder."""
    items: list[KitItem] = []
    for kit_id, kit in key.kits.items():
        items += kit.items
        if not re.fullmatch(r"[\w-]+\.html", kit.file):
            raise _key_error(path, f"kit {kit_id}: {kit.file!r} is not the file name of a kit")
    if len({item.id for item in items}) < len(items):
        raise _key_error(path, "item ids are not unique")
    missing = {item.case for item in items} - set(key.cases)
    if missing:
        raise _key_error(
            path, f"items name cases that are not there: {format_some(sorted(missing))}"
        )
    for case_id, case in key.cases.items():
        if case.origin not in ORIGINS:
            raise _key_error(
                path,
                f"case {case_id}: the origin must be {' or '.join(ORIGINS)}; got {case.origin!r}",
            )
        if case.label not in key.classes:
            raise _key_error(
                path,
                f"case {case_id}: the label must be one of {', '.join(key.classes)}; got {case.label!r}",
            )
