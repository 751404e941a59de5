"""A study's W&B workspace and report, made by code: the same views for every study.

Both show the runs of one study. What they plot is what `xraysynth.tracking` logs: `macro_f1` at
`share` in the history of every training, scores and costs in the summaries, configurations, tables
and images.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from xraysynth.config import Config
from xraysynth.errors import DataNotFoundError
from xraysynth.seeds import key12
from xraysynth.tracking import service
from xraysynth.tracking.runs import keep_below

SCORE = "test/macro_f1"
COSTS = {
    "cost/seconds_p50": "seconds per image (median)",
    "cost/cost_usd_per_image": "US dollars per image",
    "cost/energy_kwh_per_1000": "energy per 1,000 images (kWh)",
}
"""What an image costs, from the ledger of its pool: the cheapest are left."""

HYPERPARAMETERS = (
    "arm.series",
    "arm.share",
    "arm.real_fraction",
    "classifier.backbone",
    "classifier.learning_rate",
    "classifier.weight_decay",
    "data.batch_size",
    "trainer.max_steps",
    "size_px",
    "arm.seed",
)
CHARTS = {
    "test/pr_table": ("wandb/area-under-curve/v0", ("recall", "precision", "class")),
    "test/calibration_table": ("wandb/line/v0", ("confidence", "accuracy", "line")),
}
"""Tables that are drawn as curves: the chart, and its x, y and lines."""


def specification(config: Config) -> dict[str, Any]:
    """Workspace and report as W&B stores them, the same for the same study."""
    workspace, report = views(config, entity=config.tracking.entity or "")
    found = {
        "project": config.tracking.project,
        "study": config.study.name,
        "workspace": workspace._to_model().spec.model_dump(mode="json", by_alias=True),
        "report": report._to_model().spec.model_dump(mode="json", by_alias=True),
    }
    return dict(_without_nothing(_renamed(found, config.study.name)))


def save(config: Config, known: Mapping[str, str]) -> dict[str, str]:
    """Save both at W&B, over those whose ids are `known`; their ids, names and addresses.

    The key comes from WANDB_API_KEY alone.
    """
    service.require_key()
    keep_below(config.output / "cache" / "wandb")
    with service.reached():
        workspace, report = views(config, entity=service.entity(config))
        workspace._internal_id = known.get("workspace_id", "")
        workspace._internal_name = known.get("workspace_name", "")
        report.id = known.get("report_id", "")
        workspace.save()
        report.save()
        return {
            "workspace_id": workspace._internal_id,
            "workspace_name": workspace._internal_name,
            "workspace_url": workspace.url,
            "report_id": report.id,
            "report_url": report.url,
        }


def views(config: Config, *, entity: str) -> tuple[Any, Any]:
    """The workspace and the report of a study, not saved yet."""
    ws, wr = _library()
    name, project = config.study.name, config.tracking.project
    sections = _sections(wr)
    workspace = ws.Workspace(
        entity=entity,
        project=project,
        name=f"xraysynth {name}",
        sections=[ws.Section(name=k, panels=list(v), is_open=True) for k, v in sections.items()],
        runset_settings=ws.RunsetSettings(
            filters=f"Group = '{name}'",
            pinned_columns=["run:displayName", "run:jobType", f"summary:{SCORE}"],
        ),
    )
    blocks = [wr.P(_INTRODUCTION), wr.TableOfContents()]
    for title, panels in sections.items():
        blocks += [wr.H1(title), wr.P(_TEXTS[title]), _grid(wr, name, panels)]
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
_TEXTS = {
    "Score against synthetic share": "Macro-F1 on the study's real test images, means over seeds "
    "with their range. Real only is the point at share 0.",
    "Hyperparameters": "Each line is a training; the last axis is its score.",
    "Quality against speed and cost": "Each point is a training, placed by what an image of its pool "
    "costs. The line is the best score at that cost or less: the Pareto front.",
    "Images": "Images by prompt, what was refused, and the nearest real training images. Without "
    "pictures where a source is under a data use agreement.",
    "Fidelity": "Measures of each pool beside real images, with real against real as the floor.",
    "Curves": "Training, and how the classifier decides.",
    "Runs side by side": "What tells selected runs apart.",
}


def _sections(wr: Any) -> dict[str, list[Any]]:
    """Panels by section, in the order of `_TEXTS`."""
    panels = (
        _shares(wr),
        [_hyperparameters(wr), wr.ParameterImportancePlot(with_respect_to=SCORE, layout=_half(wr))],
        _costs(wr),
        _images(wr),
        _fidelity(wr),
        _curves(wr),
        [wr.RunComparer(diff_only="split", layout=_wide(wr))],
    )
    return dict(zip(_TEXTS, panels, strict=True))


def _shares(wr: Any) -> list[Any]:
    line = wr.LinePlot(
        title="Macro-F1 against synthetic share, by generator",
        x="share",
        y=["macro_f1"],
        title_x="synthetic share of the training images",
        title_y="macro-F1",
        groupby=wr.Config("arm.series"),
        groupby_aggfunc="mean",
        groupby_rangefunc="minmax",
        layout=_half(wr),
    )
    bars = wr.BarPlot(
        title="Macro-F1 by arm",
        metrics=[SCORE],
        groupby=wr.Config("arm.series"),
        groupby_aggfunc="mean",
        groupby_rangefunc="minmax",
        layout=_half(wr),
    )
    return [line, bars]


def _hyperparameters(wr: Any) -> Any:
    axes = [
        wr.ParallelCoordinatesPlotColumn(metric=wr.Config(name), display_name=name)
        for name in HYPERPARAMETERS
    ]
    score = wr.ParallelCoordinatesPlotColumn(
        metric=wr.SummaryMetric(SCORE), display_name="macro-F1"
    )
    title = "Hyperparameters and macro-F1"
    return wr.ParallelCoordinatesPlot(title=title, columns=[*axes, score], layout=_wide(wr))


def _costs(wr: Any) -> list[Any]:
    return [
        wr.ScatterPlot(
            title=f"Macro-F1 against {title}",
            x=wr.SummaryMetric(name),
            y=wr.SummaryMetric(SCORE),
            running_ymax=True,
            layout=_third(wr),
        )
        for name, title in COSTS.items()
    ]


def _images(wr: Any) -> list[Any]:
    browser = wr.MediaBrowser(
        title="Images", media_keys=["samples"], num_columns=8, layout=_wide(wr)
    )
    tables = [
        wr.WeavePanelSummaryTable(table_name=n, layout=_wide(wr)) for n in ("images", "closest")
    ]
    return [browser, *tables]


def _fidelity(wr: Any) -> list[Any]:
    faithful = wr.BarPlot(title="Label faithfulness", metrics=["faithfulness"], layout=_half(wr))
    tested = wr.BarPlot(
        title="Trained on real, tested on these: macro-F1",
        metrics=["tested_on/macro_f1"],
        layout=_half(wr),
    )
    return [faithful, tested, wr.WeavePanelSummaryTable(table_name="measures", layout=_wide(wr))]


def _curves(wr: Any) -> list[Any]:
    steps = [
        wr.LinePlot(title=name, x="trainer/global_step", y=[name], layout=_third(wr))
        for name in ("train/loss", "val/loss", "val/macro_f1")
    ]
    charts = [
        wr.CustomChart(
            query={"summaryTable": {"tableKey": table}},
            chart_name=chart,
            chart_fields=dict(zip(("x", "y", _LINES[chart]), names, strict=True)),
            layout=_half(wr),
        )
        for table, (chart, names) in CHARTS.items()
    ]
    return [*steps, *charts]


_LINES = {"wandb/area-under-curve/v0": "class", "wandb/line/v0": "stroke"}
"""What charts call the field that tells lines apart."""


def _wide(wr: Any) -> Any:
    return wr.Layout(w=24, h=12)


def _half(wr: Any) -> Any:
    return wr.Layout(w=12, h=10)


def _third(wr: Any) -> Any:
    return wr.Layout(w=8, h=8)


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
