"""The study report: one self-contained HTML page."""

import functools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from xraysynth.metrics.statistics import Interval
from xraysynth.report import figures, tables
from xraysynth.report.content import Arm, Content

PRIMARY = "macro_f1"
NO_DIFFERENCE = "no difference shown"
MINUS, UNKNOWN = "\u2212", "\u2013"


def render(content: Content) -> str:
    """The page as HTML that loads nothing: styles, figures and images are in it."""
    return _environment().get_template("template.html.j2").render(_view(content))


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
        "number": number,
        "signed": signed,
        "measured": measured,
        "percent": percent,
        "time": duration,
        "of_kind": of_kind,
        "breakable": breakable,
    }
    return environment


def _view(content: Content) -> dict[str, Any]:
    arms = tables.ordered(content.arms)
    generators = list(dict.fromkeys(arm.generator for arm in arms if arm.share > 0))
    test_tables = [arm.predictions[0] for arm in arms if arm.predictions]
    return {
        "content": content,
        "arms": arms,
        "generators": generators,
        "headlines": [headline(arms, generator) for generator in generators],
        "verdict": verdict,
        "PRIMARY": PRIMARY,
        "SUMMARY": tables.SUMMARY,
        "tables": tables,
        "test_images": len(test_tables[0]) if test_tables else 0,
        "seeds": sorted({seed for arm in arms for seed in arm.seeds}),
        "strokes": [figures.stroke(arm, generators) for arm in arms],
        "figure": _figures(content, arms, generators),
        "galleries": _galleries(content),
        "credits": _credits(content),
        "real": _real(content),
    }


def _real(content: Content) -> str:
    """What the images that are not synthetic are called."""
    return "simulated real" if content.simulated else "real"


def _figures(content: Content, arms: Sequence[Arm], generators: Sequence[str]) -> dict[str, Any]:
    scored = [arm for arm in arms if PRIMARY in arm.scores]
    name = tables.SUMMARY[PRIMARY]
    compared = any(PRIMARY in arm.difference for arm in arms)
    drawn = [arm for arm in arms if arm.predictions]
    return {
        "differences": Markup(figures.differences(arms, generators, PRIMARY, name))
        if compared
        else "",
        "share": [
            (generator, Markup(figures.against_share(scored, generator, generators, PRIMARY, name)))
            for generator in generators
            if any(arm.generator == generator and arm.share > 0 for arm in scored)
        ],
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
            "sets": [(who, figures.grid(manifest, label, who=who)) for who, manifest in sets],
        }
        for label in content.classes
    ]


def _credits(content: Content) -> list[str]:
    """Data sets and licences behind the real images."""
    named = content.cohort.table[["source", "license"]].drop_duplicates()
    return [f"{source} ({terms or 'licence not recorded'})" for source, terms in named.to_numpy()]


def breakable(name: str) -> Markup:
    """A name that may wrap after its underscores."""
    return escape(name).replace("_", Markup("_<wbr>"))


def headline(arms: Sequence[Arm], generator: str) -> dict[str, str]:
    """What was found for one generator: a sentence, and what it rests on.

    The sentence is about the hybrid arm with the largest gain, or about training on synthetic
    images alone where there is no hybrid.
    """
    own = [arm for arm in arms if arm.generator == generator and arm.share > 0]
    hybrids = [arm for arm in own if arm.share < 1] or own
    best = max(hybrids, key=_gain)
    basis = [
        f"{tables.test_images(best)} test images, {tables.test_patients(best)} patients, "
        f"{_count(len(best.seeds), 'seed')}."
    ]
    if len(hybrids) > 1:
        basis.append(
            f"The best of {len(hybrids)} hybrid arms; the interval does not correct for that."
        )
    basis += [_sentence(arm) for arm in own if arm.share == 1 and arm is not best]
    word = verdict(best.difference.get(PRIMARY))
    return {"sentence": _sentence(best), "basis": " ".join(basis), "verdict": word}


def _gain(arm: Arm) -> float:
    value = arm.difference[PRIMARY].value if PRIMARY in arm.difference else math.nan
    return value if math.isfinite(value) else -math.inf


def verdict(difference: Interval | None) -> str:
    """In words whether a difference to real-only excludes zero; higher is better."""
    if difference is None or math.isnan(difference.low) or math.isnan(difference.high):
        return "not compared"
    if difference.low > 0:
        return "better"
    return "worse" if difference.high < 0 else NO_DIFFERENCE


def _sentence(arm: Arm) -> str:
    who = (
        f"{arm.generator} only"
        if arm.share == 1
        else (f"Hybrid {arm.share:.0%} {arm.generator} ({arm.mode})")
    )
    word, name = verdict(arm.difference.get(PRIMARY)), tables.SUMMARY[PRIMARY]
    if word == "not compared":
        return f"{who}: not compared with real only."
    gain = arm.difference[PRIMARY]
    numbers = f"{signed(gain.value)} [{number(gain.low)}, {number(gain.high)}]"
    if word == NO_DIFFERENCE:
        return f"{who}: {NO_DIFFERENCE} in {name} against real only, {numbers}."
    against = "over real only" if word == "better" else "against real only, worse"
    return f"{who}: {name} {numbers} {against}."


def _count(n: int, what: str) -> str:
    return f"{n} {what}" if n == 1 else f"{n} {what}s"


def number(value: Any, digits: int = 3) -> str:
    """Fixed decimals with a true minus sign; a dash for what is not known."""
    if not _known(value):
        return UNKNOWN
    text = f"{float(value):.{digits}f}"
    return text.replace("-", MINUS) if float(text) else text.lstrip("-")


def signed(value: Any, digits: int = 3) -> str:
    """`number` with a plus sign before what is above zero."""
    text = number(value, digits)
    return f"+{text}" if _known(value) and float(value) > 0 else text


def percent(value: Any) -> str:
    """A fraction as a whole percentage."""
    return f"{float(value):.0%}" if _known(value) else UNKNOWN


def duration(seconds: Any) -> str:
    """Seconds as a person reads them: 0.42 s, 12 s, 3 min 20 s, 2 h 5 min."""
    if not _known(seconds):
        return UNKNOWN
    value = float(seconds)
    if value < 10:
        return f"{value:.2g} s"
    if value < 60:
        return f"{value:.0f} s"
    minutes, rest = divmod(round(value), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def of_kind(value: Any, kind: str) -> str:
    """A cell of the ledger: `text`, `time` in seconds, `count` with thousands, or `number`."""
    if kind == "text":
        return UNKNOWN if value is None else str(value)
    if kind == "time":
        return duration(value)
    if kind == "count":
        return f"{float(value):,.0f}" if _known(value) else UNKNOWN
    return f"{float(value):.3g}" if _known(value) else UNKNOWN


def measured(value: Any, size: Any) -> str:
    """A distance with as many decimals as suit its `size`."""
    magnitude = abs(float(size)) if _known(size) else 1.0
    return number(value, 1 if magnitude >= 10 else 3 if magnitude >= 0.1 else 5)


def _known(value: Any) -> bool:
    try:
        return value is not None and math.isfinite(float(value))
    except (TypeError, ValueError):  # pandas' NA among them
        return False
