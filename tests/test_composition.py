"""What is wrong in a configuration is named: every option of it, with rule, value and remedy."""

import pytest
from command import xraysynth

from xraysynth.composition import compose
from xraysynth.config import DEPRECATED_NAMES, Config, Study, current_name, with_deprecated_names
from xraysynth.data.sources.simulated import Simulated
from xraysynth.errors import ConfigError
from xraysynth.generation.generators.dalle import Dalle
from xraysynth.generation.lora.recipe import LoraRecipe
from xraysynth.overrides import to_hydra_overrides
from xraysynth.seeds import digest
from xraysynth.training.recipe import DataRecipe, TrainerRecipe


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("sede=1", "did you mean 'seed'"),
        ("+sede=1", "did you mean 'seed'"),
        ("+typo=1", "no option 'typo'"),
        ("trainer.max_step=3", "did you mean 'trainer.max_steps'"),
        ("+trainer.max_step=3", "did you mean 'trainer.max_steps'"),
        ("source.simulated.sede=3", "did you mean 'source.simulated.seed'"),
        ("seed=abc", "seed must be a valid integer; got 'abc'"),
        ("source.simulated.seed=abc", "source.simulated.seed must be a valid integer; got 'abc'"),
        ("generator=stable_difusion", "did you mean 'stable_diffusion'"),
        ("source=tabel", "did you mean 'table'"),
        ("generaotr=x", "did you mean 'generator'"),
        ("data.mode=replac", "replace, add, pretrain"),
        ("data.control=none_", "none, duplicate, permuted"),
        ("data.control=duplicate", r"data.synthetic_fraction=0 has none"),
        ("data.real_fraction=0", r"data.real_fraction must lie in \(0, 1\]; got 0"),
        ("data.synthetic_fraction=1.5", r"data.synthetic_fraction must lie in \[0, 1\]; got 1.5"),
        ("classes=[a]", "classes must name two or more"),
        ("classes=[a,a]", "different classes"),
        ("size_px=4", "size_px must be at least 16"),
        ("splits.test_fraction=0.9", "sum to less than 1"),
        ("generate.per_class=0", "generate.per_class must be at least 1"),
        ("generate.budget_usd=inf", "generate.budget_usd must be at most 1,000,000 dollars"),
        ("shard.index=2", r"shard.index must lie in \[0, shard.count\); got 2 of 1"),
        ("shard.count=0", r"shard.index must lie in \[0, shard.count\); got 0 of 0"),
        ("generate.shard_count=2", "there is no option 'generate.shard_count'"),
        ("evaluate.encoders=[resnet]", "evaluate.encoders must be one of"),
        ("evaluate.encoders=[inceptio]", "did you mean 'inception'"),
        (
            "evaluate.weights.rad_dinno=x",
            "evaluate.weights must be one of .*did you mean 'rad_dino'",
        ),
        ("evaluate.baseline_splits=1", "evaluate.baseline_splits must be at least 2; got 1"),
        ("evaluate.replicates=0", "evaluate.replicates must be at least 1"),
        ("evaluate.size_px=4", "evaluate.size_px must be at least 16"),
        ("study.seeds=[]", "study.seeds must hold at least one"),
        ("study.until=0", r"study.until must lie in \(0, 1\]"),
        ("study.most_seeds=0", "study.most_seeds must be at least 1"),
        ("study.name=a/b", "study.name must be usable as a folder name"),
        ("study.synthetic_fractions=[a]", "study.synthetic_fractions"),
        ("study.synthetic_fractions=[2]", r"study.synthetic_fractions must lie in \[0, 1\]"),
        ("study.modes=[replac]", "study.modes must be one of .*did you mean 'replace'"),
        ("study.modes=[]", "study.modes must hold at least one"),
        ("study.controls=[none]", "study.controls must be one of duplicate, permuted"),
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


LORA = "generator.sd_lora.lora"

