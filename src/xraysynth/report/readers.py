"""Sentences and figures of a blinded reading: how readers answered about a study's images."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from xraysynth.evaluation.reader_study.reading import Reading
from xraysynth.evaluation.reader_study.results import REAL, ReadingResult
from xraysynth.evaluation.reader_study.sample_size import smallest_plan
from xraysynth.report import arm_styles, drawing
from xraysynth.report.formatting import MINUS, UNKNOWN_TEXT, format_percent, is_finite
from xraysynth.report.verdicts import SIGNIFICANT

ALL_SYNTHETIC = ""
"""The group of all synthetic images together; other groups are `REAL` or a generator's name."""

DETECTION_METRICS = {
    "accuracy": "accuracy",
    "sensitivity": "sensitivity",
    "specificity": "specificity",
    "d_prime": "d′",
    "criterion": "criterion",
    "auc": "AUC",
}
"""Titles of the metrics of how well readers tell synthetic from real images."""

ERROR_KINDS = {
    "errors": "any",
    "errors_omission": "omission",
    "errors_commission": "commission",
    "errors_subtle": "subtle discrepancy",
    "errors_artefact": "artefact",
}
"""Titles of the kinds of marked errors; the first is all kinds together."""

SCORE_TITLES = {"quality": "image quality", "realism": "realism"}
QUESTIONS = {"origin": "real or synthetic", "diagnosis": "diagnosis", **SCORE_TITLES}

AGREEMENT_TITLES = {
    "fleiss_kappa": "Fleiss’ κ",
    "weighted_kappa": "weighted κ",
    "alpha": "Krippendorff’s α",
    "same_again": "same answer again",
    "kappa_again": "κ with own first answer",
}
"""Titles of the measures of agreement."""


def group_title(group: str) -> str:
    """Returns what a group of images is called in tables and figures."""
    return {REAL: "real images", ALL_SYNTHETIC: "all synthetic"}.get(group, group)


def result_title(name: str) -> str:
    """Returns what a result is called in notes.

    >>> result_title("fleiss_kappa_origin"), result_title("errors_omission")
    ('Fleiss’ κ on real or synthetic', 'errors (omission)')
    """
    if name in ERROR_KINDS:
        return f"errors ({ERROR_KINDS[name]})"
    for measure, title in AGREEMENT_TITLES.items():
        question = name.removeprefix(f"{measure}_")
        if question in QUESTIONS:
            return f"{title} on {QUESTIONS[question]}"
    return name.replace("_", " ")


def summary_sentences(reading: Reading) -> list[tuple[str, str]]:
    """Returns a headline and the numbers behind it for each generator.

    Generators without a result on real or synthetic are left out.
    """
    sentences = []
    real = reading.get("called_real", REAL)
    for generator in reading.generators:
        synthetic = reading.get("called_real", generator)
        difference = reading.get("called_real_difference", generator)
        if synthetic and difference and real:
            numbers = (
                f"Readers called {_format_share(synthetic)} of its images real, and "
                f"{_format_share(real)} of the real images: a difference of "
                f"{format_percentage_points(difference)}{_format_adjusted_p(difference)}."
            )
            sentences.append((_headline(generator, difference), numbers))
    return sentences


def _headline(generator: str, difference: ReadingResult) -> str:
    """Returns the verdict on a generator's images minus real images in percentage called real."""
    if not is_finite(difference.low):
        return f"{generator}: the answers do not allow an interval"
    is_significant = not is_finite(difference.p_holm) or difference.p_holm < SIGNIFICANT
    if is_significant and difference.high < 0:
        return f"{generator}: readers tell its images from real ones"
    if is_significant and difference.low > 0:
        return f"{generator}: readers call its images real more often than real ones"
    return f"{generator}: no difference shown between its images and real ones"


def _format_share(result: ReadingResult) -> str:
    """Returns a fraction as a percentage with its interval, where it has one."""
    value = format_percent(result.value)
    if not is_finite(result.low):
        return value
    return f"{value} [{format_percent(result.low)}, {format_percent(result.high)}]"


def format_percentage_points(result: ReadingResult) -> str:
    """Returns a difference of fractions in percentage points with its interval: "−12 points [−20, −4]"."""
    value = format_points(result.value)
    if not is_finite(result.low):
        return f"{value} points"
    return f"{value} points [{format_points(result.low)}, {format_points(result.high)}]"


