import inspect
import re

import pytest
import yaml

from xraysynth.compose import compose, plugin_overrides
from xraysynth.config import PLUGINS, Config, options
from xraysynth.errors import ConfigError, XraysynthError
from xraysynth.evaluation.recipe import ENCODERS
from xraysynth.usage import GROUPS, stage_help

SOURCES, GENERATORS = options("source"), options("generator")
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


@pytest.mark.parametrize(("group", "option"), [(g, o) for g in GROUPS for o in options(g)])
def test_every_option_of_every_group_composes_and_binds_to_its_target(group, option):
    config = filled(f"{group}={option}")
    assert isinstance(config, Config)
    if group in PLUGINS:
        assert list(getattr(config, group)) == [option]


def test_sources_and_generators_can_be_selected_together():
    config = filled(f"source=[{','.join(SOURCES)}]", f"generator=[{','.join(GENERATORS)}]")
    assert set(config.source) == set(SOURCES)
    assert (
        len(config.sources()) == len({source.name for source in config.sources()}) == len(SOURCES)
    )
    assert len(config.generators()) == len(GENERATORS)


@pytest.mark.parametrize(("group", "option"), [(g, o) for g in PLUGINS for o in options(g)])
@pytest.mark.parametrize("prefix", ["", "+", "++"])
def test_a_misspelt_argument_of_any_plugin_is_refused(group, option, prefix):
    with pytest.raises(ConfigError, match=f"{group}.{option}.nmae"):
        filled(f"{group}={option}", f"{prefix}{group}.{option}.nmae=x")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("sede=1", "did you mean 'seed'"),
        ("+sede=1", "did you mean 'seed'"),
        ("+typo=1", "no option 'typo'"),
        ("trainer.max_step=3", "did you mean 'trainer.max_steps'"),
        ("+trainer.max_step=3", "did you mean 'trainer.max_steps'"),
        ("source.simulated.sede=3", "did you mean 'source.simulated.seed'"),
        ("seed=abc", "seed: .*abc"),
        ("source.simulated.seed=abc", "source.simulated.seed: .*abc"),
        ("generator=stable_difusion", "did you mean 'stable_diffusion'"),
        ("source=tabel", "did you mean 'table'"),
        ("generaotr=x", "did you mean 'generator'"),
        ("data.mode=replac", "replace, add, pretrain"),
        ("data.control=none_", "none, duplicate, permuted"),
        ("data.control=duplicate", r"data.share=0 has none"),
        ("data.real_fraction=0", r"data.real_fraction must lie in \(0, 1\]; got 0"),
        ("data.share=1.5", r"data.share must lie in \[0, 1\]; got 1.5"),
        ("classes=[a]", "classes must name two or more"),
        ("classes=[a,a]", "different classes"),
        ("size_px=4", "size_px must be at least 16"),
        ("splits.test_fraction=0.9", "sum to less than 1"),
        ("generate.per_class=0", "generate.per_class must be at least 1"),
        ("shard.index=2", r"shard.index must lie in \[0, shard.count\); got 2 of 1"),
        ("shard.count=0", r"shard.index must lie in \[0, shard.count\); got 0 of 0"),
        ("generate.shard_count=2", "there is no option 'generate.shard_count'"),
        ("evaluate.encoders=[resnet]", "evaluate.encoders must be among"),
        ("evaluate.encoders=[inceptio]", "did you mean 'inception'"),
        (
            "evaluate.weights.rad_dinno=x",
            "evaluate.weights must be among .*did you mean 'rad_dino'",
        ),
        ("evaluate.splits=1", "evaluate.splits must be at least 2; got 1"),
        ("evaluate.replicates=0", "evaluate.replicates must be at least 1"),
        ("evaluate.size_px=4", "evaluate.size_px must be at least 16"),
        ("study.seeds=[]", "study.seeds must hold at least one"),
        ("study.name=a/b", "study.name is used as a folder name"),
        ("study.shares=[a]", "study.shares"),
        ("study.shares=[2]", r"study.shares must lie in \[0, 1\]"),
        ("study.modes=[replac]", "study.modes must be among .*did you mean 'replace'"),
        ("study.modes=[]", "study.modes must hold at least one"),
        ("study.controls=[none]", "study.controls must be among duplicate, permuted"),
        ("study.real_fractions=[0]", r"study.real_fractions must lie in \(0, 1\]"),
        ("study.real_fractions=[]", "study.real_fractions must hold at least one"),
        ("source.table.path=x", "source=table is not selected"),
        ("source=table", "source.table.path must be given"),
        ("test_source=tabel", "did you mean 'table'"),
        ("test_source=table", "test_source.table.path must be given"),
        ("test_source.table.path=x", "select it with 'test_source=table'"),
    ],
)
def test_a_wrong_option_is_refused_with_the_remedy(override, message):
    with pytest.raises(ConfigError, match=message):
        compose([override])


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
        config = compose(["data.mode=pretrain", "data.share=0.5", option])
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


