"""Runs as a table: from the records of jobs, finished and cut short, and from the web page's CSV."""

import csv
import json
import math
import re
import shutil
from contextlib import suppress
from pathlib import Path

import pandas as pd
import pytest
from wandb_recorder import logged

from xraysynth import compose
from xraysynth.errors import DataNotFoundError, XraysynthError
from xraysynth.jobs.job import Job
from xraysynth.tracking.export import RECORDS_GLOB, RUN_COLUMNS, read_runs
from xraysynth.tracking.summaries import summarize

ARM = ["share", "mode", "control", "real_fraction", "left_out", "seed"]
WEB = ["Name", "Agent", "State", "Notes", "User", "Tags", "Created", "Runtime", "Sweep"]


@pytest.fixture(scope="module")
def runs(finished):
    return read_runs(finished[0] / "outputs")


@pytest.fixture
def copy(finished, tmp_path):
    """The records of the study's jobs, elsewhere and without anything else."""
    outputs = finished[0] / "outputs"
    for record in outputs.glob(RECORDS_GLOB):
        (tmp_path / record.relative_to(outputs)).parent.mkdir(parents=True)
        shutil.copy(record, tmp_path / record.relative_to(outputs))
    return tmp_path


def test_runs_have_the_scores_of_the_results_run_by_run(finished, runs):
    results = pd.read_parquet(Path(finished[2]["results"]).with_suffix(".parquet"))
    results = results[results["seed"].notna()].replace({"control": {"": "none"}})
    trained = runs[runs["config.arm.share"].notna()].set_index([f"config.arm.{n}" for n in ARM])
    assert len(trained) == 4
    assert trained.index.is_unique
    for row in results.itertuples():
        run = trained.loc[tuple(getattr(row, name) for name in ARM)]
        assert run[f"summary.test/{row.metric}"] == pytest.approx(row.value, abs=1e-12, nan_ok=True)


def test_the_row_of_a_report_has_its_verdicts(runs):
    (report,) = runs[runs["job_type"] == "report"].to_dict("records")
    name = "summary.verdict/stable_diffusion 50% (replace) minus real only"
    assert report[name] in ("better", "worse", "no difference shown")
    assert report[f"{name}/low"] <= report[f"{name}/value"] <= report[f"{name}/high"]
    assert report[f"{name}/detectable"] > 0
    assert summarize("report", {"macro_f1": {}}) == {}  # as earlier versions wrote it


def test_every_job_is_a_row_with_what_it_was(runs):
    assert list(runs.columns[:5]) == list(RUN_COLUMNS)
    assert set(runs["job_type"]) >= {"prepare", "generate", "train", "evaluate", "report"}
    assert (runs["name"] == runs["job_type"] + "-" + runs["config.job"]).all()
    assert set(runs["group"]) == {"study"}
    assert set(runs["state"]) == {"finished"}
    assert all(row.tags[0] == row.job_type for row in runs.itertuples())
    assert not [name for name in runs if "_table" in name or "._" in name.replace("._target_", "")]


def test_wandb_was_given_the_same_summaries_and_configurations(finished, runs):
    rows = runs.set_index("name")
    folders = sorted((finished[0] / "outputs").glob("*/*/wandb/offline-run-*"))
    for folder in folders:
        records = [json.loads(line) for line in logged(folder).splitlines()]
        (start,) = (record["run"] for record in records if record["type"] == "run")
        row = rows.loc[start["display_name"]]
        assert (row["group"], row["job_type"]) == (start["run_group"], start["job_type"])
        assert row["tags"] == start["tags"]
        if row["job_type"] == "train":
            arm = start["config"]["update"]["arm"]
            assert arm == {name: row[f"config.arm.{name}"] for name in arm}
        said = {k: v for record in records for k, v in summary_of(record).items()}
        summary = row.filter(like="summary.").dropna()
        for name, value in summary.items():
            assert said[name.removeprefix("summary.")] == pytest.approx(value), (folder, name)
        scores = {name for name in said if name.endswith("/low")}
        assert scores <= {name.removeprefix("summary.") for name in rows.columns}
    assert len(folders) > 7


def summary_of(record: dict) -> dict:
    """Numbers that a record of W&B's log puts into the summary."""
    update = record.get("summary", {}).get("update", {})
    return update if record["type"] == "summary" else {}


