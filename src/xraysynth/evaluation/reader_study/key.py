"""The answer key of a reading: it stays with the study's owner and never reaches a reader."""

import json
import re
from contextlib import suppress
from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import Path
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

from xraysynth.errors import XraysynthError, format_some
from xraysynth.evaluation.reader_study.protocol import Question
from xraysynth.files import write_atomically
from xraysynth.records import JsonObject

FORMAT = "xraysynth-review-key/1"


@dataclass(frozen=True)
class Case:
    """One image. `generator` is empty for a real one, `patient_id` for a synthetic one."""

    origin: str
    generator: str
    label: str
    image_id: str
    source: str
    patient_id: str
    sha256: str


@dataclass(frozen=True)
class KitItem:
    """One showing of a case, under the id that the reader's file gives it."""

    id: str
    case: str
    repeat: bool
    calibration: bool


@dataclass(frozen=True)
class Kit:
    """One reader's file of one session; `items` in the order they are shown."""

    reader: str
    session: int
    sessions: int
    file: str
    items: list[KitItem]


@dataclass(frozen=True)
class AnswerKey:
    """Everything that the kits of a study hide.

    `pools` maps a generator to its pool's key; `cohort` is the digest of the real images. `made_by`
    is the key of the job that wrote it, and `secret` (hex) what ids and orders derive from: nothing
    in a kit can be worked out from the configuration alone.
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
        """Write as JSON, atomically, readable by its owner alone."""
        values = asdict(self) | {"questions": [question.as_json() for question in self.questions]}
        text = json.dumps({"format": FORMAT, **values}, indent=1, ensure_ascii=False)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, (text + "\n").encode())
        path.chmod(0o600)

    @classmethod
    def read(cls, path: Path) -> "AnswerKey":
        """Read a key; raises `XraysynthError` naming the file and what is wrong with it."""
        try:
            found = json.loads(Path(path).read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise XraysynthError(
                f"{path}: no such key; `xraysynth review build` writes it, and only the study's owner "
                "has it"
            ) from None
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise _key_error(path, f"it is not JSON ({error})") from error
        if not isinstance(found, dict) or found.get("format") != FORMAT:
            said = found.get("format") if isinstance(found, dict) else None
            raise _key_error(path, f"its format must be {FORMAT!r}; got {said!r}")
        values = {name: value for name, value in found.items() if name != "format"}
        key: AnswerKey = _parse_value(cls, values, path, "key")
        _require_consistent(key, path)
        return key


def _key_error(path: Path, reason: str) -> XraysynthError:
    return XraysynthError(f"{path}: no answer key: {reason}; restore the file from your copy")


def _parse_value(expected_type: Any, value: Any, path: Path, location: str) -> Any:
    """`value` as `kind`, its nested dataclasses built; raises for what has another type."""
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
    raise _key_error(
        path,
        f"{location} must be {getattr(expected_type, '__name__', expected_type)}; got {value!r:.60}",
    )


def _parse_record(expected_type: Any, value: JsonObject, path: Path, location: str) -> Any:
    hints = get_type_hints(expected_type)
    needed = {field.name for field in fields(expected_type) if field.default is MISSING}
    wrong = sorted((needed - set(value)) | (set(value) - set(hints)))
    if wrong:
        raise _key_error(path, f"{location} lacks or does not know {format_some(wrong)}")
    return expected_type(
        **{n: _parse_value(hints[n], v, path, f"{location}.{n}") for n, v in value.items()}
    )


def _require_consistent(key: AnswerKey, path: Path) -> None:
    """Ids are unique, every item has its case, and no file name leaves the folder of the kits."""
    items = [(kit, item) for kit, found in key.kits.items() for item in found.items]
    ids = [item.id for _, item in items]
    if len(set(ids)) < len(ids):
        raise _key_error(path, "item ids are not unique")
    lost = sorted({item.case for _, item in items} - set(key.cases))
    if lost:
        raise _key_error(path, f"items name cases that are not there: {format_some(lost)}")
    for place, kit in key.kits.items():
        if not re.fullmatch(r"[\w-]+\.html", kit.file):
            raise _key_error(path, f"kit {place}: {kit.file!r} is no file name of a kit")
    odd = [n for n, c in key.cases.items() if c.origin not in ("real", "synthetic")]
    if odd:
        raise _key_error(
            path, f"the origin of a case is real or synthetic; not of {format_some(odd)}"
        )
    strange = sorted({c.label for c in key.cases.values()} - set(key.classes))
    if strange:
        raise _key_error(path, f"labels that are no class: {format_some(strange)}")
