"""The schema of all options, and the plug-ins that they describe.

A package owns the options that it reads (its `recipe`); here are those of the stages and of what reads
the whole configuration: paths, study, tracking.
"""

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from xraysynth.data.recipe import MissingPatientId, Splits
from xraysynth.errors import ConfigError
from xraysynth.evaluation.reader_study.recipe import ReviewRecipe
from xraysynth.evaluation.recipe import Evaluate
from xraysynth.generation.prompts import PromptBank
from xraysynth.generation.recipe import GenerateRecipe
from xraysynth.jobs.shards import Shard
from xraysynth.options import (
    NOT_EMPTY,
    Count,
    Fraction,
    PositiveFraction,
    Rule,
    at_least,
    from_options,
    match_pattern,
    one_of,
    require_valid,
)
from xraysynth.records import CLASSES, to_json
from xraysynth.release.recipe import ReleaseRecipe
from xraysynth.training.recipe import (
    ClassifierRecipe,
    Control,
    DataRecipe,
    MixMode,
    TrainerRecipe,
)

if TYPE_CHECKING:  # a wrong option must be refused before pandas is there
    from xraysynth.data.sources.base import Source
    from xraysynth.generation.generators.base import Generator

PLUGIN_GROUPS = ("source", "generator")
"""Groups whose options are classes of their own; several can be selected at once."""

CONFIG_GROUPS = ("source", "generator", "prompts", "classifier", "tracking", "experiment")
"""Groups of options that are chosen by name."""

TEST_SOURCE = "test_source"
"""A second choice among the sources: external test sets."""


class TrackingMode(Enum):
    """Modes of a Weights & Biases run."""

    offline = "offline"
    online = "online"
    disabled = "disabled"


@dataclass(frozen=True)
class Paths:
    """`output` takes everything that is made; `data` is where presets look for data sets."""

    output: str = "outputs"
    data: str = "data"


FOLDER_NAME = match_pattern(
    r"[\w.-]+", "be usable as a folder name: letters, digits, '.', '_' and '-'"
)
MixModeName = Annotated[str, one_of([mode.value for mode in MixMode])]
ControlName = Annotated[str, one_of([c.value for c in Control if c is not Control.none])]
PriceUsd = Annotated[float, Rule("be 0 or more", lambda usd: 0 <= usd < math.inf)]


@dataclass(frozen=True)
class Study:
    """Every generator x share x mode x seed, for each of `real_fractions` of the real images.

    Share 0 is the real-only arm and is always run. `controls` are arms without anything to learn
    from a generator: duplicate repeats real images instead of adding synthetic ones, permuted deals
    out the labels of the synthetic images anew. `leave_one_source_out` trains on real images of all
    data sets but one, for each of them, and beside it on as many images drawn from all. Up to
    `workers` jobs run at once, in processes of their own; one GPU wants one. `machine_usd_per_hour`
    turns the seconds of generators that compute here into dollars in the report.
    """

    name: Annotated[str, FOLDER_NAME] = "study"
    synthetic_fractions: list[Fraction] = field(default_factory=lambda: [0.0, 0.5, 1.0])
    modes: Annotated[list[MixModeName], NOT_EMPTY] = field(default_factory=lambda: ["replace"])
    seeds: Annotated[list[int], NOT_EMPTY] = field(default_factory=lambda: [0, 1, 2])
    controls: list[ControlName] = field(default_factory=lambda: ["duplicate", "permuted"])
    real_fractions: Annotated[list[PositiveFraction], NOT_EMPTY] = field(
        default_factory=lambda: [1.0]
    )
    leave_one_source_out: bool = False
    workers: Count = 1
    machine_usd_per_hour: PriceUsd | None = None

    def __post_init__(self) -> None:
        require_valid(self, "study")


