"""docs/verdicts.md lists every sentence that a report prints from results, and no other."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import xraysynth
from xraysynth.report.verdicts import CLAIMS

SOURCE = Path(xraysynth.__file__).parent
DOCS = Path(__file__).resolve().parents[2] / "docs" / "verdicts.md"
VIEWS = sorted((SOURCE / "report" / "views").glob("*.py"))
SAYING = (
    *(
        "report/claims.py",
        "report/differences.py",
        "report/seed_spread.py",
        "report/verdicts.py",
        "report/findings.py",
        "report/costs.py",
        "report/cost_verdict.py",
        "report/machines.py",
    ),
    *("report/page.py", "report/readers.py", "report/tradeoffs.py", "report/tradeoff_columns.py"),
    *("stages/report.py", "stages/_study/limits.py"),
    *(str(path.relative_to(SOURCE)) for path in VIEWS),
    *("stages/evaluate.py", "stages/_folder_comparison.py", "evaluation/folders.py"),
    *("evaluation/metrics/measures.py", "evaluation/metrics/memorization.py"),
    *("evaluation/metrics/copy_measures.py", "evaluation/metrics/measure_rows.py"),
    *("evaluation/metrics/split_halves.py", "evaluation/metrics/labelled_features.py"),
    "evaluation/metrics/real_data_equivalent.py",
)
"""The modules that make sentences of results."""
NAMES = {
    "2-core CPU, 8 GB of memory",
    "arms that have such a control",
    "interval without 0 and p < 0.05, adjusted after Holm over all …; two seeds or more; equivalent: neither "
    "better nor worse, and p < 0.05 of two one-sided tests against study.equivalence_margin, adjusted "
    "likewise",
    "macro-F1 over real only, best hybrid",
    "macro-F1 over real only, synthetic only",
    "distance from real images, beyond that among them",
    "time per image, 95th percentile",
    "d′, with as many real images",
    "precision and recall (of images)",
}
"""Texts of five words or more that say nothing of results: titles, a machine, parts of rules."""
FEWEST_WORDS = 5


def normalise(text: str) -> str:
    """Without the values that are put into it."""
    return " ".join(re.sub(r"\{[^}]*\}", "…", text).split())


def literal(node: ast.AST) -> str | None:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        parts = [p.value if isinstance(p, ast.Constant) else "…" for p in node.values]
        return "".join(map(str, parts))
    return None


def without_docstrings_and_errors(tree: ast.AST) -> Iterator[ast.AST]:
    """Nodes that are part of neither, and not inside an f-string, whose whole is one text."""
    for child in ast.iter_child_nodes(tree):
        if isinstance(child, ast.Raise) or (
            isinstance(child, ast.Expr) and isinstance(child.value, ast.Constant)
        ):
            continue
        yield child
        if not isinstance(child, ast.JoinedStr):
            yield from without_docstrings_and_errors(child)


def said() -> set[str]:
    found = set()
    for name in SAYING:
        for node in without_docstrings_and_errors(ast.parse((SOURCE / name).read_text())):
            text = normalise(literal(node) or "")
            if len(re.findall(r"[A-Za-z]{2,}", text)) >= FEWEST_WORDS:
                found.add(text)
    rules = {normalise(rule) for c in CLAIMS.values() for rule in (c.comparison, c.decided_by)}
    return found - rules - NAMES


def listed() -> set[str]:
    rows = [line.strip("| ").split(" | ") for line in DOCS.read_text().splitlines()]
    cells = {cell for row in rows if len(row) == 2 for cell in row}
    return {cell for cell in cells if cell not in {"word", "sentence", "rests on"}}


def test_every_sentence_is_listed() -> None:
    assert sorted(said() - listed()) == []


def rows_below(title: str) -> set[str]:
    """First cells of the tables from a heading on."""
    return {
        line.strip("| ").split(" | ")[0]
        for line in DOCS.read_text().partition(f"## {title}")[2].splitlines()
        if line.startswith("|") and not line.startswith(("|---", "| sentence"))
    }


IN_TEMPLATES = "In the page's templates"


def test_no_sentence_is_listed_that_is_not_said() -> None:
    listed_elsewhere = rows_below("With a claim") - rows_below(IN_TEMPLATES)
    assert sorted(listed_elsewhere - said()) == []


def test_what_templates_say_of_results_is_listed() -> None:
    """Texts with the words of a verdict, which no code hands them."""
    text = {path.name: path.read_text() for path in (SOURCE / "report" / "templates").glob("*.j2")}
    phrases = rows_below(IN_TEMPLATES)
    whole = " ".join(" ".join(text.values()).split())
    assert [phrase for phrase in sorted(phrases) if phrase not in whole] == []
    judging = re.compile(
        r"\b(better than|worse than|beats?|no difference|not compared|incomplete)\b"
    )
    for name, source in text.items():
        for line in source.splitlines():
            if judging.search(re.sub(r"\{%.*?%\}", "", line)):
                assert any(part in line for p in phrases for part in (p, p[-30:])), (name, line)


@pytest.mark.parametrize("subject", CLAIMS)
def test_the_comparison_of_each_claim_is_listed_with_its_sentences(subject: str) -> None:
    claim, text = CLAIMS[subject], DOCS.read_text()
    start = text.index(f"**compared:** {normalise(claim.comparison)}")
    section = text[start:].partition("### ")[0].partition("## ")[0]
    assert f"**decided by:** {normalise(claim.decided_by)}" in section
    for word, sentence in claim.sentences.items():
        assert f"| {word} | {normalise(sentence)} |" in section


def test_a_sentence_that_nobody_listed_is_found(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "report").mkdir()
    code = """
def judge(x):
    "More of it is said here, to nobody."
    if not x:
        raise ValueError("an error is no sentence of a report")
    return f"so {x} is surely much better than {x}"
"""
    (tmp_path / "report" / "verdicts.py").write_text(code)
    monkeypatch.setitem(globals(), "SOURCE", tmp_path)
    monkeypatch.setitem(globals(), "SAYING", ("report/verdicts.py",))
    assert said() - listed() == {"so … is surely much better than …"}
