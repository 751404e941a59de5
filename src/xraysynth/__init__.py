"""Can synthetic chest X-rays train a classifier, which generator should make them, and at what price?

`evaluate` compares any two sets of images, which `from_folder` reads. `compose` returns the
configuration that the command line would run. A `Manifest` lists images with their labels, patients
and splits. Plug-ins implement `Source`, `Generator` (`FinetunableGenerator` if it can be fine-tuned,
`PaidGenerator` if it costs money) or `Encoder`.

    >>> from xraysynth import compose
    >>> compose(["data.synthetic_fraction=0.5"]).data.synthetic_fraction
    0.5
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # imported on first use, so that `xraysynth --help` stays fast
    from xraysynth.composition import compose
    from xraysynth.data.sources.base import Source
    from xraysynth.evaluation import evaluate, from_folder
    from xraysynth.evaluation.encoders.base import Encoder
    from xraysynth.generation.generators.base import FinetunableGenerator, Generator, PaidGenerator
    from xraysynth.manifest import Manifest

__version__ = "0.1.0"

__all__ = [
    "Encoder",
    "FinetunableGenerator",
    "Generator",
    "Manifest",
    "PaidGenerator",
    "Source",
    "compose",
    "evaluate",
    "from_folder",
]

_MODULES = {
    "Encoder": "evaluation.encoders.base",
    "Manifest": "manifest",
    "Source": "data.sources.base",
    "compose": "composition",
    "evaluate": "evaluation",
    "from_folder": "evaluation",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = _MODULES.get(name, "generation.generators.base")
    return getattr(import_module(f"{__name__}.{module}"), name)