@dataclass(frozen=True)
class Tracking:
    """Weights & Biases; the key comes from the environment (WANDB_API_KEY) alone."""

    mode: TrackingMode = TrackingMode.offline
    project: str = "xraysynth"
    entity: str | None = None
    tags: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Config:
    """Everything a stage may read. `seed` is the seed of training; splits and pools have their own.

    `test_source` holds sources of external test images. `plan` makes `xraysynth study` say what it
    would do, and do nothing. `real`, `synthetic` and `trained_on` are
    folders of images for `xraysynth evaluate` without a study.
    """

    classes: Annotated[
        list[str], Rule("name two or more different classes", lambda c: 1 < len(set(c)) == len(c))
    ] = field(default_factory=lambda: list(CLASSES))
    size_px: Annotated[int, at_least(16)] = 64
    seed: int = 0
    missing_patient_id: MissingPatientId = MissingPatientId.error
    acknowledge_confounding: bool = False
    source: dict[str, Any] = field(default_factory=dict)
    test_source: dict[str, Any] = field(default_factory=dict)
    generator: dict[str, Any] = field(default_factory=dict)
    prompts: PromptBank = field(default_factory=PromptBank)
    splits: Splits = field(default_factory=Splits)
    generate: GenerateRecipe = field(default_factory=GenerateRecipe)
    shard: Shard = field(default_factory=Shard)
    data: DataRecipe = field(default_factory=DataRecipe)
    classifier: ClassifierRecipe = field(default_factory=ClassifierRecipe)
    trainer: TrainerRecipe = field(default_factory=TrainerRecipe)
    evaluate: Evaluate = field(default_factory=Evaluate)
    study: Study = field(default_factory=Study)
    release: ReleaseRecipe = field(default_factory=ReleaseRecipe)
    review: ReviewRecipe = field(default_factory=ReviewRecipe)
    tracking: Tracking = field(default_factory=Tracking)
    paths: Paths = field(default_factory=Paths)
    plan: bool = False
    real: str | None = None
    synthetic: str | None = None
    trained_on: str | None = None

    def __post_init__(self) -> None:
        require_valid(self, "")

    @property
    def output(self) -> Path:
        """The folder that takes everything that is made."""
        return Path(self.paths.output)

    def to_dict(self) -> dict[str, Any]:
        """The resolved configuration as JSON-serialisable values."""
        plain: dict[str, Any] = to_json(self)
        return plain

    def sources(self) -> "list[Source]":
        """The selected sources."""
        return [build_plugin("source", key, node) for key, node in self.source.items()]

    def test_sources(self) -> "list[Source]":
        """The selected sources of external test images."""
        found = self.test_source.items()
        return [build_plugin("source", key, node, selected_as=TEST_SOURCE) for key, node in found]

    def generators(self) -> "dict[str, Generator]":
        """The selected generators by name."""
        built = [build_plugin("generator", key, node) for key, node in self.generator.items()]
        return {generator.name: generator for generator in built}


def build_plugin(group: str, key: str, node: Any, *, selected_as: str = "") -> Any:
    """The plug-in that a node of a group describes, its values checked against its constructor."""
    from hydra.utils import get_class

    at = f"{selected_as or group}.{key}"
    if not isinstance(node, Mapping) or "_target_" not in node:
        selected_as = selected_as or group
        raise ConfigError(
            f"{at} is set, but {selected_as}={key} is not selected; select it with "
            f"'{selected_as}={key}' or '{selected_as}=[…,{key}]' (there is "
            f"{', '.join(list_group_options(group))})"
        )
    target = current_name(node["_target_"])
    try:
        kind = get_class(target)
    except Exception as error:  # whatever a module raises while it is imported
        raise ConfigError(f"{at}._target_: {error}") from error
    values = {name: value for name, value in node.items() if name != "_target_"}
    return from_options(kind, with_current_names(values, target), at)


DEPRECATED_NAMES = {
    "data.share": "data.synthetic_fraction",
    "study.shares": "study.synthetic_fractions",
    "evaluate.splits": "evaluate.baseline_splits",
    "review.repeats": "review.repeat_fraction",
    "xraysynth.generators": "xraysynth.generation.generators",
    "xraysynth.sources": "xraysynth.data.sources",
}
"""What had another name in the version before, and still goes by it in this one, with a warning.

Options ("data.share"), sections of them, options of a plug-in (after its class), modules of plug-ins.
"""


def current_name(name: str, *, warn: bool = True) -> str:
    """The present name of an option, a section or a plug-in's module or class.

    Warns (`FutureWarning`) if `name` is the former one, unless `warn` is false: records that were
    written by an earlier version are read without a warning.
    """
    for former, current in DEPRECATED_NAMES.items():
        if not f"{name}.".startswith(f"{former}."):
            continue
        renamed = current + name.removeprefix(former)
        if warn:
            warnings.warn(
                f"{name} is called {renamed} now: write {renamed} instead; the old name stops "
                "working in the next version",
                FutureWarning,
                stacklevel=2,
            )
        return renamed
    return name


def with_current_names(
    values: Mapping[str, Any], prefix: str = "", *, warn: bool = True
) -> dict[str, Any]:
    """Options under their present names.

    `at` is the section that the options belong to ("data"), or the class of their plug-in; empty for
    a whole configuration. Raises `ConfigError` if an option is given under both of its names.
    """
    renamed: dict[str, Any] = {}
    for name, value in values.items():
        path = f"{prefix}.{name}" if prefix else name
        current = current_name(path, warn=warn)
        last = name if current == path else current.rpartition(".")[2]
        if last in values and last != name:
            raise given_twice(path, current)
        if isinstance(value, dict):
            value = with_current_names(value, current, warn=warn)
        renamed[last] = value
    return renamed


def given_twice(former: str, current: str) -> ConfigError:
    """The error for an option that is given under its former and its present name."""
    return ConfigError(f"{former} is called {current} now and both are given; leave {former} out")


def with_deprecated_names(section: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a section under their former names, which the keys of finished jobs contain."""
    former = {current: name for name, current in DEPRECATED_NAMES.items()}
    names = {name: former.get(f"{section}.{name}", name).rpartition(".")[2] for name in values}
    return {names[name]: value for name, value in values.items()}


@cache
def list_group_options(group: str) -> list[str]:
    """Names of the options of a config group."""
    folder = files("xraysynth.conf") / group
    return sorted(
        p.name.removesuffix(".yaml") for p in folder.iterdir() if p.name.endswith(".yaml")
    )
