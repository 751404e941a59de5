"""How many synthetic images are made."""

from dataclasses import dataclass

from xraysynth.records import Count, require_valid


@dataclass(frozen=True)
class GenerateRecipe:
    """`per_class` images of each class; null makes what training needs. Retries only failures.

    `dry_run` says what a paid service would cost, and makes no call.
    """

    per_class: Count | None = None
    seed: int = 0
    dry_run: bool = False

    def __post_init__(self) -> None:
        require_valid(self, "generate")
