"""What an export looks like: a CSV or JSON table of strings with one row per answered item.

Every row ends with a check over its other cells, so that a changed answer, by hand or by a spreadsheet,
is found and named.
"""

import csv
import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from xraysynth.errors import XraysynthError, format_some
from xraysynth.evaluation.reader_study.key import AnswerKey
from xraysynth.evaluation.reader_study.protocol import QUESTIONS

FORMAT = "xraysynth-review/1"
Row = Mapping[str, str]

RESAVED_REMEDY = (
    "a spreadsheet may have saved it again, which rewrites numbers and dates: ask the reader for the "
    "JSON export, or for an untouched CSV"
)
_LEADING_COLUMNS = (
    "format",
    "study",
    "kit",
    "reader",
    "session",
    "item",
    "position",
    "calibration",
)
_TRAILING_COLUMNS = ("seconds", "changes", "answered_at", "answered", "of", "check")
_MAX_BYTES = 50_000_000  # bytes; an export of 200 images has 50,000


def export_columns(key: AnswerKey) -> list[str]:
    """The columns of an export of this study."""
    own = [question.id for question in key.questions if question.id not in QUESTIONS]
    return [*_LEADING_COLUMNS, *QUESTIONS, *own, *_TRAILING_COLUMNS]


def row_checksum(cells: Sequence[str]) -> str:
    """The check of a row: 16 hex digits of SHA-256 over its other cells, joined by unit separators."""
    return hashlib.sha256("\x1f".join(cells).encode()).hexdigest()[:16]


def parse_marks(answer: str) -> list[tuple[str, float, float]]:
    """Code and place of each marked error.

    >>> parse_marks("omission@0.2500,0.5000;artefact@0.9000,0.1000")
    [('omission', 0.25, 0.5), ('artefact', 0.9, 0.1)]
    """
    found = []
    for mark in filter(None, answer.split(";")):
        code, place = mark.split("@")
        x, y = place.split(",")
        found.append((code, float(x), float(y)))
    return found


def read_table(path: Path) -> tuple[list[str], list[list[str]]]:
    """Column names and rows of cells, all of them strings."""
    if path.stat().st_size > _MAX_BYTES:
        raise XraysynthError(f"{path}: {path.stat().st_size:,} bytes are no export of answers")
    try:
        text = path.read_text(encoding="utf-8-sig")
        return _parse_json(text) if path.suffix.lower() == ".json" else _parse_csv(text)
    except (ValueError, KeyError, TypeError, AttributeError, csv.Error) as error:
        raise XraysynthError(
            f"{path}: cannot be read as an export ({error}); {RESAVED_REMEDY}"
        ) from error


def _parse_json(text: str) -> tuple[list[str], list[list[str]]]:
    found = json.loads(text)
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise ValueError(f"its format must be {FORMAT!r}")
    names, rows = list(found["columns"]), [list(row) for row in found["rows"]]
    if not all(isinstance(cell, str) for row in (names, *rows) for cell in row):
        raise ValueError("every cell must be a text")
    return names, _require_same_width(names, rows)


def _parse_csv(text: str) -> tuple[list[str], list[list[str]]]:
    """Commas or semicolons, any line ends: what spreadsheets change without touching a value."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    separator = ";" if text.partition("\n")[0].replace('"', "").startswith("format;") else ","
    table = [row for row in csv.reader(io.StringIO(text), delimiter=separator) if any(row)]
    if not table:
        raise ValueError("it is empty")
    return table[0], _require_same_width(table[0], table[1:])


def _require_same_width(names: Sequence[str], rows: list[list[str]]) -> list[list[str]]:
    odd = [number for number, row in enumerate(rows, 1) if len(row) != len(names)]
    if odd:
        raise ValueError(f"rows {format_some(odd)} do not have {len(names)} cells")
    return rows
