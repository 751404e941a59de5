"""Renders the pages of a study, of an evaluation of folders and of a reader study as HTML."""

import functools
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from xraysynth.evaluation.reader_study.reading import Reading
from xraysynth.report.content import Content, Evaluation
from xraysynth.report.glossary import PageTerms
from xraysynth.report.views.evaluation import EvaluationPage, evaluation_page
from xraysynth.report.views.reading_page import ReadingPage, reading_page
from xraysynth.report.views.study import StudyPage, study_page

TEMPLATES = Path(__file__).parent / "templates"


def render(content: Content) -> str:
    """Returns the page of a study as one HTML file that contains its styles, figures and images."""
    return _render("study.html.j2", study_page(content))


def render_evaluation(evaluation: Evaluation) -> str:
    """Returns the page of a folder of synthetic images compared with a folder of real ones."""
    return _render("evaluation.html.j2", evaluation_page(evaluation))


def render_reading(reading: Reading) -> str:
    """Returns the page of a blinded reading."""
    return _render("reading.html.j2", reading_page(reading))


def _render(template: str, page: StudyPage | EvaluationPage | ReadingPage) -> str:
    """Renders a template with a view, and with `term`, which adds a term's line from the glossary."""
    terms = PageTerms()
    context = {"page": page, "term": terms.mention, "terms": terms}
    return _template_environment().get_template(template).render(context)


@functools.cache
def _template_environment() -> Environment:
    return Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
