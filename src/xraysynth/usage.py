"""The help page of a stage, built from the docstring of its module and the schema of the options."""

import ast
import inspect
import textwrap
from dataclasses import MISSING, Field, dataclass, field, fields, is_dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from xraysynth.cli import ACTIONS, ARGUMENTS
from xraysynth.config import CONFIG_GROUPS, Config, list_group_options
from xraysynth.generation.lora.recipe import LoraRecipe


@dataclass(frozen=True)
class _PluginOptions:
    """Options of plug-ins that the help page of a stage explains like its own."""

    lora: LoraRecipe = field(default_factory=LoraRecipe, metadata={"at": "generator.<key>.lora"})


def stage_help(stage: str) -> str:
    """Write the help page of a stage: its purpose, its options with their defaults, and the groups.

    Args:
        stage: Name of the stage, with its action if it has several: "train", "review build".
    """
    purpose, sections = _describe_actions(stage) if stage in ACTIONS else _describe_stage(stage)
    actions = f" {'|'.join(ACTIONS[stage])}" if stage in ACTIONS else ""
    arguments = f" {ARGUMENTS[stage]}" if stage in ARGUMENTS else ""
    usage = f"usage: xraysynth {stage}{actions}{arguments} [option=value ...]"
    lines = [usage, "", purpose, "", "options:"]
    options = {option.name: option for option in (*fields(Config), *fields(_PluginOptions))}
    for section in sections:
        lines += _format_section(options[section])
    lines += ["", "groups (choose with group=option, or group=[a,b] for source and generator):"]
    for group in CONFIG_GROUPS:
        lines.append(f"  {group}: {', '.join(list_group_options(group))}")
    return "\n".join(lines) + "\n"


def _describe_actions(stage: str) -> tuple[str, list[str]]:
    """The purpose of each action of a stage, and the name of the stage's own section."""
    lines = [f"  {action:9} {text}" for action, text in ACTIONS[stage].items()]
    return "\n".join([*lines, "", f"xraysynth {stage} <action> --help says more."]), [stage]


def _describe_stage(stage: str) -> tuple[str, list[str]]:
    """The docstring and the SECTIONS of a stage's module, read without importing it (and torch)."""
    module = stage.replace(" ", "_")
    tree = ast.parse((Path(__file__).parent / "stages" / f"{module}.py").read_text())
    docstring = (ast.get_docstring(tree) or "").strip()
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "SECTIONS":
            return docstring, list(ast.literal_eval(node.value))
    raise ValueError(f"the module of the stage {stage} has no SECTIONS")


def _format_section(option: "Field[Any]") -> list[str]:
    """The lines of one option, or of a section: its docstring and its options with their defaults."""
    if option.name in CONFIG_GROUPS[:2]:
        return [
            f"  {option.name}: one or more of the group below; {option.name}.<key>.<argument>=…"
        ]
    if not is_dataclass(option.type):
        return [f"  {option.name}={_format_value(_default_value(option))}"]
    section = option.metadata.get("at", option.name)
    docstring = textwrap.indent(inspect.getdoc(option.type) or "", "    ")
    lines = [f"  {section}:", *docstring.splitlines(), ""]
    for field_ in fields(option.type):
        lines.append(f"    {section}.{field_.name}={_format_value(_default_value(field_))}")
    return lines


def _default_value(option: "Field[Any]") -> Any:
    if option.default is not MISSING:
        return option.default
    return option.default_factory() if option.default_factory is not MISSING else "???"


def _format_value(value: Any) -> str:
    if isinstance(value, Enum):
        choices = [str(choice.value) for choice in type(value)]
        return f"{value.value}  ({', '.join(choices)})"
    if isinstance(value, list):
        return f"[{','.join(map(str, value))}]"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return "{…}" if isinstance(value, dict) else str(value)
