"""A study's W&B workspace and report, made by code: the same views for every study.

Both show the runs of one study. What they plot is what `xraysynth.tracking` logs: `macro_f1` at
`share` in the history of every training, scores and costs in the summaries, configurations, tables
and images.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from xraysynth.config import Config
from xraysynth.errors import DataNotFoundError
from xraysynth.records import JsonObject
from xraysynth.seeds import key12
from xraysynth.tracking import wandb_server
from xraysynth.tracking.panels import SCORE, TEXTS, sections
from xraysynth.tracking.runs import keep_below


@dataclass(frozen=True)
class SavedViews:
    """Ids, names and addresses of the workspace and the report at W&B; empty where not saved yet."""

    workspace_id: str = ""
    workspace_name: str = ""
    workspace_url: str = ""
    report_id: str = ""
    report_url: str = ""


def specification(config: Config) -> JsonObject:
    """Workspace and report as W&B stores them, the same for the same study."""
    workspace, report = views(config, entity=config.tracking.entity or "")
    found = {
        "project": config.tracking.project,
        "study": config.study.name,
        "workspace": workspace._to_model().spec.model_dump(mode="json", by_alias=True),
        "report": report._to_model().spec.model_dump(mode="json", by_alias=True),
    }
    return dict(_without_nothing(_renamed(found, config.study.name)))


def save(config: Config, known: SavedViews) -> SavedViews:
    """Save both at W&B, over those that are `known`.

    The key comes from WANDB_API_KEY alone.
    """
    wandb_server.require_key()
    keep_below(config.output / "cache" / "wandb")
    with wandb_server.reached():
        workspace, report = views(config, entity=wandb_server.entity(config))
        workspace._internal_id = known.workspace_id
        workspace._internal_name = known.workspace_name
        report.id = known.report_id
        workspace.save()
        report.save()
        return SavedViews(
            workspace_id=workspace._internal_id,
            workspace_name=workspace._internal_name,
            workspace_url=workspace.url,
            report_id=report.id,
            report_url=report.url,
        )


def views(config: Config, *, entity: str) -> tuple[Any, Any]:
    """The workspace and the report of a study, not saved yet."""
    ws, wr = _library()
    name, project = config.study.name, config.tracking.project
    panels_of = sections(wr)
    workspace = ws.Workspace(
        entity=entity,
        project=project,
        name=f"xraysynth {name}",
        sections=[ws.Section(name=k, panels=list(v), is_open=True) for k, v in panels_of.items()],
        runset_settings=ws.RunsetSettings(
            filters=f"Group = '{name}'",
            pinned_columns=["run:displayName", "run:jobType", f"summary:{SCORE}"],
        ),
    )
    blocks = [wr.P(_INTRODUCTION), wr.TableOfContents()]
    for title, panels in panels_of.items():
        blocks += [wr.H1(title), wr.P(TEXTS[title]), _grid(wr, name, panels)]
    report = wr.Report(
        project=project,
        entity=entity,
        title=f"xraysynth {name}",
        description="Synthetic chest X-rays as training images, generator by generator.",
        blocks=blocks,
        width="fluid",
    )
    return workspace, report


def _grid(wr: Any, study: str, panels: Sequence[Any]) -> Any:
    return wr.PanelGrid(
        runsets=[wr.Runset(name=study, filters=f"Group = '{study}'")], panels=panels
    )


def _library() -> tuple[Any, Any]:
    try:
        import wandb_workspaces.reports.v2 as wr
        import wandb_workspaces.workspaces as ws
    except ImportError as error:
        raise DataNotFoundError(
            "the dashboard is made with wandb-workspaces, which is not installed; install it by "
            "pip install 'xraysynth[dashboard]'"
        ) from error
    return ws, wr


_INTRODUCTION = (
    "Every point is a job of the study. Intervals are in the summaries, as <score>/low and "
    "<score>/high; the study's own report, an HTML page, tests arms against each other."
)
_GIVEN = re.compile(r"[0-9a-z]{9,13}")
_IDS = ("__id__", "id")


def _renamed(spec: Any, study: str) -> Any:
    """The specification with ids that depend on the study and their place alone."""
    names: dict[str, str] = {}

    def collect(value: Any) -> None:
        if isinstance(value, Mapping):
            for key, item in value.items():
                if key in _IDS and isinstance(item, str) and _GIVEN.fullmatch(item):
                    names.setdefault(item, key12([study, len(names)]))
        for item in value.values() if isinstance(value, Mapping) else value:
            if isinstance(item, Mapping | list):
                collect(item)

    def rename(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {key: rename(item) for key, item in value.items()}
        if isinstance(value, list):
            return [rename(item) for item in value]
        return names.get(value, value) if isinstance(value, str) else value

    collect(spec)
    return rename(spec)


def _without_nothing(value: Any) -> Any:
    """Without entries that are None, as W&B leaves them out too."""
    if isinstance(value, Mapping):
        return {k: _without_nothing(v) for k, v in value.items() if v is not None}
    return [_without_nothing(item) for item in value] if isinstance(value, list) else value
