"""What a trained classifier tells that it should not, and whether it looks where the finding is."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from xraysynth.evaluation.metrics import probes
from xraysynth.evaluation.metrics.pointing_game import PointingGame, pointing_game
from xraysynth.evaluation.metrics.probes import FOLDS, probe_real_vs_synthetic, subsample
from xraysynth.evaluation.metrics.statistics import REPLICATES, Interval
from xraysynth.records import formerly

if TYPE_CHECKING:
    from xraysynth.training.classifier import XrayClassifier

MIN_IMAGES_PER_SIDE = 20
"""With fewer real images, or synthetic ones, they are not probed for which is which."""
_BATCH_SIZE = 64


@formerly(real_vs_synthetic_auroc="told_synthetic", pointing_game="pointing")
@dataclass(frozen=True)
class ArmProbes:
    """What a trained classifier tells: None where there are too few images or no known findings.

    `real_vs_synthetic_auroc` is the AUROC by which its features tell synthetic from real training images.
    """

    real_vs_synthetic_auroc: Interval | None = None
    pointing_game: PointingGame | None = None


def real_vs_synthetic_auroc(
    module: "XrayClassifier",
    real: np.ndarray,
    synthetic: np.ndarray,
    patients: ArrayLike,
    *,
    seed: int = 0,
    replicates: int = REPLICATES,
) -> Interval:
    """`probe_real_vs_synthetic` on the penultimate features of a classifier trained on both sides.

    `real` and `synthetic` are `(N, H, W)` uint8. What the features still tell apart, a hybrid
    classifier can use as a shortcut wherever the synthetic share differs between classes.
    """
    keep = subsample(len(real), probes.MAX_IMAGES // 2, seed)
    made = subsample(len(synthetic), probes.MAX_IMAGES // 2, seed)
    return probe_real_vs_synthetic(
        _penultimate_features(module, real[keep]),
        _penultimate_features(module, synthetic[made]),
        np.asarray(patients)[keep],
        seed=seed,
        replicates=replicates,
    )


def probe_arm(
    module: "XrayClassifier",
    train_real_pixels: np.ndarray,
    train_synthetic_pixels: np.ndarray,
    train_patients: ArrayLike,
    test_pixels: np.ndarray,
    test_targets: np.ndarray,
    test_boxes: Sequence[Sequence[Sequence[float]]],
    test_patients: ArrayLike,
    *,
    replicates: int = REPLICATES,
    seed: int = 0,
) -> ArmProbes:
    """Probe a trained arm: `real_vs_synthetic_auroc` of its training images, and `pointing_game`.

    Pixels are `(N, H, W)` uint8, either training set may be empty; boxes as in `pointing_game`.
    """
    sides, told = (train_real_pixels, train_synthetic_pixels), None
    if (
        min(map(len, sides)) >= MIN_IMAGES_PER_SIDE
        and len(np.unique(np.asarray(train_patients))) >= FOLDS
    ):
        told = real_vs_synthetic_auroc(
            module, *sides, train_patients, replicates=replicates, seed=seed
        )
    found = pointing_game(
        module,
        test_pixels,
        test_targets,
        test_boxes,
        test_patients,
        replicates=replicates,
        seed=seed,
    )
    return ArmProbes(told, found)


def _penultimate_features(module: "XrayClassifier", images: np.ndarray) -> np.ndarray:
    import torch

    module.eval()
    parts = []
    with torch.inference_mode():
        for start in range(0, len(images), _BATCH_SIZE):
            batch = torch.from_numpy(np.array(images[start : start + _BATCH_SIZE])).to(
                module.device
            )
            parts.append(module.forward_features(batch[:, None].float() / 255).float().cpu())
    return np.asarray(torch.cat(parts).numpy())
