"""The classifier: which images it is trained on, how it is trained, and its file.

`recipe` has the options, and `run` is one training with them. `mixing` selects real and synthetic
rows; `datamodule`, `batches` and `augmentation` make batches of them. `classifier` is the
LightningModule with its file, and `fitting` trains it, with `callbacks` for checkpoints and early
stopping, `data_parallel` for several processes, and `display` for the screen.

    >>> from xraysynth.training.recipe import DataRecipe
    >>> DataRecipe(synthetic_fraction=0.5).mode.value
    'replace'
"""

__all__ = [
    "augmentation",
    "batches",
    "callbacks",
    "classifier",
    "data_parallel",
    "datamodule",
    "display",
    "fitting",
    "mixing",
    "recipe",
    "run",
]
