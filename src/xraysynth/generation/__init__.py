"""Synthetic images: prompts to requests, generators to pools, and what they cost.

A `generators` plug-in answers requests one by one; `pool` commits every answer and goes on where it
was stopped; `ledger` says what was spent, as `metering` measured it. `lora` fine-tunes, `images_api`
calls a paid service, `schedulers` builds the noise schedules of diffusion models.

    >>> from xraysynth.generation.lora.recipe import LoraRecipe
    >>> LoraRecipe(rank=8).rank
    8
"""

__all__ = [
    "generators",
    "images_api",
    "ledger",
    "lora",
    "metering",
    "pool",
    "prompts",
    "recipe",
    "schedulers",
]
