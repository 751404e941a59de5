"""Renders the pages of a study, of an evaluation of folders and of a reader study as HTML."""

from xraysynth.evaluation.reader_study.reading import Reading
from xraysynth.report.content import Content, Evaluation
from xraysynth.report.templating import render_template
from xraysynth.report.views.evaluation import evaluation_page
from xraysynth.report.views.reading_page import reading_page
from xraysynth.report.views.study import study_page


def render(content: Content) -> str:
    """Returns the page of a study as one HTML file that contains its styles, figures and images."""
    return render_template("study.html.j2", study_page(content))


def render_evaluation(evaluation: Evaluation) -> str:
    """Returns the page of a folder of synthetic images compared with a folder of real ones."""
    return render_template("evaluation.html.j2", evaluation_page(evaluation))


def render_reading(reading: Reading) -> str:
    """Returns the page of a blinded reading."""
    return render_template("reading.html.j2", reading_page(reading))
