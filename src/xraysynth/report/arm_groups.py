"""What the arms are to each other: their groups and order, and what they were tested on."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from xraysynth.evaluation.metrics.scores import confusion_matrix as count_confusion
from xraysynth.manifest import patient_keys
from xraysynth.report.content import Arm

PRIMARY_METRIC = "macro_f1"
"""The metric that arms are compared by."""

SUMMARY_METRICS = {
    "macro_f1": "macro-F1",
    "balanced_accuracy": "balanced accuracy",
    "accuracy": "accuracy",
    "macro_auroc": "AUROC",
    "macro_auprc": "AUPRC",
    "ece": "ECE",
}
"""Metrics of the table of arms, in order; lower is better for the calibration error ECE only."""

GROUP_TITLES = {
    "": "",
    "control": "Controls: repeated real images, or synthetic images with permuted labels, "
    "in place of the synthetic images",
    "fraction": "Trained with a fraction of the real images",
    "left out": "Trained without one data source",
}
"""Groups of arms in order, with their titles."""


def group_key(arm: Arm) -> str:
    """The key in `GROUPS` of an arm; "" where its gain is of interest for its own sake."""
    if arm.left_out_source:
        return "left out"
    if arm.control:
        return "control"
    return "fraction" if arm.real_fraction != 1 else ""


def group_arms(arms: Sequence[Arm]) -> list[tuple[str, list[Arm]]]:
    """The arms in order, by the title of their group; groups without arms are left out."""
    found = [
        (title, [arm for arm in arms if group_key(arm) == key])
        for key, title in GROUP_TITLES.items()
    ]
    return [(title, own) for title, own in found if own]


def count_test_images(arm: Arm) -> int:
    """Test images of an arm, the same for each of its seeds."""
    return len(arm.predictions[0]) if arm.predictions else 0


def count_test_patients(arm: Arm) -> int:
    """Patients behind the test images; a patient is known by source and id together."""
    if not arm.predictions:
        return 0
    return int(patient_keys(arm.predictions[0]).nunique())


def sort_arms(arms: Sequence[Arm]) -> list[Arm]:
    """By group; real only first, then generator by generator as they come, by mode and share."""
    generators, groups = list(dict.fromkeys(arm.generator for arm in arms)), list(GROUP_TITLES)
    return sorted(
        arms,
        key=lambda a: (
            *(groups.index(group_key(a)), a.control, -a.real_fraction, a.synthetic_fraction > 0),
            *(
                generators.index(a.generator),
                a.synthetic_fraction == 1,
                a.mode,
                a.synthetic_fraction,
            ),
        ),
    )


def confusion_matrix(arm: Arm, classes: Sequence[str]) -> np.ndarray:
    """Test images by true (row) and most probable class (column), `(C, C)`, summed over seeds."""
    counts = np.zeros((len(classes), len(classes)), np.int64)
    for table in arm.predictions:
        targets = pd.Categorical(table["label"], categories=list(classes)).codes.astype(np.int64)
        counts += count_confusion(table[[f"p_{c}" for c in classes]].to_numpy(), targets)
    return counts
