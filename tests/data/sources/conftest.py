"""What the tests of sources share."""

from pathlib import Path

import pytest

CONF = Path(__file__).resolve().parents[3] / "conf" / "source"


@pytest.fixture
def preset(tmp_path):
    """A function from the name of a preset to its source, with `paths.data` a temporary folder."""
    from hydra.utils import instantiate
    from omegaconf import OmegaConf

    def build(name, **overrides):
        config = OmegaConf.merge(
            {"paths": {"data": str(tmp_path)}},
            OmegaConf.load(CONF / f"{name}.yaml"),
            {name: overrides},
        )
        source = instantiate(config[name], _convert_="all")
        assert source.name == name
        return source

    return build
