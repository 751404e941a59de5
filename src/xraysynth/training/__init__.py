"""The classifier: what it is trained on, how, and its file.

`recipe` has the options, `mixing` chooses real and synthetic rows, `datamodule` makes batches of
them, `classifier` is the LightningModule and how it is fitted.

    >>> from xraysynth.training.recipe import DataRecipe
    >>> DataRecipe(share=0.5).mode.value
    'replace'
"""

__all__ = ["classifier", "datamodule", "mixing", "recipe"]
