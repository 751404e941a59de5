"""What images are worth: measures of any two sets, encoders, and blinded readings.

`images.evaluate` is every measure in one call; `metrics` are pure functions on arrays, `encoders` turn
images into features, `reader_study` makes kits for readers and analyses their answers.

    >>> from xraysynth.evaluation.metrics.fidelity import fd_name
    >>> fd_name("inception"), fd_name("classifier")
    ('FID', 'FD(classifier)')

    from xraysynth.evaluation import evaluate, from_folder
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # torch and pandas are there when they are asked for
    from xraysynth.evaluation.images import Precision, evaluate, from_folder

__all__ = ["Precision", "evaluate", "from_folder"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from xraysynth.evaluation import images

    return getattr(images, name)
