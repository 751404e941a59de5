"""How real images are split, and what to do where a patient is unknown."""

from dataclasses import dataclass
from enum import Enum

from xraysynth.errors import ConfigError


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
