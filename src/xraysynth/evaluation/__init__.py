"""Measures how near synthetic images are to real ones, and what readers and classifiers see in them.

`evaluate` computes every measure of two image sets in one call and returns an `Evaluation`. `metrics`
holds the measures as pure functions on arrays, `encoders` turn images into features, and
`reader_study` makes reading kits for radiologists and analyses their answers.

    >>> from xraysynth.evaluation.metrics.fidelity import fd_name
    >>> fd_name("inception"), fd_name("classifier")
    ('FID', 'FD(classifier)')

Example:

    from xraysynth.evaluation import evaluate, from_folder
    from xraysynth.evaluation.encoders import build

    real, synthetic = from_folder("real"), from_folder("mine", is_synthetic=True)
    evaluation = evaluate(real=real, synthetic=synthetic, encoders=[build("embedded")], size_px=256,
                          cache=Path("cache"))
    pd.DataFrame(evaluation.measures)
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # torch and pandas are imported only when one of these names is used
    from xraysynth.evaluation.folders import from_folder
    from xraysynth.evaluation.images import Resampling, evaluate
    from xraysynth.evaluation.results import Evaluation

__all__ = ["Evaluation", "Resampling", "evaluate", "from_folder"]

_MODULES = {"Evaluation": "results", "from_folder": "folders"}


def __getattr__(name: str) -> Any:
    """Imports a public name from its module at first use (PEP 562)."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES.get(name, 'images')}"), name)
