"""Groups and order of the arms on a page, and the images that they were tested on."""

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
"""Titles of the groups of arms by their key, in the order of the page."""


def group_key(arm: Arm) -> str:
    """Returns the key of an arm's group in `GROUP_TITLES`; empty for the main arms, which have no title."""
    if arm.left_out_source:
        return "left out"
    if arm.control:
        return "control"
    return "fraction" if arm.real_fraction != 1 else ""


def group_arms(arms: Sequence[Arm]) -> list[tuple[str, list[Arm]]]:
    """Returns the title and the arms of each group that has any, in the order of the page."""
    groups: dict[str, list[Arm]] = {key: [] for key in GROUP_TITLES}
    for arm in arms:
        groups[group_key(arm)].append(arm)
    return [(GROUP_TITLES[key], members) for key, members in groups.items() if members]


def count_test_images(arm: Arm) -> int:
    """Returns the number of test images of an arm, which is the same for each of its seeds."""
    return len(arm.predictions[0]) if arm.predictions else 0


def count_test_patients(arm: Arm) -> int:
    """Returns the number of patients behind the test images, distinguished by source and patient id."""
    if not arm.predictions:
        return 0
    return int(patient_keys(arm.predictions[0]).nunique())


def sort_arms(arms: Sequence[Arm]) -> list[Arm]:
    """Returns the arms in the order of the page.

    The order is by group and then, within a group, real only first, generator by generator as they
    come, hybrids before synthetic only, by mode and by synthetic fraction.
    """
    groups = list(GROUP_TITLES)
    generators = list(dict.fromkeys(arm.generator for arm in arms))

    def position(arm: Arm) -> tuple[int, str, float, bool, int, bool, str, float]:
        """Returns the key to sort an arm by."""
        return (
            groups.index(group_key(arm)),
            arm.control,
            -arm.real_fraction,
            arm.synthetic_fraction > 0,
            generators.index(arm.generator),
            arm.synthetic_fraction == 1,
            arm.mode,
            arm.synthetic_fraction,
        )

    return sorted(arms, key=position)


def confusion_matrix(arm: Arm, classes: Sequence[str]) -> np.ndarray:
    """Returns test images by true (row) and most probable class (column), `(C, C)`, summed over seeds.

    Args:
        arm: The arm, with one table of predictions per seed.
        classes: The classes in the order of rows and columns.
    """
    probability_columns = [f"p_{name}" for name in classes]
    counts = np.zeros((len(classes), len(classes)), np.int64)
    for table in arm.predictions:
        labels = pd.Categorical(table["label"], categories=list(classes))
        targets = labels.codes.astype(np.int64)
        counts += count_confusion(table[probability_columns].to_numpy(), targets)
    return counts
