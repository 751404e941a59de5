"""Probes of a trained arm: whether its features separate synthetic from real images, and where it looks."""

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
"""Number of real or of synthetic images below which the two are not probed against each other."""

_BATCH_SIZE = 64


@formerly(real_vs_synthetic_auroc="told_synthetic", pointing_game="pointing")
@dataclass(frozen=True)
class ArmProbes:
    """Results of probing a trained classifier.

    Attributes:
        real_vs_synthetic_auroc: AUROC by which a linear probe of its features separates synthetic
            from real training images; None where there are too few.
        pointing_game: Whether it looks where the finding is; None where no finding is known.
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
    """Apply `probe_real_vs_synthetic` to the penultimate features of a classifier trained on both sets.

    A difference that the features show can be used as a shortcut by a classifier trained on both sets,
    wherever the synthetic fraction differs between classes.

    Args:
        module: The trained classifier.
        real: Real training images `(N, H, W)` uint8.
        synthetic: Synthetic training images `(M, H, W)` uint8.
        patients: Patient id of each real image.
        seed: Seed of all draws.
        replicates: Number of bootstrap replicates.

    Returns:
        AUROC with its interval; 0.5 means that the probe cannot separate the sets.
    """
    real_rows = subsample(len(real), probes.MAX_IMAGES // 2, seed)
    synthetic_rows = subsample(len(synthetic), probes.MAX_IMAGES // 2, seed)
    return probe_real_vs_synthetic(
        _penultimate_features(module, real[real_rows]),
        _penultimate_features(module, synthetic[synthetic_rows]),
        np.asarray(patients)[real_rows],
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

    Args:
        module: The trained classifier.
        train_real_pixels: Real training images `(N, H, W)` uint8, possibly none.
        train_synthetic_pixels: Synthetic training images `(M, H, W)` uint8, possibly none.
        train_patients: Patient id of each real training image.
        test_pixels: Test images `(T, H, W)` uint8.
        test_targets: Index of the true class of each test image.
        test_boxes: Findings of each test image, as in `pointing_game`.
        test_patients: Patient id of each test image.
        replicates: Number of bootstrap replicates.
        seed: Seed of all draws.
    """
    auroc = None
    if (
        min(len(train_real_pixels), len(train_synthetic_pixels)) >= MIN_IMAGES_PER_SIDE
        and len(np.unique(np.asarray(train_patients))) >= FOLDS
    ):
        auroc = real_vs_synthetic_auroc(
            module,
            train_real_pixels,
            train_synthetic_pixels,
            train_patients,
            replicates=replicates,
            seed=seed,
        )
    pointing = pointing_game(
        module,
        test_pixels,
        test_targets,
        test_boxes,
        test_patients,
        replicates=replicates,
        seed=seed,
    )
    return ArmProbes(auroc, pointing)


def _penultimate_features(module: "XrayClassifier", images: np.ndarray) -> np.ndarray:
    """Return the features `(N, d)` float32 before the classifier's last layer."""
    import torch

    module.eval()
    batches = []
    with torch.inference_mode():
        for start in range(0, len(images), _BATCH_SIZE):
            pixels = np.array(images[start : start + _BATCH_SIZE])
            batch = torch.from_numpy(pixels).to(module.device)
            batches.append(module.forward_features(batch[:, None].float() / 255).float().cpu())
    return np.asarray(torch.cat(batches).numpy())
