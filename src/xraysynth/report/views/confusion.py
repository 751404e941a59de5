"""Confusion matrices of the arms."""

from collections.abc import Sequence
from dataclasses import dataclass

from xraysynth.report import arm_groups
from xraysynth.report.content import Arm
from xraysynth.report.formatting import count
from xraysynth.report.views.cells import Matrix, matrix


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

    plain: Sequence[ArmMatrix]
    others: Sequence[ArmMatrix]

    @property
    def other_count(self) -> int:
        """Arms that stand folded."""
        return len(self.others)


def confusion_section(arms: Sequence[Arm], classes: Sequence[str]) -> ConfusionSection:
    """The confusion matrices of arms in the order of the page."""
    return ConfusionSection(
        plain=[_matrix(arm, classes) for arm in arms if not arm_groups.group(arm)],
        others=[_matrix(arm, classes) for arm in arms if arm_groups.group(arm)],
    )


def _matrix(arm: Arm, classes: Sequence[str]) -> ArmMatrix:
    return ArmMatrix(
        name=arm.name,
        images=arm_groups.test_images(arm),
        seeds=count(len(arm.predictions), "seed"),
        counts=matrix(classes, arm_groups.confusion(arm, classes).tolist()),
    )