def format_points(value: float) -> str:
    """Returns a difference of fractions in whole percentage points, with its sign."""
    if not is_finite(value):
        return UNKNOWN_TEXT
    points = round(100 * float(value))
    return f"{points:+d}".replace("-", MINUS) if points else "0"


def _format_adjusted_p(result: ReadingResult) -> str:
    """Returns the adjusted p-value in brackets; empty where there is none."""
    if not is_finite(result.p_holm):
        return ""
    return f" ({format_p_value(result.p_holm)}, adjusted over generators)"


def format_p_value(p: Any) -> str:
    """Returns a p-value as text: "p = 0.012" or "p < 0.001"; a dash if it is not known."""
    if not is_finite(p):
        return UNKNOWN_TEXT
    return "p < 0.001" if float(p) < 0.001 else f"p = {float(p):.3f}"


def geometric_mean_seconds(result: ReadingResult | None) -> ReadingResult | None:
    """Returns a mean logarithm of seconds as a geometric mean in seconds."""
    if result is None:
        return None
    value, low, high = np.exp([result.value, result.low, result.high]).tolist()
    return replace(result, value=value, low=low, high=high)


def collect_notes(reading: Reading) -> list[tuple[str, list[str]]]:
    """Returns each note on results of all classes together, with the results that it belongs to."""
    results_by_note: dict[str, list[str]] = {}
    for row in reading.results[reading.results["class"] == ""].itertuples():
        if not row.note:
            continue
        title = result_title(str(row.name if "name" in row._fields else ""))
        if row.generator:
            title += f" of {group_title(str(row.generator))}"
        results_by_note.setdefault(str(row.note), []).append(title)
    return list(results_by_note.items())


def draw_forest_plot(reading: Reading, generators: Sequence[str] = ()) -> str:
    """Returns the percentage of images called real, real images first, each with its interval, as SVG.

    Args:
        reading: The reading.
        generators: All generators of the page, whose order gives their colours.
    """
    order = list(dict.fromkeys([*generators, *reading.generators]))
    rows = []
    for group in (REAL, *reading.generators):
        result = reading.get("called_real", group)
        if result:
            rows.append((group, result))
    figure, axes = drawing.create_canvas(
        height=0.7 + 0.5 * len(rows), left=0.03, bottom=0.6, top=0.1
    )
    for y, (group, result) in enumerate(reversed(rows)):
        colour = drawing.INK if group == REAL else arm_styles.generator_colour(group, order)
        _draw_group(axes, y, group, result, colour)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.set_ylim(-0.5, len(rows) - 0.2)
    axes.set_xlim(-0.02, 1.02)
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0%", "25%", "50%", "75%", "100%"])
    axes.set_xlabel("images called real")
    label = "percentage of images called real, with 95% intervals"
    return drawing.render_svg(figure, f"reading-{reading.name}", label)


def _draw_group(axes: Any, y: int, group: str, result: ReadingResult, colour: str) -> None:
    """Draws one group's percentage with its interval and, above it, the group's name."""
    if is_finite(result.low):
        axes.plot([result.low, result.high], [y, y], color=colour, linewidth=2.2)
    axes.plot([result.value], [y], "o", color=colour, markersize=7)
    left_edge = axes.get_yaxis_transform()
    box = {"fc": drawing.BACKGROUND, "ec": "none", "pad": 0.6}
    style = drawing.TEXT_STYLE
    axes.text(0, y + 0.27, group_title(group), transform=left_edge, bbox=box, **style)


def design_advice(reading: Reading, half_width: float = 0.05) -> list[str]:
    """Returns the smallest design per generator that measures the images called real precisely enough.

    Args:
        reading: The reading, with the designs that were computed from its variances.
        half_width: Largest half-width of the 95 % interval, as a fraction of images.
    """
    sentences = []
    for generator, measures in reading.plans.items():
        plans = measures.get("called_real", ())
        smallest = smallest_plan(plans, half_width)
        if smallest:
            sentence = (
                f"{smallest.readers} readers and {smallest.images} of its images measure the percentage "
                f"of images called real to within ±{half_width:.0%} (expected ±{smallest.half_width:.1%})."
            )
        elif plans:
            largest = max(plans, key=lambda plan: (plan.readers, plan.images))
            sentence = (
                f"even {largest.readers} readers and {largest.images} of its images would not "
                f"measure the percentage of images called real to within ±{half_width:.0%}."
            )
        else:
            sentence = "the answers have no variance to plan the next reading with."
        sentences.append(f"{generator}: {sentence}")
    return sentences
