"""The content of a table as every reader returns it: text alone, with the line of each row."""

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import pandas as pd

MAX_CELL_CHARACTERS = 131_072
"""The longest cell that is read; a radiology report has some thousand characters."""

MAX_COLUMNS = 2_000
MAX_ROWS = 5_000_000

_ROWS_PER_BLOCK = 20_000


class TableError(Exception):
    """A file that is no table; `reason` says why and `remedy` what to do, "" for saving it again."""

    def __init__(self, reason: str, remedy: str = "") -> None:
        super().__init__(reason)
        self.reason, self.remedy = reason, remedy


@dataclass(frozen=True)
class TableContent:
    """A table that was read, and how.

    Attributes:
        table: One row per row of the file, every value as text without outer spaces, "" if missing.
        lines: Line of each row in the file (in Excel and Parquet its row), for messages.
        notes: One sentence for each thing that had to be recognised, such as the separator.
    """

    table: pd.DataFrame
    lines: Sequence[int]
    notes: tuple[str, ...] = field(default=())


def build_content(
    header: Sequence[str],
    rows: Iterable[tuple[int, Sequence[str]]],
    notes: Sequence[str] = (),
    *,
    is_padded: bool = True,
) -> TableContent:
    """Build the content of a table from its rows, block by block; rows without any text are dropped.

    Args:
        header: Names of the columns.
        rows: Line and cells of each row; missing cells at its end are empty.
        notes: Notes on how it was read.
        is_padded: Whether cells that a row lacks at its end are empty; else a row must have all.

    Raises:
        TableError: There are no columns, no rows, too many of them, or a row has more cells than there
            are columns, or fewer although it must not.
    """
    names = unique_names(header)
    lines: list[int] = []
    blocks = []
    remaining = iter(_full_rows(rows, len(names), is_padded))
    while block := list(islice(remaining, _ROWS_PER_BLOCK)):
        lines.extend(line for line, _ in block)
        blocks.append(pd.DataFrame([cells for _, cells in block], columns=names, dtype="str"))
        if len(lines) > MAX_ROWS:
            raise TableError(f"it has more than {MAX_ROWS} rows", "split it into several tables")
    if not blocks:
        raise TableError("it has no rows", "add a row per image, or remove the file")
    return TableContent(pd.concat(blocks, ignore_index=True), lines, tuple(notes))


def _full_rows(
    rows: Iterable[tuple[int, Sequence[str]]], n_columns: int, is_padded: bool
) -> Iterable[tuple[int, list[str]]]:
    """The rows that hold any text, each with one stripped cell per column."""
    for line, cells in rows:
        texts = [cell.strip() for cell in cells]
        while texts and not texts[-1]:
            texts.pop()
        if len(texts) > n_columns or (texts and not is_padded and len(texts) < n_columns):
            remedy = "put the text that holds the separator into quotes, or save it again as .xlsx"
            if len(texts) < n_columns:
                remedy = "separate its cells by commas, so that empty ones can be seen"
            reason = f"line {line} has {len(texts)} cells, but there are {n_columns} columns"
            raise TableError(reason, remedy)
        if texts:
            yield line, texts + [""] * (n_columns - len(texts))


def unique_names(header: Sequence[str]) -> list[str]:
    """Return names of columns without outer spaces, numbered where they repeat or are empty.

    >>> unique_names(["", "path ", "x", "x"])
    ['Unnamed: 0', 'path', 'x', 'x.1']
    """
    if not any(name.strip() for name in header) or len(header) > MAX_COLUMNS:
        raise TableError(f"it has {len(header)} columns, of 1 to {MAX_COLUMNS} with names")
    names: list[str] = []
    for position, name in enumerate(header):
        base = name.strip(" \t\r\n\ufeff\u200b\xa0") or f"Unnamed: {position}"
        unique, number = base, 0
        while unique in names:
            number += 1
            unique = f"{base}.{number}"
        names.append(unique)
    return names


def cell_text(value: Any) -> str:
    """Return a typed value of Excel, JSON or Parquet as the text that its owner sees.

    >>> cell_text(12.0), cell_text(None), cell_text(["A", "B"]), cell_text(True), cell_text(0.5)
    ('12', '', '["A", "B"]', 'True', '0.5')
    """
    if value is None:
        return ""
    if isinstance(value, float):
        if math.isnan(value):
            return ""
        return str(int(value)) if value.is_integer() else str(value)
    if isinstance(value, list | tuple | dict):
        return json.dumps(value, ensure_ascii=False, default=str)
    text = str(value).strip()
    if len(text) > MAX_CELL_CHARACTERS:
        raise TableError(f"a cell has {len(text)} characters, more than {MAX_CELL_CHARACTERS}")
    return text
