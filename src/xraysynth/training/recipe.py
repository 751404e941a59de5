"""The options `data`, `classifier` and `trainer`: plain values, importable without torch."""

from dataclasses import dataclass, replace
from enum import Enum
from typing import Annotated, Literal

from xraysynth.errors import ConfigError
from xraysynth.jobs.distributed import local_world_size
from xraysynth.options import (
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
    """How synthetic images come in: in place of real ones, in addition to them, or before them."""

    replace = "replace"
    add = "add"
    pretrain = "pretrain"


class Control(Enum):
    """A control arm, which differs from another arm in one thing; none for an arm of interest."""

    none = "none"
    duplicate = "duplicate"
    permuted = "permuted"
    size_matched = "size_matched"


class PixelCache(Enum):
    """Where decoded pixels are held while training: in memory, or memory-mapped from disk."""

    memory = "memory"
    memmap = "memmap"


class ClassWeighting(Enum):
    """Weight of a class in the loss: 1, or inversely proportional to its number of images."""

    none = "none"
    balanced = "balanced"


class KeptWeights(Enum):
    """Which weights remain after training: those of the last step, or of the best validation."""

    last = "last"
    best = "best"


@dataclass(frozen=True)
class DataRecipe:
    """The images that the classifier is trained on, and how they are augmented.

    `synthetic_fraction` is the synthetic part of the training images, and `mode` says how synthetic
    images come in: replace takes real images out for them, add keeps all real images, and pretrain
    shows all synthetic images first, for `pretrain_fraction` of the optimiser steps, and then only
    real ones (Moroianu et al., arXiv:2508.16783). Every arm has the same steps and learning rates,
    so that arms differ in their images alone. `real_fraction` is the fraction of the real train
    split that is used at all; smaller fractions are nested in larger ones. `leave_out` names a data
    set (column `source` of the cohort) that is tested on, but neither trained nor validated on.

    `control` makes a control arm. duplicate repeats the arm's own real images in place of the
    synthetic ones: more images, no new content. permuted shuffles the labels of the synthetic
    images, so that only their looks can be learned. size_matched keeps the data set `leave_out`,
    and takes as many images of each class at random out of all data sets instead, which shows what
    a smaller train and validation split does by itself.

    `batch_size` counts the images of all processes that train together. `cache` says where decoded
    pixels are held. With `augment`, training images change at random, uniformly in plus or minus a
    magnitude: `rotation` in degrees, `translation` as a fraction of the side, `scale`, `brightness`
    and `contrast` as fractions; `noise` is the largest standard deviation of Gaussian noise.
    `horizontal_flip` is off by default: the heart lies on the left.
    """

    synthetic_fraction: Fraction = 0.0
    mode: MixMode = MixMode.replace
    pretrain_fraction: Annotated[
        float, Rule("lie in (0, 1)", lambda fraction: 0 < fraction < 1)
    ] = 0.5
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
        """Whether images of pools are mixed in."""
        return self.synthetic_fraction > 0 and self.control is not Control.duplicate

    def with_real_images_only(self) -> "DataRecipe":
        """Returns the recipe of the real-only arm: every real training image, and nothing else."""
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
                f"data.control={name} is a control of synthetic images, but data.synthetic_fraction=0 "
                "has none; set it above 0, for example data.synthetic_fraction=0.5, or data.control=none"
            )
        if self.control is Control.duplicate and self.mode is MixMode.pretrain:
            raise ConfigError(
                "data.control=duplicate with data.mode=pretrain trains on nothing but the real images: "
                "it would be the real-only arm; set data.mode=add or data.mode=replace"
            )
        if self.control is Control.duplicate and self.synthetic_fraction == 1:
            raise ConfigError(
                "data.control=duplicate repeats real images, but data.synthetic_fraction=1 has none; "
                "set it below 1, for example data.synthetic_fraction=0.5"
            )

    def _require_size_matched_options(self) -> None:
        if not self.leave_out:
            raise ConfigError(
                "data.control=size_matched takes out as many images as leaving a data set out would, but "
                "data.leave_out names none; name a data set of the cohort there, or set data.control=none"
            )
        if self.synthetic_fraction:
            raise ConfigError(
                "data.control=size_matched is an arm of real images only; got data.synthetic_fraction="
                f"{self.synthetic_fraction:g}; set data.synthetic_fraction=0, or data.control=none"
            )


@dataclass(frozen=True)
class ClassifierRecipe:
    """The classifier, any timm `backbone`, and how it is optimised: AdamW, linear warmup, cosine to 0.

    `pretrained` starts from the weights that timm has. `channels` is 1, or 3 to repeat the grey
    image. `class_weighting` balanced weights a class in the loss by the inverse of its number of
    images. `warmup_fraction` is the fraction of the steps in which the learning rate rises.
    `gradient_clip` is the largest norm of the gradient, 0 for no limit.
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
    """How long the classifier is trained, and on which device.

    Every arm of a study takes at most `max_steps` optimiser steps. Every `val_every_steps` steps the
    classifier is scored on the real validation split; after `patience` scores without improvement
    training stops (0: never). `keep` says which weights remain. The default is last: on a validation
    split of some dozens of images the best of many scores is luck, and the learning rate has come to
    rest at the end; choose best when training may stop early. In data.mode=pretrain, scores from
    before the first real image count for neither patience nor the best weights. `precision` auto is
    32-true on a CPU and bf16-mixed on a GPU. Several processes or GPUs train one classifier together
    under torchrun, and divide each batch among them; `devices` is then their number on a machine,
    and need not be set.
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
                f"trainer.devices={self.devices} needs as many processes, which torchrun starts: put "
                f"torchrun --nproc_per_node {self.devices} --no-python before the command"
            )
