"""Make a W&B workspace and a W&B report of a study.

Writes both to paths.output/studies/<study.name>/dashboard.json. With tracking=wandb it also saves them
at W&B, with the key in WANDB_API_KEY, and replaces those that it saved before. They show the runs of
the study, which may be added later. Needs the extra: pip install 'xraysynth[dashboard]'.
"""

import json
from pathlib import Path
from typing import Any

from xraysynth.config import TrackingMode
from xraysynth.files import explain_unreadable, write_atomically
from xraysynth.jobs.job import ResultLine
from xraysynth.records import from_json, to_json
from xraysynth.stages._workspace import Workspace
from xraysynth.tracking import dashboard
from xraysynth.tracking.dashboard import SavedViews

SECTIONS = ("study", "tracking", "paths")
"""The options that this stage reads."""

DASHBOARD_FILE = "dashboard.json"
SAVED_VIEWS_FILE = "dashboard.saved.json"
"""File with the W&B addresses of the saved views, so that the next upload replaces them."""


def run(workspace: Workspace) -> ResultLine:
    """Write the dashboard, and save it at W&B if tracking is online.

    Returns:
        The path of the file; with tracking online also the addresses of workspace and report.
    """
    config = workspace.config
    folder = config.output / "studies" / config.study.name
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / DASHBOARD_FILE
    _write_json(path, dashboard.specification(config))
    result = {"stage": "dashboard", "state": "done", "dashboard": str(path)}
    if config.tracking.mode is not TrackingMode.online:
        return result
    saved_path = folder / SAVED_VIEWS_FILE
    earlier_views = _read_saved_views(saved_path) if saved_path.exists() else {}
    saved_views = dashboard.save_views(config, from_json(SavedViews, earlier_views))
    _write_json(saved_path, to_json(saved_views))
    return result | {
        "workspace_url": saved_views.workspace_url,
        "report_url": saved_views.report_url,
    }


def _read_saved_views(path: Path) -> Any:
    with explain_unreadable(path, "delete it; the views are then saved at W&B once more"):
        return json.loads(path.read_text())


def _write_json(path: Path, value: Any) -> None:
    """Write indented JSON with sorted keys, so that the same dashboard gives the same bytes."""
    text = json.dumps(value, indent=1, sort_keys=True) + "\n"
    write_atomically(path, text.encode())
