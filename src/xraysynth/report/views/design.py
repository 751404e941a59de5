"""View of the design of a study, for a reader who did not plan it."""

from collections.abc import Sequence
from dataclasses import dataclass

from xraysynth.report.content import Arm
from xraysynth.report.formatting import UNKNOWN_TEXT, format_percent

CONTROL_DESCRIPTIONS = {
    "duplicate": "duplicate control (repeated real images in place of the synthetic ones)",
    "permuted": "permuted control (synthetic images with permuted labels)",
    "size_matched": "size-matched control (as few images as without one source, drawn from all sources)",
}
"""Descriptions of the kinds of control."""


@dataclass(frozen=True)
class ReferenceArm:
    """The arm that others are compared with, and what it was trained on.

    Attributes:
        name: Name of the arm.
        real_images: Number of its real training images.
        synthetic_images: Number of its synthetic training images.
    """

    name: str
    real_images: int
    synthetic_images: int


@dataclass(frozen=True)
class DesignSection:
    """The design of a study: the values of everything that was varied, as lists in words.

    Attributes:
        classes: The classes.
        generators: The generators, or "none".
        synthetic_fractions: The synthetic fractions of the arms, in percent.
        modes: The modes of the hybrid arms.
        controls: Descriptions of the controls.
        real_fractions: Fractions of the real images, in percent; empty if all arms have the same.
        external: The external test sets.
        seeds: The training seeds.
        has_unfinished_seeds: Whether some arm has not finished every seed.
        reference_arm: The arm that others are compared with; None without arms.
        optimiser_steps: A sentence on the number of optimiser steps.
    """

    classes: str
    generators: str
    synthetic_fractions: str
    modes: str
    controls: str
    real_fractions: str
    external: str
    seeds: str
    has_unfinished_seeds: bool
    reference_arm: ReferenceArm | None
    optimiser_steps: str


def design_section(
    arms: Sequence[Arm], classes: Sequence[str], generators: Sequence[str]
) -> DesignSection:
    """Returns everything in which the arms of a study differ.

    Args:
        arms: The arms in the order of the page.
        classes: The classes in order.
        generators: The generators whose images are in some arm.
    """
    synthetic_fractions = sorted({arm.synthetic_fraction for arm in arms})
    real_fractions = sorted({arm.real_fraction for arm in arms})
    seeds = _union_of_seeds(arms)
    has_unfinished_seeds = False
    for arm in arms:
        has_unfinished_seeds |= len(arm.seeds) < len(seeds)
    return DesignSection(
        classes=", ".join(classes),
        generators=", ".join(generators) or "none",
        synthetic_fractions=", ".join(map(format_percent, synthetic_fractions)),
        modes=", ".join(_modes_of_hybrids(arms)),
        controls="; ".join(_describe_controls(arms)),
        real_fractions=", ".join(map(format_percent, real_fractions))
        if len(real_fractions) > 1
        else "",
        external=", ".join(_external_test_sets(arms)),
        seeds=", ".join(map(str, seeds)) or UNKNOWN_TEXT,
        has_unfinished_seeds=has_unfinished_seeds,
        reference_arm=_reference_arm(arms[0]) if arms else None,
        optimiser_steps=_describe_optimiser_steps(arms),
    )


def _union_of_seeds(arms: Sequence[Arm]) -> list[int]:
    """Returns the seeds that some arm has finished, in order."""
    seeds: set[int] = set()
    for arm in arms:
        seeds.update(arm.seeds)
    return sorted(seeds)


def _modes_of_hybrids(arms: Sequence[Arm]) -> list[str]:
    """Returns the modes in which arms mix real and synthetic images."""
    modes = [arm.mode for arm in arms if arm.synthetic_fraction not in (0, 1)]
    return list(dict.fromkeys(modes))


def _describe_controls(arms: Sequence[Arm]) -> list[str]:
    """Returns a description of each kind of control that some arm is."""
    controls = dict.fromkeys(arm.control for arm in arms if arm.control)
    return [CONTROL_DESCRIPTIONS[control] for control in controls]


def _external_test_sets(arms: Sequence[Arm]) -> list[str]:
    """Returns the external test sets on which some arm was tested."""
    names: dict[str, None] = {}
    for arm in arms:
        names |= dict.fromkeys(arm.external)
    return list(names)


def _reference_arm(arm: Arm) -> ReferenceArm:
    return ReferenceArm(arm.name, arm.real_images, arm.synthetic_images)


def _describe_optimiser_steps(arms: Sequence[Arm]) -> str:
    """Returns a sentence on the number of optimiser steps, which early stopping makes different."""
    steps: set[int] = set()
    for arm in arms:
        steps.update(arm.optimiser_steps)
    if not steps:
        return ""
    if len(steps) == 1:
        return f"Every arm took {steps.pop()} optimiser steps."
    return (
        f"Trainings took {min(steps)} to {max(steps)} optimiser steps, because some were stopped early; "
        "a part of a gain may be due to the number of steps."
    )
