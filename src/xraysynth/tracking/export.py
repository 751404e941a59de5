"""Runs as a pandas table, from the run.json of every job or from a CSV exported from W&B.

`read_runs` returns one row per run, and asks no server. Columns such as
`config.arm.synthetic_fraction` hold the configuration of a run, and columns such as
`summary.test/macro_f1` its result.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from operator import attrgetter
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
"""Columns of every run, before its `config.` and `summary.` columns."""

RECORDS_GLOB = "*/*/run.json"
"""Pattern of the records of a study's jobs, below paths.output."""

_STATES = {"done": "finished", "failed": "failed", "running": "unfinished"}
_CONFIG_FIELDS = frozenset(
    [
        *Config.__dataclass_fields__,
        *("arm", "environment", "job", "credentialed"),  # added by `runs.build_run_config`
        *("class_counts", "max_steps", "recipe"),  # arguments of the classifier, by Lightning
    ]
)
"""First words of the names of configuration columns; W&B exports them without `config.`."""

_WEB_COLUMNS = {
    "Name": "name",
    "Group": "group",
    "Job Type": "job_type",
    "Tags": "tags",
    "State": "state",
}
_WEB_ONLY_COLUMNS = ["Agent", "Created", "ID", "Notes", "Runtime", "Sweep", "User"]


def read_runs(path: Path) -> pd.DataFrame:
    """Reads the runs of a study as a table with one row per run.

    Args:
        path: The folder paths.output of a study, tracked or not, or a CSV file that W&B's runs
            table was exported to. W&B exports only columns that it shows: `group` and `job_type`
            may then be empty.

    Returns:
        The columns `RUN_COLUMNS`, then `config.` and `summary.` columns by name. `state` is
        finished, failed or, for a job that is running or was killed, unfinished; an unfinished job
        has no summary.

    Raises:
        DataNotFoundError: There is no job, or the file is no table of runs.
        XraysynthError: A run.json is damaged; the error names it.
    """
    path = Path(path)
    if path.is_dir():
        runs = _table_rows(path)
        if not runs:
            raise DataNotFoundError(
                f"{path.absolute()} holds no job ({RECORDS_GLOB}); name the folder paths.output of a "
                "study that was run"
            )
        return _order_columns(pd.json_normalize(runs))
    if not path.is_file():
        raise DataNotFoundError(
            f"{path.absolute()} is neither a folder of outputs nor a CSV file; name the folder "
            "paths.output of a study, or the CSV exported from W&B"
        )
    return _order_columns(_read_web_csv(path))


def _order_columns(table: pd.DataFrame) -> pd.DataFrame:
    """Puts the columns of every run first, then the others by name."""
    other_columns = sorted(set(table) - set(RUN_COLUMNS))
    return table.reindex(columns=[*RUN_COLUMNS, *other_columns])


def _read_web_csv(path: Path) -> pd.DataFrame:
    """Reads the export of W&B's runs table, and names its columns as this module does."""
    table = pd.read_csv(path)
    if "Name" not in table:
        raise DataNotFoundError(
            f"{path} is no table of runs: it has no column Name, but {format_some(table.columns)}; "
            "export the runs table, not a chart"
        )
    table = table.drop(columns=_WEB_ONLY_COLUMNS, errors="ignore")
    table = table.rename(columns=_column_name)
    if "tags" in table:
        table["tags"] = list(map(_split_tags, table["tags"]))
    return table


def _column_name(column: str) -> str:
    """Returns our name of a column of W&B, which names configuration and summary without prefix."""
    if column in _WEB_COLUMNS:
        return _WEB_COLUMNS[column]
    is_config = column.split(".")[0] in _CONFIG_FIELDS
    return f"config.{column}" if is_config else f"summary.{column}"


def _split_tags(tags: Any) -> list[str]:
    return [tag.strip() for tag in tags.split(",")] if isinstance(tags, str) else []


def _load_records(output: Path) -> list[RunRecord]:
    """Loads the records of all jobs, the earliest first."""
    records = map(_load_record, output.glob(RECORDS_GLOB))
    return sorted(records, key=attrgetter("started", "stage", "key"))


def _load_record(path: Path) -> RunRecord:
    record = RunRecord.read(path.parent)
    if record.state == "damaged":
        raise XraysynthError(
            f"{record.error}; copy it again, or delete its folder and run the job again"
        )
    return record


def _table_rows(output: Path) -> list[JsonObject]:
    """Returns jobs as nested dictionaries, like the runs that the W&B API returns."""
    records = _load_records(output)
    ledgers = _ledgers_by_pool(records)
    scrubber = Scrubber.from_folders(output.absolute().parent)
    rows: list[JsonObject] = []
    for record in records:
        row = {
            "name": f"{record.stage}-{record.key}",
            "group": record.config["study"]["name"],
            "job_type": record.stage,
            "tags": build_tags(record.stage, record.config),
            "state": _STATES[record.state],
            "config": scrubber.scrub_values(record.config) | _job_config(record),
            "summary": _summarize_record(record, output, ledgers),
        }
        rows.append(row)
    return rows


def _job_config(record: RunRecord) -> JsonObject:
    """Returns the entries that a run's configuration has in addition to the options."""
    entries: dict[str, Any] = {"job": record.key, "environment": record.environment}
    if record.stage == "train":
        entries["arm"] = asdict(arm_from_options(record.config))
    return entries


def _summarize_record(
    record: RunRecord, output: Path, ledgers: Mapping[str, JsonObject]
) -> Summary:
    """Returns the summary of a job.

    A training on a single pool has the cost of its images, and a reader study its results.
    """
    summary = summarize(record.stage, record.result)
    if record.state != "done":
        return summary
    pools = list(record.identity.get("mix", {}).get("pools", {}).items())
    if len(pools) == 1:
        name, key = pools[0]
        summary |= summarize_cost(ledgers.get(f"{name}-{key}", {}))
    reader_results = output / record.stage / record.key / "results.parquet"
    if record.stage == "review_analyse" and reader_results.is_file():
        summary |= summarize_reading(pd.read_parquet(reader_results))
    return summary


def _ledgers_by_pool(records: Sequence[RunRecord]) -> dict[str, JsonObject]:
    """Returns the last ledger of each pool, by the name of its folder."""
    ledgers = {}
    for record in records:
        if record.stage == "generate" and "ledger" in record.result:
            ledgers[Path(record.result["pool"]).name] = record.result["ledger"]
    return ledgers
