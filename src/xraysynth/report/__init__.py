"""Reports: the results of a study as one self-contained HTML page, and as tables.

A page is made in three steps. Stages collect plain values (`content`); views choose, sort, compare and
format them section by section (`views/`); templates write the views as HTML (`templates/`). Every sentence
that claims something is a verdict on one comparison (`claims`, `verdicts`). `tables` and `tradeoffs` write
every number of the page to files, and `glossary` explains terms where they stand.

    >>> from xraysynth.evaluation.metrics.statistics import Interval
    >>> from xraysynth.report import utility
    >>> from xraysynth.report.differences import MeasuredDifference
    >>> gain = MeasuredDifference(Interval(0.031, 0.004, 0.058, 300), p_holm=0.012)
    >>> verdict = utility(arm="lora 50%", metric="macro-F1", over_real=gain)
    >>> verdict.word
    'better'
    >>> verdict.sentence.partition(", ")[0]
    'lora 50%: better than training on real images only'
    >>> verdict.sentence.partition(", ")[2]
    'macro-F1 +0.031 [0.004, 0.058] (Holm-adjusted p = 0.012)'

    from xraysynth.report import render

    Path("report.html").write_text(render(content))
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # a wrong option must be refused before pandas is there
    from xraysynth.report.content import Content, Evaluation
    from xraysynth.report.page import render, render_evaluation, render_reading
    from xraysynth.report.verdicts import Verdict, utility

__all__ = [
    "Content",
    "Evaluation",
    "Verdict",
    "render",
    "render_evaluation",
    "render_reading",
    "utility",
]

_MODULES = {
    **dict.fromkeys(["Content", "Evaluation"], "content"),
    **dict.fromkeys(["Verdict", "utility"], "verdicts"),
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES.get(name, 'page')}"), name)
