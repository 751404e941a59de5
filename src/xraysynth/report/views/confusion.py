"""Confusion matrices of the arms."""

from collections.abc import Sequence
from dataclasses import dataclass

from xraysynth.report import arm_groups
from xraysynth.report.content import Arm
from xraysynth.report.formatting import format_count
from xraysynth.report.views.cells import Matrix, build_matrix


@dataclass(frozen=True)
class ArmMatrix:
    """Test images of one arm by true and most probable class, summed over its seeds."""

    name: str
    images: int
    seeds: str
    counts: Matrix


@dataclass(frozen=True)
class ConfusionSection:
    """The arms of their own interest, and controls and the like, which stand folded."""

    main_arms: Sequence[ArmMatrix]
    other_arms: Sequence[ArmMatrix]

    @property
    def other_arm_count(self) -> int:
        """Arms that stand folded."""
        return len(self.other_arms)


def confusion_section(arms: Sequence[Arm], classes: Sequence[str]) -> ConfusionSection:
    """The confusion matrices of arms in the order of the page."""
    return ConfusionSection(
        main_arms=[_arm_matrix(arm, classes) for arm in arms if not arm_groups.group_key(arm)],
        other_arms=[_arm_matrix(arm, classes) for arm in arms if arm_groups.group_key(arm)],
    )


def _arm_matrix(arm: Arm, classes: Sequence[str]) -> ArmMatrix:
    return ArmMatrix(
        name=arm.name,
        images=arm_groups.count_test_images(arm),
        seeds=format_count(len(arm.predictions), "seed"),
        counts=build_matrix(classes, arm_groups.confusion_matrix(arm, classes).tolist()),
    )
