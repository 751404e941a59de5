"""Composing a configuration from words, checking it, and explaining what is wrong."""

import re
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

from xraysynth.config import (
    CONFIG_GROUPS,
    DEPRECATED_NAMES,
    PLUGIN_GROUPS,
    TEST_SOURCE,
    Config,
    build_plugin,
    current_name,
    given_twice,
    list_group_options,
    with_current_names,
)
from xraysynth.errors import ConfigError, did_you_mean, format_unknown_option
from xraysynth.options import from_options
from xraysynth.records import to_json


def compose(overrides: Sequence[str] = ()) -> Config:
    """The configuration of a list of overrides, as the command line would have it.

    Raises `ConfigError` with a line for every option that is wrong.
    """
    import hydra

    register_schema()
    with hydra.initialize_config_module("xraysynth.conf", version_base="1.3"):
        wrong: list[str] = []
        return validate_config(_compose_with_hydra(to_hydra_overrides(overrides), wrong), wrong)


def register_schema() -> None:
    """Make the defaults known to Hydra; conf/config.yaml starts from them."""
    from hydra.core.config_store import ConfigStore

    defaults = to_json(Config())
    for current in DEPRECATED_NAMES.values():  # left out, so that what is there was given
        section, _, name = current.rpartition(".")
        (defaults.get(section, {}) if section else defaults).pop(name, None)
    ConfigStore.instance().store(name="schema", node=defaults)


def to_hydra_overrides(overrides: Sequence[str], *, multirun: bool = False) -> list[str]:
    """The command line's words as Hydra has to see them: all options can be set, and are checked later.

    In a multirun Hydra itself refuses options that do not exist, before the first job starts, but for
    those that no yaml has to mention. `test_source=…` chooses from the group of sources.
    """
    overrides = _with_current_names(overrides)
    sections = "|".join([*PLUGIN_GROUPS, TEST_SOURCE, "prompts"])
    mappings = "|".join(
        ["evaluate.weights", "review.own_questions", *DEPRECATED_NAMES, *DEPRECATED_NAMES.values()]
    )
    unmentioned = rf"({sections})\.[\w.-]+=|({mappings})(\.[\w.-]+)?="
    anything = rf"(?!({'|'.join(CONFIG_GROUPS)})=|hydra\.)[\w.-]+="
    free = re.compile(unmentioned if multirun else anything)
    chosen = [re.sub(rf"^{TEST_SOURCE}=", f"source@{TEST_SOURCE}=", text) for text in overrides]
    return [f"++{text}" if free.match(text) else text for text in chosen]


def _with_current_names(overrides: Sequence[str]) -> list[str]:
    """The command line's words with options under their present names; former names warn."""
    names = {word.partition("=")[0].lstrip("+~") for word in overrides}
    renamed = []
    for word in overrides:
        name, equals, value = word.partition("=")
        prefix = name[: len(name) - len(name.lstrip("+~"))]
        name = name.removeprefix(prefix)
        current = current_name(name) if equals else name
        if current != name and current in names:
            raise given_twice(name, current)
        renamed.append(f"{prefix}{current}{equals}{value}")
    return renamed


def _compose_with_hydra(overrides: Sequence[str], errors: list[str]) -> Any:
    """What Hydra composes; a choice that there is not goes into `wrong`, and its section is left out."""
    import hydra
    from hydra.errors import MissingConfigException

    try:
        return hydra.compose("config", overrides=list(overrides))
    except MissingConfigException as error:
        group, _, option = (error.missing_cfg_file or "").partition("/")
        choices = rf"\+*{group}(@\w+)?=(.*[\[,\s])?{re.escape(option)}([\],\s].*)?"
        left_out = {_top_section(word) for word in overrides if re.fullmatch(choices, word)}
        if not left_out:
            raise explain_hydra_error(error) from error
        errors += explain_hydra_error(error).args
        return _compose_with_hydra(
            [word for word in overrides if _top_section(word) not in left_out], errors
        )
    except Exception as error:
        raise explain_hydra_error(error) from error


def _top_section(override: str) -> str:
    """The first part of the name of the option that a word sets or chooses."""
    name = override.lstrip("+").partition("=")[0]
    return name.rpartition("@")[2].partition(".")[0]


def validate_config(dict_config: Any, earlier_errors: Sequence[str] = ()) -> Config:
    """A composed DictConfig as a `Config`; unknown, missing and wrong options raise, named all at once.

    `wrong` is what has been found wrong before.
    """
    from omegaconf import OmegaConf

    try:
        missing = sorted(OmegaConf.missing_keys(dict_config))
        values = _drop_unselected(OmegaConf.to_container(dict_config, resolve=True))
    except Exception as error:
        raise explain_hydra_error(error) from error
    found = [*earlier_errors, *(f"{name} must be given; add '{name}=…'" for name in missing)]
    built: list[Any] = []
    for build in (
        lambda: from_options(Config, with_current_names(values)),
        *_plugin_builders(values),
    ):
        try:
            built.append(build())
        except ConfigError as error:
            found += error.args
    if found:
        raise ConfigError(*found)
    config: Config = built[0]
    return config


def _plugin_builders(values: Any) -> Iterator[Callable[[], Any]]:
    for chosen_as, group in {
        **{name: name for name in PLUGIN_GROUPS},
        TEST_SOURCE: "source",
    }.items():
        nodes = values.get(chosen_as)
        for key, node in nodes.items() if isinstance(nodes, dict) else ():
            yield partial(build_plugin, group, key, node, selected_as=chosen_as)


OPTIONAL_KEY = "_optional_"
"""Key by which an experiment says that options of a plug-in hold only where it is selected."""


def _drop_unselected(values: Any) -> Any:
    """Without the options that an experiment has ready for plug-ins that are not selected."""
    for group in PLUGIN_GROUPS:
        nodes = values.get(group)
        for key, node in [*nodes.items()] if isinstance(nodes, dict) else ():
            optional = isinstance(node, dict) and node.pop(OPTIONAL_KEY, False)
            if optional and "_target_" not in node:
                del nodes[key]
    return values


def explain_hydra_error(error: BaseException) -> ConfigError:
    """What Hydra found wrong, in one line, with the full name of the option and the nearest right one."""
    from hydra.errors import MissingConfigException
    from omegaconf.errors import ConfigKeyError, OmegaConfBaseException

    if isinstance(error, MissingConfigException):
        group, _, option = (error.missing_cfg_file or "").partition("/")
        if group in CONFIG_GROUPS:
            return ConfigError(
                f"{group}={option}: there is no such option{did_you_mean(option, list_group_options(group))} "
                f"(there is {', '.join(list_group_options(group))})"
            )
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, OmegaConfBaseException):
        cause = cause.__cause__
    if cause is None:
        return ConfigError(str(error).strip().replace("argument '++", "argument '"))
    name = str(cause.full_key or "")
    if isinstance(cause, ConfigKeyError) or "not in" in str(cause):
        return ConfigError(
            format_unknown_option(name, [str(key) for key in cause.parent_node or {}])
        )
    return ConfigError(f"{name}: {str(cause.msg or cause).splitlines()[0]}")
