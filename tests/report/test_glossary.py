"""The glossary of the documentation and that of the reports are one."""

import re
from html import unescape
from html.parser import HTMLParser
from pathlib import Path

import pytest
import yaml

from xraysynth.errors import XraysynthError
from xraysynth.report import page, templating
from xraysynth.report.content import Content
from xraysynth.report.glossary import PageTerms, load_glossary
from xraysynth.report.views.cells import HEADING_TERMS
from xraysynth.report.views.findings import TITLE_TERMS
from xraysynth.report.views.measures import FAMILY_TERMS
from xraysynth.report.views.tradeoffs import ROW_TERMS

ROOT = Path(__file__).parents[2]
TERMS = yaml.safe_load((ROOT / "src/xraysynth/report/glossary.yaml").read_text())


def test_the_page_lists_the_terms_of_the_reports_in_their_order():
    lines = (ROOT / "docs/glossary.md").read_text().splitlines()
    listed = [line for line in lines if line.startswith("- **")]
    assert listed == [as_line(**term) for term in TERMS]


def test_every_term_has_one_line_and_is_explained_once():
    assert len({term["term"].lower() for term in TERMS}) == len(TERMS)
    for term in TERMS:
        assert len(term["line"]) <= 150, term
        assert term["line"].endswith("."), term


def as_line(term: str, line: str, source: str = "") -> str:
    return f"- **{term}**: {line}" + (f" ({source})" if source else "")


class TermButtons(HTMLParser):
    """Collects the terms that a page mentions, by section, and what their buttons say."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.section = ""
        self.anchors: dict[str, list[str]] = {}
        self.titles: dict[str, str] = {}
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        if tag == "section":
            self.section = values.get("aria-labelledby", "")
        if "popovertarget" in values:
            assert tag == "button"  # so that the keyboard reaches it
            self.anchors.setdefault(self.section, []).append(values["popovertarget"])
            self.titles[values["popovertarget"]] = values["title"]


SECTION_TERMS = {
    "findings": {"arm", "macro-F1", "confidence interval", "Holm adjustment", "duplicate control"}
    | {"real-vs-real baseline", "memorisation flag", "label fidelity", "real-data equivalent"},
    "design": {"study", "synthetic fraction", "mode", "arm", "held-out images"},
    "data": {"cohort", "source confounding", "near-duplicates", "shortcut probe"}
    | {"leave-one-source-out", "size-matched control", "balanced accuracy"},
    "arms": {"arm", "macro-F1", "duplicate control", "permuted control", "Holm adjustment"}
    | {"calibration error (ECE)", "AUROC and AUPRC", "real-vs-synthetic probe", "pointing game"},
    "tradeoffs": {"usable image", "label-fidelity classifier", "memorisation flag", "fine-tuning"}
    | {"refusal", "macro-F1"},
    "fraction": {"synthetic fraction", "macro-F1", "mode"},
    "learning": {"learning curve", "real-data equivalent"},
    "pools": {"encoder", "real-vs-real baseline", "Fréchet distance (FD)", "kernel distance (KD)"}
    | {"precision and recall (of images)", "memorisation flag", "AuthPct", "C_T", "refusal"}
    | {"label fidelity", "label-fidelity classifier", "SSIM and MS-SSIM", "held-out images"},
    "cost": {"job"},
}
"""Terms that a section of a study's page explains."""


@pytest.fixture(scope="module")
def html(content: Content) -> str:
    return page.render(content)


@pytest.mark.parametrize("section", SECTION_TERMS)
def test_a_section_explains_its_terms_where_they_stand(html: str, section: str) -> None:
    glossary = load_glossary()
    anchors = set(TermButtons(html).anchors[section])
    assert {glossary[name].anchor for name in SECTION_TERMS[section]} <= anchors


def test_the_page_ends_with_the_lines_of_the_terms_that_it_mentions_and_no_others(
    html: str,
) -> None:
    buttons = TermButtons(html)
    listed = re.findall(r'<li id="(term-[^"]+)" popover><b>(.*?)</b>: (.*?)</li>', html)
    assert {anchor for anchor, _, _ in listed} == set(buttons.titles)
    glossary = load_glossary()
    for anchor, name, line in listed:
        term = glossary[unescape(name)]
        assert term.anchor == anchor
        assert unescape(line).startswith(term.line)
        assert buttons.titles[anchor] == term.line


def test_every_term_that_a_view_or_template_names_is_in_the_glossary() -> None:
    named = {*HEADING_TERMS.values(), *FAMILY_TERMS.values(), *TITLE_TERMS.values()}
    named |= set(ROW_TERMS.values())
    for template in templating.TEMPLATES.glob("*.j2"):
        named |= set(re.findall(r'\bterm\("([^"]+)"', template.read_text(encoding="utf-8")))
    assert named <= set(load_glossary())


def test_anchors_are_unique() -> None:
    anchors = [term.anchor for term in load_glossary().values()]
    assert len(anchors) == len(set(anchors))


def test_a_term_that_the_glossary_lacks_is_an_error() -> None:
    terms = PageTerms()
    with pytest.raises(XraysynthError, match="the glossary has no term 'synthetic share'"):
        terms.mention("synthetic share")
    assert terms.mentioned_terms == []
