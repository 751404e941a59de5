"""The glossary of the documentation and that of the reports are one."""

from pathlib import Path

import yaml

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
