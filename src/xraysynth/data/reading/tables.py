"""Reading tables that people give: CSV with any separator and encoding, Excel, JSON and Parquet.

A table is told by its content, whatever its suffix, and every value stays the text that it is: `007` keeps
its zeros, "None" stays a word, and only an empty cell is missing.
"""

import re
from pathlib import Path

import pandas as pd

from xraysynth.data.reading._content import TableContent, TableError
from xraysynth.data.reading._unpacking import is_workbook, read_bounded
from xraysynth.errors import ManifestError

MAX_TABLE_MB = 256
"""The largest table that is read, unpacked, in MB; 200,000 rows with long reports have about 100."""

_SAVE_AGAIN = "save it again as CSV (UTF-8) or .xlsx"


def read_table(path: Path) -> pd.DataFrame:
    """Read a table of any kind with every value as text without outer spaces, "" if missing.

    Raises:
        ManifestError: The file cannot be read as a table, or is larger than `MAX_TABLE_MB`.
    """
    return read_table_content(path).table


def read_table_content(path: Path) -> TableContent:
    """Read a table of any kind, with the lines of its rows and notes on how it was read.

    Raises:
        ManifestError: The file cannot be read as a table, or is larger than `MAX_TABLE_MB`.
    """
    path = Path(path)
    try:
        return _read_content(path)
    except TableError as error:
        reason, remedy = error.reason, error.remedy or _SAVE_AGAIN
    except OSError as error:
        reason, remedy = error.strerror or str(error), "check its path and permissions"
    except MemoryError:
        reason, remedy = "it needs more memory than there is", "split it into several tables"
    raise ManifestError(
        f"{path}: this is not a readable CSV, Excel, JSON or Parquet table ({reason}); {remedy}"
    )


def _read_content(path: Path) -> TableContent:
    data = read_bounded(path, int(MAX_TABLE_MB * 1e6))
    if data.startswith(b"PAR1"):
        from xraysynth.data.reading._parquet import read_parquet

        return read_parquet(data)
    if is_workbook(data, int(MAX_TABLE_MB * 1e6)):
        from xraysynth.data.reading._excel import read_workbook

        return read_workbook(data)
    if path.suffix.lower() in (".parquet", ".pq"):
        raise TableError("it does not begin as a Parquet file does", "copy or download it again")
    return _read_text(data)


def _read_text(data: bytes) -> TableContent:
    """Read JSON or a delimited table."""
    from xraysynth.data.reading._delimited import detect_encoding, read_delimited
    from xraysynth.data.reading._json import read_json

    encoding, notes = detect_encoding(data)
    start = data[:4096].decode(encoding, errors="ignore").lstrip("\ufeff \t\r\n")
    if re.match(r"<(!doctype|html|\?xml)", start, re.IGNORECASE):
        raise TableError(
            "it is a web page or XML, such as a download without a login gives", "download it again"
        )
    if re.match(r"\[\s*[\[{\]\d]|\{\s*[\"}]", start):
        return read_json(data.decode(encoding), notes)
    return read_delimited(data, encoding, notes)
