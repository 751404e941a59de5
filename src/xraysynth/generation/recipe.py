"""Options of the stage that generates synthetic images."""

from dataclasses import dataclass

from xraysynth.options import Count, Dollars, require_valid


@dataclass(frozen=True)
class GenerateRecipe:
    """Generates `per_class` images of each class; null makes as many as training needs.

    `seed` decides the prompts and the seed of every image. Only failed requests are sent again;
    refused ones are not. `dry_run` estimates what a paid service would cost and makes no call.
    `budget_usd` limits what all pools below paths.output may cost together, whatever generator made
    them; each paid generator has a `budget_usd` of its own for one pool.
    """

    per_class: Count | None = None
    seed: int = 0
    dry_run: bool = False
    budget_usd: Dollars | None = None

    def __post_init__(self) -> None:
        require_valid(self, "generate")
