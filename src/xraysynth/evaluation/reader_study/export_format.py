"""Reads exports of answers: CSV or JSON tables of strings with one row per answered item.

Every row ends with a checksum of its other cells, so that an answer that was changed, by hand or by a
spreadsheet, is found.
"""

import csv
import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from xraysynth.errors import XraysynthError, format_some
from xraysynth.evaluation.reader_study.key import AnswerKey
from xraysynth.evaluation.reader_study.protocol import (
    LEADING_COLUMNS,
    QUESTIONS,
    TRAILING_COLUMNS,
)

FORMAT = "xraysynth-review/1"
Row = Mapping[str, str]

RESAVED_REMEDY = (
    "a spreadsheet may have saved it again, which rewrites numbers and dates: ask the reader for the "
    "JSON export, or for an untouched CSV"
)
_MAX_BYTES = 50_000_000  # an export of 200 images has about 50,000 bytes


def export_columns(key: AnswerKey) -> list[str]:
    """Returns the columns of an export of this study, in order."""
    return [*LEADING_COLUMNS, *QUESTIONS, *own_question_ids(key), *TRAILING_COLUMNS]


def own_question_ids(key: AnswerKey) -> list[str]:
    """Returns the ids of the questions that the study added."""
    return [question.id for question in key.questions if question.id not in QUESTIONS]


def row_checksum(cells: Sequence[str]) -> str:
    """Returns 16 hex digits of SHA-256 over the other cells of a row, joined by unit separators."""
    return hashlib.sha256("\x1f".join(cells).encode()).hexdigest()[:16]


def parse_marks(answer: str) -> list[tuple[str, float, float]]:
    """Parses the marked errors of an answer into (code, x, y).

    x and y are proportions of the image's width and height, from the upper left.

    Raises:
        ValueError: A mark is not of the form code@x,y.

    >>> parse_marks("omission@0.2500,0.5000;artefact@0.9000,0.1000")
    [('omission', 0.25, 0.5), ('artefact', 0.9, 0.1)]
    """
    marks = []
    for mark in filter(None, answer.split(";")):
        code, position = mark.split("@")
        x, y = position.split(",")
        marks.append((code, float(x), float(y)))
    return marks


def read_table(path: Path) -> tuple[list[str], list[list[str]]]:
    """Reads the column names and the rows of cells of an export.

    Raises:
        XraysynthError: The file is too large, or not such a table.
    """
    size = path.stat().st_size
    if size > _MAX_BYTES:
        raise XraysynthError(
            f"{path} has {size:,} bytes, and an export of answers has at most {_MAX_BYTES:,}; take the "
            "file away"
        )
    try:
        text = path.read_text(encoding="utf-8-sig")
        return _parse_json(text) if path.suffix.lower() == ".json" else _parse_csv(text)
    except (ValueError, KeyError, TypeError, AttributeError, csv.Error) as error:
        raise XraysynthError(
            f"{path}: it cannot be read as an export ({error}); {RESAVED_REMEDY}"
        ) from error


def _parse_json(text: str) -> tuple[list[str], list[list[str]]]:
    content = json.loads(text)
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ValueError(f"its format must be {FORMAT!r}")
    names = list(content["columns"])
    rows = list(map(list, content["rows"]))
    for row in (names, *rows):
        if not all(isinstance(cell, str) for cell in row):
            raise ValueError("every cell must be a text")
    return names, _require_same_width(names, rows)


def _parse_csv(text: str) -> tuple[list[str], list[list[str]]]:
    """Parses CSV with commas or semicolons and any line ends, which spreadsheets change harmlessly."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    header = text.partition("\n")[0].replace('"', "")
    separator = ";" if header.startswith("format;") else ","
    rows = list(filter(any, csv.reader(io.StringIO(text), delimiter=separator)))
    if not rows:
        raise ValueError("it is empty")
    return rows[0], _require_same_width(rows[0], rows[1:])


def _require_same_width(names: Sequence[str], rows: list[list[str]]) -> list[list[str]]:
    """Returns the rows; raises `ValueError` unless each has one cell per column."""
    wrong = [number for number, row in enumerate(rows, 1) if len(row) != len(names)]
    if wrong:
        raise ValueError(f"rows {format_some(wrong)} do not have {len(names)} cells")
    return rows
