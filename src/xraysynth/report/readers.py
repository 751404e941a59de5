"""Pages of a blinded reading: what readers said of a study's images."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from xraysynth.evaluation.reader_study.reading import Reading
from xraysynth.evaluation.reader_study.results import REAL, ReadingResult
from xraysynth.evaluation.reader_study.sample_size import smallest_plan
from xraysynth.report import arm_styles, drawing
from xraysynth.report.formatting import MINUS, format_percent, is_finite
from xraysynth.report.verdicts import SIGNIFICANT

ALL_SYNTHETIC = ""
DETECTION_METRICS = {
    "accuracy": "accuracy",
    "sensitivity": "sensitivity",
    "specificity": "specificity",
    "d_prime": "d′",
    "criterion": "criterion",
    "auc": "AUC",
}
ERROR_KINDS = {
    "errors": "any",
    "errors_omission": "omission",
    "errors_commission": "commission",
    "errors_subtle": "subtle discrepancy",
    "errors_artefact": "artefact",
}
SCORE_TITLES = {"quality": "image quality", "realism": "realism"}
QUESTIONS = {"origin": "real or synthetic", "diagnosis": "diagnosis", **SCORE_TITLES}
AGREEMENT = {
    "fleiss_kappa": "Fleiss’ κ",
    "weighted_kappa": "weighted κ",
    "alpha": "Krippendorff’s α",
    "same_again": "same answer again",
    "kappa_again": "κ with own first answer",
}


def group_title(generator: str) -> str:
    """What a row of images is called."""
    return {REAL: "real images", ALL_SYNTHETIC: "all synthetic"}.get(generator, generator)


def summary_sentences(reading: Reading) -> list[tuple[str, str]]:
    """What each generator's images were taken for: a headline and the numbers behind it."""
    found = []
    real = reading.get("called_real", REAL)
    for generator in reading.generators:
        fooled = reading.get("called_real", generator)
        apart = reading.get("called_real_difference", generator)
        if fooled and apart and real:
            numbers = (
                f"Readers called {_format_share(fooled)} of its images real, and "
                f"{_format_share(real)} of the real images: a "
                f"difference of {format_percentage_points(apart)}{_format_adjusted_p(apart)}."
            )
            found.append((_headline(generator, apart), numbers))
    return found


def _headline(generator: str, difference: ReadingResult) -> str:
    low, high, p_holm = difference.low, difference.high, difference.p_holm
    if not is_finite(low):
        return f"{generator}: the answers do not allow an interval"
    if is_finite(p_holm) and not p_holm < SIGNIFICANT:
        return f"{generator}: no difference shown between its images and real ones"
    if high < 0:
        return f"{generator}: readers tell its images from real ones"
    if low > 0:
        return f"{generator}: readers call its images real more often than real ones"
    return f"{generator}: no difference shown between its images and real ones"


def _format_share(result: ReadingResult) -> str:
    if not is_finite(result.low):
        return format_percent(result.value)
    return f"{format_percent(result.value)} [{format_percent(result.low)}, {format_percent(result.high)}]"


def format_percentage_points(result: ReadingResult) -> str:
    """A difference of shares in percentage points, with its interval."""
    value, low, high = (format_points(end) for end in (result.value, result.low, result.high))
    return f"{value} points [{low}, {high}]" if is_finite(result.low) else f"{value} points"


def format_points(value: float) -> str:
    """A difference of shares in percentage points, with its sign."""
    if not is_finite(value):
        return "–"
    whole = round(100 * float(value))
    return f"{whole:+d}".replace("-", MINUS) if whole else "0"


def _format_adjusted_p(result: ReadingResult) -> str:
    if not is_finite(result.p_holm):
        return ""
    return f" ({format_p_value(result.p_holm)}, adjusted over generators)"


def format_p_value(p: Any) -> str:
    """A p-value as text."""
    if not is_finite(p):
        return "–"
    return "p < 0.001" if float(p) < 0.001 else f"p = {float(p):.3f}"


def geometric_mean_seconds(result: ReadingResult | None) -> ReadingResult | None:
    """A mean logarithm of seconds as a geometric mean."""
    if result is None:
        return None
    value, low, high = np.exp([result.value, result.low, result.high]).tolist()
    return replace(result, value=value, low=low, high=high)


def collect_notes(reading: Reading) -> list[tuple[str, list[str]]]:
    """What qualifies results of all classes: the note and the results it belongs to."""
    found: dict[str, list[str]] = {}
    for row in reading.results[reading.results["class"] == ""].itertuples():
        if row.note:
            name = str(row.name if "name" in row._fields else "").replace("_", " ")
            who = f" ({group_title(str(row.generator))})" if row.generator else ""
            found.setdefault(str(row.note), []).append(f"{name}{who}")
    return list(found.items())


def draw_forest_plot(reading: Reading, generators: Sequence[str] = ()) -> str:
    """The share of images called real, real ones first, each with its interval, as SVG.

    Colours are those of a page with these `generators`.
    """
    groups = [REAL, *reading.generators]
    rows = [(group_title(g), row) for g in groups if (row := reading.get("called_real", g))]
    figure, axes = drawing.create_canvas(
        height=0.7 + 0.5 * len(rows), left=0.03, bottom=0.6, top=0.1
    )
    order = list(dict.fromkeys([*generators, *groups[1:]]))
    colours = [drawing.INK] + [arm_styles.generator_colour(g, order) for g in groups[1:]]
    for y, ((name, row), colour) in enumerate(zip(reversed(rows), reversed(colours), strict=True)):
        if is_finite(row.low):
            axes.plot([row.low, row.high], [y, y], color=colour, linewidth=2.2)
        axes.plot([row.value], [y], "o", color=colour, markersize=7)
        place = axes.get_yaxis_transform()
        ground = {"fc": drawing.BACKGROUND, "ec": "none", "pad": 0.6}
        axes.text(0, y + 0.27, name, transform=place, bbox=ground, **drawing.TEXT_STYLE)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.set_ylim(-0.5, len(rows) - 0.2)
    axes.set_xlim(-0.02, 1.02)
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0%", "25%", "50%", "75%", "100%"])
    axes.set_xlabel("images called real")
    label = "percentage of images called real, with 95% intervals"
    return drawing.render_svg(figure, f"reading-{reading.name}", label)


def design_advice(reading: Reading, half_width: float = 0.05) -> list[str]:
    """The smallest design, of those computed, that knows each generator's share to 5 points."""
    found = []
    for generator, measures in reading.plans.items():
        plans = measures.get("called_real", ())
        best = smallest_plan(plans, half_width)
        if best:
            found.append(
                f"{generator}: {best.readers} readers and {best.images} of its images measure the percentage "
                f"of images called real to within ±{half_width:.0%} (expected ±{best.half_width:.1%})."
            )
        elif plans:
            most = max(plans, key=lambda plan: (plan.readers, plan.images))
            found.append(
                f"{generator}: even {most.readers} readers and {most.images} of its images would not "
                f"measure the percentage of images called real to within ±{half_width:.0%}."
            )
        else:
            found.append(
                f"{generator}: the answers have no variance to plan the next reading with."
            )
    return found
