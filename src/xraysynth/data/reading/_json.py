"""Reading JSON records, JSON lines and pandas' JSON as text."""

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

from xraysynth.data.reading._content import TableContent, TableError, build_content, cell_text

_REMEDY = 'save it as a list of records: [{"path": …, "label": …}, …]'


def read_json(text: str, notes: Sequence[str]) -> TableContent:
    """Read a list of records, one record per line, or columns of values by row.

    Numbers stay the text that they are, so that no id loses a digit.

    Raises:
        TableError: It is not JSON, or not one of these forms.
    """
    text = text.lstrip("\ufeff")
    try:
        records = _read_records(text)
    except RecursionError:
        raise TableError("its values are nested too deeply", _REMEDY) from None
    except ValueError as error:
        raise TableError(f"its JSON is damaged: {error}", _REMEDY) from error
    names: dict[str, None] = {}
    for _, record in records:
        names.update(dict.fromkeys(record))
    rows = _iter_rows(records, list(names))
    return build_content(list(names), rows, notes)


def _iter_rows(
    records: Sequence[tuple[int, dict[str, Any]]], names: Sequence[str]
) -> Iterator[tuple[int, list[str]]]:
    for line, record in records:
        yield line, [cell_text(record.get(name)) for name in names]


def _read_records(text: str) -> list[tuple[int, dict[str, Any]]]:
    lines = [(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    if lines[0][1].lstrip().startswith("{") and len(lines) > 1 and _is_json(lines[0][1]):
        records = [(number, _decode(line)) for number, line in lines]
    else:
        records = list(enumerate(_records_of_document(_decode(text)), 1))
    for number, record in records:
        if not isinstance(record, dict):
            raise TableError(f"record {number} is not an object with names", _REMEDY)
    return records


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def _records_of_document(document: Any) -> list[Any]:
    """The records of a JSON document: a list of them, or columns as lists or by row."""
    if isinstance(document, list):
        return document
    columns = list(document.values())
    if columns and all(isinstance(column, list) for column in columns):
        if len({len(column) for column in columns}) > 1:
            raise TableError("its lists are not columns of one length", _REMEDY)
        return [dict(zip(document, values, strict=True)) for values in zip(*columns, strict=True)]
    if columns and all(isinstance(column, dict) for column in columns):
        if len({tuple(column) for column in columns}) > 1:
            raise TableError("its objects are not columns with the same rows", _REMEDY)
        return [{name: document[name][row] for name in document} for row in columns[0]]
    return [document]


def _decode(text: str) -> Any:
    return json.loads(
        text, parse_int=str, parse_float=_float_text, parse_constant=lambda word: None
    )


def _float_text(text: str) -> str:
    """The text of a number, without the ".0" of an integer that pandas has made a float."""
    return re.sub(r"^(-?\d+)\.0$", r"\1", text)
