"""The sections of a study's workspace and report: what is said of each, and its panels."""

from typing import Any

SCORE_METRIC = "test/macro_f1"
COST_AXES = {
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
CURVE_CHARTS = {
    "test/pr_table": ("wandb/area-under-curve/v0", ("recall", "precision", "class")),
    "test/calibration_table": ("wandb/line/v0", ("confidence", "accuracy", "line")),
}
"""Tables that are drawn as curves: the chart, and its x, y and lines."""


SECTION_TEXTS = {
    "Score against synthetic fraction": "Macro-F1 on the study's real test images, means over seeds "
    "with their range. Real-only training is the point at fraction 0.",
    "Hyperparameters": "Each line is a training; the last axis is its score.",
    "Quality against speed and cost": "Each point is a training, placed by what an image of its pool "
    "costs. The line is the best score at that cost or less: the Pareto front.",
    "Images": "Images by prompt, what was refused, and the nearest real training images. Without "
    "pictures where a source is under a data use agreement.",
    "Fidelity": "Measures of each pool beside real images, with the real-vs-real baseline.",
    "Curves": "Training, and how the classifier decides.",
    "Runs side by side": "What tells selected runs apart.",
}


def build_sections(wr: Any) -> dict[str, list[Any]]:
    """Panels by section, in the order of `SECTION_TEXTS`; `wr` is `wandb_workspaces.reports.v2`."""
    panels = (
        _score_panels(wr),
        [
            _hyperparameter_panel(wr),
            wr.ParameterImportancePlot(with_respect_to=SCORE_METRIC, layout=_half_width(wr)),
        ],
        _cost_panels(wr),
        _image_panels(wr),
        _fidelity_panels(wr),
        _curve_panels(wr),
        [wr.RunComparer(diff_only="split", layout=_full_width(wr))],
    )
    return dict(zip(SECTION_TEXTS, panels, strict=True))


def _score_panels(wr: Any) -> list[Any]:
    line = wr.LinePlot(
        title="Macro-F1 against synthetic fraction, by generator",
        x="share",
        y=["macro_f1"],
        title_x="synthetic fraction of the training images",
        title_y="macro-F1",
        groupby=wr.Config("arm.series"),
        groupby_aggfunc="mean",
        groupby_rangefunc="minmax",
        layout=_half_width(wr),
    )
    bars = wr.BarPlot(
        title="Macro-F1 by arm",
        metrics=[SCORE_METRIC],
        groupby=wr.Config("arm.series"),
        groupby_aggfunc="mean",
        groupby_rangefunc="minmax",
        layout=_half_width(wr),
    )
    return [line, bars]


def _hyperparameter_panel(wr: Any) -> Any:
    axes = [
        wr.ParallelCoordinatesPlotColumn(metric=wr.Config(name), display_name=name)
        for name in HYPERPARAMETERS
    ]
    score = wr.ParallelCoordinatesPlotColumn(
        metric=wr.SummaryMetric(SCORE_METRIC), display_name="macro-F1"
    )
    title = "Hyperparameters and macro-F1"
    return wr.ParallelCoordinatesPlot(title=title, columns=[*axes, score], layout=_full_width(wr))


def _cost_panels(wr: Any) -> list[Any]:
    return [
        wr.ScatterPlot(
            title=f"Macro-F1 against {title}",
            x=wr.SummaryMetric(name),
            y=wr.SummaryMetric(SCORE_METRIC),
            running_ymax=True,
            layout=_third_width(wr),
        )
        for name, title in COST_AXES.items()
    ]


def _image_panels(wr: Any) -> list[Any]:
    browser = wr.MediaBrowser(
        title="Images", media_keys=["samples"], num_columns=8, layout=_full_width(wr)
    )
    tables = [
        wr.WeavePanelSummaryTable(table_name=n, layout=_full_width(wr))
        for n in ("images", "closest")
    ]
    return [browser, *tables]


def _fidelity_panels(wr: Any) -> list[Any]:
    faithful = wr.BarPlot(
        title="Label faithfulness", metrics=["faithfulness"], layout=_half_width(wr)
    )
    tested = wr.BarPlot(
        title="Trained on real, tested on these: macro-F1",
        metrics=["tested_on/macro_f1"],
        layout=_half_width(wr),
    )
    return [
        faithful,
        tested,
        wr.WeavePanelSummaryTable(table_name="measures", layout=_full_width(wr)),
    ]


def _curve_panels(wr: Any) -> list[Any]:
    steps = [
        wr.LinePlot(title=name, x="trainer/global_step", y=[name], layout=_third_width(wr))
        for name in ("train/loss", "val/loss", "val/macro_f1")
    ]
    charts = [
        wr.CustomChart(
            query={"summaryTable": {"tableKey": table}},
            chart_name=chart,
            chart_fields=dict(zip(("x", "y", _LINE_FIELDS[chart]), names, strict=True)),
            layout=_half_width(wr),
        )
        for table, (chart, names) in CURVE_CHARTS.items()
    ]
    return [*steps, *charts]


_LINE_FIELDS = {"wandb/area-under-curve/v0": "class", "wandb/line/v0": "stroke"}
"""What charts call the field that tells lines apart."""


def _full_width(wr: Any) -> Any:
    return wr.Layout(w=24, h=12)


def _half_width(wr: Any) -> Any:
    return wr.Layout(w=12, h=10)


def _third_width(wr: Any) -> Any:
    return wr.Layout(w=8, h=8)