WRONG = {
    "generator=stable_difusion": "generator=stable_difusion: .* did you mean 'stable_diffusion'",
    "seed=abc": "seed must be a valid integer; got 'abc'",
    "trainer.patience=true": "trainer.patience must be a number; got True",
    "study.leave_one_source_out=2": "study.leave_one_source_out must be a valid boolean; got 2",
    "data.synthetic_fraction=1.5": r"data.synthetic_fraction must lie in \[0, 1\]; got 1.5",
    "study.synthetic_fractions=[0,2]": r"study.synthetic_fractions must lie in \[0, 1\]; got 2",
    "trainer.max_step=3": "no option 'trainer.max_step'; did you mean 'trainer.max_steps'",
    "sede=1": "no option 'sede'; did you mean 'seed'",
    "data.mode=replac": "data.mode must be one of replace, add, pretrain; got 'replac'; did you mean",
    "evaluate.encoders=[xrw]": "evaluate.encoders must be one of .* did you mean 'xrv'",
    "splits.test_fraction=0.9": "splits.test_fraction must sum to less than 1",
    "source=[table,simulated]": "source.table.path must be given; add 'source.table.path=…'",
    "source.simulated.sede=1": "no option 'source.simulated.sede'; did you mean",
    "source.simulated.images_per_patient=3": r"images_per_patient must lie in \[1, 2\]; got 3",
    "source.folder.root=x": "source=folder is not selected",
}
"""Words, each wrong in another way, and what is said of it."""


def test_all_wrong_options_are_named_at_once():
    with pytest.raises(ConfigError) as raised:
        compose(list(WRONG))
    first, *lines = str(raised.value).splitlines()
    assert first == f"{len(WRONG)} options are wrong:"
    for message in WRONG.values():
        with pytest.raises(ConfigError, match=message):
            raise raised.value
    assert len(lines) == len(set(lines)) == len(WRONG)


def test_options_deep_in_a_plugin_are_named_with_those_of_the_others():
    words = [f"{LORA}.rank=0", f"{LORA}.rnak=1", f"{LORA}.optimizer=adm", f"{LORA}.precision=8"]
    with pytest.raises(ConfigError) as raised:
        compose(["generator=sd_lora", *words, "trainer.devices=0"])
    assert len(raised.value.args) == len(words) + 1
    for message in (
        f"{LORA}.rank must be at least 1; got 0",
        f"there is no option '{LORA}.rnak'; did you mean '{LORA}.rank'?",
        f"{LORA}.optimizer must be one of adamw, adamw8bit; got 'adm'; did you mean 'adamw'?",
        "trainer.devices must be at least 1; got 0",
    ):
        assert message in raised.value.args


@pytest.mark.parametrize(
    ("build", "messages"),
    [
        (
            lambda: DataRecipe(synthetic_fraction=2, batch_size=0),
            ["data.synthetic_fraction", "data.batch_size"],
        ),
        (lambda: TrainerRecipe(max_steps="x", patience=-1), ["max_steps", "patience"]),
        (
            lambda: LoraRecipe(rank=0, targets=[]),
            ["lora.rank", "lora.targets must hold at least one"],
        ),
        (lambda: Study(name="a/b", seeds=[]), ["study.name", "study.seeds"]),
        (lambda: Simulated(classes=("a",)), ["source.simulated.classes must be one of"]),
        (lambda: Dalle(size="1", attempts=0), ["generator.dalle.size", "generator.dalle.attempts"]),
    ],
)
def test_options_made_in_python_are_checked_as_well(build, messages):
    with pytest.raises(ConfigError) as raised:
        build()
    assert len(raised.value.args) == len(messages)
    for line, message in zip(sorted(raised.value.args), sorted(messages), strict=True):
        assert message in line