def test_jobs_without_tracking_are_rows_too(tmp_path):
    config = compose([f"paths.output={tmp_path}", "tracking=none", "study.name=broken"])

    def fail() -> dict:
        raise RuntimeError

    with suppress(RuntimeError):
        Job("train", {}, tmp_path).run(fail, config=config.to_dict(), overrides=())
    row = read_runs(tmp_path).iloc[0]
    assert (row["state"], row["group"], row["job_type"]) == ("failed", "broken", "train")
    assert row["config.arm.series"] == "real only"
    assert str(tmp_path) not in row.to_json()


def test_numbers_stay_numbers(copy):
    (path, *_) = copy.glob("prepare/*/run.json")
    record = json.loads(path.read_text())
    record["result"] |= {"images": math.inf, "patients": math.nan}
    del record["checksum"]
    path.write_text(json.dumps(record))
    row = read_runs(copy).set_index("job_type").loc["prepare"]
    assert row["summary.images"] == math.inf
    assert pd.isna(row["summary.patients"])


def test_a_folder_that_was_moved_gives_the_same_table(copy, runs):
    kept = [name for name in runs if not name.startswith("config.") or ".arm." in name]
    pd.testing.assert_frame_equal(read_runs(copy)[kept], runs[kept])


def test_a_job_that_was_killed_is_unfinished(copy):
    (path, *_) = copy.glob("train/*/run.json")
    record = json.loads(path.read_text())
    begun = {
        k: v for k, v in record.items() if k not in ("result", "seconds", "environment", "checksum")
    }
    path.write_text(json.dumps(begun | {"state": "running"}))
    row = read_runs(copy).set_index("name").loc[f"train-{path.parent.name}"]
    assert row["state"] == "unfinished"
    assert pd.isna(row["summary.test/macro_f1"])
    assert row["config.arm.share"] == begun["config"]["data"]["synthetic_fraction"]


def test_a_damaged_record_is_named(copy):
    (path, *_) = copy.glob("train/*/run.json")
    path.write_text(path.read_text()[:-30])
    with pytest.raises(XraysynthError, match=re.escape(str(path))):
        read_runs(copy)


def exported(runs: pd.DataFrame, path: Path, *, more: dict[str, str] | None = None) -> Path:
    """The CSV that the runs table of the web page gives: all quoted, bare names, its own columns."""
    shown = pd.DataFrame(dict.fromkeys(WEB, ""), index=runs.index)
    shown["Name"], shown["State"] = runs["name"], runs["state"]
    shown["Tags"] = [", ".join(tags) for tags in runs["tags"]]
    shown = shown.assign(**{new: runs[old] for new, old in (more or {}).items()})
    own = {
        name.partition(".")[2]: [
            json.dumps(v) if isinstance(v, list | bool) else v for v in runs[name]
        ]
        for name in runs.columns[5:]
    }
    shown = pd.concat([shown, pd.DataFrame(own)], axis=1)
    shown.to_csv(path, index=False, quoting=csv.QUOTE_ALL)
    return path


def test_the_csv_of_the_web_page_is_the_same_table(runs, tmp_path):
    more = {"Group": "group", "Job Type": "job_type"}
    found = read_runs(exported(runs, tmp_path / "wandb.csv", more=more))
    assert list(found.columns) == list(runs.columns)
    for name in (*RUN_COLUMNS, "config.arm.series", "config.job"):
        assert found[name].dropna().tolist() == runs[name].dropna().tolist(), name
    for name in (c for c in runs if c.startswith("summary.")):
        pd.testing.assert_series_equal(found[name], runs[name], check_dtype=False, rtol=1e-12)


def test_columns_that_the_page_does_not_show_are_missing(runs, tmp_path):
    found = read_runs(exported(runs, tmp_path / "wandb.csv"))
    assert found["group"].isna().all()
    assert found["name"].tolist() == runs["name"].tolist()


def test_what_is_no_export_is_refused(tmp_path):
    with pytest.raises(DataNotFoundError, match=r"no job .* paths\.output"):
        read_runs(tmp_path)
    with pytest.raises(DataNotFoundError, match="neither a folder of outputs nor a CSV"):
        read_runs(tmp_path / "missing.csv")
    chart = tmp_path / "chart.csv"
    chart.write_text('"Step","train-1 - macro_f1"\n"1","0.5"\n')
    with pytest.raises(DataNotFoundError, match="the runs table, not a chart"):
        read_runs(chart)
