"""The classes of the plug-ins that a command line selects, known before Hydra composes it."""

from collections.abc import Sequence
from functools import cache, cached_property
from importlib.resources import files
from typing import Any

from xraysynth.config import PLUGIN_GROUPS, TEST_SOURCE, current_name, list_group_options
from xraysynth.config_store import register_schema
from xraysynth.quoting import split_sweep


class PluginClasses:
    """Finds the class of a plug-in by section and key.

    Args:
        overrides: Overrides of the command line, which may name classes or select an experiment that does.
    """

    def __init__(self, overrides: Sequence[str]) -> None:
        self.overrides = tuple(overrides)

    def find(self, section: str, key: str) -> Any:
        """Return the class of a plug-in; None if the key is unknown or its class cannot be imported.

        Args:
            section: "source", "test_source" or "generator".
            key: Its key in the section, mostly the name of an option of the group.
        """
        group = "source" if section == TEST_SOURCE else section
        target = self._given_target(section, key)
        if not target and key in list_group_options(group):
            target = _group_target(group, key)
        if not target:
            target = self._composed_targets.get((group, key), "")
        return _import_class(current_name(target, warn=False)) if target else None

    def _given_target(self, section: str, key: str) -> str:
        """The class that the command line names; "" if it names none."""
        start = f"{section}.{key}._target_="
        given = ""
        for word in self.overrides:
            if word.lstrip("+").startswith(start):
                given = word.lstrip("+").removeprefix(start).strip("'\"")
        return given

    @cached_property
    def _composed_targets(self) -> dict[tuple[str, str], str]:
        """(group, key) -> class, of the plug-ins that a selected experiment brings under its own keys."""
        targets: dict[tuple[str, str], str] = {}
        for word in self.overrides:
            name, _, experiments = word.lstrip("+").partition("=")
            for experiment in split_sweep(experiments) if name == "experiment" else ():
                targets |= _targets_of_experiment(experiment)
        return targets


def _targets_of_experiment(experiment: str) -> dict[tuple[str, str], str]:
    """(group, key) -> class of every plug-in that an experiment selects; empty if it cannot be composed."""
    import hydra

    register_schema()
    try:
        with hydra.initialize_config_module("xraysynth.conf", version_base="1.3"):
            composed = hydra.compose("config", overrides=[f"experiment={experiment}"])
    except Exception:  # which composing everything will report
        return {}
    targets = {}
    for group in PLUGIN_GROUPS:
        for key, node in composed[group].items():
            targets[group, key] = str(node.get("_target_", ""))
    return targets


@cache
def _group_target(group: str, key: str) -> str:
    """The class in the yaml of a group's option."""
    import yaml

    text = (files("xraysynth.conf") / group / f"{key}.yaml").read_text(encoding="utf-8")
    node = yaml.safe_load(text).get(key, {})
    return str(node.get("_target_", ""))


def _import_class(target: str) -> Any:
    from hydra.utils import get_class

    try:
        return get_class(target)
    except Exception:  # the import of a module may raise anything; `build_plugin` reports it
        return None