NAMED = {
    "study.name={}": "study.name must be usable as a folder name",
    "review.name={}": "review.name must be usable as a folder name",
    "generator.archive.name={}": "generator.archive.name must be usable as a folder name",
    "generator.dalle.name={}": "generator.dalle.name must be usable as a folder name",
    "generator.sd_lora.name={}": "generator.sd_lora.name must be usable as a folder name",
    "generator.stable_diffusion.name={}": "generator.stable_diffusion.name must be usable",
    "source.folder.name={}": "source.folder.name must be usable as a folder name",
    "source.table.name={}": "source.table.name must be usable as a folder name",
    "test_source.dicom.name={}": "test_source.dicom.name must be usable as a folder name",
    "classes=[normal,'{}']": "classes must be usable in file names",
}
"""Every option whose value becomes a folder or a part of a file name, and what is said of a wrong one."""


@pytest.mark.parametrize("name", [".", "..", "../../X", "/srv/x", ".hidden", "a/b", "a\\\\b"])
def test_no_name_leaves_its_folder(name):
    words = [word.format(name) for word in NAMED]
    folders = ["source.folder.root=x", "source.table.path=x", "test_source.dicom.root=x"]
    generators = "generator=[archive,dalle,sd_lora,stable_diffusion]"
    with pytest.raises(ConfigError) as raised:
        compose(["source=[folder,table]", "test_source=dicom", generators, *folders, *words])
    for message in NAMED.values():
        assert any(line.startswith(message) for line in raised.value.args), message
    assert len(raised.value.args) == len(NAMED) + 1  # generator.archive.folder is missing


@pytest.mark.parametrize("section", ["source", "test_source", "generator"])
def test_no_key_of_a_plugin_leaves_its_folder(section):
    with pytest.raises(ConfigError, match=rf"{section} must be usable as a folder name.*'\.\./x'"):
        Config(**{section: {"../x": {"_target_": "x"}}})


@pytest.mark.parametrize("name", ["quickstart", "2024", "size_1.5-b", "sd15_lora"])
def test_a_plain_name_is_a_folder(name):
    assert compose([f"study.name={name}", f"review.name={name}"]).study.name == name
    assert compose(["classes=[normal,Lung Opacity]"]).classes == ["normal", "Lung Opacity"]


def test_what_may_be_a_secret_is_not_repeated():
    words = ["generator.dalle.api_key_env=sk-123", "generator.dalle.base_url=https://a:b@c.org"]
    with pytest.raises(ConfigError) as raised:
        compose(["generator=dalle", *words, "trainer.max_steps=0"])
    assert len(raised.value.args) == 3
    assert "never a key itself" in str(raised.value)
    assert "sk-123" not in str(raised.value)
    assert "a:b" not in str(raised.value)


KEY = "sk-0123456789abcdefghijklmn"
KEYS = [
    KEY,
    "sk-proj-aB_c-0123456789abcdefghij_K-x",
    "hf_0123456789abcdefghijkl",
    "of-a-plain-variable",
]


@pytest.mark.parametrize(
    "words",
    [
        ["paths.data=${oc.env:PLAIN}"],
        ["generator=dalle", "generator.dalle.azure_deployment='${oc.env:MISSING,${oc.env:PLAIN}}'"],
        ["study.name='${oc.decode:${oc.env:PLAIN}}'"],
        ["tracking.tags=[a,'${oc.env:PLAIN}']"],
        [
            "generator=dalle",
            "generator.dalle.api_key_env=PLAIN",
            "prompts.negative=${oc.env:PLAIN}",
        ],
    ],
)
def test_no_variable_of_the_environment_is_recorded(words, monkeypatch):
    monkeypatch.setenv("PLAIN", "verysecret")
    with pytest.raises(ConfigError, match=r"oc\.env:\w+\} is refused, as run\.json") as raised:
        compose(words)
    assert "verysecret" not in str(raised.value)


def test_other_interpolations_work_before_and_after_a_refusal(monkeypatch):
    from omegaconf import OmegaConf

    monkeypatch.setenv("PLAIN", "value")
    with pytest.raises(ConfigError, match="is refused"):
        compose(["paths.data=${oc.env:PLAIN}"])
    assert compose(["paths.data=here", "paths.output=${paths.data}/out"]).paths.output == "here/out"
    assert OmegaConf.create({"a": "${oc.env:PLAIN}"}).a == "value"  # Hydra's own options may use it


