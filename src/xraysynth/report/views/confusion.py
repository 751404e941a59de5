"""View of the confusion matrices of the arms."""

from collections.abc import Sequence
from dataclasses import dataclass

from xraysynth.report import arm_groups
from xraysynth.report.content import Arm
from xraysynth.report.formatting import format_count
from xraysynth.report.views.cells import Matrix, build_matrix


@dataclass(frozen=True)
class ArmMatrix:
    """The confusion matrix of one arm.

    Attributes:
        name: Name of the arm.
        images: Number of test images.
        seeds: Number of seeds, in words.
        counts: Test images by true and most probable class, summed over seeds.
    """

    name: str
    images: int
    seeds: str
    counts: Matrix


@dataclass(frozen=True)
class ConfusionSection:
    """The confusion matrices of all arms.

    Attributes:
        main_arms: Matrices of the main arms.
        other_arms: Matrices of all other arms, which the page folds away.
    """

    main_arms: Sequence[ArmMatrix]
    other_arms: Sequence[ArmMatrix]

    @property
    def other_arm_count(self) -> int:
        """Number of arms that the page folds away."""
        return len(self.other_arms)


def confusion_section(arms: Sequence[Arm], classes: Sequence[str]) -> ConfusionSection:
    """Returns the confusion matrices of the arms in the order of the page."""
    main_arms, other_arms = [], []
    for arm in arms:
        matrix = _arm_matrix(arm, classes)
        if arm_groups.group_key(arm):
            other_arms.append(matrix)
        else:
            main_arms.append(matrix)
    return ConfusionSection(main_arms, other_arms)


def _arm_matrix(arm: Arm, classes: Sequence[str]) -> ArmMatrix:
    """Returns the confusion matrix of one arm."""
    images = arm_groups.count_test_images(arm)
    seeds = format_count(len(arm.predictions), "seed")
    counts = build_matrix(classes, arm_groups.confusion_matrix(arm, classes).tolist())
    return ArmMatrix(arm.name, images, seeds, counts)
