"""What the tests of data share."""

from pathlib import Path

import pytest

CONF = Path(__file__).resolve().parents[2] / "conf" / "source"


@pytest.fixture
def preset(tmp_path):
    """A function from the name of a preset to its source, with `paths.data` a temporary folder."""
    from omegaconf import OmegaConf

    from xraysynth.config import build_plugin

    def build(name, **overrides):
        config = OmegaConf.merge(
            {"paths": {"data": str(tmp_path)}},
            OmegaConf.load(CONF / f"{name}.yaml"),
            {name: overrides},
        )
        node = OmegaConf.to_container(config[name], resolve=True)
        source = build_plugin("source", name, node)
        assert source.name == name
        return source

    return build
