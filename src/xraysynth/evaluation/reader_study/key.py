"""The answer key of a reading: it stays with the study's owner and never reaches a reader."""

import json
import re
from contextlib import suppress
from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import Path
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

from xraysynth.errors import XraysynthError, some
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
class Key:
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
    def read(cls, path: Path) -> "Key":
        """Read a key; raises `XraysynthError` naming the file and what is wrong with it."""
        try:
            found = json.loads(Path(path).read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise XraysynthError(
                f"{path}: no such key; `xraysynth review build` writes it, and only the study's owner "
                "has it"
            ) from None
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise _broken(path, f"it is not JSON ({error})") from error
        if not isinstance(found, dict) or found.get("format") != FORMAT:
            said = found.get("format") if isinstance(found, dict) else None
            raise _broken(path, f"its format must be {FORMAT!r}; got {said!r}")
        values = {name: value for name, value in found.items() if name != "format"}
        key: Key = _parsed(cls, values, path, "key")
        _require_consistent(key, path)
        return key


def _broken(path: Path, why: str) -> XraysynthError:
    return XraysynthError(f"{path}: no answer key: {why}; restore the file from your copy")


def _parsed(kind: Any, value: Any, path: Path, place: str) -> Any:
    """`value` as `kind`, its nested dataclasses built; raises for what has another type."""
    inner = get_args(kind)
    if get_origin(kind) is dict and isinstance(value, dict):
        return {k: _parsed(inner[1], v, path, f"{place}.{k}") for k, v in value.items()}
    if get_origin(kind) is list and isinstance(value, list):
        return [_parsed(inner[0], v, path, f"{place}[{n}]") for n, v in enumerate(value)]
    if isinstance(kind, UnionType):
        for alternative in inner:
            with suppress(XraysynthError):
                return _parsed(alternative, value, path, place)
    if hasattr(kind, "__dataclass_fields__") and isinstance(value, dict):
        return _record(kind, value, path, place)
    if isinstance(kind, type) and type(value) is kind:
        return value
    raise _broken(path, f"{place} must be {getattr(kind, '__name__', kind)}; got {value!r:.60}")


def _record(kind: Any, value: JsonObject, path: Path, place: str) -> Any:
    hints = get_type_hints(kind)
    needed = {field.name for field in fields(kind) if field.default is MISSING}
    wrong = sorted((needed - set(value)) | (set(value) - set(hints)))
    if wrong:
        raise _broken(path, f"{place} lacks or does not know {some(wrong)}")
    return kind(**{n: _parsed(hints[n], v, path, f"{place}.{n}") for n, v in value.items()})


def _require_consistent(key: Key, path: Path) -> None:
    """Ids are unique, every item has its case, and no file name leaves the folder of the kits."""
    items = [(kit, item) for kit, found in key.kits.items() for item in found.items]
    ids = [item.id for _, item in items]
    if len(set(ids)) < len(ids):
        raise _broken(path, "item ids are not unique")
    lost = sorted({item.case for _, item in items} - set(key.cases))
    if lost:
        raise _broken(path, f"items name cases that are not there: {some(lost)}")
    for place, kit in key.kits.items():
        if not re.fullmatch(r"[\w-]+\.html", kit.file):
            raise _broken(path, f"kit {place}: {kit.file!r} is no file name of a kit")
    odd = [n for n, c in key.cases.items() if c.origin not in ("real", "synthetic")]
    if odd:
        raise _broken(path, f"the origin of a case is real or synthetic; not of {some(odd)}")
    strange = sorted({c.label for c in key.cases.values()} - set(key.classes))
    if strange:
        raise _broken(path, f"labels that are no class: {some(strange)}")
