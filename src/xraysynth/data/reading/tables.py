"""Reading tables that people give: CSV and Parquet."""

from pathlib import Path

import pandas as pd

from xraysynth.errors import ManifestError


def read_table_file(path: Path) -> pd.DataFrame:
    """Read a table that a user gives: Parquet, or CSV with every value as text.

    Raises:
        ManifestError: The file cannot be read as a table.
    """
    try:
        if path.suffix.lower() in (".parquet", ".pq"):
            return pd.read_parquet(path)
        return pd.read_csv(path, dtype=str)
    except (ValueError, OSError) as error:  # pandas' and Arrow's parsers raise ValueErrors
        raise ManifestError(
            f"{path}: this is not a readable CSV or Parquet table ({error}); save it again"
        ) from error


def read_table(path: Path) -> pd.DataFrame:
    """Read a CSV or Parquet file with every value as text without outer spaces, "" if missing.

    Raises:
        ManifestError: The file cannot be read as a table.
    """
    table = read_table_file(path)
    return table.astype(object).where(table.notna(), "").map(lambda value: str(value).strip())
