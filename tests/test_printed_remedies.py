"""Each message that prints something to paste is known: a test runs it, or it is said why none does.

What it names is there too: options, stages, and extras of the package.
"""

import ast
import re
import tomllib
from collections.abc import Iterable, Iterator
from functools import cache
from itertools import chain

import pytest
from printed_remedies import (
    OPTION,
    SOURCE,
    STAGES,
    Printed,
    has_remedy,
    messages_with_remedies,
    texts,
)
from remedies_elsewhere import ELSEWHERE, NOT_RUN
from remedy_cases import CASES

from xraysynth.config import list_group_options
from xraysynth.option_types import PLUGIN_SECTIONS, find_option
from xraysynth.plugin_classes import PluginClasses

TESTS = SOURCE.parents[1] / "tests"
PROSE = ("and", "as", "can", "has")
"""Words that follow the name of the package where no stage is meant."""


@cache
def printed() -> list[Printed]:
    return messages_with_remedies()


def known() -> list[tuple[str, str]]:
    cases = [(case.file, case.says) for case in CASES]
    return [*cases, *chain(*ELSEWHERE.values()), *chain(*NOT_RUN.values())]


def unknown(messages: Iterable[Printed]) -> list[str]:
    return [str(message) for message in messages if not any(map(message.is_meant_by, known()))]


def test_each_remedy_is_run_by_a_test_or_it_is_said_why_not():
    missing = "\n".join(unknown(printed()))
    assert not missing, f"add a case to remedy_cases.py for\n{missing}"


def test_each_part_of_a_message_that_is_listed_is_in_one():
    assert [part for part in known() if not any(each.is_meant_by(part) for each in printed())] == []


@pytest.mark.parametrize("test", ELSEWHERE)
def test_the_test_that_runs_a_remedy_is_there(test):
    file, name = test.split("::")
    functions = ast.walk(ast.parse((TESTS / file).read_text("utf-8")))
    assert name in [node.name for node in functions if isinstance(node, ast.FunctionDef)]


def test_a_new_message_with_a_remedy_is_found():
    code = '''
def check(option, values):
    """Set trainer.devices=1."""
    raise ConfigError(f"size_px={values} is odd; set size_px=8")
    raise ConfigError("no GPU; " f"set {option}.device=cpu")
    remedy = quote_override("classes", values)
    raise ConfigError(f"run: {workspace.command('train')}")
    raise ConfigError("install it: pip install 'xraysynth[new]'")
    raise ConfigError("no pool; run xraysynth generate")
    raise ConfigError(f"size_px={values} must be even")
'''
    found = sorted(line for line, text in texts(code) if has_remedy(text))
    assert found == [4, 5, 6, 7, 8, 9]
    assert unknown([Printed("new.py", 4, "set size_px=8")]) == ["new.py:4: set size_px=8"]


def test_extras_that_are_named_exist():
    project = tomllib.loads((TESTS.parent / "pyproject.toml").read_text("utf-8"))["project"]
    extras = set(re.findall(r"xraysynth\[(\w+)\]", " ".join(map(str, printed()))))
    assert len(extras) >= 6
    assert extras <= set(project["optional-dependencies"])


def test_stages_that_are_named_exist():
    named = set()
    for message in printed():
        named.update(re.findall(r"xraysynth (review [a-z]+|[a-z]+)", message.text))
        named.update(re.findall(r"\.command\('([a-z ]+)'", message.text))
    assert len(named) >= 6
    assert named - set(PROSE) <= STAGES


def test_options_that_are_named_exist():
    named = set()
    for message in printed():
        named.update(name.removesuffix("=") for name in OPTION.findall(message.text))
    named = {name for name in named if name[-1] not in ">}"}  # all of which is filled in
    assert len(named) >= 50
    find_class = PluginClasses([]).find
    assert [
        name
        for name in sorted(named)
        if not any(find_option(full, find_class) for full in full_names(name))
    ] == []


def full_names(name: str) -> Iterator[str]:
    """What an option can be called whose section or plug-in is filled in, or that of a recipe."""
    if name.startswith("lora."):  # the generator is added where the error passes it
        name = f"generator.sd_lora.{name}"
    *start, last = re.findall(r"[<{][^>}]+[>}]|\w+", name)
    filled = [part for part in start if part[0] not in "<{"]
    yield ".".join([*filled, last])
    for section in PLUGIN_SECTIONS:
        for key in list_group_options(section.removeprefix("test_")):
            yield ".".join([section, key, *[part for part in filled if part != section], last])
