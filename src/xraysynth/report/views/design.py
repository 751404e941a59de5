"""What a study varied, for a reader who did not plan it."""

from collections.abc import Sequence
from dataclasses import dataclass

from xraysynth.report.content import Arm
from xraysynth.report.formatting import UNKNOWN_TEXT, format_percent

CONTROL_DESCRIPTIONS = {
    "duplicate": "duplicate control (repeated real images in place of the synthetic ones)",
    "permuted": "permuted control (synthetic images with permuted labels)",
    "size_matched": "size-matched control (as few images as without one source, drawn from all sources)",
}
"""What each kind of control is."""


@dataclass(frozen=True)
class ReferenceArm:
    """The arm that others are compared with, and what it was trained on."""

    name: str
    real_images: int
    synthetic_images: int


@dataclass(frozen=True)
class DesignSection:
    """The values of everything that was varied, listed; empty where nothing was."""

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
    """What these arms differ in."""
    fractions = sorted({arm.real_fraction for arm in arms})
    seeds = sorted({seed for arm in arms for seed in arm.seeds})
    modes = dict.fromkeys(arm.mode for arm in arms if arm.synthetic_fraction not in (0, 1))
    external = dict.fromkeys(name for arm in arms for name in arm.external)
    controls = dict.fromkeys(arm.control for arm in arms if arm.control)
    return DesignSection(
        classes=", ".join(classes),
        generators=", ".join(generators) or "none",
        synthetic_fractions=", ".join(
            map(format_percent, sorted({arm.synthetic_fraction for arm in arms}))
        ),
        modes=", ".join(modes),
        controls="; ".join(CONTROL_DESCRIPTIONS[control] for control in controls),
        real_fractions=", ".join(map(format_percent, fractions)) if len(fractions) > 1 else "",
        external=", ".join(external),
        seeds=", ".join(map(str, seeds)) or UNKNOWN_TEXT,
        has_unfinished_seeds=min((len(arm.seeds) for arm in arms), default=0) < len(seeds),
        reference_arm=_reference_arm(arms[0]) if arms else None,
        optimiser_steps=_describe_optimiser_steps(arms),
    )


def _reference_arm(arm: Arm) -> ReferenceArm:
    return ReferenceArm(arm.name, arm.real_images, arm.synthetic_images)


def _describe_optimiser_steps(arms: Sequence[Arm]) -> str:
    """How many optimiser steps the arms took: patience may stop some earlier than others."""
    steps = {count for arm in arms for count in arm.optimiser_steps}
    if not steps:
        return ""
    if len(steps) == 1:
        return f"Every arm took {steps.pop()} optimiser steps."
    return (
        f"Trainings took {min(steps)} to {max(steps)} optimiser steps, because some were stopped early; "
        "a part of a gain may be due to the number of steps."
    )
