"""Renders a template of a page with its view."""

import functools
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from xraysynth.report.glossary import PageTerms

TEMPLATES = Path(__file__).parent / "templates"


def render_template(template: str, page: object) -> str:
    """Return a page as HTML.

    Args:
        template: Name of the file in `TEMPLATES`.
        page: The view, which the template calls `page`; `term` adds a term's line from the glossary.
    """
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
