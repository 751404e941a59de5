"""A leading ~ is the home folder in every option that is a path, and in no other."""

import json
import re
import shutil
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import get_type_hints

import pytest
from command import xraysynth

from xraysynth import compose
from xraysynth.config import PLUGIN_GROUPS, Config, list_group_options
from xraysynth.data.sources import xrv
from xraysynth.data.sources.base import resolve_path
from xraysynth.errors import XraysynthError
from xraysynth.evaluation.folders import from_folder
from xraysynth.option_types import value_type
from xraysynth.options import expand_path
from xraysynth.plugin_classes import PluginClasses
from xraysynth.seeds import identity

LABELS = "source.xrv.labels={Pneumonia: pneumonia}"


@pytest.fixture
def home(tmp_path, monkeypatch):
    """The home folder, which is not the working folder."""
    (tmp_path / "home").mkdir()
    (tmp_path / "work").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "home"


def path_options(options_class, section=""):
    """Full names of the options that are declared as paths."""
    hints = get_type_hints(options_class, include_extras=True)
    for field in fields(options_class):
        name = f"{section}.{field.name}" if section else field.name
        if value_type(hints[field.name]).is_path:
            yield name
        elif is_dataclass(field.type):
            yield from path_options(field.type, name)


def all_path_options():
    yield from path_options(Config)
    for group in PLUGIN_GROUPS:
        for key in list_group_options(group):
            yield from path_options(PluginClasses([]).find(group, key), f"{group}.{key}")


def source(config):
    """The only selected source."""
    (only,) = config.sources()
    return only


def generator(config):
    """The only selected generator."""
    (only,) = config.generators().values()
    return only


def image_folder(option):
    """The folder that `xraysynth evaluate` looks for images in, which has none."""

    def used(config):
        with pytest.raises(XraysynthError, match="image") as raised:
            from_folder(Path(getattr(config, option)))
        return Path(re.search(r"/.*Röntgen \(1\)", str(raised.value))[0])

    return used


def xrv_path(option):
    """The path that torchxrayvision gets."""

    def used(config):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(xrv, "_open_cached", lambda name, arguments, version: arguments)
            return Path(json.loads(source(config)._open_dataset())[option])

    return used


SOURCE = {
    "root": lambda config: resolve_path(source(config), "root"),
    "path": lambda config: resolve_path(source(config), "path"),
    "table": lambda config: resolve_path(source(config), "table"),
    "imgpath": xrv_path("imgpath"),
    "csvpath": xrv_path("csvpath"),
}
GENERATOR = {
    "model": lambda config: generator(config).model_folder,
    "adapter": lambda config: generator(config)._extra_weights["adapter"].local_path,
    "tiny_vae": lambda config: generator(config)._extra_weights["tiny_vae"].local_path,
    "weights": lambda config: generator(config)._lora_folder.path,
    "folder": lambda config: generator(config)._folder,
    "state_folder": lambda config: Path(generator(config)._state_path),
}
OTHERS = {
    "paths.output": lambda config: config.output,
    "review.exports": lambda config: config.review.export_paths[0],
    "real": image_folder("real"),
    "synthetic": image_folder("synthetic"),
    "trained_on": image_folder("trained_on"),
}


def used_path(name, config):
    """The path that the code makes of an option, by the option's name."""
    section, _, rest = name.partition(".")
    by_name = {"source": SOURCE, "generator": GENERATOR}.get(section, {})
    return (by_name.get(rest.rpartition(".")[2]) or OTHERS[name])(config)


GIVEN = {
    "source.table": ["source.table.path=x"],
    "source.dicom": ["source.dicom.root=x"],
    "source.hub": ["source.hub.repo=owner/name"],
    "source.medmnist": ["source.medmnist.root=x", "source.medmnist.flag=pneumoniamnist"],
    "source.xrv": ["source.xrv.imgpath=x", "source.xrv.dataset=NIH_Dataset", LABELS],
    "generator.archive": ["generator.archive.folder=x"],
    "generator.dalle": ["generator.dalle.budget_usd=1"],
}
"""What else a plug-in needs, so that it can be built."""


@pytest.mark.parametrize(
    "name", sorted(set(all_path_options()) - {"paths.data", "evaluate.weights"})
)
def test_a_leading_tilde_is_the_home_folder(name, home):
    (home / "Röntgen (1)").mkdir()
    plugin = ".".join(name.split(".")[:2]) if name.count(".") == 2 else ""
    selection = [plugin.replace(".", "=")] if plugin else []
    config = compose([*selection, *GIVEN.get(plugin, []), f"{name}=~/Röntgen (1)"])
    assert used_path(name, config) == home / "Röntgen (1)"


def test_presets_look_below_a_data_folder_with_a_tilde(home):
    (home / "x" / "MontgomerySet").mkdir(parents=True)
    config = compose(["source=montgomery", "paths.data=~/x"])
    assert resolve_path(source(config), "root") == home / "x" / "MontgomerySet"


def test_the_weights_of_an_encoder_may_lie_at_home(home):
    from xraysynth.evaluation.encoders.weights import PublishedWeights, find_weights

    config = compose(["evaluate.weights.inception=~/a b.pth"])
    published = PublishedWeights("inception", {"x.pth": ""})
    with pytest.raises(XraysynthError, match=str(home / "a b.pth")):
        find_weights(published, config.evaluate.weights["inception"])


def test_what_is_recorded_and_identifies_a_source_is_what_was_written(home):
    config = compose(["source=folder", "source.folder.root=~/x"])
    assert identity(source(config))["root"] == "~/x"
    assert config.to_dict()["source"]["folder"]["root"] == "~/x"


def test_every_option_that_is_named_like_a_path_is_one():
    names = set(all_path_options())
    for group in PLUGIN_GROUPS:
        for key in list_group_options(group):
            for field in fields(PluginClasses([]).find(group, key)):
                if re.search(r"root|folder|path|weights", field.name):
                    assert f"{group}.{key}.{field.name}" in names | {"source.nih.by_path"}, (
                        field.name
                    )


@pytest.mark.parametrize("path", ["~no-such-user/x", "./~/x", "x~", "$HOME/x", "%HOME%/x"])
def test_anything_else_stays_as_it_is(path):
    assert str(expand_path(path)) == path.removeprefix("./")


def test_a_run_reads_and_writes_at_home(home, table_of_images):
    shutil.move(table_of_images.parent, home / "my images")
    words = ["source=table", "source.table.path=~/my images/manifest.csv", "paths.output=~/out 1"]
    for mode in ([], ["-m"]):
        ended = xraysynth("prepare", *mode, *words, cwd=home.parent / "work")
        assert ended.returncode == 0, ended.stderr
        assert json.loads(ended.stdout)["images"] == 96
    assert {folder.name for folder in (home / "out 1").iterdir()} >= {"cohorts", "sweeps"}
    assert not list((home.parent / "work").iterdir())
