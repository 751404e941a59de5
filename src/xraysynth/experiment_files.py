"""A person's own yaml file as an experiment: `xraysynth study experiment=./mine.yaml`.

The file says what the command line says: options by name (`source.folder.root: ~/x`) or in their sections,
`source: folder` or `generator: [a, b]` to
select from a group, and `experiment: quickstart` to extend an experiment, a shipped one or another file.
Hydra's `defaults` work as well.
"""

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from xraysynth.config import CONFIG_GROUPS, PLUGIN_GROUPS, TEST_SOURCE
from xraysynth.errors import ConfigError
from xraysynth.option_types import OTHER, find_option, value_type
from xraysynth.options import expand_path
from xraysynth.plugin_classes import PluginClasses
from xraysynth.quoting import convert_texts, node_text
from xraysynth.yaml_texts import load_yaml

_MARK = "file__"
"""Begins the name under which Hydra knows a file; its path follows as the hex digits of its UTF-8 bytes."""

SUFFIXES = (".yaml", ".yml")


def is_experiment_file(selection: str) -> bool:
    """Whether `experiment=…` names a file, instead of an experiment that the package brings."""
    return selection.endswith(SUFFIXES)


def register_experiment_file(path: str) -> str:
    """Register a yaml file with Hydra, and the files that it extends; return its name in `experiment=`.

    Args:
        path: The path as the user has written it; a leading ~ is the home folder.

    Raises:
        ConfigError: The file is missing, or it is no mapping of options in yaml.
    """
    return _register(path, expand_path(path), ())


def experiment_path(name: str) -> str:
    """Return the path that `register_experiment_file` got, by the name that it returned; "" for others."""
    if not re.fullmatch(rf"{_MARK}([0-9a-f]{{2}})+", name):
        return ""
    return bytes.fromhex(name.removeprefix(_MARK)).decode("utf-8", "surrogateescape")


def name_files(errors: Sequence[str], overrides: Sequence[str]) -> list[str]:
    """Add to errors the file that gives the option which they name.

    Args:
        errors: Errors on options, each with the option's full name.
        overrides: Hydra's overrides, of which one may select a registered file. What else they give is none
            of the file's.
    """
    given = {word.lstrip("+").partition("=")[0] for word in overrides}
    paths: dict[str, str] = {}
    for word in overrides:
        for name in re.findall(rf"{_MARK}[0-9a-f]+", word) if "experiment=" in word else ():
            paths |= dict.fromkeys(list_names(name) - given, experiment_path(name))
    return [_name_file(error, paths) for error in errors]


def _name_file(error: str, paths: Mapping[str, str]) -> str:
    for name in sorted(paths, key=len, reverse=True):
        if re.search(rf"(?<![\w.]){re.escape(name)}(?!\w|\.\w)", error.partition(";")[0]):
            return f"{error} (it stands in {paths[name]})"
    return error


def list_names(name: str) -> set[str]:
    """List the full names of the options and selections that a registered file gives itself."""
    from hydra.core.config_store import ConfigStore
    from omegaconf import OmegaConf

    node = ConfigStore.instance().load(f"experiment/{name}.yaml").node
    values: Any = OmegaConf.to_container(node)
    names = set(_flatten(values, ""))
    for default in values.get("defaults", []):
        if isinstance(default, dict):
            names |= {key.removeprefix("override /").rpartition("@")[2] for key in default}
    return names


def _flatten(values: Any, name: str) -> Iterator[str]:
    if name:
        yield name
    for key, value in values.items() if isinstance(values, dict) else ():
        yield from _flatten(value, f"{name}.{key}" if name else str(key))


def _register(written: str, path: Path, extended_by: Sequence[Path]) -> str:
    from hydra.core.config_store import ConfigStore

    if path in extended_by:
        raise ConfigError(
            f"experiment={written}: the file extends itself; remove it from its bases"
        )
    node = _load(_read(written, path), written)
    node["defaults"] = _read_defaults(node, path, (*extended_by, path))
    node = _with_sections(node)
    name = _MARK + written.encode("utf-8", "surrogateescape").hex()
    ConfigStore.instance().store(name, node, group="experiment", package="_global_")
    return name


