"""Reading text tables: their encoding and their separator are recognised from the beginning of the file."""

import codecs
import csv
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from xraysynth.data.reading._content import TableContent, TableError
from xraysynth.data.reading._grid import HEAD_ROWS, Row, find_start, read_grid, trimmed
from xraysynth.data.reading.names import is_column_name

_HEAD_CHARACTERS = 2**18
"""How much of a file decides on its separator."""

_MAX_LINE_CHARACTERS = 2**22

_BOMS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_SEPARATORS = {"\t": "tabs", ";": "semicolons", ",": "commas", "|": "bars", " ": "spaces"}
"""Separator -> its name, the ones that text holds by chance last."""

_NOT_WESTERN = {
    re.compile(rb"[a-z][\x80-\x9f][a-z]"): "it has signs inside words",
    re.compile(rb"\xc3[\x80-\xbf]"): "it mixes UTF-8 with another encoding",
    re.compile(rb"[\xc0-\xff]{4}"): "it has words without any Latin letter",
}
"""What a text in Windows-1252 does not hold, but one in an older, mixed or other encoding does."""


def detect_encoding(data: bytes) -> tuple[str, list[str]]:
    """Return the encoding of a text and a note on it, none for UTF-8.

    Raises:
        TableError: It is no text, or its encoding cannot be told.
    """
    if not data.strip():
        raise TableError("it is empty", "write the rows again, or remove the file")
    encoding = _encoding_of_bom(data) or _encoding_of_nulls(data)
    try:
        if encoding:
            _require_decodable(data, encoding)
            return encoding, [] if encoding == "utf-8-sig" else [f"its encoding is {encoding}"]
        _require_decodable(data, "utf-8")
    except UnicodeDecodeError:
        if encoding:
            raise TableError(f"its encoding is not {encoding}, as its beginning says") from None
        return _detect_single_byte_encoding(data)
    return "utf-8", []


def _encoding_of_bom(data: bytes) -> str:
    for bom, encoding in _BOMS.items():
        if data.startswith(bom):
            return encoding
    return ""


def _encoding_of_nulls(data: bytes) -> str:
    """UTF-16 if every second byte is null, as in Western text; a text has no nulls otherwise."""
    head = data[:2000]
    if b"\0" not in data:
        return ""
    for start, encoding in ((1, "utf-16-le"), (0, "utf-16-be")):
        other = head[1 - start :: 2]
        if head[start::2].count(0) > 0.7 * len(head) / 2 and not other.count(0):
            return encoding
    raise TableError("it holds null bytes, which no text has")


def _require_decodable(data: bytes, encoding: str) -> None:
    """Decode block by block, so that no copy of a large text is made."""
    decoder = codecs.getincrementaldecoder(encoding)()
    for start in range(0, len(data), 2**20):
        text = decoder.decode(data[start : start + 2**20])
        if "\0" in text:
            raise TableError("it holds null characters, which no text has")
    decoder.decode(b"", final=True)


def _detect_single_byte_encoding(data: bytes) -> tuple[str, list[str]]:
    try:
        _require_decodable(data, "cp1252")
    except UnicodeDecodeError:
        raise TableError("its encoding is neither UTF-8 nor Windows-1252") from None
    for pattern, fault in _NOT_WESTERN.items():
        if pattern.search(data):
            raise TableError(f"its encoding is not known: {fault}")
    return "cp1252", ["it is not UTF-8; its letters are read as Windows-1252 (Latin-1)"]


@dataclass(frozen=True)
class _Form:
    """A way to split the lines of a text, and how well it fits."""

    separator: str
    width: int
    n_named: int
    is_regular: bool
    is_intact: bool = True

    @property
    def rank(self) -> tuple[bool, bool, int, bool, int, int]:
        """Better forms are larger: they name known columns, and their rows have the same width."""
        preference = list(reversed(_SEPARATORS)).index(self.separator)
        form = (self.is_intact, self.n_named, self.is_regular)
        return (self.width > 1, *form, preference, self.width)


def read_delimited(data: bytes, encoding: str, notes: Sequence[str]) -> TableContent:
    """Read a text whose lines are split by commas, semicolons, tabs, bars or spaces.

    Args:
        data: The bytes of the file.
        encoding: Their encoding.
        notes: Notes on the encoding.

    Raises:
        TableError: A quotation is not closed, or rows have more cells than the table has columns.
    """
    text = io.TextIOWrapper(io.BytesIO(data), encoding=encoding, newline="")
    head = text.read(_HEAD_CHARACTERS)
    is_whole = len(head) < _HEAD_CHARACTERS
    text.seek(0)
    declared = re.match(r"\ufeff?sep=(.)\r?\n", head)
    n_skipped = 1 if declared else 0
    for _ in range(n_skipped):
        text.readline()
    head = head.split("\n", n_skipped)[-1]
    if not is_whole:
        head = head[: head.rfind("\n") + 1]
    separator = declared[1] if declared else _find_separator(head)
    if separator != ",":
        notes = [*notes, f"its cells are separated by {_SEPARATORS.get(separator, separator)}"]
    # Several spaces are one separator, so that a row with an empty cell cannot be told from a short one.
    rows = _iter_rows(text, separator, n_skipped)
    return read_grid(rows, notes, is_padded=separator != " ")


def _find_separator(head: str) -> str:
    forms = [_judge(head, separator) for separator in _SEPARATORS]
    best = max(forms, key=lambda form: form.rank)
    return best.separator if best.width > 1 else ","


def _judge(head: str, separator: str) -> _Form:
    rows: list[Row] = []
    is_intact = True
    try:
        for line, cells in _iter_rows(io.StringIO(head, newline=""), separator, 0):
            rows.append((line, trimmed(cells)))
            if len(rows) == HEAD_ROWS:
                break
    except TableError:
        is_intact = False
    rows = [row for row in rows if row[1]]
    if not rows:
        return _Form(separator, 0, 0, False)
    rows = rows[find_start(rows) :]
    header = rows[0][1]
    widths = {len(cells) for _, cells in rows}
    n_named = sum(map(is_column_name, header))
    is_regular = max(widths) - min(widths) <= 1
    return _Form(separator, len(header), n_named, is_regular, is_intact)


def _iter_rows(text: io.TextIOBase, separator: str, n_skipped: int) -> Iterator[Row]:
    """The line and cells of each row that is not empty."""
    try:
        reader = csv.reader(
            _iter_bounded_lines(text),
            delimiter=separator,
            strict=True,
            skipinitialspace=separator in ", ;|",
        )
        line = n_skipped + 1
        for cells in reader:
            if cells and any(cells):
                yield line, cells
            line = reader.line_num + n_skipped + 1
    except csv.Error as error:
        raise TableError(f"line {line}: {error}") from error


def _iter_bounded_lines(text: io.TextIOBase) -> Iterator[str]:
    """The lines of a text, none of them so long that its cells would fill the memory."""
    while line := text.readline(_MAX_LINE_CHARACTERS):
        if len(line) == _MAX_LINE_CHARACTERS:
            raise TableError(f"a line has more than {_MAX_LINE_CHARACTERS} characters")
        yield line
