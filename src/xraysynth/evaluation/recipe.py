"""What images are measured by, and how often."""

from dataclasses import dataclass, field

from xraysynth.errors import ConfigError
from xraysynth.options import require_among

ENCODERS = ("classifier", "embedded", "inception", "xrv", "rad_dino", "dinov2", "clip")
"""What `evaluate.encoders` may name (here, so that a wrong name is refused before torch is there)."""


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
        require_among("evaluate.encoders", self.encoders, ENCODERS)
        require_among("evaluate.weights", self.weights, ENCODERS)
        for name, low in {"splits": 2, "replicates": 1, "pairs_per_class": 1}.items():
            if getattr(self, name) < low:
                raise ConfigError(
                    f"evaluate.{name} must be at least {low}; got {getattr(self, name)}"
                )
        if self.size_px is not None and self.size_px < 16:
            raise ConfigError(f"evaluate.size_px must be at least 16; got {self.size_px}")
