"""What comes back from readers: exports are checked against the key and joined with it.

An export is a CSV or JSON table of strings with one row per answered item. Every row ends with a check
over its other cells, so that a changed answer, by hand or by a spreadsheet, is found and named.
"""

import csv
import hashlib
import io
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xraysynth.errors import DataNotFoundError, XraysynthError, some
from xraysynth.evaluation.reader_study.key import Key, KitItem
from xraysynth.evaluation.reader_study.protocol import QUESTIONS

if TYPE_CHECKING:
    import pandas as pd

FORMAT = "xraysynth-review/1"
Row = Mapping[str, str]

_FIRST = ("format", "study", "kit", "reader", "session", "item", "position", "calibration")
_LAST = ("seconds", "changes", "answered_at", "answered", "of", "check")
_LARGEST = 50_000_000  # bytes; an export of 200 images has 50,000
_RESAVED = (
    "a spreadsheet may have saved it again, which rewrites numbers and dates: ask the reader for the "
    "JSON export, or for an untouched CSV"
)


@dataclass(frozen=True)
class Export:
    """One reader's answers of one session; `of` items were asked."""

    path: Path
    kit: str
    reader: str
    session: int
    of: int
    rows: tuple[Row, ...]

    @property
    def finished(self) -> bool:
        """Whether every item is answered."""
        return len(self.rows) == self.of


def columns(key: Key) -> list[str]:
    """The columns of an export of this study."""
    own = [question["id"] for question in key.questions if question["id"] not in QUESTIONS]
    return [*_FIRST, *QUESTIONS, *own, *_LAST]


def check(cells: Sequence[str]) -> str:
    """The check of a row: 16 hex digits of SHA-256 over its other cells, joined by unit separators."""
    return hashlib.sha256("\x1f".join(cells).encode()).hexdigest()[:16]


def files(paths: Sequence[Path]) -> list[Path]:
    """The CSV and JSON files among `paths`, of a folder those directly in it."""
    found: list[Path] = []
    for path in paths:
        if not path.exists():
            raise DataNotFoundError(
                f"review.exports: {path} does not exist; name the folder or files that came back"
            )
        inside = sorted(p for p in path.iterdir() if p.is_file()) if path.is_dir() else [path]
        found += [p for p in inside if p.suffix.lower() in (".csv", ".json")]
    if not found:
        raise DataNotFoundError(
            f"review.exports: no .csv or .json file in {some(paths)}; put there what the readers sent"
        )
    return list(dict.fromkeys(found))


def load(paths: Sequence[Path], key: Key) -> list[Export]:
    """All exports, each checked against the key, one per reader and session.

    Raises `XraysynthError` that names the file, the rows and the remedy. Copies of one export, also as
    CSV and JSON, count once.
    """
    kept: dict[str, Export] = {}
    for path in files(paths):
        export = read(path, key)
        other = kept.setdefault(export.kit, export)
        if other.rows != export.rows:
            raise XraysynthError(
                f"{other.path} and {path} are different exports of reader {export.reader}, session "
                f"{export.session} ({len(other.rows)} and {len(export.rows)} answers): keep the one "
                "that counts, usually the later one, and take the other away"
            )
    return sorted(kept.values(), key=lambda export: (export.reader, export.session))


def read(path: Path, key: Key) -> Export:
    """One export, checked against the key."""
    names, cells = _parsed(path)
    _require_columns(path, names, columns(key))
    rows = [dict(zip(names, row, strict=True)) for row in cells]
    if not rows:
        raise XraysynthError(f"{path}: an export without answers; take it away")
    _require_origin(path, rows, key)
    _refuse(path, _tampered(rows, names), f"changed after the export; {_RESAVED}")
    (kit,) = {row["kit"] for row in rows}
    held = key.kits[kit]
    items = {item.id: (n, item) for n, item in enumerate(held.items, 1)}
    _require_rows(path, rows, items, key)
    _require_count(path, rows, len(items))
    whose = {(row["reader"], row["session"]) for row in rows}
    if whose != {(held.reader, str(held.session))}:
        raise XraysynthError(
            f"{path}: kit {kit} was made for reader {held.reader}, session {held.session}; the file "
            f"says {some(' '.join(w) for w in whose)}; ask for a new export"
        )
    ordered = sorted(rows, key=lambda row: int(row["position"]))
    return Export(path, kit, held.reader, held.session, len(items), tuple(ordered))


