"""The typed configuration of every stage, and the checks that let no typo pass."""

import difflib
import math
import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from enum import Enum
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xraysynth.errors import ConfigError, XraysynthError
from xraysynth.evaluation.reader_study.recipe import ReviewRecipe
from xraysynth.generation.prompts import PromptBank
from xraysynth.jobs.shards import Shard
from xraysynth.records import CLASSES
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

ENCODERS = ("classifier", "embedded", "inception", "xrv", "rad_dino", "dinov2", "clip")
"""What `evaluate.encoders` may name (here, so that a wrong name is refused before torch is there)."""


class MissingPatientId(Enum):
    """What to do with images whose patient is unknown."""

    error = "error"
    cluster = "cluster"


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
class Splits:
    """Shares of each class's images, by patient; `official` keeps a source's own splits.

    `drop_duplicates` leaves out training images of patients with near-duplicates among held-out
    images, and validation images of those with some among test images, instead of stopping.
    """

    val_fraction: float = 0.15
    test_fraction: float = 0.25
    seed: int = 0
    official: bool = True
    drop_duplicates: bool = False
    minimum_per_class: int = 15

    def __post_init__(self) -> None:
        if not (self.val_fraction > 0 and self.test_fraction > 0) or (
            self.val_fraction + self.test_fraction >= 1
        ):
            raise ConfigError(
                "splits.val_fraction and splits.test_fraction must be above 0 and sum to less than 1; "
                f"got {self.val_fraction} and {self.test_fraction}"
            )


@dataclass(frozen=True)
class Generate:
    """`per_class` images of each class; null makes what training needs. Retries only failures.

    `dry_run` says what a paid service would cost, and makes no call.
    """

    per_class: int | None = None
    seed: int = 0
    dry_run: bool = False

    def __post_init__(self) -> None:
        if self.per_class is not None and self.per_class < 1:
            raise ConfigError(f"generate.per_class must be at least 1; got {self.per_class}")


@dataclass(frozen=True)
class Evaluate:
    """Encoders by name; all but `classifier` and `embedded` need downloaded weights.

    `weights` maps an encoder to a local file or folder with its weights. `splits` is how often the
    real images are halved for the real-real floor, `replicates` how many bootstrap samples there
    are, `pairs_per_class` how many pairs are compared for diversity. `classifier_seeds` are the
    training seeds of the real-only classifiers that are tested on each pool (none: the run's own
    seed). `size_px` is the side at which two folders are compared (null: the shortest of theirs).
    """

    encoders: list[str] = field(default_factory=lambda: ["classifier", "embedded"])
    weights: dict[str, str] = field(default_factory=dict)
    splits: int = 20
    replicates: int = 1000
    pairs_per_class: int = 200
    classifier_seeds: list[int] = field(default_factory=list)
    size_px: int | None = None

    def __post_init__(self) -> None:
        _among("evaluate.encoders", self.encoders, ENCODERS)
        _among("evaluate.weights", self.weights, ENCODERS)
        for name, low in {"splits": 2, "replicates": 1, "pairs_per_class": 1}.items():
            if getattr(self, name) < low:
                raise ConfigError(
                    f"evaluate.{name} must be at least {low}; got {getattr(self, name)}"
                )
        if self.size_px is not None and self.size_px < 16:
            raise ConfigError(f"evaluate.size_px must be at least 16; got {self.size_px}")


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
        _among("study.modes", self.modes, [mode.value for mode in MixMode])
        _among("study.controls", self.controls, [c.value for c in Control if c is not Control.none])
        if not all(0 <= share <= 1 for share in self.shares):
            raise ConfigError(f"study.shares must lie in [0, 1]; got {self.shares}")
        if not all(0 < fraction <= 1 for fraction in self.real_fractions):
            raise ConfigError(f"study.real_fractions must lie in (0, 1]; got {self.real_fractions}")
        if self.workers < 1:
            raise ConfigError(f"study.workers must be at least 1; got {self.workers}")
        price = self.machine_usd_per_hour
        if price is not None and not 0 <= price < math.inf:
            raise ConfigError(f"study.machine_usd_per_hour must be 0 or more; got {price}")


def _among(option: str, values: Iterable[str], known: Sequence[str]) -> None:
    for value in values:
        if value not in known:
            close = difflib.get_close_matches(value, known, n=1, cutoff=0.5)
            nearest = f"; did you mean {close[0]!r}?" if close else ""
            raise ConfigError(f"{option} must be among {', '.join(known)}; got {value!r}{nearest}")


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
        plain: dict[str, Any] = _plain(asdict(self))
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


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value.value if isinstance(value, Enum) else value


def _build(group: str, key: str, node: Any, *, chosen_as: str = "") -> Any:
    """The plug-in that a node describes, its values checked against the constructor's types."""
    chosen_as = chosen_as or group
    from hydra.utils import get_class
    from omegaconf import OmegaConf

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