def test_the_words_of_a_test_source_can_be_typed_again():
    typed = plugin_overrides(["test_source=table", "test_source.table.path=x"])
    assert compose([text.removeprefix("++") for text in typed]).test_source["table"]["path"] == "x"


def test_weights_are_given_by_encoder():
    one = compose(["evaluate.weights.inception=a.pth", "evaluate.weights.xrv=b"])
    assert one.evaluate.weights == {"inception": "a.pth", "xrv": "b"}
    assert compose(["evaluate.weights={inception: a.pth}"]).evaluate.weights == {
        "inception": "a.pth"
    }


def test_known_encoders_are_those_that_can_be_built():
    from xraysynth.evaluation import encoders

    assert set(ENCODERS) == set(encoders.NAMES)


@pytest.fixture
def experiment(tmp_path, monkeypatch):
    """Compose with an experiment file of one's own, from a folder outside the package."""

    def composed(text):
        (tmp_path / "experiment").mkdir(exist_ok=True)
        (tmp_path / "experiment" / "mine.yaml").write_text("# @package _global_\n" + text)
        return compose(["experiment=mine", f"hydra.searchpath=[file://{tmp_path}]"])

    return composed


def test_an_experiment_outside_the_package_works(experiment):
    assert experiment("seed: 5\n").seed == 5
    chosen = "defaults:\n  - override /source@test_source: [montgomery]\nsize_px: 32\n"
    assert list(experiment(chosen).test_source) == ["montgomery"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sede: 1\n", "sede"),
        ("trainer: {max_step: 1}\n", "trainer.max_step"),
        ("seed: abc\n", "seed"),
        ("source: {simulated: {sede: 1}}\n", "source.simulated.sede"),
        ("data: {share: lots}\n", "data.share"),
    ],
)
def test_a_mistake_in_an_experiment_file_is_refused(experiment, text, message):
    with pytest.raises(ConfigError, match=message):
        experiment(text)


def test_yaml_files_restate_no_default():
    """One home per fact: a value in a yaml differs from the constructor's."""
    from hydra.utils import get_class

    for group in PLUGINS:
        for option in options(group):
            node = yaml.safe_load(_text(group, option))[option]
            signature = inspect.signature(get_class(node.pop("_target_")))
            same = {k: v for k, v in node.items() if signature.parameters[k].default == v}
            assert not same, f"{group}/{option}.yaml restates {same}"


def _text(group, option):
    from importlib.resources import files

    return (files("xraysynth.conf") / group / f"{option}.yaml").read_text()


def test_no_secret_has_a_place_in_the_configuration():
    names = re.findall(r"\w*(?:key|token|secret|password)\w*", str(compose().plain()).lower())
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


def test_a_plugin_named_by_its_old_place_is_found_with_a_warning():
    from xraysynth.config import _current_target

    old = "xraysynth.generators.sd_lora.SdLora"
    new = "xraysynth.generation.generators.sd_lora.SdLora"
    with pytest.warns(FutureWarning, match=f"write _target_: {new}"):
        assert _current_target(old) == new
    assert _current_target(new) == new