def _parsed(path: Path) -> tuple[list[str], list[list[str]]]:
    """Column names and rows of cells, all of them strings."""
    if path.stat().st_size > _LARGEST:
        raise XraysynthError(f"{path}: {path.stat().st_size:,} bytes are no export of answers")
    try:
        text = path.read_text(encoding="utf-8-sig")
        return _from_json(text) if path.suffix.lower() == ".json" else _from_csv(text)
    except (ValueError, KeyError, TypeError, AttributeError, csv.Error) as error:
        raise XraysynthError(
            f"{path}: cannot be read as an export ({error}); {_RESAVED}"
        ) from error


def _from_json(text: str) -> tuple[list[str], list[list[str]]]:
    found = json.loads(text)
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise ValueError(f"its format must be {FORMAT!r}")
    names, rows = list(found["columns"]), [list(row) for row in found["rows"]]
    if not all(isinstance(cell, str) for row in (names, *rows) for cell in row):
        raise ValueError("every cell must be a text")
    return names, _same_width(names, rows)


def _from_csv(text: str) -> tuple[list[str], list[list[str]]]:
    """Commas or semicolons, any line ends: what spreadsheets change without touching a value."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    separator = ";" if text.partition("\n")[0].replace('"', "").startswith("format;") else ","
    table = [row for row in csv.reader(io.StringIO(text), delimiter=separator) if any(row)]
    if not table:
        raise ValueError("it is empty")
    return table[0], _same_width(table[0], table[1:])


def _same_width(names: Sequence[str], rows: list[list[str]]) -> list[list[str]]:
    odd = [number for number, row in enumerate(rows, 1) if len(row) != len(names)]
    if odd:
        raise ValueError(f"rows {some(odd)} do not have {len(names)} cells")
    return rows


def _require_columns(path: Path, names: Sequence[str], wanted: Sequence[str]) -> None:
    if list(names) != list(wanted):
        lost, more = set(wanted) - set(names), set(names) - set(wanted)
        how = f"lacks {some(sorted(lost))}" if lost else f"has also {some(sorted(more))}"
        how = how if lost or more else "has them in another order"
        raise XraysynthError(
            f"{path}: the columns are not those of this study: it {how}; {_RESAVED}"
        )


def _require_origin(path: Path, rows: Sequence[Row], key: Key) -> None:
    """The rows are of this format, of this study, and of one kit of it."""
    formats, studies, kits = ({row[n] for row in rows} for n in ("format", "study", "kit"))
    if formats != {FORMAT}:
        raise XraysynthError(
            f"{path}: the format is {some(sorted(formats))}, not {FORMAT}; it comes from another version"
        )
    if studies != {key.study}:
        raise XraysynthError(
            f"{path} answers study {some(sorted(studies))}, the key is that of study {key.study} "
            f"({key.name}); take the file away, or name the right review.name"
        )
    if len(kits) > 1 or not kits <= set(key.kits):
        raise XraysynthError(
            f"{path}: kit {some(sorted(kits))} is not one of the key's ({some(sorted(key.kits))}); give "
            "one file per reader and session"
        )


def _refuse(path: Path, bad: Mapping[int, str], why: str) -> None:
    if bad:
        listed = some(f"{number} (item {item})" for number, item in bad.items())
        raise XraysynthError(f"{path}: {len(bad)} rows were {why}. Rows: {listed}")


def _tampered(rows: Sequence[Row], names: Sequence[str]) -> dict[int, str]:
    return {
        number: row["item"]
        for number, row in enumerate(rows, 1)
        if check([row[name] for name in names[:-1]]) != row["check"]
    }


def _require_rows(
    path: Path, rows: Sequence[Row], items: Mapping[str, tuple[int, KitItem]], key: Key
) -> None:
    """Every row answers one item of the kit, once, with answers that the page offers."""
    twice = [item for item, count in Counter(row["item"] for row in rows).items() if count > 1]
    if twice:
        raise XraysynthError(
            f"{path}: items answered in more than one row: {some(twice)}; {_AGAIN}"
        )
    strange = [row["item"] for row in rows if row["item"] not in items]
    if strange:
        raise XraysynthError(f"{path}: items that the kit does not have: {some(strange)}; {_AGAIN}")
    for number, row in enumerate(rows, 1):
        wrong = _wrong(row, *items[row["item"]], key)
        if wrong:
            raise XraysynthError(f"{path}: row {number} (item {row['item']}): {wrong}; {_AGAIN}")


_AGAIN = "ask the reader for a new export"


def _wrong(row: Row, position: int, item: KitItem, key: Key) -> str:
    """What a row says that the page does not offer, empty if nothing."""
    if row["position"] != str(position) or row["calibration"] != str(int(item.calibration)):
        return "it is not at its place in the kit"
    if not _is_number(row["seconds"]):
        return f"seconds must be a number from 0; got {row['seconds']!r}"
    asked = {question["id"]: question for question in key.questions}
    for name, answer in row.items():
        question = asked.get(name)
        if name in QUESTIONS and question is None and answer:
            return f"{name} was not asked; got {answer!r}"
        if question is not None and (answer or _needs_answer(question)):
            rule = _RULES[question["kind"]](question, answer)
            if rule:
                return f"{name} must be {rule}; got {answer!r}"
    return ""


def _needs_answer(question: Mapping[str, Any]) -> bool:
    return bool(question["required"]) and question["kind"] in ("choice", "scale", "text")


def _is_number(text: str) -> bool:
    try:
        return 0 <= float(text) < 1e6
    except ValueError:
        return False


def _option(question: Mapping[str, Any], answer: str) -> str:
    return "" if answer in question["options"] else f"one of {some(question['options'], 20)}"


def _step(question: Mapping[str, Any], answer: str) -> str:
    low, high = question["low"], question["high"]
    return "" if answer in map(str, range(low, high + 1)) else f"from {low} to {high}"


def _marks(question: Mapping[str, Any], answer: str) -> str:
    try:
        sound = all(
            code in question["options"] and 0 <= x <= 1 and 0 <= y <= 1
            for code, x, y in marks(answer)
        )
    except ValueError:
        sound = False
    return "" if sound else "code@x,y;… with x and y in [0, 1]"


def _text(_: Mapping[str, Any], answer: str) -> str:
    return "" if answer else "answered"


_RULES: dict[str, Callable[[Mapping[str, Any], str], str]] = {
    "choice": _option,
    "scale": _step,
    "errors": _marks,
    "text": _text,
}


def marks(answer: str) -> list[tuple[str, float, float]]:
    """Code and place of each marked error.

    >>> marks("omission@0.2500,0.5000;artefact@0.9000,0.1000")
    [('omission', 0.25, 0.5), ('artefact', 0.9, 0.1)]
    """
    found = []
    for mark in filter(None, answer.split(";")):
        code, place = mark.split("@")
        x, y = place.split(",")
        found.append((code, float(x), float(y)))
    return found


def _require_count(path: Path, rows: Sequence[Row], items: int) -> None:
    said = {(row["answered"], row["of"]) for row in rows}
    if said != {(str(len(rows)), str(items))}:
        told = some(f"{answered} of {of}" for answered, of in sorted(said))
        raise XraysynthError(
            f"{path}: {len(rows)} rows of a kit of {items} items, but they say {told} answered; rows are "
            f"missing or come from several exports; {_AGAIN}"
        )


def join(exports: Sequence[Export], key: Key) -> "pd.DataFrame":
    """One row per answer with its truth; those for calibration are left out.

    Columns: reader, session, case, repeat, position, origin_answer, confidence, diagnosis, quality,
    realism, errors, comment, own_<question>, seconds, and origin, generator and label of the case.
    Questions that were not asked are empty.
    """
    import pandas as pd

    rows = []
    for export in exports:
        items = {item.id: item for item in key.kits[export.kit].items}
        rows += [
            _joined(export, row, items[row["item"]], key)
            for row in export.rows
            if not items[row["item"]].calibration
        ]
    if not rows:
        raise XraysynthError(
            "the exports have answers to calibration images alone, which do not count; wait for more"
        )
    table = pd.DataFrame(rows)
    for name in ("confidence", "quality", "realism"):
        table[name] = pd.to_numeric(table[name])
    return table


def _joined(export: Export, row: Row, item: KitItem, key: Key) -> dict[str, Any]:
    case = key.cases[item.case]
    own = [q["id"] for q in key.questions if q["id"] not in QUESTIONS]
    answers = {name: row[name] for name in QUESTIONS[1:]} | {f"own_{n}": row[n] for n in own}
    return {
        "reader": export.reader,
        "session": export.session,
        "case": item.case,
        "repeat": item.repeat,
        "position": int(row["position"]),
        "origin_answer": row["origin"],
        **answers,
        "seconds": float(row["seconds"]),
        "origin": case.origin,
        "generator": case.generator,
        "label": case.label,
    }
