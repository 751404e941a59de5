"""The classifier: what it is trained on, how, and its file.

`recipe` has the options and `run` one training with them; `mixing` chooses real and synthetic rows,
`batches`, `augmentation` and `datamodule` make batches of them, `classifier` is the LightningModule
with its file, and `fitting` trains it.

    >>> from xraysynth.training.recipe import DataRecipe
    >>> DataRecipe(synthetic_fraction=0.5).mode.value
    'replace'
"""

__all__ = [
    "augmentation",
    "batches",
    "classifier",
    "datamodule",
    "fitting",
    "mixing",
    "recipe",
    "run",
]
