"""How many synthetic images are made."""

from dataclasses import dataclass

from xraysynth.errors import ConfigError


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
