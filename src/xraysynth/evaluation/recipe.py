"""Options of the evaluation: the encoders that images are measured by, and the number of repeats."""

from dataclasses import dataclass, field
from typing import Annotated

from xraysynth.options import Count, PathText, at_least, one_of, require_valid

ENCODERS = ("classifier", "embedded", "inception", "xrv", "rad_dino", "dinov2", "clip")
"""Names that `evaluate.encoders` takes, listed here so that a wrong one is refused before torch loads."""

EncoderName = Annotated[str, one_of(ENCODERS)]


@dataclass(frozen=True)
class Evaluate:
    """Encoders by name; all but `classifier` and `embedded` need downloaded weights.

    `weights` maps an encoder to a local file or folder with its weights. `baseline_splits` is how
    often the real images are halved for the real-vs-real baseline, `replicates` the number of bootstrap
    replicates, `pairs_per_class` the number of image pairs that diversity is measured on.
    `classifier_seeds` are the training seeds of the real-only classifiers that are tested on each pool
    (none: the run's own seed). `size_px` is the side at which two folders are compared (null: the
    smaller of their median sides, at most 512).
    """

    encoders: list[EncoderName] = field(default_factory=lambda: ["classifier", "embedded"])
    weights: dict[EncoderName, PathText] = field(default_factory=dict)
    baseline_splits: Annotated[int, at_least(2)] = 20
    replicates: Count = 1000
    pairs_per_class: Count = 200
    classifier_seeds: list[int] = field(default_factory=list)
    size_px: Annotated[int, at_least(16)] | None = None

    def __post_init__(self) -> None:
        require_valid(self, "evaluate")
