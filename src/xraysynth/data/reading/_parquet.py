"""Reading Parquet as text."""

import io
from typing import Any

import pandas as pd

from xraysynth.data.reading._content import (
    MAX_ROWS,
    TableContent,
    TableError,
    cell_text,
    unique_names,
)

_MAX_ARROW_BYTES = 10**9
"""What the columns may unpack to; Parquet can repeat one long text very often in few bytes."""

_ROWS_PER_BATCH = 4096


def read_parquet(data: bytes) -> TableContent:
    """Read a Parquet file; columns of pictures become the paths beside them, or are left out.

    Raises:
        TableError: It is damaged or unpacks to too much.
    """
    import pyarrow
    from pyarrow.parquet import ParquetFile

    try:
        file = ParquetFile(io.BytesIO(data))
        if file.metadata.num_rows > MAX_ROWS:
            raise TableError(f"it has more than {MAX_ROWS} rows", "split it into several tables")
        return _read_batches(file)
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
        raise TableError(str(error).splitlines()[0], "copy or download it again") from error


def _read_batches(file: Any) -> TableContent:
    schema = file.schema_arrow
    columns: list[str] = []
    skipped: list[str] = []
    for name, kind in zip(schema.names, schema.types, strict=True):
        (skipped if _holds_bytes(kind) else columns).append(name)
    blocks, n_bytes = [], 0
    for batch in file.iter_batches(batch_size=_ROWS_PER_BATCH, columns=_leaves(schema, columns)):
        n_bytes += batch.nbytes
        if n_bytes > _MAX_ARROW_BYTES:
            raise TableError(f"it unpacks to more than {_MAX_ARROW_BYTES / 1e6:g} MB")
        blocks.append(_batch_as_text(batch))
    if not blocks:
        raise TableError("it has no rows", "add a row per image, or remove the file")
    table = pd.concat(blocks, ignore_index=True)
    table.columns = pd.Index(unique_names(list(map(str, table.columns))))
    notes = [f"the column {name} holds bytes and is not read" for name in skipped]
    return TableContent(table, range(1, len(table) + 1), tuple(notes))


def _holds_bytes(kind: Any) -> bool:
    from pyarrow import types

    return bool(types.is_binary(kind) or types.is_large_binary(kind))


def _leaves(schema: Any, columns: list[str]) -> list[str]:
    """The names by which Parquet reads columns: of a picture only the path beside its bytes."""
    from pyarrow import types

    leaves = []
    for name in columns:
        kind = schema.field(name).type
        is_picture = types.is_struct(kind) and "path" in [field.name for field in kind]
        leaves.append(f"{name}.path" if is_picture else name)
    return leaves


def _batch_as_text(batch: Any) -> pd.DataFrame:
    texts = {}
    for name, values in zip(batch.schema.names, batch.columns, strict=True):
        column = values.to_pylist()
        texts[name] = [cell_text(_path_of_picture(value)) for value in column]
    return pd.DataFrame(texts, dtype="str")


def _path_of_picture(value: Any) -> Any:
    return value["path"] if isinstance(value, dict) and set(value) == {"path"} else value
