"""From overrides as a user types them to those that Hydra reads, and back.

A word that the shell passes on is a value: texts, lists and mappings of texts arrive as they are written
(`xraysynth.quoting`), whatever characters Hydra's own grammar knows.
"""

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from xraysynth.config import (
    CONFIG_GROUPS,
    DEPRECATED_NAMES,
    PLUGIN_GROUPS,
    TEST_SOURCE,
    current_name,
    option_given_twice_error,
    warn_of_rename,
)
from xraysynth.errors import ConfigError, format_unknown_option
from xraysynth.experiment_files import (
    experiment_path,
    is_experiment_file,
    register_experiment_file,
)
from xraysynth.hydra_values import (
    encode_key,
    parse_value,
    to_hydra_text,
    to_hydra_values,
    to_typed_value,
)
from xraysynth.option_types import OTHER, find_option, sibling_names, value_type
from xraysynth.options import expand_path
from xraysynth.plugin_classes import PluginClasses
from xraysynth.quoting import format_value, read_text, split_sweep
from xraysynth.selections import how_to_select_file, unknown_selection_error

_NAME = re.compile(r"\+*[A-Za-z_$][\w$-]*([./](\d+|[A-Za-z_$][\w$-]*))*(@[\w.-]*)?", re.ASCII)
"""Names that Hydra's grammar knows."""

_KEY = re.compile(r"[A-Za-z_][\w-]*|0|[1-9]\d*", re.ASCII)
"""Keys of a mapping that Hydra's grammar knows in a name."""


class Override(NamedTuple):
    """An override in its parts: "++" or "+" or "", the name of the option, and the value."""

    prefix: str
    name: str
    value: str


def to_hydra_overrides(
    overrides: Sequence[str], *, multirun: bool = False, errors: list[str] | None = None
) -> list[str]:
    """Convert overrides to the form in which Hydra accepts them.

    Hydra accepts an option that its yaml files do not mention only with "++" in front. In a single
    run all options get it, as `validate_config` reports unknown ones together; in a multirun, where
    Hydra has to reject them before the first job starts, only options that no yaml file mentions.
    `test_source=…` selects from the group of sources.

    Args:
        overrides: Arguments of the command line after the stage; options of Hydra such as -m are kept.
        multirun: Whether a value may be several, separated by commas.
        errors: Gets the errors of wrong overrides, which are left out; None raises them.

    Raises:
        ConfigError: Overrides are wrong; one line for each of them.
    """
    hydra_overrides: list[str] = []
    found: list[str] = []
    words = _with_registered_files(_with_current_names(overrides), found, multirun=multirun)
    classes = PluginClasses(words)
    for override in words:
        try:
            hydra_overrides.append(_to_hydra_override(override, classes, multirun=multirun))
        except ConfigError as error:
            found += error.args
    found += _given_as_file_and_mapping(words, classes)
    if found and errors is None:
        raise ConfigError(*found)
    if errors is not None:
        errors += found
    return hydra_overrides


def _with_registered_files(
    overrides: Sequence[str], errors: list[str], *, multirun: bool
) -> list[str]:
    """The overrides in which experiments that are files have the names that Hydra knows them by."""
    registered = []
    for override in overrides:
        name, _, value = override.partition("=")
        if name.lstrip("+") != "experiment":
            registered.append(override)
            continue
        try:
            registered.append(f"{name}={_registered_selection(value, multirun=multirun)}")
        except ConfigError as error:
            errors += error.args
    return registered


def _registered_selection(value: str, *, multirun: bool) -> str:
    is_one = not multirun or expand_path(value).exists()
    selections = []
    for written in [value] if is_one else split_sweep(value):
        text = read_text(written)
        selections.append(register_experiment_file(text) if is_experiment_file(text) else written)
    return ",".join(selections)


def _given_as_file_and_mapping(words: Sequence[str], classes: PluginClasses) -> Iterator[str]:
    """The errors of mappings, such as labels, that are given both as a file and by their keys."""
    files: set[str] = set()
    mappings: set[str] = set()
    for word in words:
        if _is_for_hydra(word) or "=" not in word:
            continue
        option = find_option(split_override(word).name, classes.find)
        if option and option.key is not None:
            mappings.add(option.name)
        elif option and value_type(option.annotation).from_file:
            is_mapping = split_override(word).value.strip().startswith("{")
            (mappings if is_mapping else files).add(option.name)
    for name in sorted(files & mappings):
        yield f"{name} is given as a file and by its keys; put all of them into the file"


