"""Synthetic images: from prompts and generators to pools of images, and what the images cost.

`prompts` turns class labels into requests, and a plug-in of `generators` makes one image per request.
`pool` commits each image as soon as it is made, block by block (`blocks`), and continues where an
earlier run was stopped. `metering` measures time, memory and energy, and `ledger` adds up these
measurements and the prices. `lora` fine-tunes a diffusion model, `schedulers` builds its noise
schedules, and `images_api` calls a paid service. `recipe` holds the options of the stage.

    >>> from xraysynth.generation.lora.recipe import LoraRecipe
    >>> LoraRecipe(rank=8).rank
    8
"""

__all__ = [
    "blocks",
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