def checked(composed: Any) -> Config:
    """A composed DictConfig as a `Config`: unknown keys, wrong types and unbound plug-ins raise.

    Hydra alone lets an unknown root key of an experiment pass, so everything is merged once more into
    a fresh schema.
    """
    from omegaconf import OmegaConf

    try:
        values = OmegaConf.to_container(composed, resolve=True)
        config = OmegaConf.to_object(OmegaConf.merge(schema(Config), values))
    except ConfigError:
        raise
    except Exception as error:
        raise explained(error) from error
    assert isinstance(config, Config)
    config.sources()
    config.test_sources()
    config.generators()
    return config


def schema(record: type) -> Any:
    """A frozen dataclass as a typed DictConfig that values can still be merged into."""
    from omegaconf import OmegaConf

    node = OmegaConf.structured(record)
    _unfreeze(node)
    return node


def _unfreeze(node: Any) -> None:
    """OmegaConf makes frozen dataclasses read-only, and everything merged beside them."""
    from omegaconf import DictConfig, OmegaConf

    OmegaConf.set_readonly(node, None)
    for key in node:
        child = node._get_node(key)
        if isinstance(child, DictConfig) and not child._is_none() and not child._is_missing():
            _unfreeze(child)


def register() -> None:
    """Make the schema known to Hydra; conf/config.yaml starts from it."""
    from hydra.core.config_store import ConfigStore

    ConfigStore.instance().store(name="schema", node=schema(Config))


def compose(overrides: Sequence[str] = ()) -> Config:
    """The configuration of a list of overrides, as the command line would have it."""
    import hydra

    register()
    try:
        with hydra.initialize_config_module("xraysynth.conf", version_base="1.3"):
            return checked(hydra.compose("config", overrides=plugin_overrides(overrides)))
    except ConfigError:
        raise
    except Exception as error:
        raise explained(error) from error


def plugin_overrides(overrides: Sequence[str]) -> list[str]:
    """What Hydra makes of the command line's words.

    Options of plug-ins that their yaml does not mention can be set, and `test_source=…` chooses
    from the group of sources; types are checked later.
    """
    groups = "|".join([*PLUGINS, TEST_SOURCE, "prompts"])
    dicts = r"evaluate\.weights(\.[\w-]+)?|review\.own_questions(\.[\w-]+)*"
    free = re.compile(rf"(({groups})\.[\w-]+(\.[\w.-]+)?|{dicts})=")
    chosen = [re.sub(rf"^{TEST_SOURCE}=", f"source@{TEST_SOURCE}=", text) for text in overrides]
    return [f"++{text}" if free.match(text) else text for text in chosen]


@cache
def options(group: str) -> list[str]:
    """Names of the options of a config group."""
    folder = files("xraysynth.conf") / group
    return sorted(
        p.name.removesuffix(".yaml") for p in folder.iterdir() if p.name.endswith(".yaml")
    )


def explained(error: BaseException, prefix: str = "") -> ConfigError:
    """A one-line error with the full name of the option and the nearest right one."""
    from omegaconf.errors import ConfigKeyError, MissingMandatoryValue, OmegaConfBaseException

    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, OmegaConfBaseException):
        cause = cause.__cause__
    if cause is None:
        return ConfigError(_nearest_option(str(error).strip()))
    name = ".".join(part for part in (prefix, str(cause.full_key or "")) if part)
    if isinstance(cause, MissingMandatoryValue):
        return ConfigError(f"{name} must be given; add '{name}=…'")
    if isinstance(cause, ConfigKeyError) or "not in" in str(cause):
        return ConfigError(_unknown(name, cause))
    first = str(cause.msg or cause).splitlines()[0]
    return ConfigError(f"{name}: {first}")


def _unknown(name: str, cause: Any) -> str:
    known = _known_names(name, cause)
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    nearest = f"; did you mean {close[0]!r}?" if close else f"; there is {', '.join(known)}"
    return f"there is no option {name!r}{nearest}"


def _known_names(name: str, cause: Any) -> list[str]:
    parent, _, _ = name.rpartition(".")
    owner = cause.object_type if isinstance(cause.object_type, type) else None
    try:
        names = [f.name for f in fields(owner)]  # type: ignore[arg-type]
    except TypeError:
        names = [str(key) for key in (cause.parent_node or {})]
    return [f"{parent}.{n}" if parent else n for n in names]


def _nearest_option(message: str) -> str:
    """Hydra's message on an unknown group option, shortened, with the nearest name."""
    found = re.search(r"Could not find '([\w-]+)/([\w.-]+)'", message)
    if not found or found[1] not in {p.name for p in files("xraysynth.conf").iterdir()}:
        return message
    group, option = found.groups()
    close = difflib.get_close_matches(option, options(group), n=1, cutoff=0.5)
    nearest = f"; did you mean {close[0]!r}?" if close else ""
    return (
        f"{group}={option}: there is no such option{nearest} (there is {', '.join(options(group))})"
    )
