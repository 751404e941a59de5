"""How real images are split, and what to do where a patient is unknown."""

from dataclasses import dataclass
from enum import Enum

from xraysynth.errors import ConfigError
from xraysynth.records import Positive, require_valid


class MissingPatientId(Enum):
    """What to do with images whose patient is unknown."""

    error = "error"
    cluster = "cluster"


@dataclass(frozen=True)
class Splits:
    """Shares of each class's images, by patient; `official` keeps a source's own splits.

    `drop_duplicates` leaves out training images of patients with near-duplicates among held-out
    images, and validation images of those with some among test images, instead of stopping.
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
