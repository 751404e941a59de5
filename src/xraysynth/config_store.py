"""What is registered with Hydra, besides the yaml files of the package: the schema of all options."""

from xraysynth.config import DEPRECATED_NAMES, Config
from xraysynth.records import to_json


def _register_resolver() -> None:
    """Register what conf/config.yaml writes the folder of a multirun with, in every process of its jobs."""
    from omegaconf import OmegaConf

    from xraysynth.options import expand_path

    def expand(path: str) -> str:
        return str(expand_path(path))

    OmegaConf.register_new_resolver("home_expanded", expand, replace=True)


_register_resolver()


def register_schema() -> None:
    """Register the default options with Hydra under the name that conf/config.yaml refers to."""
    from hydra.core.config_store import ConfigStore

    defaults = to_json(Config())
    # Without a default, an option under a present name is one that the user has set: only then is the
    # deprecated name a second value for it.
    for current in DEPRECATED_NAMES.values():
        section, _, name = current.rpartition(".")
        options = defaults.get(section, {}) if section else defaults
        options.pop(name, None)
    ConfigStore.instance().store(name="schema", node=defaults)