def split_override(override: str) -> Override:
    """Split an override into prefix, name and value.

    Raises:
        ConfigError: It has no "=".
    """
    full_name, equals, value = override.partition("=")
    if not equals:
        hint = how_to_select_file("", override) or "; write 'option=value'"
        raise ConfigError(f"{override!r} is no option with a value{hint}")
    name = full_name.lstrip("+")
    return Override(full_name.removesuffix(name), name, value)


def _is_for_hydra(override: str) -> bool:
    """Whether a word of the command line is an option of Hydra or a deletion ("~name")."""
    return override.startswith(("-", "~", "hydra.", "hydra/"))


def _to_hydra_override(override: str, classes: PluginClasses, *, multirun: bool) -> str:
    if _is_for_hydra(override):
        return _to_hydra_setting(override)
    prefix, name, value = split_override(override)
    if name == TEST_SOURCE:
        name = f"source@{TEST_SOURCE}"
    if name.partition("@")[0] in CONFIG_GROUPS:
        _require_selection(name, value)
        return f"{prefix}{name}={value}"
    option = find_option(name, classes.find)
    kind = value_type(option.annotation) if option else OTHER
    values = to_hydra_values(name, value, kind, multirun=multirun)
    if option and option.key is not None and not _KEY.fullmatch(option.key):
        return _to_entries(option.name, option.key, values)
    if not _NAME.fullmatch(name):
        raise ConfigError(format_unknown_option(name, sibling_names(name, classes.find)))
    needs_plus = not prefix and (not multirun or _is_unmentioned(name))
    return f"{'++' if needs_plus else prefix}{name}={','.join(values)}"


def _to_hydra_setting(override: str) -> str:
    """A setting of Hydra itself; a value that its grammar does not know is a text, its folders have no ~."""
    name, equals, value = override.partition("=")
    if not equals or override.startswith(("-", "~")):
        return override
    if name in ("hydra.run.dir", "hydra.sweep.dir"):
        value = str(expand_path(value))
    return f"{name}={value if parse_value(value) is not None else to_hydra_text(value)}"


def _require_selection(name: str, value: str) -> None:
    """Require that an override selects from a group in Hydra's grammar, which the names of options are in."""
    if parse_value(value) is None:
        raise unknown_selection_error(name.partition("@")[2] or name, value)


def _to_entries(name: str, key: str, values: Sequence[str]) -> str:
    """The override of one key of a mapping, whose characters Hydra's names cannot have."""
    entries = [f"{{{encode_key(key)}: {value}}}" for value in values]
    return f"++{name}={','.join(entries)}"


def _is_unmentioned(name: str) -> bool:
    """Whether the yaml files may not mention an option."""
    sections = "|".join([*PLUGIN_GROUPS, TEST_SOURCE, "prompts"])
    mappings = "|".join(
        ["evaluate.weights", "review.own_questions", *DEPRECATED_NAMES, *DEPRECATED_NAMES.values()]
    )
    pattern = rf"({sections})\.[\w.-]+|({mappings})(\.[\w.-]+)?"
    return re.fullmatch(pattern, name) is not None


def to_typed_overrides(overrides: Sequence[str]) -> list[str]:
    """Return Hydra's overrides as a user would type them (inverse of `to_hydra_overrides`)."""
    classes = PluginClasses(overrides)
    return [_to_typed(override, classes) for override in overrides]


def _to_typed(override: str, classes: PluginClasses) -> str:
    override = override.removeprefix("++")
    if _is_for_hydra(override) or "=" not in override:
        return override
    prefix, name, value = split_override(override)
    if name == "experiment":
        names = [format_value(experiment_path(one) or one) for one in value.split(",")]
        return f"{prefix}{name}={','.join(names)}"
    option = find_option(name, classes.find)
    if option is None or value_type(option.annotation) == OTHER:
        return override
    return f"{prefix}{name}={to_typed_value(value)}"


def _with_current_names(overrides: Sequence[str]) -> list[str]:
    """The overrides with options under their present names; deprecated names warn."""
    names = {override.partition("=")[0].lstrip("+~") for override in overrides}
    renamed = []
    for override in overrides:
        name, equals, value = override.partition("=")
        bare_name = name.lstrip("+~")
        prefix = name.removesuffix(bare_name)
        current = current_name(bare_name, warn=False) if equals else bare_name
        if current != bare_name and current in names:
            raise option_given_twice_error(bare_name, current)
        renamed.append(f"{prefix}{current}{equals}{value}")
        if current != bare_name:
            warn_of_rename(override, renamed[-1])
    return renamed
