"""The settings of data, classifier and trainer: plain values, importable without torch."""

from dataclasses import dataclass, replace
from enum import Enum
from typing import Annotated, Literal

from xraysynth.errors import ConfigError
from xraysynth.jobs.distributed import local_world_size
from xraysynth.records import (
    Count,
    Fraction,
    NonNegative,
    Positive,
    PositiveFraction,
    Rule,
    at_least,
    between,
    one_of,
    require_valid,
)


class MixMode(Enum):
    """Synthetic images take the place of real ones, come on top of them, or before them."""

    replace = "replace"
    add = "add"
    pretrain = "pretrain"


class Control(Enum):
    """What an arm is instead of one of its own interest: a comparison that changes one thing less."""

    none = "none"
    duplicate = "duplicate"
    permuted = "permuted"
    size_matched = "size_matched"


class PixelCache(Enum):
    """Where decoded pixels live while training: in memory, or memory-mapped from disk."""

    memory = "memory"
    memmap = "memmap"


class ClassWeighting(Enum):
    """Weight of a class in the loss: one, or inversely proportional to its number of images."""

    none = "none"
    balanced = "balanced"


class KeptWeights(Enum):
    """Weights kept after training: of the last step, or of the best validation score."""

    last = "last"
    best = "best"


@dataclass(frozen=True)
class DataRecipe:
    """What the classifier is trained on.

    `synthetic_fraction` is that of the training images, and `real_fraction` the part of the
    real train split that is used at all; smaller parts are nested in larger ones. In mode pretrain
    all synthetic images come first, for `pretrain_fraction` of the optimiser steps, and then real
    ones alone (Moroianu et al., arXiv:2508.16783); steps and learning rates are those of every other
    arm, so that arms differ in their images alone. `batch_size` counts the images of all processes
    that train together. `leave_out` is a data set (column `source` of the cohort) that is neither
    trained nor validated on, but tested on.

    `control` duplicate puts repeats of the arm's own real images in the place of the synthetic ones:
    more of the same, for nothing. permuted deals the labels of the synthetic images out anew among
    them, so that they teach nothing but their looks. size_matched keeps the data set `leave_out`, and
    takes as many images of each class at random from all data sets instead: what a smaller train and
    val split alone would change.

    Augmentations are drawn uniformly in plus or minus their magnitude: `rotation` in degrees,
    `translation` as a fraction of the side, `scale`, `brightness` and `contrast` as fractions;
    `noise` is the largest standard deviation of Gaussian noise. No horizontal flip by default: the
    heart lies on the left.
    """

    synthetic_fraction: Fraction = 0.0
    mode: MixMode = MixMode.replace
    pretrain_fraction: Annotated[float, Rule("lie in (0, 1)", lambda part: 0 < part < 1)] = 0.5
    real_fraction: PositiveFraction = 1.0
    control: Control = Control.none
    leave_out: str = ""
    batch_size: Count = 32
    cache: PixelCache = PixelCache.memory
    augment: bool = True
    rotation: Annotated[float, between(0, 180)] = 7.0
    translation: Fraction = 0.05
    scale: Annotated[float, between(0, 0.9)] = 0.1
    brightness: Fraction = 0.1
    contrast: Fraction = 0.2
    noise: Fraction = 0.02
    horizontal_flip: bool = False

    def __post_init__(self) -> None:
        require_valid(self, "data")
        if self.control is not Control.none:
            self._require_control_applies()

    @property
    def uses_pools(self) -> bool:
        """Whether images of generators are mixed in."""
        return self.synthetic_fraction > 0 and self.control is not Control.duplicate

    def with_real_images_only(self) -> "DataRecipe":
        """The same with every real training image, and nothing else."""
        return replace(
            self,
            synthetic_fraction=0.0,
            mode=MixMode.replace,
            control=Control.none,
            real_fraction=1.0,
            leave_out="",
        )

    def _require_control_applies(self) -> None:
        name = self.control.value
        if self.control is Control.size_matched:
            self._require_size_matched_options()
            return
        if self.synthetic_fraction == 0:
            raise ConfigError(
                f"data.control={name} stands in for synthetic images, and data.synthetic_fraction=0 has "
                "none; set data.synthetic_fraction above 0, or data.control=none"
            )
        if self.control is Control.duplicate and self.mode is MixMode.pretrain:
            raise ConfigError(
                "data.control=duplicate repeats real images, and with data.mode=pretrain these are "
                "all there is: it would be the real-only arm; use data.mode=add or replace"
            )
        if self.control is Control.duplicate and self.synthetic_fraction == 1:
            raise ConfigError(
                "data.control=duplicate repeats real images, and data.synthetic_fraction=1 has none; use "
                "a fraction below 1"
            )

    def _require_size_matched_options(self) -> None:
        if not self.leave_out:
            raise ConfigError(
                "data.control=size_matched takes as many images as leaving a data set out would, and "
                "data.leave_out names none; set data.leave_out=…, or data.control=none"
            )
        if self.synthetic_fraction:
            raise ConfigError(
                "data.control=size_matched is an arm of real images alone; got data.synthetic_fraction="
                f"{self.synthetic_fraction:g}; set data.synthetic_fraction=0, or data.control=none"
            )


@dataclass(frozen=True)
class ClassifierRecipe:
    """Any timm backbone and how it is optimised (AdamW, linear warmup, cosine to zero).

    `channels` is 1, or 3 to repeat the grey image. `gradient_clip` is the largest norm of the
    gradient, 0 for no limit.
    """

    backbone: str = "resnet10t"
    pretrained: bool = False
    channels: Literal[1, 3] = 1
    class_weighting: ClassWeighting = ClassWeighting.none
    learning_rate: Positive = 1e-3
    weight_decay: NonNegative = 0.05
    warmup_fraction: Fraction = 0.1
    label_smoothing: Fraction = 0.05
    drop_rate: Fraction = 0.0
    gradient_clip: NonNegative = 1.0

    def __post_init__(self) -> None:
        require_valid(self, "classifier")


@dataclass(frozen=True)
class TrainerRecipe:
    """How long and on what; every arm of a study takes `max_steps` optimiser steps at most.

    Every `val_every_steps` steps the classifier is scored on the real validation split; after
    `patience` such scores without improvement training stops (0: never). In data.mode=pretrain neither
    patience nor the best weights count scores before real images are trained on. `precision` auto is
    32-true on a CPU and bf16-mixed on a GPU. The last weights are kept by default: on a validation
    split of some dozens of images the best of many scores is luck, and the learning rate has
    come to rest at the end; keep the best when stopping early. Several processes or GPUs train one
    classifier together under torchrun, and share each batch; `devices` is then their number on a
    machine, and need not be given.
    """

    max_steps: Count = 600
    val_every_steps: Count = 50
    patience: Annotated[int, at_least(0)] = 0
    keep: KeptWeights = KeptWeights.last
    precision: Annotated[str, one_of(("auto", "32-true", "bf16-mixed"))] = "auto"
    accelerator: str = "auto"
    devices: Count = 1

    def __post_init__(self) -> None:
        require_valid(self, "trainer")
        if self.devices not in (1, local_world_size()):
            raise ConfigError(
                f"trainer.devices={self.devices} needs as many processes, and torchrun starts them: "
                f"torchrun --nproc_per_node {self.devices} --no-python xraysynth train …"
            )
