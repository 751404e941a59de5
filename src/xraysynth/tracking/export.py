"""W&B runs as a table for pandas: read from the logs of offline runs, or from the web page's CSV.

`read_runs` gives a row a run. `config.arm.share` and the like say what a run was, `summary.test/macro_f1`
and the like what came of it. It asks no server.
"""

import json
import struct
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import pandas as pd

from xraysynth.config import Config
from xraysynth.errors import DataNotFoundError, XraysynthError, some

RUN_COLUMNS = ("name", "group", "job_type", "tags", "state")
"""What every run has, before its `config.` and `summary.` columns."""

LOGS = "*/*/wandb/*run-*/run-*.wandb"
"""Where the logs of a study's runs lie below paths.output."""

_CONFIG = frozenset(
    [field.name for field in fields(Config)]
    + ["arm", "environment", "job", "credentialed"]  # `tracking.runs.described`
    + ["class_counts", "max_steps", "recipe"]  # what the classifier was made with, by Lightning
)
_WEB = {"Name": "name", "Group": "group", "Job Type": "job_type", "Tags": "tags", "State": "state"}
_WEB_ALONE = ["Agent", "Created", "ID", "Notes", "Runtime", "Sweep", "User"]

_HEADER = b":W&B\xe1\xbe\x00"
_BLOCK = 32768
_LAST = (1, 4)  # a whole record, the last part of one; 2 and 3 are first and middle parts


def read_runs(export: Path) -> pd.DataFrame:
    """Runs of a folder of outputs, or of a CSV that W&B's runs table was exported to.

    `state` is finished, failed, or, of a run that is still at work or was killed, unfinished; such a
    run has what it had said so far. The page leaves columns out of its CSV that it does not show:
    `group` and `job_type` are then missing. Raises `DataNotFoundError` where there is no run, and
    `XraysynthError` naming a log that is damaged.
    """
    export = Path(export)
    if export.is_dir():
        logs = sorted(export.glob(LOGS))
        if not logs:
            raise DataNotFoundError(
                f"{export.absolute()}: no offline W&B run ({LOGS}); name the folder paths.output of a "
                "study that was run with tracking=offline or tracking=wandb"
            )
        return _ordered(pd.json_normalize([_run(log) for log in logs]))
    if not export.is_file():
        raise DataNotFoundError(
            f"{export.absolute()}: neither a folder of outputs nor a CSV exported from W&B"
        )
    return _ordered(_from_web(export))


def _ordered(table: pd.DataFrame) -> pd.DataFrame:
    """First what every run has, then configuration and summary by name."""
    return table.reindex(columns=[*RUN_COLUMNS, *sorted(set(table) - set(RUN_COLUMNS))])


def _from_web(path: Path) -> pd.DataFrame:
    table = pd.read_csv(path)
    if "Name" not in table:
        raise DataNotFoundError(
            f"{path}: no column Name, so this is no table of runs, but has {some(table.columns)}; "
            "export the runs table, not a chart"
        )
    table = table.drop(columns=_WEB_ALONE, errors="ignore")
    table = table.rename(columns={name: _web_name(name) for name in table})
    if "tags" in table:
        table["tags"] = [_split(text) for text in table["tags"]]
    return table


def _web_name(column: str) -> str:
    """The page puts configuration and summary side by side under their bare names."""
    if column in _WEB:
        return _WEB[column]
    return f"{'config' if column.split('.')[0] in _CONFIG else 'summary'}.{column}"


def _split(tags: Any) -> list[str]:
    return [tag.strip() for tag in tags.split(",")] if isinstance(tags, str) else []


def _run(log: Path) -> dict[str, Any]:
    """A run as nested dictionaries, from its log."""
    from wandb.proto.wandb_internal_pb2 import Record  # type: ignore[attr-defined]  # made at import

    job, key = log.parts[-5:-3]
    run: dict[str, Any] = {"name": f"{job}-{key}", "state": "unfinished"}
    config: dict[str, Any] = {}
    summary: dict[str, Any] = {}
    for data in _logged(log):
        record = Record.FromString(data)
        if record.HasField("run"):
            said = record.run
            run |= {"name": said.display_name, "group": said.run_group, "job_type": said.job_type}
            run["tags"] = list(said.tags)
            _update(config, said.config)
        elif record.HasField("exit"):
            run["state"] = "failed" if record.exit.exit_code else "finished"
        _update(config, record.config)
        _update(summary, record.summary)
    return run | {"config": _values(config), "summary": _values(summary)}


def _update(known: dict[str, Any], said: Any) -> None:
    for item in said.update:
        *path, name = _path(item)
        _at(known, path)[name] = json.loads(item.value_json)
    for item in said.remove:
        *path, name = _path(item)
        _at(known, path).pop(name, None)


def _path(item: Any) -> Sequence[str]:
    return list(item.nested_key) or [item.key]


def _at(known: dict[str, Any], path: Iterable[str]) -> dict[str, Any]:
    for name in path:
        if not isinstance(known.get(name), dict):
            known[name] = {}
        known = known[name]
    return known


def _values(known: Mapping[str, Any]) -> dict[str, Any]:
    """Without W&B's own entries, and without tables and pictures, which are files."""

    def is_file(value: Any) -> bool:
        return isinstance(value, dict) and "_type" in value

    return {k: v for k, v in known.items() if not k.startswith("_") and not is_file(v)}


def _logged(log: Path) -> Iterator[bytes]:
    """Records of a run's log, up to its end or to where its process was killed.

    It is LevelDB's log format: blocks of 32 KiB, in which every part of a record follows its
    checksum, length and kind.
    """
    data, at, record = log.read_bytes(), len(_HEADER), b""
    if not data.startswith(_HEADER[: len(data)]):
        raise XraysynthError(
            f"{log}: not the log of a W&B run; copy it again, or remove its folder"
        )
    while at + 7 <= len(data):
        left = _BLOCK - at % _BLOCK
        checksum, size, kind = struct.unpack_from("<IHB", data, at)
        if left < 7 or kind == 0:  # the rest of the block is padding
            at += left
            continue
        part = data[at + 6 : at + 7 + size]
        if len(part) <= size and 7 + size <= left:
            return
        if zlib.crc32(part) != checksum:
            raise XraysynthError(
                f"{log}: damaged {at} bytes from its start; copy it again, or remove its folder"
            )
        record += part[1:]
        if kind in _LAST:
            yield record
            record = b""
        at += 7 + size
