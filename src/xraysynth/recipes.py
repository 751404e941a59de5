"""The settings of data, classifier and trainer: plain values, importable without torch."""

from dataclasses import asdict, dataclass, field
from enum import Enum
from typing import Any

from xraysynth.errors import ConfigError
from xraysynth.process_group import local_world_size

# Enum members are named as they are written in a config: OmegaConf reads an enum by its name.


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


class Cache(Enum):
    """Where decoded pixels live while training: in memory, or memory-mapped from disk."""

    memory = "memory"
    memmap = "memmap"


class ClassWeighting(Enum):
    """Weight of a class in the loss: one, or inversely proportional to its number of images."""

    none = "none"
    balanced = "balanced"


class Keep(Enum):
    """Weights kept after training: of the last step, or of the best validation score."""

    last = "last"
    best = "best"


class LoraOptimizer(Enum):
    """AdamW with states of 32 bits, or of 8 (needs bitsandbytes and a GPU)."""

    adamw = "adamw"
    adamw8bit = "adamw8bit"


@dataclass(frozen=True)
class DataRecipe:
    """What the classifier is trained on.

    `share` is the synthetic fraction of the training images, and `real_fraction` the part of the
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

    share: float = 0.0
    mode: MixMode = MixMode.replace
    pretrain_fraction: float = 0.5
    real_fraction: float = 1.0
    control: Control = Control.none
    leave_out: str = ""
    batch_size: int = 32
    cache: Cache = Cache.memory
    augment: bool = True
    rotation: float = 7.0
    translation: float = 0.05
    scale: float = 0.1
    brightness: float = 0.1
    contrast: float = 0.2
    noise: float = 0.02
    horizontal_flip: bool = False

    def __post_init__(self) -> None:
        _within("data", self, share=(0, 1), rotation=(0, 180), translation=(0, 1))
        _within("data", self, scale=(0, 0.9), brightness=(0, 1), contrast=(0, 1), noise=(0, 1))
        _at_least("data", self, batch_size=1)
        if not 0 < self.real_fraction <= 1:
            raise ConfigError(f"data.real_fraction must lie in (0, 1]; got {self.real_fraction}")
        if not 0 < self.pretrain_fraction < 1:
            raise ConfigError(
                f"data.pretrain_fraction must lie in (0, 1); got {self.pretrain_fraction}"
            )
        if self.control is not Control.none:
            self._require_something_to_control()

    def _require_something_to_control(self) -> None:
        name = self.control.value
        if self.control is Control.size_matched:
            self._require_real_alone_and_a_data_set()
            return
        if self.share == 0:
            raise ConfigError(
                f"data.control={name} stands in for synthetic images, and data.share=0 has none; set "
                "data.share above 0, or data.control=none"
            )
        if self.control is Control.duplicate and self.mode is MixMode.pretrain:
            raise ConfigError(
                "data.control=duplicate repeats real images, and with data.mode=pretrain these are "
                "all there is: it would be the real-only arm; use data.mode=add or replace"
            )
        if self.control is Control.duplicate and self.share == 1:
            raise ConfigError(
                "data.control=duplicate repeats real images, and data.share=1 has none; use a share "
                "below 1"
            )

    def _require_real_alone_and_a_data_set(self) -> None:
        if not self.leave_out:
            raise ConfigError(
                "data.control=size_matched takes as many images as leaving a data set out would, and "
                "data.leave_out names none; set data.leave_out=…, or data.control=none"
            )
        if self.share:
            raise ConfigError(
                "data.control=size_matched is an arm of real images alone; got data.share="
                f"{self.share:g}; set data.share=0, or data.control=none"
            )


@dataclass(frozen=True)
class ClassifierRecipe:
    """Any timm backbone and how it is optimised (AdamW, linear warmup, cosine to zero).

    `channels` is 1, or 3 to repeat the grey image. `gradient_clip` is the largest norm of the
    gradient, 0 for no limit.
    """

    backbone: str = "resnet10t"
    pretrained: bool = False
    channels: int = 1
    class_weighting: ClassWeighting = ClassWeighting.none
    learning_rate: float = 1e-3
    weight_decay: float = 0.05
    warmup_fraction: float = 0.1
    label_smoothing: float = 0.05
    drop_rate: float = 0.0
    gradient_clip: float = 1.0

    def __post_init__(self) -> None:
        if self.channels not in (1, 3):
            raise ConfigError(f"classifier.channels must be 1 or 3; got {self.channels}")
        if self.learning_rate <= 0:
            raise ConfigError(f"classifier.learning_rate must be > 0; got {self.learning_rate}")
        _within(
            "classifier", self, warmup_fraction=(0, 1), label_smoothing=(0, 1), drop_rate=(0, 1)
        )
        _at_least("classifier", self, weight_decay=0, gradient_clip=0)


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

    max_steps: int = 600
    val_every_steps: int = 50
    patience: int = 0
    keep: Keep = Keep.last
    precision: str = "auto"
    accelerator: str = "auto"
    devices: int = 1

    def __post_init__(self) -> None:
        known = ("auto", "32-true", "bf16-mixed")
        if self.precision not in known:
            raise ConfigError(
                f"trainer.precision must be one of {', '.join(known)}; got {self.precision!r}"
            )
        _at_least("trainer", self, max_steps=1, val_every_steps=1, patience=0, devices=1)
        if self.devices not in (1, local_world_size()):
            raise ConfigError(
                f"trainer.devices={self.devices} needs as many processes, and torchrun starts them: "
                f"torchrun --nproc_per_node {self.devices} --no-python xraysynth train …"
            )


@dataclass(frozen=True)
class LoraRecipe:
    """Low-rank adaptation of Stable Diffusion (Hu et al., arXiv:2106.09685) on real images.

    What is adapted: the UNet's modules whose names end in one of `targets` (attention by default;
    convolutions and feed-forward layers can be added), at `rank`, scaled by `alpha` / `rank`, with
    `dropout`; with `text_encoder` also the attention of the text encoder. `per_class` trains one
    LoRA a class instead of one for all by prompt. `captions` is `prompts` for the prompt bank, or a
    column of the manifest; `captions_per_image` are drawn from the bank for every image.

    How: AdamW (or its 8-bit form from bitsandbytes, Dettmers et al., arXiv:2110.02861), linear
    warmup, cosine to zero; `batch_size` images a step over all processes; the gradient's norm is
    clipped to `gradient_clip` (0: never); the mean of the weights with `ema_decay` is kept in place
    of the last (0: the last). `caption_dropout` is the share of empty captions, which guidance
    needs (Ho & Salimans, arXiv:2207.12598).

    The loss: `min_snr_gamma` weighs timesteps (Hang et al., arXiv:2303.09556; 0: equally);
    `noise_offset` shifts the noise's mean (Guttenberg, 2023); `zero_terminal_snr` rescales the noise
    schedule (Lin et al., arXiv:2305.08891) and needs a model that predicts velocity;
    `prior_images` > 0 adds as many images of the untuned model for `prior_prompt`, weighted by
    `prior_weight`, so that it does not forget (Ruiz et al., arXiv:2208.12242).

    `variants` > 1 keeps that many versions of every image, turned, scaled and shifted a little.
    Every `val_every_steps` steps the loss is measured on the real validation split with fixed noise
    and timesteps; after `patience` such losses without improvement training stops (0: never), and
    `samples_per_class` images are made for the tracker. `compile` has torch.compile work on the
    UNet for a minute before the first step, which pays in long trainings.
    """

    targets: list[str] = field(default_factory=lambda: ["to_q", "to_k", "to_v", "to_out.0"])
    rank: int = 16
    alpha: float = 16
    dropout: float = 0.0
    text_encoder: bool = False
    per_class: bool = False
    captions: str = "prompts"
    captions_per_image: int = 8
    steps: int = 1000
    batch_size: int = 8
    learning_rate: float = 1e-4
    warmup_fraction: float = 0.05
    weight_decay: float = 0.01
    gradient_clip: float = 1.0
    optimizer: LoraOptimizer = LoraOptimizer.adamw
    ema_decay: float = 0.0
    caption_dropout: float = 0.1
    min_snr_gamma: float = 5.0
    noise_offset: float = 0.0
    zero_terminal_snr: bool = False
    prior_images: int = 0
    prior_weight: float = 1.0
    prior_prompt: str = "chest x-ray"
    variants: int = 1
    val_every_steps: int = 100
    patience: int = 0
    samples_per_class: int = 1
    checkpoint_every_steps: int = 100
    precision: str = "auto"
    compile: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        known = ("auto", "no", "bf16", "fp16")
        if self.precision not in known:
            raise ConfigError(
                f"lora.precision must be one of {', '.join(known)}; got {self.precision!r}"
            )
        if not self.targets:
            raise ConfigError("lora.targets must name at least one module; got none")
        if self.alpha <= 0 or self.learning_rate <= 0:
            raise ConfigError(
                f"lora.alpha and lora.learning_rate must be > 0; got {self.alpha} and "
                f"{self.learning_rate}"
            )
        _within("lora", self, dropout=(0, 0.99), warmup_fraction=(0, 1), caption_dropout=(0, 1))
        _within("lora", self, ema_decay=(0, 0.99999))
        _at_least("lora", self, rank=1, captions_per_image=1, steps=1, batch_size=1, variants=1)
        _at_least("lora", self, weight_decay=0, gradient_clip=0, min_snr_gamma=0, noise_offset=0)
        _at_least("lora", self, prior_images=0, prior_weight=0, val_every_steps=1, patience=0)
        _at_least("lora", self, samples_per_class=0, checkpoint_every_steps=1)


def plain(recipe: Any) -> dict[str, Any]:
    """The fields of a recipe as plain values, enums as text: fit for JSON and checkpoints."""
    values = asdict(recipe)
    return {name: v.value if isinstance(v, Enum) else v for name, v in values.items()}


def _within(group: str, recipe: object, **ranges: tuple[float, float]) -> None:
    for name, (low, high) in ranges.items():
        value = getattr(recipe, name)
        if not low <= value <= high:
            raise ConfigError(f"{group}.{name} must lie in [{low}, {high}]; got {value}")


def _at_least(group: str, recipe: object, **minima: float) -> None:
    for name, low in minima.items():
        if not getattr(recipe, name) >= low:
            raise ConfigError(f"{group}.{name} must be at least {low}; got {getattr(recipe, name)}")
