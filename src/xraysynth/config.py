"""The schema of all options, and the plug-ins that they describe."""

import math
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xraysynth.data.recipe import MissingPatientId, Splits
from xraysynth.errors import ConfigError, XraysynthError
from xraysynth.evaluation.reader_study.recipe import ReviewRecipe
from xraysynth.evaluation.recipe import Evaluate
from xraysynth.generation.prompts import PromptBank
from xraysynth.generation.recipe import Generate
from xraysynth.jobs.shards import Shard
from xraysynth.options import require_among
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

PLUGINS = ("source", "generator")
"""Groups whose options are classes of their own; several can be selected at once."""

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

    name: str = "study"
    shares: list[float] = field(default_factory=lambda: [0.0, 0.5, 1.0])
    modes: list[str] = field(default_factory=lambda: ["replace"])
    seeds: list[int] = field(default_factory=lambda: [0, 1, 2])
    controls: list[str] = field(default_factory=lambda: ["duplicate", "permuted"])
    real_fractions: list[float] = field(default_factory=lambda: [1.0])
    leave_one_source_out: bool = False
    workers: int = 1
    machine_usd_per_hour: float | None = None

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[\w.-]+", self.name):
            raise ConfigError(
                f"study.name is used as a folder name: letters, digits, '.', '_' and '-'; got {self.name!r}"
            )
        for name in ("modes", "seeds", "real_fractions"):
            if not getattr(self, name):
                raise ConfigError(f"study.{name} must hold at least one value; got none")
        require_among("study.modes", self.modes, [mode.value for mode in MixMode])
        require_among(
            "study.controls", self.controls, [c.value for c in Control if c is not Control.none]
        )
        if not all(0 <= share <= 1 for share in self.shares):
            raise ConfigError(f"study.shares must lie in [0, 1]; got {self.shares}")
        if not all(0 < fraction <= 1 for fraction in self.real_fractions):
            raise ConfigError(f"study.real_fractions must lie in (0, 1]; got {self.real_fractions}")
        if self.workers < 1:
            raise ConfigError(f"study.workers must be at least 1; got {self.workers}")
        price = self.machine_usd_per_hour
        if price is not None and not 0 <= price < math.inf:
            raise ConfigError(f"study.machine_usd_per_hour must be 0 or more; got {price}")


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

    classes: list[str] = field(default_factory=lambda: list(CLASSES))
    size_px: int = 64
    seed: int = 0
    missing_patient_id: MissingPatientId = MissingPatientId.error
    acknowledge_confounding: bool = False
    source: dict[str, Any] = field(default_factory=dict)
    test_source: dict[str, Any] = field(default_factory=dict)
    generator: dict[str, Any] = field(default_factory=dict)
    prompts: PromptBank = field(default_factory=PromptBank)
    splits: Splits = field(default_factory=Splits)
    generate: Generate = field(default_factory=Generate)
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
        if len(self.classes) < 2 or len(set(self.classes)) < len(self.classes):
            raise ConfigError(
                f"classes must name two or more different classes; got {self.classes}"
            )
        if self.size_px < 16:
            raise ConfigError(f"size_px must be at least 16; got {self.size_px}")

    @property
    def output(self) -> Path:
        """The folder that takes everything that is made."""
        return Path(self.paths.output)

    def plain(self) -> dict[str, Any]:
        """The resolved configuration as JSON-serialisable values."""
        plain: dict[str, Any] = to_json(self)
        return plain

    def sources(self) -> "list[Source]":
        """The selected sources."""
        return [_build("source", key, node) for key, node in self.source.items()]

    def test_sources(self) -> "list[Source]":
        """The selected sources of external test images."""
        found = self.test_source.items()
        return [_build("source", key, node, chosen_as=TEST_SOURCE) for key, node in found]

    def generators(self) -> "dict[str, Generator]":
        """The selected generators by name."""
        built = [_build("generator", key, node) for key, node in self.generator.items()]
        return {generator.name: generator for generator in built}


def _build(group: str, key: str, node: Any, *, chosen_as: str = "") -> Any:
    """The plug-in that a node describes, its values checked against the constructor's types."""
    chosen_as = chosen_as or group
    from hydra.utils import get_class
    from omegaconf import OmegaConf

    from xraysynth.compose import explained, schema

    if not isinstance(node, Mapping) or "_target_" not in node:
        raise ConfigError(
            f"{chosen_as}.{key} is set, but {chosen_as}={key} is not selected; select it with "
            f"'{chosen_as}={key}' or '{chosen_as}=[…,{key}]' (there is {', '.join(options(group))})"
        )
    target = get_class(_current_target(node["_target_"]))
    values = {name: value for name, value in node.items() if name != "_target_"}
    try:
        return OmegaConf.to_object(OmegaConf.merge(schema(target), values))
    except XraysynthError:
        raise
    except Exception as error:
        raise explained(error, prefix=f"{chosen_as}.{key}") from error


MOVED = {
    "xraysynth.generators.": "xraysynth.generation.generators.",
    "xraysynth.sources.": "xraysynth.data.sources.",
}
"""Where plug-ins were in version 0.1, by the beginning of their `_target_`."""


def _current_target(target: str) -> str:
    """Where a plug-in is that a person's own yaml may name by its place in version 0.1."""
    for old, new in MOVED.items():
        if target.startswith(old):
            current = new + target.removeprefix(old)
            warnings.warn(
                f"_target_: {target} has moved; write _target_: {current}. The old name will be gone "
                "in the next version",
                FutureWarning,
                stacklevel=2,
            )
            return current
    return target


@cache
def options(group: str) -> list[str]:
    """Names of the options of a config group."""
    folder = files("xraysynth.conf") / group
    return sorted(
        p.name.removesuffix(".yaml") for p in folder.iterdir() if p.name.endswith(".yaml")
    )
