"""Reading the first sheet of an Excel workbook as text."""

import io
import re
from collections.abc import Iterator
from typing import Any

from xraysynth.data.reading._content import TableContent, TableError, cell_text
from xraysynth.data.reading._grid import read_grid


def read_workbook(data: bytes) -> TableContent:
    """Read the first sheet of a workbook that has cells; numbers are shown as Excel shows them.

    Raises:
        TableError: It is damaged, or every sheet is empty.
    """
    try:
        return _read_first_sheet(data)
    except TableError:
        raise
    except Exception as error:  # openpyxl raises nearly any type on foreign XML
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise TableError(f"Excel's content is damaged ({reason})") from error


def _read_first_sheet(data: bytes) -> TableContent:
    from openpyxl import load_workbook

    workbook = load_workbook(io.BytesIO(data), read_only=True, data_only=True)
    sheets = [sheet for sheet in workbook.worksheets if _has_cells(sheet)]
    if not sheets:
        raise TableError("every sheet is empty", "add a row per image, or remove the file")
    notes = []
    if len(sheets) > 1:
        others = ", ".join(repr(sheet.title) for sheet in sheets[1:])
        notes.append(f"only the first sheet, {sheets[0].title!r}, is read, not {others}")
    return read_grid(_iter_rows(sheets[0]), notes)


def _has_cells(sheet: Any) -> bool:
    return any(cells for _, cells in _iter_rows(sheet))


def _iter_rows(sheet: Any) -> Iterator[tuple[int, list[str]]]:
    """Line and texts of each row that is not empty; the size that the sheet declares may be wrong."""
    sheet.reset_dimensions()
    for line, row in enumerate(sheet.iter_rows(), 1):
        texts = [_shown_text(cell) for cell in row]
        if any(texts):
            yield line, texts


def _shown_text(cell: Any) -> str:
    """The text of a cell; a number with the format 000 has its leading zeros."""
    text = cell_text(cell.value)
    if text.isdigit() and re.fullmatch("0+", cell.number_format or ""):
        return text.zfill(len(cell.number_format))
    return text
