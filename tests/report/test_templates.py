"""Templates of the pages write down what views hold: loops, plain conditions and attributes."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from jinja2 import Environment, nodes

from xraysynth.report import templating

TEMPLATES = sorted(templating.TEMPLATES.glob("*.j2"))

LAYOUT = (nodes.Template, nodes.Output, nodes.TemplateData, nodes.Block, nodes.Extends)
PARTS = (nodes.Include, nodes.FromImport, nodes.Macro, nodes.CallBlock, nodes.Call)
LOGIC = (nodes.For, nodes.If, nodes.Not, nodes.Name, nodes.Getattr, nodes.Const)
PLAIN = (nodes.Name, nodes.Getattr)


def faults(source: str) -> list[str]:
    """What a template does that a view should have done."""
    return [fault for node in walk(Environment().parse(source)) if (fault := fault_of(node))]


def walk(node: nodes.Node) -> Iterator[nodes.Node]:
    yield node
    for child in node.iter_child_nodes():
        yield from walk(child)


def fault_of(node: nodes.Node) -> str:
    allowed = isinstance(node, (*LAYOUT, *PARTS, *LOGIC)) and (
        not isinstance(node, nodes.If) or is_condition(node.test)
    )
    allowed &= not isinstance(node, nodes.For) or is_loop(node)
    allowed &= not isinstance(node, nodes.Call) or is_macro(node)
    allowed &= not isinstance(node, nodes.Name) or node.name not in ("loop", "namespace")
    return "" if allowed else f"line {node.lineno}: {type(node).__name__}"


def is_condition(test: nodes.Expr) -> bool:
    """An attribute that is ready to be asked, or that it is not there."""
    return isinstance(test.node if isinstance(test, nodes.Not) else test, PLAIN)


def is_loop(loop: nodes.For) -> bool:
    """Over an attribute, one name an entry, without a filter."""
    return (
        isinstance(loop.iter, PLAIN)
        and isinstance(loop.target, nodes.Name)
        and loop.test is None
        and not loop.recursive
    )


def is_macro(call: nodes.Call) -> bool:
    """A macro by its name, or a block of the layout, of plain values."""
    layout = isinstance(call.node, nodes.Getattr) and call.node.node == nodes.Name("self", "load")
    return (isinstance(call.node, nodes.Name) or layout) and (
        all(isinstance(value, (*PLAIN, nodes.Const)) for value in call.args)
        and not (call.kwargs or call.dyn_args or call.dyn_kwargs)
    )


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.name)
def test_a_template_has_no_logic(path: Path) -> None:
    assert faults(path.read_text(encoding="utf-8")) == []


def test_the_templates_are_there() -> None:
    assert {"study.html.j2", "evaluation.html.j2", "reading.html.j2"} <= {p.name for p in TEMPLATES}


@pytest.mark.parametrize(
    "source",
    [
        "{{ 100 * x.value }}",
        "{{ x.value|round }}",
        "{{ 'a' if x else 'b' }}",
        "{{ x.rows[0] }}",
        "{{ x.get('a') }}",
        "{{ 'a' ~ x.name }}",
        "{{ f(x.a + 1) }}",
        "{{ f(x.a, wide=x.b > 1) }}",
        "{% if x.value > 1 %}{% endif %}",
        "{% if x.a and x.b %}{% endif %}",
        "{% if x.value is defined %}{% endif %}",
        "{% if x.name in y %}{% endif %}",
        "{% for row in x.rows if row.shown %}{% endfor %}",
        "{% for name, row in x.rows %}{% endfor %}",
        "{% for row in x.rows|sort %}{% endfor %}",
        "{% for row in x.rows %}{{ loop.index }}{% endfor %}",
        "{% for row in f(x) %}{% endfor %}",
        "{% set y = x.value %}",
        "{% set y %}text{% endset %}",
        "{% with y = x.value %}{% endwith %}",
        "{{ namespace() }}",
    ],
)
def test_logic_is_found_wherever_it_stands(source: str) -> None:
    assert faults(source)
