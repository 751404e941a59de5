"""The study report: one self-contained HTML page."""

import functools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from xraysynth.evaluation.reader_study.reading import Reading
from xraysynth.report import (
    costs,
    figures,
    findings,
    pareto,
    readers,
    rows,
    tables,
    thumbnails,
    tradeoffs,
    verdicts,
    words,
)
from xraysynth.report.content import Arm, Content, Evaluation, PoolView
from xraysynth.report.findings import PRIMARY

TESTED_ON = {"macro_f1": "macro-F1", "accuracy": "accuracy", "macro_auroc": "AUROC"}


def render(content: Content) -> str:
    """The page as HTML that loads nothing: styles, figures and images are in it."""
    return _environment().get_template("template.html.j2").render(_view(content))


def render_evaluation(view: Evaluation) -> str:
    """The page of one folder of synthetic images beside real ones, as self-contained as `render`."""
    folders = [("real", view.real), ("synthetic", view.synthetic)]
    folders += [("training", view.train)] if view.train else []
    shared = _shared([view], view.real.classes)
    own = {"view": view, "folders": folders, "agreement": (), "limits": view.limits}
    return _environment().get_template("evaluation.html.j2").render(shared | own)


def render_reading(reading: Reading) -> str:
    """The page of a blinded reading, as self-contained as `render`."""
    return _environment().get_template("readers.html.j2").render(readers.view(reading))


@functools.cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "number": words.number,
        "signed": words.signed,
        "measured": words.measured,
        "percent": words.percent,
        "time": words.duration,
        "quantity": words.quantity,
        "breakable": breakable,
        "known": words.known,
        "bound": bound,
    }
    return environment


def _shared(pools: Sequence[PoolView | Evaluation], classes: Sequence[str]) -> dict[str, Any]:
    """What the tables of measures need, on either page."""
    return {
        "pools": pools,
        "classes": classes,
        "pairs": {p.generator: thumbnails.pairs(p) for p in pools if not p.assessable},
        "table_rows": rows,
    }


def _view(content: Content) -> dict[str, Any]:
    arms = tables.ordered(content.arms)
    plain = [arm for arm in arms if not tables.group(arm)]
    generators = list(dict.fromkeys(a.generator for a in arms if a.share > 0 and a.generator))
    return (
        _shared(content.pools, content.classes)
        | {
            "content": content,
            "arms": arms,
            "plain": plain,
            "others": [arm for arm in arms if tables.group(arm)],
            "groups": tables.grouped(arms),
            "probed": [arm for arm in arms if arm.told_synthetic or arm.pointing],
            "generators": generators,
            "found": findings.findings(content),
            "verdict": verdicts.verdict,
            "PRIMARY": PRIMARY,
            "SUMMARY": tables.SUMMARY,
            "TESTED_ON": TESTED_ON,
            "tables": tables,
            "test_images": tables.test_images(arms[0]) if arms else 0,
            "swatches": [(name, figures.swatch(name, generators)) for name in generators],
            "strokes": [figures.stroke(arm, generators) for arm in plain],
            "figure": _figures(content, arms, generators),
            "galleries": _galleries(content),
            "credits": _credits(content),
            "real": _real(content),
            "agreement": content.agreement,
            "readings": [readers.view(reading, generators) for reading in content.readings],
            "readers": readers,
            "limits": content.limits,
            "tradeoff": _tradeoff(content, generators),
        }
        | _asked(arms)
    )


def _tradeoff(content: Content, generators: Sequence[str]) -> dict[str, Any]:
    points = costs.points(content)
    drawn = {unit: pareto.drawn(points, unit) for unit in costs.UNITS}
    return {
        "groups": tradeoffs.side_by_side(content),
        "details": tradeoffs.in_detail(content),
        "machines": tradeoffs.on_machines(content),
        "points": points,
        "units": tradeoffs.units(points),
        "names": costs.UNITS,
        "verdict": costs.cheapest(points),
        "plots": [
            (unit, Markup(pareto.plot(points, generators, unit)) if found else "")
            for unit, found in drawn.items()
        ],
        "left_out": [(unit, found) for unit in costs.UNITS if (found := _undrawn(points, unit))],
    }


