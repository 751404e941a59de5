"""What images are worth: measures of any two sets, encoders, and blinded readings.

`evaluate` is every measure in one call and gives an `Evaluation`; `metrics` are pure functions on
arrays, `encoders` turn images into features, `reader_study` makes kits for readers and analyses their
answers.

    >>> from xraysynth.evaluation.metrics.fidelity import fd_name
    >>> fd_name("inception"), fd_name("classifier")
    ('FID', 'FD(classifier)')

    from xraysynth.evaluation import evaluate, from_folder
    from xraysynth.evaluation.encoders import build

    real, synthetic = from_folder("real"), from_folder("mine", is_synthetic=True)
    evaluation = evaluate(real=real, synthetic=synthetic, encoders=[build("embedded")], size_px=256,
                          cache=Path("cache"))
    pd.DataFrame(evaluation.measures)
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # torch and pandas are there when they are asked for
    from xraysynth.evaluation.folders import from_folder
    from xraysynth.evaluation.images import Resampling, evaluate
    from xraysynth.evaluation.results import Evaluation

__all__ = ["Evaluation", "Resampling", "evaluate", "from_folder"]

_MODULES = {"Evaluation": "results", "from_folder": "folders"}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES.get(name, 'images')}"), name)
