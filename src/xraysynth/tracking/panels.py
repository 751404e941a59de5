"""The sections of a study's W&B workspace and report: their texts and their panels."""

from typing import Any

SCORE_METRIC = "test/macro_f1"
"""Summary entry that arms are compared by."""

COST_AXES = {
    "cost/seconds_p50": "seconds per image (median)",
    "cost/cost_usd_per_image": "US dollars per image",
    "cost/energy_kwh_per_1000": "energy per 1,000 images (kWh)",
}
"""Titles of the cost axes, by entry of the summary; the ledger of a pool gives the values."""

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
"""Options of a run that the hyperparameter panels show."""

CURVE_CHARTS = {
    "test/pr_table": ("wandb/area-under-curve/v0", ("recall", "precision", "class")),
    "test/calibration_table": ("wandb/line/v0", ("confidence", "accuracy", "line")),
}
"""By table, the chart that draws it as curves, and the columns of x, y and the lines."""

_LINE_FIELDS = {"wandb/area-under-curve/v0": "class", "wandb/line/v0": "stroke"}
"""By chart, its name for the field that distinguishes lines."""

SECTION_TEXTS = {
    "Score against synthetic fraction": "Macro-F1 on the study's real test images, means over seeds "
    "with their range. Real-only training is the point at fraction 0.",
    "Verdicts": "What the study's report says of each arm against real only and its controls. Where no "
    "difference is shown, the one in the column detectable would have been found with a probability of 80 %.",
    "Hyperparameters": "Each line is one training; the last axis is its score.",
    "Quality against speed and cost": "Each point is one training, placed by the cost of an image of "
    "its pool. The line is the best score at that cost or less: the Pareto front.",
    "Images": "Synthetic images with their prompts, refusals, and the nearest real training images. "
    "No image is shown where a source is under a data use agreement.",
    "Fidelity": "Measures of each pool beside real images, with the real-vs-real baseline.",
    "Curves": "Training curves, and the classifier on the test images.",
    "Runs side by side": "How selected runs differ.",
}
"""Text of each section, by its title."""


def build_sections(wr: Any) -> dict[str, list[Any]]:
    """Returns the panels of each section, by title, in the order of `SECTION_TEXTS`.

    Args:
        wr: The module `wandb_workspaces.reports.v2`.
    """
    panels = (
        _score_panels(wr),
        [wr.WeavePanelSummaryTable(table_name="verdicts", layout=_full_width(wr))],
        _hyperparameter_panels(wr),
        _cost_panels(wr),
        _image_panels(wr),
        _fidelity_panels(wr),
        _curve_panels(wr),
        [wr.RunComparer(diff_only="split", layout=_full_width(wr))],
    )
    return dict(zip(SECTION_TEXTS, panels, strict=True))


def _score_panels(wr: Any) -> list[Any]:
    """Macro-F1 against synthetic fraction, one line per series, and macro-F1 of each arm."""
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


def _hyperparameter_panels(wr: Any) -> list[Any]:
    """Parallel coordinates that end in macro-F1, and the importance of each hyperparameter."""
    axes = []
    for name in HYPERPARAMETERS:
        axes.append(wr.ParallelCoordinatesPlotColumn(metric=wr.Config(name), display_name=name))
    score = wr.SummaryMetric(SCORE_METRIC)
    axes.append(wr.ParallelCoordinatesPlotColumn(metric=score, display_name="macro-F1"))
    coordinates = wr.ParallelCoordinatesPlot(
        title="Hyperparameters and macro-F1", columns=axes, layout=_full_width(wr)
    )
    importance = wr.ParameterImportancePlot(with_respect_to=SCORE_METRIC, layout=_half_width(wr))
    return [coordinates, importance]


def _cost_panels(wr: Any) -> list[Any]:
    """Macro-F1 against each cost, with the Pareto front as running maximum."""
    panels = []
    for name, title in COST_AXES.items():
        panel = wr.ScatterPlot(
            title=f"Macro-F1 against {title}",
            x=wr.SummaryMetric(name),
            y=wr.SummaryMetric(SCORE_METRIC),
            running_ymax=True,
            layout=_third_width(wr),
        )
        panels.append(panel)
    return panels


def _image_panels(wr: Any) -> list[Any]:
    """Sample images, the table of requests, and the closest pairs to training images."""
    browser = wr.MediaBrowser(
        title="Images", media_keys=["samples"], num_columns=8, layout=_full_width(wr)
    )
    images = wr.WeavePanelSummaryTable(table_name="images", layout=_full_width(wr))
    closest = wr.WeavePanelSummaryTable(table_name="closest", layout=_full_width(wr))
    return [browser, images, closest]


def _fidelity_panels(wr: Any) -> list[Any]:
    """Label fidelity of each pool, macro-F1 on it, and the table of measures."""
    label_fidelity = wr.BarPlot(
        title="Label fidelity", metrics=["faithfulness"], layout=_half_width(wr)
    )
    tested_on_pool = wr.BarPlot(
        title="Trained on real images, tested on the pool: macro-F1",
        metrics=["tested_on/macro_f1"],
        layout=_half_width(wr),
    )
    measures = wr.WeavePanelSummaryTable(table_name="measures", layout=_full_width(wr))
    return [label_fidelity, tested_on_pool, measures]


def _curve_panels(wr: Any) -> list[Any]:
    """Curves of training by step, and precision-recall and calibration curves on the test images."""
    panels = []
    for name in ("train/loss", "val/loss", "val/macro_f1"):
        panels.append(
            wr.LinePlot(title=name, x="trainer/global_step", y=[name], layout=_third_width(wr))
        )
    for table, (chart, (x, y, lines)) in CURVE_CHARTS.items():
        panel = wr.CustomChart(
            query={"summaryTable": {"tableKey": table}},
            chart_name=chart,
            chart_fields={"x": x, "y": y, _LINE_FIELDS[chart]: lines},
            layout=_half_width(wr),
        )
        panels.append(panel)
    return panels


def _full_width(wr: Any) -> Any:
    return wr.Layout(w=24, h=12)


def _half_width(wr: Any) -> Any:
    return wr.Layout(w=12, h=10)


def _third_width(wr: Any) -> Any:
    return wr.Layout(w=8, h=8)