def _load(text: str, written: str) -> dict[str, Any]:
    """Load the options of a file; those that are declared as text are taken as they are written."""
    as_texts = load_yaml(text, written) or {}
    if not isinstance(as_texts, dict):
        raise ConfigError(f"experiment={written}: a file of options has lines such as 'seed: 1'")
    classes = PluginClasses(list(_class_overrides(as_texts)))

    def is_text(keys: Sequence[str]) -> bool:
        option = find_option(".".join(keys), classes.find)
        return option is not None and value_type(option.annotation) != OTHER

    values: dict[str, Any] = convert_texts(load_yaml(text, written, is_text) or {}, node_text)
    return values


def _with_sections(values: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a file, of which those with a full name (`source.folder.root`) are in their sections."""
    nested = {name: value for name, value in values.items() if "." not in name}
    for full_name, value in values.items():
        if "." not in full_name:
            continue
        *sections, name = full_name.split(".")
        section = nested
        for part in sections:
            section = section.setdefault(part, {})
            if not isinstance(section, dict):
                raise ConfigError(f"{full_name} cannot be set, as {part} is no section of options")
        section[name] = value
    return nested


def _class_overrides(values: Mapping[str, Any]) -> Iterator[str]:
    """Overrides with the classes of the plug-ins that a file brings under keys of its own."""
    for section in (*PLUGIN_GROUPS, TEST_SOURCE):
        nodes = values.get(section)
        for key, node in nodes.items() if isinstance(nodes, dict) else ():
            if isinstance(node, dict) and "_target_" in node:
                yield f"{section}.{key}._target_={node['_target_']}"


def _read(written: str, path: Path) -> str:
    if not path.is_file():
        raise _missing_file_error(written, path)
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"experiment={written}: {error.reason}; save it as a text in UTF-8"
        ) from error
    except OSError as error:
        raise ConfigError(f"experiment={written}: {error.strerror}; make it readable") from error


def _missing_file_error(written: str, path: Path) -> ConfigError:
    folder = path.parent
    files = folder.iterdir() if folder.is_dir() else []
    names = [file.name for file in files if file.suffix in SUFFIXES]
    close = difflib.get_close_matches(path.name, names, n=1, cutoff=0.5)
    hint = f"; did you mean {str(Path(written).parent / close[0])!r}?" if close else ""
    return ConfigError(f"experiment={written}: there is no such file in {folder.absolute()}{hint}")


def _read_defaults(values: dict[str, Any], path: Path, extended_by: Sequence[Path]) -> list[Any]:
    """Hydra's defaults list of a file: what it extends, then what it selects from groups."""
    written = values.pop("defaults", [])
    if not isinstance(written, list):
        raise ConfigError(
            f"{path}: defaults must be a list; write 'experiment: quickstart' instead"
        )
    entries = list(written)
    for group in (*CONFIG_GROUPS, TEST_SOURCE):
        if isinstance(values.get(group), str | list):
            entries.append({group: values.pop(group)})
    defaults: list[Any] = []
    for entry in entries:
        defaults += _read_default(entry, path, extended_by)
    return sorted(defaults, key=lambda entry: isinstance(entry, dict))  # Hydra wants overrides last


def _read_default(entry: Any, path: Path, extended_by: Sequence[Path]) -> list[Any]:
    """One entry of a defaults list; a group that the root configuration has is overridden."""
    if isinstance(entry, str):
        return [_read_base(entry, path, extended_by)]
    if not (isinstance(entry, Mapping) and len(entry) == 1):
        return [entry]
    ((key, selection),) = entry.items()
    group = str(key).removeprefix("override ").lstrip("/")
    if group == "experiment":
        names = [selection] if isinstance(selection, str) else selection
        return [_read_base(name, path, extended_by) for name in names]
    if group == TEST_SOURCE:
        group = f"source@{TEST_SOURCE}"
    if group.partition("@")[0] not in CONFIG_GROUPS:
        return [entry]
    is_plugin_name = group.partition("@")[0] in PLUGIN_GROUPS and isinstance(selection, str)
    return [{f"override /{group}": [selection] if is_plugin_name else selection}]


def _read_base(name: str, path: Path, extended_by: Sequence[Path]) -> str:
    """The entry of an experiment to extend; a file is looked for beside the one that extends it."""
    if not is_experiment_file(name):
        return name
    base = path.parent / expand_path(name)
    return "/experiment/" + _register(str(base), base, extended_by)
