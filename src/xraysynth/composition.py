"""Composing a configuration from overrides, validating it, and explaining errors in it."""

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from xraysynth.config import (
    CONFIG_GROUPS,
    PLUGIN_GROUPS,
    TEST_SOURCE,
    Config,
    build_plugin,
    with_current_names,
)
from xraysynth.config_store import register_schema
from xraysynth.errors import ConfigError, format_unknown_option
from xraysynth.experiment_files import name_files
from xraysynth.hydra_values import decode_keys
from xraysynth.option_types import PLUGIN_SECTIONS
from xraysynth.options import from_options
from xraysynth.overrides import to_hydra_overrides
from xraysynth.privacy import MIN_SECRET_LENGTH, has_key, iterate_texts, key_variables
from xraysynth.selections import unknown_selection_error


def compose(overrides: Sequence[str] = ()) -> Config:
    """Compose the configuration that the command line would run.

    Args:
        overrides: Arguments of the command line, such as "source=simulated" or "seed=1".

    Raises:
        ConfigError: Options are unknown, missing or wrong; one line for each of them.
    """
    import hydra

    register_schema()
    errors: list[str] = []
    hydra_overrides = to_hydra_overrides(overrides, errors=errors)
    with hydra.initialize_config_module("xraysynth.conf", version_base="1.3"):
        try:
            dict_config = _compose_with_hydra(hydra_overrides, errors)
        except ConfigError as error:
            raise ConfigError(*name_files([*errors, *error.args], hydra_overrides)) from error
        return validate_config(dict_config, errors, overrides=hydra_overrides)


def _compose_with_hydra(overrides: Sequence[str], errors: list[str]) -> Any:
    """Compose with Hydra; add selections that do not exist to `errors`, and compose without them."""
    import hydra
    from hydra.errors import MissingConfigException

    try:
        return hydra.compose("config", overrides=list(overrides))
    except MissingConfigException as error:
        group, _, option = (error.missing_cfg_file or "").partition("/")
        selection = rf"\+*{group}(@\w+)?=(.*[\[,\s])?{re.escape(option)}([\],\s].*)?"
        wrong_selections = filter(re.compile(selection).fullmatch, overrides)
        wrong_sections = set(map(_top_section, wrong_selections))
        if not wrong_sections:
            raise explain_hydra_error(error) from error
        errors += explain_hydra_error(error).args
        remaining = [word for word in overrides if _top_section(word) not in wrong_sections]
        return _compose_with_hydra(remaining, errors)
    except Exception as error:
        raise explain_hydra_error(error) from error


def _top_section(override: str) -> str:
    """The first part of the name of the option that an override sets or selects."""
    name = override.lstrip("+").partition("=")[0]
    return name.rpartition("@")[2].partition(".")[0]


def validate_config(
    dict_config: Any, earlier_errors: Sequence[str] = (), *, overrides: Sequence[str] = ()
) -> Config:
    """Build the `Config` of a composed DictConfig, and check the plug-ins that it selects.

    Args:
        dict_config: The DictConfig that Hydra has composed.
        earlier_errors: Errors that were found before, to be reported together.
        overrides: Hydra's overrides, by which errors name the file that an experiment comes from.

    Raises:
        ConfigError: Options are unknown, missing or wrong; one line for each of them.
    """
    from omegaconf import OmegaConf

    try:
        missing = sorted(OmegaConf.missing_keys(dict_config))
        with _environment_refused():
            values = decode_keys(OmegaConf.to_container(dict_config, resolve=True))
        values = _drop_unselected(values)
        label_errors = list(_read_label_files(values))
    except Exception as error:
        raise explain_hydra_error(error) from error
    errors = [*earlier_errors, *label_errors]
    for name in missing:
        errors.append(f"{name} must be given; add '{name}=…'")
    config = None
    try:
        config = from_options(Config, with_current_names(values))
    except ConfigError as error:
        errors += error.args
    errors += _plugin_errors(values)
    errors += _secret_errors(values)
    if errors or config is None:
        raise ConfigError(*name_files(errors, overrides))
    return config


