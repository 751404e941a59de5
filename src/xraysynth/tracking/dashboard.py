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
from xraysynth.seeds import short_digest
from xraysynth.tracking import wandb_server
from xraysynth.tracking.panels import SCORE_METRIC, SECTION_TEXTS, build_sections
from xraysynth.tracking.runs import redirect_wandb_files


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
    workspace, report = build_views(config, entity=config.tracking.entity or "")
    found = {
        "project": config.tracking.project,
        "study": config.study.name,
        "workspace": workspace._to_model().spec.model_dump(mode="json", by_alias=True),
        "report": report._to_model().spec.model_dump(mode="json", by_alias=True),
    }
    return dict(_drop_none(_with_stable_ids(found, config.study.name)))


def save_views(config: Config, previous: SavedViews) -> SavedViews:
    """Save both at W&B, over those that are `known`.

    The key comes from WANDB_API_KEY alone.
    """
    wandb_server.require_api_key()
    redirect_wandb_files(config.output / "cache" / "wandb")
    with wandb_server.convert_wandb_errors():
        workspace, report = build_views(config, entity=wandb_server.resolve_entity(config))
        workspace._internal_id = previous.workspace_id
        workspace._internal_name = previous.workspace_name
        report.id = previous.report_id
        workspace.save()
        report.save()
        return SavedViews(
            workspace_id=workspace._internal_id,
            workspace_name=workspace._internal_name,
            workspace_url=workspace.url,
            report_id=report.id,
            report_url=report.url,
        )


def build_views(config: Config, *, entity: str) -> tuple[Any, Any]:
    """The workspace and the report of a study, not saved yet."""
    ws, wr = _import_wandb_workspaces()
    name, project = config.study.name, config.tracking.project
    panels_of = build_sections(wr)
    workspace = ws.Workspace(
        entity=entity,
        project=project,
        name=f"xraysynth {name}",
        sections=[ws.Section(name=k, panels=list(v), is_open=True) for k, v in panels_of.items()],
        runset_settings=ws.RunsetSettings(
            filters=f"Group = '{name}'",
            pinned_columns=["run:displayName", "run:jobType", f"summary:{SCORE_METRIC}"],
        ),
    )
    blocks = [wr.P(_INTRODUCTION), wr.TableOfContents()]
    for title, panels in panels_of.items():
        blocks += [wr.H1(title), wr.P(SECTION_TEXTS[title]), _panel_grid(wr, name, panels)]
    report = wr.Report(
        project=project,
        entity=entity,
        title=f"xraysynth {name}",
        description="Synthetic chest X-rays as training images, generator by generator.",
        blocks=blocks,
        width="fluid",
    )
    return workspace, report


def _panel_grid(wr: Any, study: str, panels: Sequence[Any]) -> Any:
    return wr.PanelGrid(
        runsets=[wr.Runset(name=study, filters=f"Group = '{study}'")], panels=panels
    )


def _import_wandb_workspaces() -> tuple[Any, Any]:
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
_GENERATED_ID = re.compile(r"[0-9a-z]{9,13}")
_ID_KEYS = ("__id__", "id")


def _with_stable_ids(spec: Any, study: str) -> Any:
    """The specification with ids that depend on the study and their place alone."""
    names: dict[str, str] = {}

    def collect(value: Any) -> None:
        if isinstance(value, Mapping):
            for key, item in value.items():
                if key in _ID_KEYS and isinstance(item, str) and _GENERATED_ID.fullmatch(item):
                    names.setdefault(item, short_digest([study, len(names)]))
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


def _drop_none(value: Any) -> Any:
    """Without entries that are None, as W&B leaves them out too."""
    if isinstance(value, Mapping):
        return {k: _drop_none(v) for k, v in value.items() if v is not None}
    return [_drop_none(item) for item in value] if isinstance(value, list) else value
