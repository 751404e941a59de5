"""What measuring a study's pool and measuring any folder of images have in common."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xraysynth.config import Config, with_deprecated_names
from xraysynth.errors import ConfigError
from xraysynth.jobs.distributed import select_gpu
from xraysynth.quoting import quote_override

if TYPE_CHECKING:  # A wrong option must be refused before torch is imported.
    from xraysynth.evaluation.encoders.base import Encoder
    from xraysynth.evaluation.images import Resampling
    from xraysynth.evaluation.results import Evaluation

MEASURES_VERSION = 4
"""Raised whenever a measure is added or changed, so that images that were measured are measured again."""


def measures_identity(config: Config) -> dict[str, Any]:
    """Return the settings and the version that decide the measures of given images."""
    return {
        "evaluate": with_deprecated_names("evaluate", asdict(config.evaluate)),
        "measures": MEASURES_VERSION,
    }


def build_resampling(config: Config) -> "Resampling":
    """Build the numbers of splits, replicates and pairs that intervals and baselines are drawn with."""
    from xraysynth.evaluation.images import Resampling

    recipe = config.evaluate
    return Resampling(recipe.baseline_splits, recipe.replicates, recipe.pairs_per_class)


def build_encoders(
    config: Config, names: Sequence[str], classifier_weights: Path | None
) -> list["Encoder"]:
    """Build encoders on the device that trainer.accelerator allows.

    Args:
        config: Names the weights of encoders in evaluate.weights.
        names: The encoders to build, a subset of evaluate.encoders.
        classifier_weights: File of the classifier that serves as encoder "classifier"; may be None
            if that is not among `names`.

    Raises:
        ConfigError: If evaluate.weights names encoders that are not selected.
    """
    from xraysynth.evaluation.encoders import build
    from xraysynth.training.classifier import XrayClassifier

    weights = config.evaluate.weights
    _require_selected(weights, names)
    classifier = XrayClassifier.load(classifier_weights) if classifier_weights else None
    device = _select_device(config)
    encoders = []
    for name in names:
        has_own_weights = name in weights and name != "classifier"
        path = Path(weights[name]) if has_own_weights else None
        encoders.append(build(name, weights=path, classifier=classifier, device=device))
    return encoders


def _require_selected(weights: Mapping[str, str], encoder_names: Sequence[str]) -> None:
    """Refuse weights of encoders that are not selected, which would have no effect."""
    unselected = sorted(set(weights) - set(encoder_names))
    if unselected:
        raise ConfigError(
            f"evaluate.weights names {', '.join(unselected)}, which evaluate.encoders="
            f"{list(encoder_names)} does not name; set "
            f"{quote_override('evaluate.encoders', [*encoder_names, *unselected])}"
        )


def _select_device(config: Config) -> Any:
    """Return a GPU if there is one and trainer.accelerator does not rule it out, else "cpu"."""
    import torch

    if torch.cuda.is_available() and config.trainer.accelerator != "cpu":
        return select_gpu()
    return "cpu"


def image_measures(evaluation: "Evaluation") -> dict[str, Any]:
    """Return the fields that the records of a pool's and of a folder's evaluation share, by name."""
    from xraysynth.evaluation.results import ImageMeasures

    return {field.name: getattr(evaluation, field.name) for field in fields(ImageMeasures)}