@contextmanager
def _environment_refused() -> Iterator[None]:
    """Refuse variables of the environment in a configuration, whose values run.json would record."""
    from omegaconf import OmegaConf
    from omegaconf.resolvers import oc

    def refuse(variable: str, *default: Any) -> None:
        raise ConfigError(
            f"${{oc.env:{variable}}} is refused, as run.json would record the variable's value; give the "
            f"value itself, or let the shell put it in: option=${variable} (a key is read from the "
            "variable that an option such as api_key_env names)"
        )

    OmegaConf.register_new_resolver("oc.env", refuse, replace=True)
    try:
        yield
    finally:
        OmegaConf.register_new_resolver("oc.env", oc.env, replace=True)


def require_no_key(arguments: Sequence[str]) -> None:
    """Require that no argument of the command line holds a key; a multirun writes them all to a file.

    Raises:
        ConfigError: An argument has the form of a key, which the message does not repeat.
    """
    names = [word.partition("=")[0] for word in arguments if has_key(word)]
    if names:
        raise ConfigError(*map(_key_error, names))


def _secret_errors(values: Any) -> Iterator[str]:
    """The errors of options that hold a key."""
    keys = [os.environ.get(variable, "") for variable in key_variables(values)]
    keys = [key for key in keys if len(key) >= MIN_SECRET_LENGTH]
    for name, text in iterate_texts(values):
        if has_key(text) or any(key in text for key in keys):
            yield _key_error(name)


def _key_error(name: str) -> str:
    return (
        f"{name} holds a key, which run.json would record; remove it, and let an option such as "
        "generator.dalle.api_key_env name the environment variable that holds the key"
    )


def _plugin_errors(values: Any) -> Iterator[str]:
    """The errors of building every selected plug-in."""
    group_of_section = {
        **dict(zip(PLUGIN_GROUPS, PLUGIN_GROUPS, strict=True)),
        TEST_SOURCE: "source",
    }
    for section, group in group_of_section.items():
        nodes = _nodes(values, section)
        selected = [key for key, node in nodes if isinstance(node, dict) and "_target_" in node]
        for key, node in nodes:
            try:
                build_plugin(group, key, node, selected_as=section, others=selected)
            except ConfigError as error:
                yield from error.args


def _nodes(values: Any, section: str) -> list[tuple[str, Any]]:
    """Key and options of each plug-in in a section; none where the section is no mapping."""
    nodes = values.get(section)
    return list(nodes.items()) if isinstance(nodes, dict) else []


OPTIONAL_KEY = "_optional_"
"""Key by which an experiment says that options of a plug-in hold only where it is selected."""


def _drop_unselected(values: Any) -> Any:
    """Drop the options that an experiment sets for plug-ins that are not selected (`OPTIONAL_KEY`)."""
    for group in PLUGIN_GROUPS:
        for key, node in _nodes(values, group):
            is_optional = isinstance(node, dict) and node.pop(OPTIONAL_KEY, False)
            if is_optional and "_target_" not in node:
                del values[group][key]
    return values


def _read_label_files(values: Any) -> Iterator[str]:
    """Put the labels in place of the files that name them; yield the errors of files.

    So a run records the labels, and they are its identity, not the name of their file.
    """
    from xraysynth.data.label_files import read_labels

    for section in PLUGIN_SECTIONS:
        for key, node in _nodes(values, section):
            if not isinstance(node, dict) or not isinstance(node.get("labels"), str):
                continue
            file, node["labels"] = node["labels"], {}
            try:
                node["labels"] = read_labels(file, f"{section}.{key}.labels")
            except ConfigError as error:
                yield from error.args


def explain_hydra_error(error: BaseException) -> ConfigError:
    """Explain an error of Hydra in one line, with the full name of the option and the nearest right one."""
    from hydra.errors import MissingConfigException
    from omegaconf.errors import ConfigKeyError, OmegaConfBaseException

    if isinstance(error, MissingConfigException):
        group, _, option = (error.missing_cfg_file or "").partition("/")
        if group in CONFIG_GROUPS:
            return unknown_selection_error(group, option)
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, OmegaConfBaseException):
        cause = cause.__cause__
    if cause is None:  # the message is Hydra's own
        return ConfigError(str(error).strip().replace("argument '++", "argument '"))
    name = str(cause.full_key or "")
    if isinstance(cause, ConfigKeyError) or "not in" in str(cause):
        siblings = map(str, cause.parent_node or {})
        return ConfigError(format_unknown_option(name, siblings))
    message = str(cause.msg or cause).splitlines()[0]
    message = message.removeprefix("ConfigError raised while resolving interpolation: ")
    return ConfigError(f"{name}: {message}")
