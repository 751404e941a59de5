"""The schema of all options, and the construction of the plug-ins that they describe.

The options of a package are in its module `recipe`. This module holds the options of stages, of paths
and of tracking, and the deprecated names of options.
"""

import math
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from xraysynth.data.recipe import MissingPatientId, Screening, Splits
from xraysynth.errors import ConfigError, did_you_mean
from xraysynth.evaluation.reader_study.recipe import ReviewRecipe
from xraysynth.evaluation.recipe import Evaluate
from xraysynth.generation.prompts import PromptBank
from xraysynth.generation.recipe import GenerateRecipe
from xraysynth.jobs.shards import Shard
from xraysynth.options import (
    NOT_EMPTY,
    Count,
    FolderName,
    Fraction,
    PathText,
    PositiveFraction,
    Rule,
    at_least,
    expand_path,
    from_options,
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

if TYPE_CHECKING:  # a wrong option must be rejected before pandas is imported
    from xraysynth.data.sources.base import Source
    from xraysynth.generation.generators.base import Generator

PLUGIN_GROUPS = ("source", "generator")
"""Groups of plug-ins, each with a class and options of its own; several can be selected at once."""

CONFIG_GROUPS = ("source", "generator", "prompts", "classifier", "tracking", "experiment")
"""Groups whose options are selected by name: `group=option`."""

TEST_SOURCE = "test_source"
"""Section of the sources that are selected as external test sets."""


class TrackingMode(Enum):
    """Modes of a Weights & Biases run."""

    offline = "offline"
    online = "online"
    disabled = "disabled"


@dataclass(frozen=True)
class Paths:
    """Folders: all results are written to `output`; presets look for data sets in `data`."""

    output: PathText = "outputs"
    data: PathText = "data"


CLASS_NAME = Rule(
    "be usable in file names: neither '/' nor '\\', and neither '.' nor '-' first (map labels of a "
    "source to classes with source.<name>.labels)",
    re.compile(r"[^-./\\\0-\x1f][^/\\\0-\x1f]*").fullmatch,
)
Plugins = dict[FolderName, Any]
"""Options of the selected sources or generators, by key."""

MixModeName = Annotated[str, one_of([mode.value for mode in MixMode])]
ControlName = Annotated[str, one_of([c.value for c in Control if c is not Control.none])]
LEAST_SEEDS_TO_ADD_TO = 2
"""Number of seeds that show how much seeds differ, to which a study with `study.until` adds."""

PriceUsd = Annotated[float, Rule("be 0 or more", lambda usd: 0 <= usd < math.inf)]


@dataclass(frozen=True)
class Study:
    """The arms of a study: one per combination of generator, synthetic fraction, mode and real fraction.

    Each arm is trained once per seed. The synthetic fraction 0 is the real-only arm, which is always
    trained. `controls` are arms to compare with: duplicate repeats real images in place of
    synthetic ones, permuted shuffles the labels of the synthetic images.
    `leave_one_source_out` trains, for each source, without the images of this source, and for
    comparison on as many images of all sources. Up to `workers` jobs run at once, each in a process;
    use one per GPU. `machine_usd_per_hour` converts the seconds of generators that run on this machine
    into dollars in the report. `equivalence_margin` is the largest difference in macro-F1 that does not
    matter: the report then says of which arms it is shown that they differ by less.

    With `until`, such as 0.05, seeds are added to those of `seeds` where they narrow most, until the 95 %
    interval of every difference in macro-F1 of which something is claimed (to real only, to the
    duplicate control and to the permuted control) is at most that wide on either side, or arms have
    `most_seeds`.
    """

    name: FolderName = "study"
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
    equivalence_margin: PositiveFraction | None = None
    until: PositiveFraction | None = None
    most_seeds: Count = 20

    def __post_init__(self) -> None:
        require_valid(self, "study")
        if self.until is not None:
            self._require_seeds_to_add_to()

    def _require_seeds_to_add_to(self) -> None:
        """Refuse a number of seeds that does not show how seeds differ, or is above the largest one."""
        number = len(set(self.seeds))
        if number < LEAST_SEEDS_TO_ADD_TO:
            first = self.seeds[0]
            seeds = ",".join(str(first + place) for place in range(LEAST_SEEDS_TO_ADD_TO))
            raise ConfigError(
                f"study.until={self.until:g} needs at least {LEAST_SEEDS_TO_ADD_TO} study.seeds to begin "
                f"with, which show how much seeds differ; got {self.seeds}; set study.seeds=[{seeds}]"
            )
        if self.most_seeds < number:
            raise ConfigError(
                f"study.most_seeds must be at least the number of study.seeds, {number}; "
                f"got {self.most_seeds}; set study.most_seeds={max(20, number)}, or name fewer study.seeds"
            )


@dataclass(frozen=True)
class Tracking:
    """Weights & Biases; its key is read only from the environment (WANDB_API_KEY)."""

    mode: TrackingMode = TrackingMode.offline
    project: str = "xraysynth"
    entity: str | None = None
    tags: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Config:
    """All options. `seed` is the seed of training; splits and pools have seeds of their own.

    `source` and `test_source` hold the options of the selected sources and external test sets,
    `generator` those of the selected generators, by name. With `plan`, `xraysynth study` prints what it
    would do and stops. `real`, `synthetic` and `trained_on` are folders of images for
    `xraysynth evaluate` without a study.
    """

    classes: Annotated[
        list[Annotated[str, CLASS_NAME]],
        Rule("name two or more different classes", lambda c: 1 < len(set(c)) == len(c)),
    ] = field(default_factory=lambda: list(CLASSES))
    size_px: Annotated[int, at_least(16)] = 64
    seed: int = 0
    missing_patient_id: MissingPatientId = MissingPatientId.error
    acknowledge_confounding: bool = False
    source: Plugins = field(default_factory=dict)
    test_source: Plugins = field(default_factory=dict)
    generator: Plugins = field(default_factory=dict)
    prompts: PromptBank = field(default_factory=PromptBank)
    screening: Screening = field(default_factory=Screening)
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
    real: PathText | None = None
    synthetic: PathText | None = None
    trained_on: PathText | None = None

    def __post_init__(self) -> None:
        require_valid(self, "")
        for label in self.screening.label_precedence:
            if label not in self.classes:
                raise ConfigError(
                    f"screening.label_precedence must name classes of the study; got {label!r}"
                    f"{did_you_mean(label, self.classes)}; the classes are {', '.join(self.classes)}"
                )

    @property
    def output(self) -> Path:
        """The folder that all results are written to."""
        return expand_path(self.paths.output)

    def to_dict(self) -> dict[str, Any]:
        """Return the configuration as JSON-serialisable values."""
        plain: dict[str, Any] = to_json(self)
        return plain

    def sources(self) -> "list[Source]":
        """Build the selected sources.

        Raises:
            ConfigError: An option of a source is wrong (`build_plugin`).
        """
        return [build_plugin("source", key, node) for key, node in self.source.items()]

    def test_sources(self) -> "list[Source]":
        """Build the sources that are selected as external test sets.

        Raises:
            ConfigError: An option of a source is wrong (`build_plugin`).
        """
        nodes = self.test_source.items()
        return [build_plugin("source", key, node, selected_as=TEST_SOURCE) for key, node in nodes]

    def generators(self) -> "dict[str, Generator]":
        """Build the selected generators: name -> generator.

        Raises:
            ConfigError: An option of a generator is wrong (`build_plugin`).
        """
        generators = {}
        for key, node in self.generator.items():
            generator: Generator = build_plugin("generator", key, node)
            generators[generator.name] = generator
        return generators


def build_plugin(
    group: str, key: str, node: Any, *, selected_as: str = "", others: Sequence[str] = ()
) -> Any:
    """Build a plug-in from its options.

    Args:
        group: Group of the plug-in: "source" or "generator".
        key: Name of the plug-in in its group.
        node: Its options with the class in `_target_`; without a class it is not selected.
        selected_as: Section of the configuration, if it is not named like the group (`TEST_SOURCE`).
        others: Keys that are selected in the section, for the message on one that is not.

    Raises:
        ConfigError: The plug-in is not selected, its class cannot be imported, or options are unknown,
            missing or wrong.
    """
    from hydra.utils import get_class

    section = selected_as or group
    if not isinstance(node, Mapping) or "_target_" not in node:
        besides = f" or '{section}=[{','.join((*others, key))}]'" if others else ""
        raise ConfigError(
            f"{section}.{key} is set, but {section}={key} is not selected; select it with "
            f"'{section}={key}'{besides} (the options are {', '.join(list_group_options(group))})"
        )
    options = dict(node)
    target = current_name(options.pop("_target_"))
    try:
        plugin_class = get_class(target)
    except Exception as error:  # the import of a module may raise anything
        raise ConfigError(f"{section}.{key}._target_: {error}") from error
    return from_options(plugin_class, with_current_names(options, target), f"{section}.{key}")


DEPRECATED_NAMES = {
    "data.share": "data.synthetic_fraction",
    "study.shares": "study.synthetic_fractions",
    "evaluate.splits": "evaluate.baseline_splits",
    "review.repeats": "review.repeat_fraction",
    "xraysynth.generators": "xraysynth.generation.generators",
    "xraysynth.sources": "xraysynth.data.sources",
}
"""Name of the previous version, which still works with a warning -> present name.

Names are of options ("data.share"), sections, options of a plug-in (after its class) and modules of
plug-ins.
"""


def current_name(name: str, *, warn: bool = True) -> str:
    """Return the present name of an option, a section or a plug-in's module or class.

    Args:
        name: A present or a deprecated name.
        warn: Whether a deprecated name causes a `FutureWarning`; false for records of earlier versions.
    """
    for deprecated, current in DEPRECATED_NAMES.items():
        if not f"{name}.".startswith(f"{deprecated}."):
            continue
        renamed = current + name.removeprefix(deprecated)
        if warn:
            warn_of_rename(name, renamed)
        return renamed
    return name


def warn_of_rename(deprecated: str, current: str) -> None:
    """Warn (`FutureWarning`) that a name or an override such as "data.share=0.5" has a new name."""
    warnings.warn(
        f"{deprecated} is deprecated and stops working in the next version; write {current}",
        FutureWarning,
        stacklevel=3,
    )


def with_current_names(
    values: Mapping[str, Any], prefix: str = "", *, warn: bool = True
) -> dict[str, Any]:
    """Return options under their present names.

    Args:
        values: Name of the option -> value; nested sections are mappings.
        prefix: Section of the options ("data"), or the class of their plug-in; "" for a whole
            configuration.
        warn: Whether deprecated names cause a `FutureWarning`.

    Raises:
        ConfigError: An option is given under both of its names.
    """
    renamed: dict[str, Any] = {}
    for name, value in values.items():
        full_name = f"{prefix}.{name}" if prefix else name
        current = current_name(full_name, warn=warn)
        current_key = name if current == full_name else current.rpartition(".")[2]
        if current_key in values and current_key != name:
            raise option_given_twice_error(full_name, current)
        if isinstance(value, dict):
            value = with_current_names(value, current, warn=warn)
        renamed[current_key] = value
    return renamed


def option_given_twice_error(deprecated: str, current: str) -> ConfigError:
    """Return the error on an option that is given under its deprecated and its present name."""
    return ConfigError(
        f"{deprecated} is called {current} now and both are given; remove {deprecated}"
    )


def with_deprecated_names(section: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of a section under their deprecated names, which job identities contain."""
    deprecated_names = dict(zip(DEPRECATED_NAMES.values(), DEPRECATED_NAMES, strict=True))
    renamed = {}
    for name, value in values.items():
        full_name = f"{section}.{name}"
        deprecated = deprecated_names.get(full_name, full_name)
        renamed[deprecated.rpartition(".")[2]] = value
    return renamed


@cache
def list_group_options(group: str) -> list[str]:
    """List the names of the options of a config group, sorted."""
    file_names = [file.name for file in (files("xraysynth.conf") / group).iterdir()]
    return sorted(name.removesuffix(".yaml") for name in file_names if name.endswith(".yaml"))
