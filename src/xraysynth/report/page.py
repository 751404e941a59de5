"""Pages of a study, of two folders of images and of a reading: self-contained HTML, one file each."""

import functools
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from xraysynth.evaluation.reader_study.reading import Reading
from xraysynth.report.content import Content, Evaluation
from xraysynth.report.views.evaluation import EvaluationPage, evaluation_page
from xraysynth.report.views.reading_page import ReadingPage, reading_page
from xraysynth.report.views.study import StudyPage, study_page

TEMPLATES = Path(__file__).parent / "templates"


def render(content: Content) -> str:
    """The page of a study as HTML that loads nothing: styles, figures and images are in it."""
    return _render("study.html.j2", study_page(content))


def render_evaluation(evaluation: Evaluation) -> str:
    """The page of one folder of synthetic images beside real ones, as self-contained as `render`."""
    return _render("evaluation.html.j2", evaluation_page(evaluation))


def render_reading(reading: Reading) -> str:
    """The page of a blinded reading, as self-contained as `render`."""
    return _render("reading.html.j2", reading_page(reading))


def _render(template: str, page: StudyPage | EvaluationPage | ReadingPage) -> str:
    return _template_environment().get_template(template).render(page=page)


@functools.cache
def _template_environment() -> Environment:
    """Templates see the view `page` and nothing else."""
    return Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
