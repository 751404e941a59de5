"""What is said of a selection from a group that the group does not have."""

from pathlib import Path

from xraysynth.config import TEST_SOURCE, list_group_options
from xraysynth.errors import ConfigError, did_you_mean
from xraysynth.options import expand_path
from xraysynth.quoting import quote_override


def unknown_selection_error(group: str, option: str) -> ConfigError:
    """Return the error on a selection that its group does not have, with the nearest that it has."""
    options = list_group_options("source" if group == TEST_SOURCE else group)
    return ConfigError(
        f"{group}={option}: there is no such option"
        f"{how_to_select_file(group, option) or did_you_mean(option, options)}; "
        f"choose one of {', '.join(options)}"
    )


def how_to_select_file(group: str, option: str) -> str:
    """Return the end of a sentence on a selection that is a file or folder; "" if there is none.

    Args:
        group: The group that it was to be selected from; "" for a word without one.
        option: The word that may be a path.
    """
    path = expand_path(option)
    overrides: list[str] = []
    if not group:
        group = "experiment" if path.suffix in (".yaml", ".yml") else "source"
    if group == "experiment" and path.is_file():
        overrides = [quote_override("experiment", option)]
    elif group == "experiment" and Path(f"{path}.yaml").is_file():
        overrides = [quote_override("experiment", f"{option}.yaml")]
    elif group in ("source", TEST_SOURCE) and path.exists():
        key, name = ("folder", "root") if path.is_dir() else ("table", "path")
        overrides = [f"{group}={key}", quote_override(f"{group}.{key}.{name}", option)]
    return f"; write {' '.join(overrides)}" if overrides else ""
