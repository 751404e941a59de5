"""A study's W&B workspace and W&B report, made by code: the same views for every study.

Both show the runs of one study. They plot what `xraysynth.tracking` logs: `macro_f1` at `share` (the
synthetic fraction) in the history of every training, scores and costs in the summaries,
configurations, tables and images.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from xraysynth.config import Config
from xraysynth.errors import DataNotFoundError
from xraysynth.records import JsonObject
from xraysynth.seeds import short_digest
from xraysynth.tracking import wandb_server
from xraysynth.tracking.panels import SCORE_METRIC, SECTION_TEXTS, build_sections
from xraysynth.tracking.runs import redirect_wandb_files, require_encrypted_server


@dataclass(frozen=True)
class SavedViews:
    """Ids, names and addresses of the workspace and the report at W&B; "" until they are saved."""

    workspace_id: str = ""
    workspace_name: str = ""
    workspace_url: str = ""
    report_id: str = ""
    report_url: str = ""


def specification(config: Config) -> JsonObject:
    """Returns workspace and report as W&B stores them; equal for equal studies."""
    workspace, report = build_views(config, entity=config.tracking.entity or "")
    views = {
        "project": config.tracking.project,
        "study": config.study.name,
        "workspace": workspace._to_model().spec.model_dump(mode="json", by_alias=True),
        "report": report._to_model().spec.model_dump(mode="json", by_alias=True),
    }
    return dict(_drop_none(_with_stable_ids(views, config.study.name)))


def save_views(config: Config, previous: SavedViews) -> SavedViews:
    """Saves workspace and report at W&B.

    Args:
        config: The configuration of the study.
        previous: Views saved before, which are overwritten.

    Returns:
        The saved views, to pass as `previous` the next time.

    Raises:
        ConfigError: WANDB_API_KEY is not set, or WANDB_BASE_URL is plain http.
        XraysynthError: W&B refuses to save them, or does not answer.
    """
    wandb_server.require_api_key()
    require_encrypted_server()
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
    """Returns the workspace and the report of a study, not saved yet, in the account `entity`."""
    ws, wr = _import_wandb_workspaces()
    name, project = config.study.name, config.tracking.project
    sections = []
    blocks = [wr.P(_INTRODUCTION), wr.TableOfContents()]
    for title, panels in build_sections(wr).items():
        sections.append(ws.Section(name=title, panels=list(panels), is_open=True))
        blocks += [wr.H1(title), wr.P(SECTION_TEXTS[title]), _panel_grid(wr, name, panels)]
    workspace = ws.Workspace(
        entity=entity,
        project=project,
        name=f"xraysynth {name}",
        sections=sections,
        runset_settings=ws.RunsetSettings(
            filters=f"Group = '{name}'",
            pinned_columns=["run:displayName", "run:jobType", f"summary:{SCORE_METRIC}"],
        ),
    )
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
            "the dashboard needs wandb-workspaces, which is not installed; run "
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
    """Replaces the random ids of W&B by ids that depend on the study and their position only."""
    stable_ids: dict[str, str] = {}
    for generated_id in _iter_generated_ids(spec):
        stable_ids.setdefault(generated_id, short_digest([study, len(stable_ids)]))
    return _replace_ids(spec, stable_ids)


def _iter_generated_ids(value: Any) -> Iterator[str]:
    """Yields the ids in nested JSON; those of an object come before those inside it."""
    children = value
    if isinstance(value, Mapping):
        children = value.values()
        for key, item in value.items():
            if key in _ID_KEYS and isinstance(item, str) and _GENERATED_ID.fullmatch(item):
                yield item
    for child in children:
        if isinstance(child, Mapping | list):
            yield from _iter_generated_ids(child)


def _replace_ids(value: Any, stable_ids: Mapping[str, str]) -> Any:
    if isinstance(value, Mapping):
        return {key: _replace_ids(item, stable_ids) for key, item in value.items()}
    if isinstance(value, list):
        return [_replace_ids(item, stable_ids) for item in value]
    return stable_ids.get(value, value) if isinstance(value, str) else value


def _drop_none(value: Any) -> Any:
    """Drops entries of objects that are None, as W&B does when it stores them."""
    if isinstance(value, list):
        return list(map(_drop_none, value))
    if not isinstance(value, Mapping):
        return value
    entries = {}
    for key, item in value.items():
        if item is not None:
            entries[key] = _drop_none(item)
    return entries