def _undrawn(points: Sequence[costs.Point], unit: costs.Unit) -> str:
    """The generators whose cost has no place in a plot that there is."""
    drawn = pareto.drawn(points, unit)
    missing = dict.fromkeys(point.arm.generator for point in points if point not in drawn)
    return ", ".join(missing) if drawn else ""


def _asked(arms: Sequence[Arm]) -> dict[str, Any]:
    """What the study varied, for a reader who did not plan it."""
    fractions = sorted({arm.real_fraction for arm in arms})
    words = {
        "duplicate": "repeats of real images in place of the synthetic ones",
        "permuted": "synthetic images under permuted labels",
        "size_matched": "as few images as without a data set, but drawn from all data sets",
    }
    return {
        "seeds": sorted({seed for arm in arms for seed in arm.seeds}),
        "controls": [words[c] for c in dict.fromkeys(arm.control for arm in arms) if c],
        "fewest_seeds": min((len(arm.seeds) for arm in arms), default=0),
        "fairness": _fairness(arms),
        "fractions": fractions if len(fractions) > 1 else [],
        "external": {
            name: max((interval.n for interval in scores.values()), default=0)
            for arm in arms
            for name, scores in arm.external.items()
        },
    }


def _fairness(arms: Sequence[Arm]) -> str:
    """How many optimiser steps the arms took: patience may stop some earlier than others."""
    steps = {count for arm in arms for count in arm.optimiser_steps}
    if not steps:
        return ""
    if len(steps) == 1:
        return f"Every arm took {steps.pop()} optimiser steps."
    return (
        f"Trainings took {min(steps)} to {max(steps)} optimiser steps, as some were stopped early: what "
        "arms gain may be due to more or fewer steps."
    )


def _real(content: Content) -> str:
    """What the images that are not synthetic are called."""
    return "simulated real" if content.simulated else "real"


def _figures(content: Content, arms: Sequence[Arm], generators: Sequence[str]) -> dict[str, Any]:
    name = tables.SUMMARY[PRIMARY]
    scored = [arm for arm in arms if PRIMARY in arm.scores and not arm.left_out]
    whole = [arm for arm in scored if arm.real_fraction == 1]
    compared = [arm for arm in whole if PRIMARY in arm.difference]
    drawn = [arm for arm in arms if arm.predictions and not tables.group(arm)]
    curve = {arm.real_images for arm in figures.real_alone(scored)}
    return {
        "differences": Markup(figures.differences(compared, generators, PRIMARY, name))
        if compared
        else "",
        "share": [
            (generator, Markup(figures.against_share(whole, generator, generators, PRIMARY, name)))
            for generator in generators
            if any(a.generator == generator and not a.control for a in whole)
        ],
        "learning": Markup(figures.learning_curve(scored, generators, PRIMARY, name))
        if len(curve) > 1
        else "",
        "pr": [
            (label, Markup(figures.precision_recall(drawn, label, generators)))
            for label in content.classes
            if drawn
        ],
    }


def _galleries(content: Content) -> list[dict[str, Any]]:
    """Per class the real training images, then each generator's."""
    real = content.cohort.where(~content.cohort.table["is_synthetic"])
    sets = [
        (_real(content), real.split("train")),
        *((pool.generator, pool.manifest) for pool in content.pools),
    ]
    return [
        {
            "label": label,
            "sets": [(who, thumbnails.grid(images, label, who=who)) for who, images in sets],
        }
        for label in content.classes
    ]


def _credits(content: Content) -> list[str]:
    """Data sets and licences behind the real images."""
    named = content.cohort.table[["source", "license"]].drop_duplicates()
    return [f"{source} ({terms or 'licence not recorded'})" for source, terms in named.to_numpy()]


def bound(value: Any) -> str:
    """A signed number; infinity, where it is only known to lie beyond what was measured."""
    if isinstance(value, float) and math.isinf(value):
        return "+∞" if value > 0 else f"{words.MINUS}∞"
    return words.signed(value, 2)


def breakable(name: str) -> Markup:
    """A name that may wrap after its underscores."""
    return escape(name).replace("_", Markup("_<wbr>"))
