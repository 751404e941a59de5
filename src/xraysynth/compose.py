"""Composing a configuration from words, checking it, and explaining what is wrong."""

import difflib
import re
from collections.abc import Sequence
from dataclasses import fields
from importlib.resources import files
from typing import Any

from xraysynth.config import PLUGINS, TEST_SOURCE, Config, options
from xraysynth.errors import ConfigError


def checked(composed: Any) -> Config:
    """A composed DictConfig as a `Config`: unknown keys, wrong types and unbound plug-ins raise.

    Hydra alone lets an unknown root key of an experiment pass, so everything is merged once more into
    a fresh schema.
    """
    from omegaconf import OmegaConf

    try:
        values = _of_selected(OmegaConf.to_container(composed, resolve=True))
        config = OmegaConf.to_object(OmegaConf.merge(schema(Config), values))
    except ConfigError:
        raise
    except Exception as error:
        raise explained(error) from error
    assert isinstance(config, Config)
    config.sources()
    config.test_sources()
    config.generators()
    return config


OPTIONAL = "_optional_"
"""Key by which an experiment says that options of a plug-in hold only where it is selected."""


def _of_selected(values: Any) -> Any:
    """Without the options that an experiment has ready for plug-ins that are not selected."""
    for group in PLUGINS:
        nodes = dict(values.get(group) or {})
        for key, node in nodes.items():
            optional = isinstance(node, dict) and node.pop(OPTIONAL, False)
            if optional and "_target_" not in node:
                del values[group][key]
    return values


def schema(record: type) -> Any:
    """A frozen dataclass as a typed DictConfig that values can still be merged into."""
    from omegaconf import OmegaConf

    node = OmegaConf.structured(record)
    _unfreeze(node)
    return node


def _unfreeze(node: Any) -> None:
    """OmegaConf makes frozen dataclasses read-only, and everything merged beside them."""
    from omegaconf import DictConfig, OmegaConf

    OmegaConf.set_readonly(node, None)
    for key in node:
        child = node._get_node(key)
        if isinstance(child, DictConfig) and not child._is_none() and not child._is_missing():
            _unfreeze(child)


def register() -> None:
    """Make the schema known to Hydra; conf/config.yaml starts from it."""
    from hydra.core.config_store import ConfigStore

    ConfigStore.instance().store(name="schema", node=schema(Config))


def compose(overrides: Sequence[str] = ()) -> Config:
    """The configuration of a list of overrides, as the command line would have it."""
    import hydra

    register()
    try:
        with hydra.initialize_config_module("xraysynth.conf", version_base="1.3"):
            return checked(hydra.compose("config", overrides=plugin_overrides(overrides)))
    except ConfigError:
        raise
    except Exception as error:
        raise explained(error) from error


def plugin_overrides(overrides: Sequence[str]) -> list[str]:
    """What Hydra makes of the command line's words.

    Options of plug-ins that their yaml does not mention can be set, and `test_source=…` chooses
    from the group of sources; types are checked later.
    """
    groups = "|".join([*PLUGINS, TEST_SOURCE, "prompts"])
    dicts = r"evaluate\.weights(\.[\w-]+)?|review\.own_questions(\.[\w-]+)*"
    free = re.compile(rf"(({groups})\.[\w-]+(\.[\w.-]+)?|{dicts})=")
    chosen = [re.sub(rf"^{TEST_SOURCE}=", f"source@{TEST_SOURCE}=", text) for text in overrides]
    return [f"++{text}" if free.match(text) else text for text in chosen]


def explained(error: BaseException, prefix: str = "") -> ConfigError:
    """A one-line error with the full name of the option and the nearest right one."""
    from omegaconf.errors import ConfigKeyError, MissingMandatoryValue, OmegaConfBaseException

    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, OmegaConfBaseException):
        cause = cause.__cause__
    if cause is None:
        return ConfigError(_nearest_option(str(error).strip()))
    name = ".".join(part for part in (prefix, str(cause.full_key or "")) if part)
    if isinstance(cause, MissingMandatoryValue):
        return ConfigError(f"{name} must be given; add '{name}=…'")
    if isinstance(cause, ConfigKeyError) or "not in" in str(cause):
        return ConfigError(_unknown(name, cause))
    first = str(cause.msg or cause).splitlines()[0]
    return ConfigError(f"{name}: {first}")


def _unknown(name: str, cause: Any) -> str:
    known = _known_names(name, cause)
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    nearest = f"; did you mean {close[0]!r}?" if close else f"; there is {', '.join(known)}"
    return f"there is no option {name!r}{nearest}"


def _known_names(name: str, cause: Any) -> list[str]:
    parent, _, _ = name.rpartition(".")
    owner = cause.object_type if isinstance(cause.object_type, type) else None
    try:
        names = [f.name for f in fields(owner)]  # type: ignore[arg-type]
    except TypeError:
        names = [str(key) for key in (cause.parent_node or {})]
    return [f"{parent}.{n}" if parent else n for n in names]


def _nearest_option(message: str) -> str:
    """Hydra's message on an unknown group option, shortened, with the nearest name."""
    found = re.search(r"Could not find '([\w-]+)/([\w.-]+)'", message)
    if not found or found[1] not in {p.name for p in files("xraysynth.conf").iterdir()}:
        return message
    group, option = found.groups()
    close = difflib.get_close_matches(option, options(group), n=1, cutoff=0.5)
    nearest = f"; did you mean {close[0]!r}?" if close else ""
    return (
        f"{group}={option}: there is no such option{nearest} (there is {', '.join(options(group))})"
    )
