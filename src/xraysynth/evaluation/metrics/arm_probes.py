"""What a trained classifier tells that it should not, and whether it looks where the finding is."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from xraysynth.evaluation.metrics import probes
from xraysynth.evaluation.metrics.pointing_game import Pointing, pointing
from xraysynth.evaluation.metrics.probes import FOLDS, real_vs_synthetic, subsample
from xraysynth.evaluation.metrics.statistics import REPLICATES, Interval

if TYPE_CHECKING:
    from xraysynth.training.classifier import XrayClassifier

FEWEST = 20
"""With fewer real images, or synthetic ones, they are not probed for which is which."""
_BATCH = 64


@dataclass(frozen=True)
class ArmProbes:
    """What a trained classifier tells: None where there are too few images or no known findings.

    `told_synthetic` is the AUROC by which its features tell synthetic from real training images.
    """

    told_synthetic: Interval | None = None
    pointing: Pointing | None = None


def real_vs_synthetic_auroc(
    module: "XrayClassifier",
    real: np.ndarray,
    synthetic: np.ndarray,
    patients: ArrayLike,
    *,
    seed: int = 0,
    replicates: int = REPLICATES,
) -> Interval:
    """`real_vs_synthetic` on the penultimate features of a classifier trained on both sides.

    `real` and `synthetic` are `(N, H, W)` uint8. What the features still tell apart, a hybrid
    classifier can use as a shortcut wherever the synthetic share differs between classes.
    """
    keep = subsample(len(real), probes.AT_MOST // 2, seed)
    made = subsample(len(synthetic), probes.AT_MOST // 2, seed)
    return real_vs_synthetic(
        _penultimate(module, real[keep]),
        _penultimate(module, synthetic[made]),
        np.asarray(patients)[keep],
        seed=seed,
        replicates=replicates,
    )


def arm_probes(
    module: "XrayClassifier",
    train_real_pixels: np.ndarray,
    train_synthetic_pixels: np.ndarray,
    patients_real: ArrayLike,
    test_pixels: np.ndarray,
    test_targets: np.ndarray,
    test_boxes: Sequence[Sequence[Sequence[float]]],
    test_patients: ArrayLike,
    *,
    replicates: int = REPLICATES,
    seed: int = 0,
) -> ArmProbes:
    """What a trained arm can be asked: `real_vs_synthetic_auroc` of what it was trained on, and `pointing`.

    Pixels are `(N, H, W)` uint8, either training set may be empty; boxes as in `pointing`.
    """
    sides, told = (train_real_pixels, train_synthetic_pixels), None
    if min(map(len, sides)) >= FEWEST and len(np.unique(np.asarray(patients_real))) >= FOLDS:
        told = real_vs_synthetic_auroc(
            module, *sides, patients_real, replicates=replicates, seed=seed
        )
    found = pointing(
        module,
        test_pixels,
        test_targets,
        test_boxes,
        test_patients,
        replicates=replicates,
        seed=seed,
    )
    return ArmProbes(told, found)


def _penultimate(module: "XrayClassifier", images: np.ndarray) -> np.ndarray:
    import torch

    module.eval()
    parts = []
    with torch.inference_mode():
        for start in range(0, len(images), _BATCH):
            batch = torch.from_numpy(np.array(images[start : start + _BATCH])).to(module.device)
            parts.append(module.forward_features(batch[:, None].float() / 255).float().cpu())
    return np.asarray(torch.cat(parts).numpy())