@pytest.mark.parametrize(
    ("word", "name"),
    [
        ("generator.dalle.extra_body.user=%s", "generator.dalle.extra_body.user"),
        ("generator.dalle.azure_deployment=x-%s", "generator.dalle.azure_deployment"),
        ("tracking.tags=[a,%s]", "tracking.tags"),
    ],
)
@pytest.mark.parametrize(
    "key",
    [
        KEY,
        "sk-proj-aB_c-0123456789abcdefghij_K-x",
        "hf_0123456789abcdefghijkl",
        "of-a-plain-variable",
    ],
)
def test_no_option_holds_a_key(word, name, key, monkeypatch):
    monkeypatch.setenv("PLAIN", "of-a-plain-variable")
    with pytest.raises(
        ConfigError, match=f"{name} holds a key, which run.json would record"
    ) as raised:
        compose(["generator=dalle", "generator.dalle.api_key_env=PLAIN", f"++{word % key}"])
    assert key not in str(raised.value)


@pytest.mark.parametrize(
    "text", ["/x/sk-cohort-2024-normal-vs-pneumonia", "hf_hub_of_our_department"]
)
def test_a_name_that_only_begins_as_a_key_is_none(text):
    assert compose([f"paths.data={text}"]).paths.data == text


@pytest.mark.parametrize("multirun", [[], ["-m"]])
def test_no_key_on_the_command_line_reaches_the_disk(multirun, tmp_path):
    words = ["train", *multirun, f"paths.output={tmp_path}", f"study.name={KEY},x", "seed=0,1"]
    ended = xraysynth(*words, cwd=tmp_path)
    assert ended.returncode == 2
    assert "study.name holds a key" in ended.stderr
    assert KEY not in ended.stderr + ended.stdout
    assert not any(tmp_path.iterdir())


def test_numbers_and_texts_are_taken_as_they_are_meant():
    config = compose(
        ["seed='5'", "study.name=2024", "data.synthetic_fraction=1", "splits.official=no"]
    )
    assert (config.seed, config.study.name, config.data.synthetic_fraction) == (5, "2024", 1.0)
    assert config.splits.official is False


def test_the_words_of_a_test_source_can_be_typed_again():
    typed = to_hydra_overrides(["test_source=table", "test_source.table.path=x"])
    assert compose([text.removeprefix("++") for text in typed]).test_source["table"]["path"] == "x"


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
        ("data: {synthetic_fraction: lots}\n", "data.synthetic_fraction"),
    ],
)
def test_a_mistake_in_an_experiment_file_is_refused(experiment, text, message):
    with pytest.raises(ConfigError, match=message):
        experiment(text)


@pytest.fixture
def renamed(monkeypatch):
    """As if the version before had called some options otherwise."""
    monkeypatch.setitem(DEPRECATED_NAMES, "data.portion", "data.synthetic_fraction")
    monkeypatch.setitem(DEPRECATED_NAMES, "training", "trainer")
    lora = "xraysynth.generation.generators.sd_lora.SdLora.lora"
    monkeypatch.setitem(DEPRECATED_NAMES, f"{lora}.dimension", f"{lora}.rank")


@pytest.mark.usefixtures("renamed")
def test_a_renamed_option_works_under_its_old_name_with_a_warning():
    with pytest.warns(
        FutureWarning, match=r"data.portion=0.5 is deprecated .*write data.synthetic_fraction=0.5"
    ):
        assert compose(["data.portion=0.5"]).data.synthetic_fraction == 0.5
    with pytest.warns(FutureWarning, match=r"write trainer.max_steps=5"):
        assert compose(["training.max_steps=5"]).trainer.max_steps == 5
    with pytest.warns(FutureWarning, match=r"lora.dimension is deprecated .*lora.rank"):
        learner = compose(["generator=sd_lora", f"{LORA}.dimension=2"]).generators()["sd_lora"]
    assert learner.lora.rank == 2


