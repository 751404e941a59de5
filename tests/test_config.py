import inspect
import re

import pytest
import yaml

from xraysynth import compose
from xraysynth.config import PLUGIN_GROUPS, Config, list_group_options
from xraysynth.errors import ConfigError, XraysynthError
from xraysynth.evaluation.recipe import ENCODERS
from xraysynth.usage import CONFIG_GROUPS, stage_help

SOURCES, GENERATORS = list_group_options("source"), list_group_options("generator")
MUST = re.compile(r"(\S+) must be given")


def filled(*overrides):
    """Compose, giving every value that must be given."""
    overrides = list(overrides)
    for _ in range(10):
        try:
            return compose(overrides)
        except ConfigError as error:
            found = MUST.search(str(error))
            if not found:
                raise
            overrides.append(f"{found[1]}=given")
    raise AssertionError("more than ten values must be given")


@pytest.mark.parametrize(
    ("group", "option"), [(g, o) for g in CONFIG_GROUPS for o in list_group_options(g)]
)
def test_every_option_of_every_group_composes_and_binds_to_its_target(group, option):
    config = filled(f"{group}={option}")
    assert isinstance(config, Config)
    if group in PLUGIN_GROUPS:
        assert list(getattr(config, group)) == [option]


def test_sources_and_generators_can_be_selected_together():
    config = filled(f"source=[{','.join(SOURCES)}]", f"generator=[{','.join(GENERATORS)}]")
    assert set(config.source) == set(SOURCES)
    assert (
        len(config.sources()) == len({source.name for source in config.sources()}) == len(SOURCES)
    )
    assert len(config.generators()) == len(GENERATORS)


@pytest.mark.parametrize(
    ("group", "option"), [(g, o) for g in PLUGIN_GROUPS for o in list_group_options(g)]
)
@pytest.mark.parametrize("prefix", ["", "+", "++"])
def test_a_misspelt_argument_of_any_plugin_is_refused(group, option, prefix):
    with pytest.raises(ConfigError, match=f"{group}.{option}.nmae"):
        filled(f"{group}={option}", f"{prefix}{group}.{option}.nmae=x")


def test_an_experiment_has_options_ready_for_generators_that_may_be_selected():
    config = compose(["experiment=smoke"])
    assert list(config.generators()) == ["stable_diffusion", "sd_lora"]
    config = compose(["experiment=smoke", "generator=[stable_diffusion,sd_turbo]"])
    assert list(config.generators()) == ["stable_diffusion", "sd_turbo"]
    assert config.generators()["stable_diffusion"].steps == 4
    with pytest.raises(ConfigError, match="sd_lora is set, but generator=sd_lora is not selected"):
        compose(["generator.sd_lora.steps=4"])


def test_pretraining_may_stop_early_and_keep_the_best():
    for option in ("trainer.patience=3", "trainer.keep=best"):
        config = compose(["data.mode=pretrain", "data.synthetic_fraction=0.5", option])
        assert config.data.mode.value == "pretrain"


def test_test_sources_are_chosen_among_the_sources_and_apart_from_them():
    assert compose().test_sources() == []
    one = compose(
        [
            *("source=folder", "source.folder.root=here"),
            *(
                "test_source=folder",
                "test_source.folder.root=there",
                "test_source.folder.name=other",
            ),
        ]
    )
    assert [(s.name, s.root) for s in one.sources()] == [("folder", "here")]
    assert [(s.name, s.root) for s in one.test_sources()] == [("other", "there")]
    two = compose(["test_source=[montgomery,shenzhen]", "test_source.shenzhen.root=x"])
    assert [s.name for s in two.test_sources()] == ["montgomery", "shenzhen"]
    assert two.test_sources()[1].root == "x"
    assert [s.name for s in two.sources()] == ["simulated"]
    with pytest.raises(ConfigError, match=r"test_source\.folder\.nmae"):
        compose(["test_source=folder", "test_source.folder.root=x", "test_source.folder.nmae=x"])


def test_weights_are_given_by_encoder():
    one = compose(["evaluate.weights.inception=a.pth", "evaluate.weights.xrv=b"])
    assert one.evaluate.weights == {"inception": "a.pth", "xrv": "b"}
    assert compose(["evaluate.weights={inception: a.pth}"]).evaluate.weights == {
        "inception": "a.pth"
    }


def test_known_encoders_are_those_that_can_be_built():
    from xraysynth.evaluation import encoders

    assert set(ENCODERS) == set(encoders.NAMES)


def test_yaml_files_restate_no_default():
    """One home per fact: a value in a yaml differs from the constructor's."""
    from hydra.utils import get_class

    for group in PLUGIN_GROUPS:
        for option in list_group_options(group):
            node = yaml.safe_load(_text(group, option))[option]
            signature = inspect.signature(get_class(node.pop("_target_")))
            same = {k: v for k, v in node.items() if signature.parameters[k].default == v}
            assert not same, f"{group}/{option}.yaml restates {same}"


def _text(group, option):
    from importlib.resources import files

    return (files("xraysynth.conf") / group / f"{option}.yaml").read_text()


def test_no_secret_has_a_place_in_the_configuration():
    names = re.findall(r"\w*(?:key|token|secret|password)\w*", str(compose().to_dict()).lower())
    assert names == []


def test_presets_say_where_they_looked_and_how_to_get_the_data(tmp_path):
    for option in set(SOURCES) - {"simulated"}:
        overrides = [f"source={option}", f"paths.data={tmp_path}/nothing"]
        (source,) = filled(*overrides).sources()
        with pytest.raises(XraysynthError, match=r"nothing|given"):
            source.rows()


def test_the_help_of_every_stage_lists_its_options():
    from xraysynth.cli import STAGES

    for stage in STAGES:
        text = stage_help(stage)
        assert f"usage: xraysynth {stage}" in text
        assert "source: " in text
        assert max(map(len, text.splitlines())) < 2000
