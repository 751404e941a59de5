"""A study that was finished by the code before it lay in packages: still done, and reported the same.

The archive was made at commit cf1c523, the last with the modules side by side, in an empty folder by
`xraysynth study` with the options of overrides.json. `images` are 48 drawn pictures, `outputs` what the
study left there, but for caches, pages and locks, and with empty files in place of weights, which are
1.5 MB each and are asked for nothing but their presence. `expected` are the tables of its report.
Sources know a file by its size and time, so that the archive keeps the times.
"""

import csv
import json
import math
import re
import tarfile
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pytest

from xraysynth import compose
from xraysynth.stages import Workspace, report, study

DEFAULTS_THEN = (
    "generator.sd_lora.guidance=3.0",
    "generator.sd_lora.scale=1.0",
    "generator.sd_lora.lora.targets=[to_q,to_k,to_v,to_out.0,conv1,conv2,ff.net.0.proj,ff.net.2]",
)
"""Options that decide the pool, and have other defaults now."""

OTHERWISE_COMPUTED = re.compile(r"(^|_)(low|high|p_holm)$|^(detectable|equivalent)")
"""Columns of results.csv that depend on how variances between seeds are estimated, which has changed."""

ARCHIVE = Path(__file__).parent / "golden" / "outputs-of-flat-layout.tar.xz"


@pytest.fixture
def overrides(tmp_path, monkeypatch):
    """Options of the study, whose folder the test runs in."""
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(tmp_path, filter="data")
    monkeypatch.chdir(tmp_path)
    return [*json.loads(Path("overrides.json").read_text()), *DEFAULTS_THEN]


def plan(overrides):
    return study.run(Workspace(compose([*overrides, "plan=true"]), [*overrides, "plan=true"]))


def test_every_job_is_done(overrides):
    found = plan(overrides)
    assert (found["steps"], found["missing"]) == (12, 0)


@pytest.mark.parametrize("kind", ["train/*/predictions.parquet", "finetune/*/learned.json"])
def test_a_job_whose_output_is_gone_is_not(overrides, kind):
    sorted(Path("outputs").glob(kind))[0].unlink()
    assert plan(overrides)["missing"] > 0


def test_the_report_has_the_same_numbers(overrides):
    jobs = {path: path.read_bytes() for path in Path("outputs").glob("*/*/run.json")}
    result = report.run(Workspace(compose(overrides), overrides))
    tables = Path(result["results"]).parent
    added = ("baseline_value", "baseline_low", "baseline_high")
    assert cells(tables / "measures.csv", without=added) == cells(Path("expected/measures.csv"))
    names = pd.read_csv(Path("expected/results.csv"), nrows=0).columns
    changed = list(filter(OTHERWISE_COMPUTED.search, names))
    added = set(pd.read_csv(tables / "results.csv", nrows=0).columns) - set(names)
    old = cells(Path("expected/results.csv"), without=changed)
    new = cells(tables / "results.csv", without=[*changed, *added])
    assert len(old) == len(new) > 1000
    assert [pair for pair in zip(old, new, strict=True) if not same(*pair)] == []
    assert {path: path.read_bytes() for path in jobs} == jobs


def cells(path: Path, *, without: Sequence[str] = ()) -> list[str]:
    """All cells but those of columns that the code of the archive did not write."""
    rows = csv.DictReader(path.read_text().splitlines())
    kept = [name for name in rows.fieldnames or () if name not in without]
    return [*kept, *(row[name] for row in rows for name in kept)]


def same(old: str, new: str) -> bool:
    """The same text, or numbers that differ in what another processor's sums may change."""
    try:
        return old == new or math.isclose(float(old), float(new), rel_tol=1e-9, abs_tol=1e-12)
    except ValueError:
        return False


def test_numbers_that_differ_are_told():
    assert same("0.1", "0.10000000000000002")
    assert not same("0.1", "0.1001")
    assert not same("", "0.1")
    assert not same("better", "worse")
