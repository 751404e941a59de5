"""Finding the names of the columns in a grid of cells, above which people write titles and comments."""

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import chain, islice

from xraysynth.data.reading._content import TableContent, TableError, build_content
from xraysynth.data.reading.labels import holds_finding
from xraysynth.data.reading.names import IMAGE_NAME, is_column_name

Row = tuple[int, Sequence[str]]
"""The line of a row in its file, and its cells."""

HEAD_ROWS = 200
"""The number of rows by which a table's form is judged."""

_MAX_ROWS_ABOVE = 20
_COVIDX_COLUMNS = ("patient_id", "path", "label", "source_dataset")
"""The columns of COVIDx, whose text files do not name them."""


def read_grid(
    rows: Iterable[Row], notes: Sequence[str] = (), *, is_padded: bool = True
) -> TableContent:
    """Read the rows of a grid as a table whose columns are named by its first full row.

    Titles and comments above are skipped; a grid that begins with an image has no names, and its columns
    are then called "column 1", "column 2" and so on.

    Args:
        rows: The rows that are not empty.
        notes: Notes on how the grid was read.
        is_padded: Whether cells that a row lacks at its end are empty; else a row must have all.

    Raises:
        TableError: There are no rows or columns.
    """
    remaining = iter(rows)
    head = [(line, trimmed(cells)) for line, cells in islice(remaining, HEAD_ROWS)]
    head = [row for row in head if row[1]]
    if not head:
        raise TableError("it has no rows", "add a row per image, or remove the file")
    start = find_start(head)
    all_notes = [*notes, *_note_rows_above(head[:start])]
    header, body, header_notes = _split_header(head[start:])
    notes = [*all_notes, *header_notes]
    return build_content(header, chain(body, remaining), notes, is_padded=is_padded)


def trimmed(cells: Sequence[str]) -> list[str]:
    """Return cells without outer spaces, and without the empty ones at the end."""
    texts = [cell.strip(" \t\r\n\ufeff\xa0") for cell in cells]
    while texts and not texts[-1]:
        texts.pop()
    return texts


def typical_width(head: Sequence[Row]) -> int:
    """Return the most frequent number of cells of the rows at the start of a table."""
    widths = Counter(len(cells) for _, cells in head)
    return max(widths, key=lambda width: (widths[width], width))


def find_start(head: Sequence[Row]) -> int:
    """Return the position of the first row of a table, its names; titles and comments come before.

    It is the first row that is nearly as wide as most. An R table has one name less than cells.
    """
    width = typical_width(head)
    n_named = [sum(map(is_column_name, cells)) for _, cells in head[:_MAX_ROWS_ABOVE]]
    for position, (_, cells) in enumerate(head[:_MAX_ROWS_ABOVE]):
        if n_named[position] > 1 and len(cells) >= width - 1:
            return position
    for position, (_, cells) in enumerate(head[:_MAX_ROWS_ABOVE]):
        is_comment = cells[0].startswith("#") and len(cells) < width
        names_all_but_one = len(cells) == width - 1 and (n_named[position] or width > 2)
        if not is_comment and (len(cells) >= width or names_all_but_one):
            return position
    return 0


def _note_rows_above(rows: Sequence[Row]) -> list[str]:
    if not rows:
        return []
    return [f"{len(rows)} lines above the names of the columns are skipped: {rows[0][1][0]!r}"]


def _split_header(head: Sequence[Row]) -> tuple[list[str], list[Row], list[str]]:
    """The names of the columns, the rows below them, and a note where the names are not there."""
    cells = list(head[0][1])
    body = list(head[1:])
    if not _is_header(cells, body):
        names = _names_without_header(head)
        note = f"the columns have no names; they are called {', '.join(names)}"
        return names, list(head), [note]
    cells[0] = cells[0].lstrip("# ") if is_column_name(cells[0].lstrip("# ")) else cells[0]
    widths = {len(row) for _, row in body}
    if (
        widths and min(widths) == max(widths) == len(cells) + 1
    ):  # R names the rows, not their column
        return ["row name", *cells], body, []
    return cells, body, []


def _names_without_header(head: Sequence[Row]) -> list[str]:
    """The names of the columns of COVIDx (patient, file, label, source), else numbers."""
    width = typical_width(head)
    rows = [cells for _, cells in head if len(cells) == width]
    n_like_covidx = sum(map(_is_like_covidx, rows))
    if n_like_covidx >= 0.9 * len(rows):
        return list(_COVIDX_COLUMNS[:width])
    return [f"column {position}" for position in range(1, width + 1)]


def _is_like_covidx(cells: Sequence[str]) -> bool:
    if len(cells) not in (3, 4) or IMAGE_NAME.fullmatch(cells[0]):
        return False
    return IMAGE_NAME.fullmatch(cells[1]) is not None and holds_finding(cells[2])


def _is_header(cells: Sequence[str], body: Sequence[Row]) -> bool:
    """Whether the first row names the columns: it holds no image, and no class as the rows below do."""
    if any(map(IMAGE_NAME.fullmatch, cells)):
        return False
    for position, cell in enumerate(cells):
        below = [row[position] for _, row in body if position < len(row)]
        if holds_finding(cell) and any(map(holds_finding, below)):
            return False
    return True
