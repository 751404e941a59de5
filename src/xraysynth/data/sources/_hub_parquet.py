"""Rows and pictures of the Parquet files of a data set of the Hugging Face Hub.

Pictures are read in batches of a few rows, so that a file of any size needs the memory of about two of its
row groups at most; the library datasets writes 100 pictures to each.
"""

import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import Any

import pandas as pd

from xraysynth.data.reading.names import rank_as
from xraysynth.errors import ImageError, ManifestError, XraysynthError, format_some
from xraysynth.images import describe_error

BATCH_ROWS = 8
"""How many pictures are unpacked at once."""

TEXT_ROLES = ("label", "patient_id", "split", "view", "sex", "age")
"""What columns beside the picture may hold."""

_BUFFER_BYTES = 2**20


@dataclass(frozen=True)
class ParquetColumns:
    """The columns of a Parquet file by what they hold.

    Attributes:
        image: Column of the pictures.
        texts: Role (`TEXT_ROLES`) -> column.
        label_names: Names of the labels that the file writes as numbers; empty if it writes words.
    """

    image: str
    texts: Mapping[str, str]
    label_names: Sequence[str]


def find_columns(path: Path, named: Mapping[str, str], option: str) -> ParquetColumns:
    """Find out what the columns of a Parquet file hold.

    Args:
        path: The file.
        named: Role ("image" or one of `TEXT_ROLES`) -> column that the user names.
        option: Name of the user's option, for the remedy: "source.hub.columns".

    Raises:
        ManifestError: The file cannot be read, or has no column of pictures or of labels.
    """
    with _explain_damage(path):
        return _find_columns(_open(path).schema_arrow, path, named, option)


def _find_columns(schema: Any, path: Path, named: Mapping[str, str], option: str) -> ParquetColumns:
    features = _features(schema.metadata or {})
    for role, column in named.items():
        if column not in schema.names:
            raise ManifestError(
                f"{path}: there is no column {column!r}, which {option}.{role} names; it has "
                f"{format_some(schema.names, 20)}"
            )
    image = named.get("image") or _first(filter(lambda field: _holds_pictures(field.type), schema))
    texts = {role: named.get(role) or _find_text(role, schema, features) for role in TEXT_ROLES}
    texts = {role: column for role, column in texts.items() if column}
    for role, column in {"image": image, "label": texts.get("label", "")}.items():
        if not column:
            raise ManifestError(
                f"{path}: it is not known which column holds the {role}; name it with "
                f"{option}.{role}=…, one of {format_some(schema.names, 20)}"
            )
    return ParquetColumns(image, texts, _label_names(features.get(texts["label"], {})))


def read_rows(path: Path, columns: ParquetColumns) -> pd.DataFrame:
    """Read the text columns of a Parquet file, and the names that its pictures had.

    Returns:
        One row per picture with `file_name` ("" if unknown) and the roles of `columns.texts`. A row with
        several labels has them joined by "|".

    Raises:
        ManifestError: The file is damaged.
    """
    with _explain_damage(path):
        return _read_text_columns(_open(path), columns)


def _read_text_columns(file: Any, columns: ParquetColumns) -> pd.DataFrame:
    has_path = _is_struct(file.schema_arrow.field(columns.image).type)
    name_column = [f"{columns.image}.path"] if has_path else []
    table = file.read(columns=[*columns.texts.values(), *name_column])
    rows = pd.DataFrame(index=range(table.num_rows))
    names = table[columns.image].to_pylist() if has_path else [{}] * table.num_rows
    rows["file_name"] = [(name or {}).get("path") or "" for name in names]
    for role, column in columns.texts.items():
        label_names = columns.label_names if role == "label" else ()
        rows[role] = [_text(value, label_names) for value in table[column].to_pylist()]
    return rows


@contextmanager
def _explain_damage(path: Path) -> Iterator[None]:
    """Raise `ManifestError` where Arrow finds a file damaged; it raises many kinds of errors."""
    try:
        yield
    except XraysynthError:
        raise
    except Exception as error:
        raise ManifestError(
            f"{path} is damaged ({describe_error(error)}); {_remedy(path)}"
        ) from error


