"""View of the design of a study, for a reader who did not plan it."""

from collections.abc import Sequence
from dataclasses import dataclass

from xraysynth.report.content import Arm
from xraysynth.report.formatting import UNKNOWN_TEXT, format_percent
from xraysynth.report.seeds_until import SeedsUntil

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
        seeds_of_arms: The seeds of each arm, where a study has added seeds to some.
        end_of_seeds: Why no more seeds were added; empty if the study had fixed ones.
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
    seeds_of_arms: Sequence[str]
    end_of_seeds: str
    reference_arm: ReferenceArm | None
    optimiser_steps: str


def design_section(
    arms: Sequence[Arm],
    classes: Sequence[str],
    generators: Sequence[str],
    seeds_until: SeedsUntil | None = None,
) -> DesignSection:
    """Returns everything in which the arms of a study differ.

    Args:
        arms: The arms in the order of the page.
        classes: The classes in order.
        generators: The generators whose images are in some arm.
        seeds_until: With how many seeds the study ended; None if it had fixed ones.
    """
    synthetic_fractions = sorted({arm.synthetic_fraction for arm in arms})
    real_fractions = sorted({arm.real_fraction for arm in arms})
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
        seeds=_describe_seeds(arms, seeds_until),
        has_unfinished_seeds=seeds_until is None and _has_unfinished_seeds(arms),
        seeds_of_arms=_list_seeds_of_arms(arms) if seeds_until else [],
        end_of_seeds=seeds_until.describe() if seeds_until else "",
        reference_arm=_reference_arm(arms[0]) if arms else None,
        optimiser_steps=_describe_optimiser_steps(arms),
    )


def _union_of_seeds(arms: Sequence[Arm]) -> list[int]:
    """Returns the seeds that some arm has finished, in order."""
    seeds: set[int] = set()
    for arm in arms:
        seeds.update(arm.seeds)
    return sorted(seeds)


def _has_unfinished_seeds(arms: Sequence[Arm]) -> bool:
    """Returns whether some arm lacks a seed that another one has finished."""
    return any(len(arm.seeds) < len(_union_of_seeds(arms)) for arm in arms)


def _describe_seeds(arms: Sequence[Arm], seeds_until: SeedsUntil | None) -> str:
    """Returns the training seeds, or, where arms may differ in them, their number: "5–11 per arm"."""
    if not arms:
        return UNKNOWN_TEXT
    if seeds_until is None:
        return ", ".join(map(str, _union_of_seeds(arms)))
    numbers = sorted({len(arm.seeds) for arm in arms})
    return f"{'–'.join(map(str, dict.fromkeys((numbers[0], numbers[-1]))))} per arm"


def _list_seeds_of_arms(arms: Sequence[Arm]) -> list[str]:
    """Returns the seeds of arms that have the same: "0, 1, 2, 3: real only, sd_lora 50% (replace)"."""
    names: dict[str, list[str]] = {}
    for arm in arms:
        names.setdefault(", ".join(map(str, arm.seeds)), []).append(arm.name)
    return [f"{seeds}: {', '.join(of_these)}" for seeds, of_these in names.items()]


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