@pytest.mark.usefixtures("renamed")
@pytest.mark.filterwarnings("error::FutureWarning")
def test_the_new_name_of_an_option_works_as_any_other():
    assert (
        compose(["data.synthetic_fraction=0.5", "trainer.max_steps=5"]).data.synthetic_fraction
        == 0.5
    )
    assert compose().data.synthetic_fraction == DataRecipe().synthetic_fraction


@pytest.mark.usefixtures("renamed")
@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("share", [0.0, 0.5])
def test_an_option_under_both_its_names_is_refused(share):
    with pytest.raises(
        ConfigError,
        match=r"data.portion is called data.synthetic_fraction now and both are given; remove",
    ):
        compose(["data.portion=0.5", f"data.synthetic_fraction={share}"])
    with pytest.raises(
        ConfigError, match=r"lora.dimension is called .* now and both are given; remove"
    ):
        compose(["generator=sd_lora", f"{LORA}.dimension=2", f"{LORA}.rank=2"])


@pytest.mark.usefixtures("renamed")
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_a_multirun_leaves_names_that_do_not_exist_to_hydra_and_takes_former_names_of_others():
    words = ["data.portion=0,1", "data.mode=add", "sede=1", "source.folder.root=x"]
    current = ["data.synthetic_fraction=0,1", *words[1:]]
    expected = [f"++{current[0]}", *words[1:3], "++source.folder.root=x"]
    assert to_hydra_overrides(words, multirun=True) == expected
    assert to_hydra_overrides(words[1:]) == [f"++{word}" for word in current[1:]]
    assert to_hydra_overrides(["source=folder", "hydra.run.dir=x", "hydra/launcher=ray", "-m"]) == [
        *("source=folder", "hydra.run.dir=x", "hydra/launcher=ray", "-m")
    ]


def test_an_option_of_an_experiment_is_overridden_under_its_former_name():
    """Not "both are given": an experiment gives the present name."""
    with pytest.warns(FutureWarning, match=r"write study.synthetic_fractions=\[0,1\]"):
        config = compose(["experiment=ratio_ablation", "study.shares=[0,1]"])
    assert config.study.synthetic_fractions == [0, 1]


@pytest.mark.usefixtures("renamed")
def test_other_names_stay_as_they_are_also_with_dots():
    label = "Pneumonia/Bacterial/E.Coli"
    assert compose(["source=cohen"]).sources()[0].labels[label] == "pneumonia"


@pytest.mark.usefixtures("renamed")
def test_a_wrong_value_under_an_old_name_is_named_by_the_new_one():
    with (
        pytest.warns(FutureWarning),
        pytest.raises(ConfigError, match=r"data.synthetic_fraction must lie in"),
    ):
        compose(["data.portion=2"])


@pytest.mark.usefixtures("renamed")
def test_finished_work_keeps_the_key_that_its_old_names_gave_it():
    now = {"synthetic_fraction": 0.5, "mode": "add"}
    assert digest(with_deprecated_names("data", now)) == digest({"portion": 0.5, "mode": "add"})
    assert with_deprecated_names("trainer", now) == now


def test_a_plugin_named_by_its_old_place_is_found_with_a_warning():
    old = "xraysynth.generators.sd_lora.SdLora"
    new = "xraysynth.generation.generators.sd_lora.SdLora"
    with pytest.warns(FutureWarning, match=f"{old} is deprecated .*write {new}"):
        assert current_name(old) == new
    assert current_name(new) == new
    assert current_name("xraysynth.generatorsx.A") == "xraysynth.generatorsx.A"
    with pytest.warns(FutureWarning, match="is deprecated"):
        chosen = compose(["generator=sd_lora", f"generator.sd_lora._target_={old}"]).generators()
    assert chosen.keys() == {"sd_lora"}
