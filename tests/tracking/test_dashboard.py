"""The W&B workspace and report of a study: the same by code, on disk and at the server."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from wandb_recorder import Recorder, environment, logged

from xraysynth import compose
from xraysynth.errors import ConfigError, DataNotFoundError
from xraysynth.stages import Workspace
from xraysynth.stages import dashboard as stage
from xraysynth.tracking import dashboard, panels

GOLDEN = Path(__file__).parent / "golden" / "dashboard.json"
pytest.importorskip("wandb_workspaces", reason="the extra dashboard is not installed")


def sections(spec: dict) -> dict[str, list[dict]]:
    found = spec["workspace"]["section"]["panelBankConfig"]["sections"]
    return {section["name"]: section["panels"] for section in found}


def test_the_specification_is_the_golden_one(tmp_path):
    """To renew it: xraysynth dashboard paths.output=D, and copy D/studies/study/dashboard.json."""
    result = stage.run(Workspace(compose([f"paths.output={tmp_path}"]), []))
    assert Path(result["dashboard"]).read_text() == GOLDEN.read_text()


def test_it_has_every_comparison():
    panels = sections(dashboard.specification(compose(["study.name=mine"])))
    kinds = {panel["viewType"] for found in panels.values() for panel in found}
    assert kinds >= {
        *("Run History Line Plot", "Parallel Coordinates Plot", "Scatter Plot"),
        *("Run Comparer", "Media Browser"),
    }
    (line,) = [p for p in panels["Score against synthetic fraction"] if "xAxis" in p["config"]]
    assert (line["config"]["xAxis"], line["config"]["groupBy"]) == ("share", "arm.value.series")
    costs = panels["Quality against speed and cost"]
    assert all(panel["config"]["showMaxYAxisLine"] for panel in costs)


def test_it_shows_the_runs_of_one_study_alone():
    specs = [dashboard.specification(compose([f"study.name={name}"])) for name in ("one", "two")]
    for name, spec in zip(("one", "two"), specs, strict=True):
        (runset,) = spec["workspace"]["section"]["runSets"]
        assert [(f["key"]["name"], f["value"]) for f in runset["filters"]["filters"]] == [
            ("group", name)
        ]
    ids = [set(_ids(spec)) for spec in specs]
    assert len(ids[0]) > 10
    assert not ids[0] & ids[1]


def _ids(value):
    if isinstance(value, dict):
        yield from (v for k, v in value.items() if k == "__id__")
    for item in value.values() if isinstance(value, dict) else value:
        if isinstance(item, dict | list):
            yield from _ids(item)


def test_what_it_plots_is_what_the_runs_of_a_study_hold(finished):
    folder, _, _ = finished
    text = "".join(map(logged, (folder / "outputs").glob("*/*/wandb/offline-run-*")))
    config = {}
    for line in text.splitlines():
        config |= json.loads(line).get("run", {}).get("config", {}).get("update", {})
    for name in panels.HYPERPARAMETERS:
        first, _, second = name.partition(".")
        assert second in config[first] if second else first in config, name
    plotted = [panels.SCORE_METRIC, "share", "macro_f1", "faithfulness", "tested_on/macro_f1"]
    plotted += ["samples", "images", "closest", "measures", *panels.CURVE_CHARTS]
    unknown_here = ("energy", "usd")  # known with codecarbon, and of services that are paid
    plotted += [name for name in panels.COST_AXES if not any(u in name for u in unknown_here)]
    assert [name for name in plotted if f'"{name}' not in text] == []


TWICE = """
import json, sys
from xraysynth import compose
from xraysynth.stages import dashboard
from xraysynth.stages._workspace import Workspace
config = compose(sys.argv[1:])
print(json.dumps([dashboard.run(Workspace(config, [])) for _ in range(2)]))
"""


def test_online_it_is_saved_and_then_saved_over(tmp_path):
    options = ["tracking=wandb", f"paths.output={tmp_path / 'outputs'}"]
    with Recorder() as server:
        done = subprocess.run(
            [sys.executable, "-c", TWICE, *options],
            capture_output=True,
            text=True,
            env=environment(server.url, tmp_path),
        )
    assert done.returncode == 0, done.stderr
    first, again = json.loads(done.stdout)
    assert first == again
    assert first["workspace_url"].startswith(server.url)
    workspace, report = server.views
    assert (workspace["type"], report["type"]) == ("project-view", "runs")
    assert {view["entityName"] for view in server.views} == {"someone"}
    written = json.loads(Path(first["dashboard"]).read_text())
    for view, name in ((workspace, "workspace"), (report, "report")):
        assert _shape(json.loads(view["spec"])) == _shape(written[name])
    assert not list(tmp_path.glob(".*"))  # nothing in the home folder


def _shape(value):
    """A specification without its ids, which W&B's package draws."""
    if isinstance(value, dict):
        return {k: _shape(v) for k, v in value.items() if k not in ("id", "__id__")}
    return [_shape(item) for item in value] if isinstance(value, list) else value


def test_saving_needs_a_key_from_the_environment(tmp_path, monkeypatch):
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    config = compose([f"paths.output={tmp_path}", "tracking=wandb"])
    with pytest.raises(ConfigError, match="WANDB_API_KEY"):
        stage.run(Workspace(config, []))
    assert (tmp_path / "studies" / "study" / "dashboard.json").exists()


def test_without_the_extra_it_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb_workspaces.reports.v2", None)
    with pytest.raises(DataNotFoundError, match=r"xraysynth\[dashboard\]"):
        stage.run(Workspace(compose([f"paths.output={tmp_path}"]), []))