def read_picture(path: Path, column: str, row: int) -> bytes:
    """Return the bytes of the picture in a row of a Parquet file.

    Rows are fastest read in their order.

    Raises:
        ImageError: The row holds no picture, or the file is damaged.
    """
    stat = path.stat()
    reader = _open_reader(path, column, (stat.st_size, stat.st_mtime_ns))
    try:
        value = reader.read(row)
    except Exception as error:  # Arrow raises errors of its own, and OSError
        raise ImageError(f"{path}, row {row}: {describe_error(error)}; {_remedy(path)}") from error
    data = value.get("bytes") if isinstance(value, dict) else value
    if not isinstance(data, bytes):
        raise ImageError(f"{path}, row {row}: there is no picture in column {column}")
    return data


def _remedy(path: Path) -> str:
    return f"download it again after: rm {shlex.quote(str(path))}"


class _PictureReader:
    """Reads rows of one column in their order, and starts its row group again for an earlier one."""

    def __init__(self, path: Path, column: str) -> None:
        self._file, self._column = _open(path), column
        self._lock = Lock()
        self._starts = [0]
        for group in range(self._file.num_row_groups):
            self._starts.append(self._starts[-1] + self._file.metadata.row_group(group).num_rows)
        self._batches: Iterator[Any] = iter(())
        self._batch: list[Any] = []
        self._batch_start = self._group = -1

    def read(self, row: int) -> Any:
        with self._lock:
            group = next(n for n, end in enumerate(self._starts[1:]) if row < end)
            if group != self._group or row < self._batch_start:
                self._open_group(group)
            while row >= self._batch_start + len(self._batch):
                self._batch_start += len(self._batch)
                self._batch = next(self._batches).column(0).to_pylist()
            return self._batch[row - self._batch_start]

    def _open_group(self, group: int) -> None:
        self._batches = self._file.iter_batches(
            BATCH_ROWS, row_groups=[group], columns=[self._column], use_threads=False
        )
        self._group, self._batch, self._batch_start = group, [], self._starts[group]


@lru_cache(maxsize=1)
def _open_reader(path: Path, column: str, version: tuple[int, int]) -> _PictureReader:
    return _PictureReader(path, column)


def _open(path: Path) -> Any:
    from pyarrow.parquet import ParquetFile

    try:
        return ParquetFile(path, buffer_size=_BUFFER_BYTES, pre_buffer=False)
    except Exception as error:  # Arrow raises errors of its own, and OSError
        raise ManifestError(
            f"{path} is no readable Parquet file ({describe_error(error)}); {_remedy(path)}"
        ) from error


def _features(metadata: Mapping[bytes, bytes]) -> dict[str, Any]:
    """What the library datasets writes about the columns; empty if it has not written the file."""
    try:
        features = json.loads(metadata[b"huggingface"])["info"]["features"]
    except (KeyError, ValueError, TypeError):
        return {}
    return features if isinstance(features, dict) else {}


def _label_names(feature: Any) -> Sequence[str]:
    """The names of a column's labels, also of a list of them."""
    if not isinstance(feature, dict):
        return ()
    if isinstance(feature.get("names"), list):
        return tuple(map(str, feature["names"]))
    return _label_names(feature.get("feature"))


def _find_text(role: str, schema: Any, features: Mapping[str, Any]) -> str:
    """The column that a role's names fit best; for the label one whose labels have names comes first."""
    names: list[str] = [field.name for field in schema if not _holds_pictures(field.type)]
    if role == "label":
        classified = [name for name in names if _label_names(features.get(name, {}))]
        if len(classified) == 1:
            return classified[0]
    ranked: list[tuple[int, str]] = []
    for name in names:
        rank = rank_as(role, name)
        if rank is not None:
            ranked.append((rank, name))
    return min(ranked)[1] if ranked else ""


def _first(fields: Iterator[Any]) -> str:
    name: str = next((field.name for field in fields), "")
    return name


def _is_struct(kind: Any) -> bool:
    from pyarrow import types

    return types.is_struct(kind) and "path" in [field.name for field in kind]


def _holds_pictures(kind: Any) -> bool:
    from pyarrow import types

    if types.is_struct(kind):
        return any(field.name == "bytes" and _holds_pictures(field.type) for field in kind)
    return bool(types.is_binary(kind) or types.is_large_binary(kind))


def _text(value: Any, label_names: Sequence[str]) -> str:
    if value is None:
        return ""
    if isinstance(value, list):
        return "|".join(_text(item, label_names) for item in value)
    if label_names and isinstance(value, int):
        return label_names[value] if 0 <= value < len(label_names) else ""
    return str(value).strip()
