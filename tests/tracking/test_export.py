"""W&B runs as a table: the logs of offline runs, whole and cut short, and the web page's CSV."""

import csv
import json
import math
import re
import shutil
import time
from contextlib import suppress
from pathlib import Path

import pandas as pd
import pytest
from wandb_recorder import logged

from xraysynth import tracking
from xraysynth.compose import compose
from xraysynth.errors import DataNotFoundError, XraysynthError
from xraysynth.jobs.job import Job
from xraysynth.tracking.export import LOGS, RUN_COLUMNS, _logged, read_runs

ARM = ["share", "mode", "control", "real_fraction", "left_out", "seed"]
WEB = ["Name", "Agent", "State", "Notes", "User", "Tags", "Created", "Runtime", "Sweep"]


def log_of(folder: Path, stage: str = "train") -> Path:
    return sorted(folder.glob(LOGS.replace("*", stage, 1)))[0]


def closed(outputs: Path) -> Path:
    """The folder once W&B has closed its logs, which it does a moment after a run's end."""
    for _ in range(200):
        if "unfinished" not in set(read_runs(outputs)["state"]):
            break
        time.sleep(0.1)
    return outputs


@pytest.fixture(scope="module")
def runs(finished):
    return read_runs(closed(finished[0] / "outputs"))


@pytest.fixture
def copy(finished, tmp_path):
    """A folder of outputs with the logs of one training and one generation."""
    outputs = finished[0] / "outputs"
    for stage in ("train", "generate"):
        log = log_of(outputs, stage)
        target = tmp_path / log.relative_to(outputs)
        target.parent.mkdir(parents=True)
        shutil.copy(log, target)
    return tmp_path


def test_offline_runs_have_the_scores_of_the_results_run_by_run(finished, runs):
    results = pd.read_parquet(Path(finished[2]["results"]).with_suffix(".parquet"))
    results = results[results["seed"].notna()].replace({"control": {"": "none"}})
    trained = runs[runs["config.arm.share"].notna()].set_index([f"config.arm.{n}" for n in ARM])
    assert len(trained) == 4
    assert trained.index.is_unique
    for row in results.itertuples():
        run = trained.loc[tuple(getattr(row, name) for name in ARM)]
        assert run[f"summary.test/{row.metric}"] == pytest.approx(row.value, abs=1e-12, nan_ok=True)


def test_every_job_is_a_row_with_what_it_was(runs):
    assert list(runs.columns[:5]) == list(RUN_COLUMNS)
    assert set(runs["job_type"]) >= {"prepare", "generate", "train", "evaluate", "report"}
    assert (runs["name"] == runs["job_type"] + "-" + runs["config.job"]).all()
    assert set(runs["group"]) == {"study"}
    assert set(runs["state"]) == {"finished"}
    assert all(row.tags[0] == row.job_type for row in runs.itertuples())
    assert not [name for name in runs if "_table" in name or "._" in name.replace("._target_", "")]


@pytest.fixture(scope="module")
def failed(tmp_path_factory):
    """A folder of outputs with a run of an error, whose log is longer than a block."""
    output = tmp_path_factory.mktemp("failed")
    config = compose([f"paths.output={output}", "study.name=broken"])
    with suppress(RuntimeError), tracking.tracked(config, Job("train", {}, output)) as run:
        run.summary.update({"long": "x" * 100_000, "nothing": float("nan"), "far": float("inf")})
        raise RuntimeError
    return closed(output)


def test_a_log_holds_what_wandb_itself_finds_in_it(failed):
    log = log_of(failed)
    assert log.stat().st_size > 3 * 32768
    assert len(list(_logged(log))) == len(logged(log.parent).splitlines())


def test_a_failed_run_is_told_and_numbers_stay_numbers(failed):
    found = read_runs(failed).iloc[0]
    assert (found["state"], found["group"], found["job_type"]) == ("failed", "broken", "train")
    assert found["summary.long"] == "x" * 100_000
    assert pd.isna(found["summary.nothing"])
    assert found["summary.far"] == math.inf


def test_a_run_that_was_killed_is_read_up_to_its_end(copy):
    log = log_of(copy)
    whole = log.read_bytes()
    log.write_bytes(whole[:-30])
    row = read_runs(copy).set_index("job_type").loc["train"]
    assert row["state"] == "unfinished"
    assert row["summary.test/macro_f1"] >= 0
    log.write_bytes(whole[:3])  # killed before it had said anything
    row = read_runs(copy).set_index("name").loc[f"train-{log.parts[-4]}"]
    assert row["state"] == "unfinished"
    assert pd.isna(row.get("config.arm.share"))


def test_every_cut_of_a_log_is_read(copy):
    log = log_of(copy)
    whole = log.read_bytes()
    records = list(_logged(log))
    found = []
    for size in range(0, len(whole), 997):
        log.write_bytes(whole[:size])
        found.append(len(list(_logged(log))))
        assert list(_logged(log)) == records[: found[-1]]
    assert found == sorted(found)


@pytest.mark.parametrize("place", [0, 60, -200])
def test_a_damaged_log_is_named(copy, place):
    log = log_of(copy)
    data = bytearray(log.read_bytes())
    data[place] ^= 0xFF
    log.write_bytes(data)
    with pytest.raises(XraysynthError, match=re.escape(str(log))):
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
    for name in [c for c in runs if c.startswith("summary.")]:
        pd.testing.assert_series_equal(found[name], runs[name], check_dtype=False, rtol=1e-12)


def test_columns_that_the_page_does_not_show_are_missing(runs, tmp_path):
    found = read_runs(exported(runs, tmp_path / "wandb.csv"))
    assert found["group"].isna().all()
    assert found["name"].tolist() == runs["name"].tolist()


def test_what_is_no_export_is_refused(tmp_path):
    with pytest.raises(DataNotFoundError, match=r"no offline W&B run .* tracking=offline"):
        read_runs(tmp_path)
    with pytest.raises(DataNotFoundError, match="neither a folder of outputs nor a CSV"):
        read_runs(tmp_path / "missing.csv")
    chart = tmp_path / "chart.csv"
    chart.write_text('"Step","train-1 - macro_f1"\n"1","0.5"\n')
    with pytest.raises(DataNotFoundError, match="the runs table, not a chart"):
        read_runs(chart)
