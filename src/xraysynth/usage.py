"""The help page of a stage, made from its own docstring and the schema."""

import ast
import inspect
from dataclasses import MISSING, Field, dataclass, field, fields, is_dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from xraysynth.cli import ACTIONS
from xraysynth.config import CONFIG_GROUPS, Config, list_group_options
from xraysynth.generation.lora.recipe import LoraRecipe


@dataclass(frozen=True)
class _PluginOptions:
    """Options that lie inside plug-ins, but that a stage's page has to explain."""

    lora: LoraRecipe = field(default_factory=LoraRecipe, metadata={"at": "generator.<key>.lora"})


def stage_help(stage: str) -> str:
    """What the stage does, the options it reads with their defaults, and the groups to choose from."""
    purpose, sections = _describe_actions(stage) if stage in ACTIONS else _describe_stage(stage)
    known = {f.name: f for f in (*fields(Config), *fields(_PluginOptions))}
    actions = f" {'|'.join(ACTIONS[stage])}" if stage in ACTIONS else ""
    lines = [f"usage: xraysynth {stage}{actions} [option=value ...]", "", purpose, "", "options:"]
    for name in sections:
        lines += _format_section(known[name])
    lines += ["", "groups (choose with group=option, or group=[a,b] for source and generator):"]
    lines += [f"  {group}: {', '.join(list_group_options(group))}" for group in CONFIG_GROUPS]
    return "\n".join(lines) + "\n"


def _describe_actions(stage: str) -> tuple[str, list[str]]:
    """What each action of the stage does, and the options that are its own."""
    lines = [f"  {action:9} {text}" for action, text in ACTIONS[stage].items()]
    return "\n".join([*lines, "", f"xraysynth {stage} <action> --help says more."]), [stage]


def _describe_stage(stage: str) -> tuple[str, list[str]]:
    """Docstring and SECTIONS of the stage, read without importing it (and torch)."""
    module = stage.replace(" ", "_")
    tree = ast.parse((Path(__file__).parent / "stages" / f"{module}.py").read_text())
    values = {
        node.targets[0].id: node.value
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
    }
    return (ast.get_docstring(tree) or "").strip(), list(ast.literal_eval(values["SECTIONS"]))


def _format_section(option: "Field[Any]") -> list[str]:
    if option.name in CONFIG_GROUPS[:2]:
        return [
            f"  {option.name}: one or more of the group below; {option.name}.<key>.<argument>=…"
        ]
    if not is_dataclass(option.type):
        return [f"  {option.name}={_format_value(_default_value(option))}"]
    note = " ".join(inspect.getdoc(option.type).split())  # type: ignore[union-attr]
    name = option.metadata.get("at", option.name)
    lines = [f"  {name}: {note}"]
    return lines + [
        f"    {name}.{f.name}={_format_value(_default_value(f))}" for f in fields(option.type)
    ]


def _default_value(option: "Field[Any]") -> Any:
    if option.default is not MISSING:
        return option.default
    return option.default_factory() if option.default_factory is not MISSING else "???"


def _format_value(value: Any) -> str:
    if isinstance(value, Enum):
        return f"{value.value}  ({', '.join(str(m.value) for m in type(value))})"
    if isinstance(value, list):
        return f"[{','.join(map(str, value))}]"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return "{…}" if isinstance(value, dict) else str(value)
