"""The options of the splits, of screening, and of images whose patient is unknown."""

from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from xraysynth.errors import ConfigError
from xraysynth.options import Fraction, Positive, require_valid


class MissingPatientId(Enum):
    """What to do with images whose patient is unknown: stop, or treat near-duplicates as one patient."""

    error = "error"
    cluster = "cluster"


class UnusableImages(Enum):
    """What to do with images that cannot be used: stop, or leave them out and count them."""

    stop = "stop"
    leave_out = "leave_out"


class TwoLabels(Enum):
    """What to do with one picture under several labels: stop, or leave all of its images out."""

    stop = "stop"
    leave_out = "leave_out"


@dataclass(frozen=True)
class Screening:
    """What happens to images that cannot be used, such as damaged or missing files.

    With `unusable` "leave_out" they are left out and counted, and more than the fraction
    `most_left_out` of a source stops the run; with "stop" the first does. A picture that is there with
    two labels stops the run too; with `two_labels` "leave_out" all its images are left out, and
    `label_precedence` lists the classes that hold against others, the strongest first. With
    `crop_borders`, edges of one grey level, such as a scanner's frame, are cut off each image.
    """

    unusable: UnusableImages = UnusableImages.leave_out
    most_left_out: Fraction = 0.05
    two_labels: TwoLabels = TwoLabels.stop
    label_precedence: list[str] = field(default_factory=list)
    crop_borders: bool = False

    def __post_init__(self) -> None:
        require_valid(self, "screening")

    def pixel_identity(self) -> dict[str, Any]:
        """Return what changes the pixels of images; empty at the defaults, so that keys stay."""
        return {"crop_borders": True} if self.crop_borders else {}

    def label_identity(self) -> dict[str, Any]:
        """Return what decides which labels hold; empty at the defaults, so that keys stay."""
        rule: dict[str, Any] = {}
        if self.two_labels is not TwoLabels.stop:
            rule["two_labels"] = self.two_labels.value
        if self.label_precedence:
            rule["label_precedence"] = self.label_precedence
        return rule


@dataclass(frozen=True)
class Splits:
    """Fractions of each class's images, split by patient; `official` keeps a source's own splits.

    `drop_duplicates` drops the training images of patients with near-duplicates among held-out
    images, and the validation images of patients with near-duplicates among test images, instead of
    stopping with an error. `minimum_per_class` is the number of images that each class needs.
    """

    val_fraction: Positive = 0.15
    test_fraction: Positive = 0.25
    seed: int = 0
    official: bool = True
    drop_duplicates: bool = False
    minimum_per_class: int = 15

    def __post_init__(self) -> None:
        require_valid(self, "splits")
        if self.val_fraction + self.test_fraction >= 1:
            raise ConfigError(
                "splits.val_fraction and splits.test_fraction must sum to less than 1; "
                f"got {self.val_fraction} and {self.test_fraction}"
            )
