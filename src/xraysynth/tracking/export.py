"""Runs as a table for pandas: from the run.json of every job, or from the CSV of W&B's web page.

`read_runs` gives a row a run. `config.arm.share` and the like say what a run was, `summary.test/macro_f1`
and the like what came of it. It asks no server.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import pandas as pd

from xraysynth.config import Config
from xraysynth.errors import DataNotFoundError, XraysynthError, format_some
from xraysynth.jobs.record import RunRecord
from xraysynth.privacy import Scrubber
from xraysynth.records import JsonObject
from xraysynth.tracking.runs import arm_from_options, build_tags
from xraysynth.tracking.summaries import Summary, summarize, summarize_cost, summarize_reading

RUN_COLUMNS = ("name", "group", "job_type", "tags", "state")
"""What every run has, before its `config.` and `summary.` columns."""

RECORDS_GLOB = "*/*/run.json"
"""Where the records of a study's jobs lie below paths.output."""

_STATES = {"done": "finished", "failed": "failed", "running": "unfinished"}
_CONFIG_FIELDS = frozenset(
    [field.name for field in fields(Config)]
    + ["arm", "environment", "job", "credentialed"]  # `tracking.runs.described`
    + ["class_counts", "max_steps", "recipe"]  # what the classifier was made with, by Lightning
)
_WEB_COLUMNS = {
    "Name": "name",
    "Group": "group",
    "Job Type": "job_type",
    "Tags": "tags",
    "State": "state",
}
_WEB_ONLY_COLUMNS = ["Agent", "Created", "ID", "Notes", "Runtime", "Sweep", "User"]


def read_runs(path: Path) -> pd.DataFrame:
    """Jobs of a folder of outputs, tracked or not, or runs of a CSV that W&B's runs table was exported to.

    `state` is finished, failed, or, of a job that is still at work or was killed, unfinished; such a
    job has no summary. The page leaves columns out of its CSV that it does not show: `group` and
    `job_type` are then missing. Raises `DataNotFoundError` where there is no job, and
    `XraysynthError` naming a record that is damaged.
    """
    path = Path(path)
    if path.is_dir():
        runs = _table_rows(path)
        if not runs:
            raise DataNotFoundError(
                f"{path.absolute()}: no job ({RECORDS_GLOB}); name the folder paths.output of a study "
                "that was run"
            )
        return _order_columns(pd.json_normalize(runs))
    if not path.is_file():
        raise DataNotFoundError(
            f"{path.absolute()}: neither a folder of outputs nor a CSV exported from W&B"
        )
    return _order_columns(_read_web_csv(path))


def _order_columns(table: pd.DataFrame) -> pd.DataFrame:
    """First what every run has, then configuration and summary by name."""
    return table.reindex(columns=[*RUN_COLUMNS, *sorted(set(table) - set(RUN_COLUMNS))])


def _read_web_csv(path: Path) -> pd.DataFrame:
    table = pd.read_csv(path)
    if "Name" not in table:
        raise DataNotFoundError(
            f"{path}: no column Name, so this is no table of runs, but has {format_some(table.columns)}; "
            "export the runs table, not a chart"
        )
    table = table.drop(columns=_WEB_ONLY_COLUMNS, errors="ignore")
    table = table.rename(columns={name: _column_name(name) for name in table})
    if "tags" in table:
        table["tags"] = [_split_tags(text) for text in table["tags"]]
    return table


def _column_name(column: str) -> str:
    """The page puts configuration and summary side by side under their bare names."""
    if column in _WEB_COLUMNS:
        return _WEB_COLUMNS[column]
    return f"{'config' if column.split('.')[0] in _CONFIG_FIELDS else 'summary'}.{column}"


def _split_tags(tags: Any) -> list[str]:
    return [tag.strip() for tag in tags.split(",")] if isinstance(tags, str) else []


def _load_records(output: Path) -> list[RunRecord]:
    """What run.json says of every job, the earliest first."""
    records = [_load_record(path) for path in output.glob(RECORDS_GLOB)]
    return sorted(records, key=lambda record: (record.started, record.stage, record.key))


def _load_record(path: Path) -> RunRecord:
    try:
        return RunRecord.read(path.parent)
    except ValueError:
        raise XraysynthError(
            f"{path}: damaged, so that it cannot be read; copy it again, or remove its folder, and "
            "the job is done again"
        ) from None


def _table_rows(output: Path) -> list[JsonObject]:
    """Jobs as nested dictionaries, as W&B's own interface gives its runs."""
    records, scrubber = _load_records(output), Scrubber.from_folders(output.absolute().parent)
    ledgers = _ledgers_by_pool(records)
    return [
        {
            "name": f"{record.stage}-{record.key}",
            "group": record.config["study"]["name"],
            "job_type": record.stage,
            "tags": build_tags(record.stage, record.config),
            "state": _STATES[record.state],
            "config": scrubber.scrub_values(record.config) | _job_config(record),
            "summary": _summarize_record(record, output, ledgers),
        }
        for record in records
    ]


def _job_config(record: RunRecord) -> JsonObject:
    """What a run says of its job besides the options."""
    facts = {"job": record.key, "environment": record.environment}
    return facts | (
        {"arm": asdict(arm_from_options(record.config))} if record.stage == "train" else {}
    )


def _summarize_record(
    record: RunRecord, output: Path, ledgers: Mapping[str, JsonObject]
) -> Summary:
    """Of a training on a single pool with what its images cost, of a reading with its table."""
    summary = summarize(record.stage, record.result)
    pools = record.identity.get("mix", {}).get("pools", {})
    if len(pools) == 1 and record.state == "done":
        ((name, key),) = pools.items()
        summary |= summarize_cost(ledgers.get(f"{name}-{key}", {}))
    reading = output / record.stage / record.key / "results.parquet"
    if record.stage == "review_analyse" and record.state == "done" and reading.is_file():
        summary |= summarize_reading(pd.read_parquet(reading))
    return summary


def _ledgers_by_pool(records: Sequence[RunRecord]) -> dict[str, JsonObject]:
    """The last ledger of each pool, by the name of its folder."""
    results = [record.result for record in records if record.stage == "generate"]
    return {Path(r["pool"]).name: r["ledger"] for r in results if "ledger" in r}
