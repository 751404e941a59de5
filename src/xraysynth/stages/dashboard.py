"""A W&B workspace and a report of a study, made by code.

Writes both to paths.output/studies/<study.name>/dashboard.json; with tracking=wandb it saves them at
W&B as well, with the key in WANDB_API_KEY, and over the ones it saved before. They show the runs of
the study, which need not be there yet. Needs the extra: pip install 'xraysynth[dashboard]'.
"""

import json
from pathlib import Path
from typing import Any

from xraysynth.config import TrackingMode
from xraysynth.files import write_atomically
from xraysynth.jobs.job import ResultLine
from xraysynth.records import from_json, to_json
from xraysynth.stages._workspace import Workspace
from xraysynth.tracking import dashboard
from xraysynth.tracking.dashboard import SavedViews

SECTIONS = ("study", "tracking", "paths")
"""The options that this stage reads."""

DASHBOARD_FILE, SAVED_VIEWS_FILE = "dashboard.json", "dashboard.saved.json"


def run(workspace: Workspace) -> ResultLine:
    """Write the dashboard, and save it at W&B where tracking is online."""
    config = workspace.config
    folder = config.output / "studies" / config.study.name
    folder.mkdir(parents=True, exist_ok=True)
    _write_json(folder / DASHBOARD_FILE, dashboard.specification(config))
    result = {"stage": "dashboard", "state": "done", "dashboard": str(folder / DASHBOARD_FILE)}
    if config.tracking.mode is not TrackingMode.online:
        return result
    known = (
        json.loads((folder / SAVED_VIEWS_FILE).read_text())
        if (folder / SAVED_VIEWS_FILE).exists()
        else {}
    )
    saved = dashboard.save_views(config, from_json(SavedViews, known))
    _write_json(folder / SAVED_VIEWS_FILE, to_json(saved))
    return result | {"workspace_url": saved.workspace_url, "report_url": saved.report_url}


def _write_json(path: Path, value: Any) -> None:
    write_atomically(path, (json.dumps(value, indent=1, sort_keys=True) + "\n").encode())
