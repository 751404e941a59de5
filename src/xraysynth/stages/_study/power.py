"""How many seeds and test images a study needs to find the difference that matters."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from xraysynth.config import Config
from xraysynth.report.claims import SIGNIFICANT
from xraysynth.report.formatting import format_count, format_number
from xraysynth.stages._study.arm_configs import build_arms
from xraysynth.stages._study.arms import PRIMARY_METRIC, Scorer
from xraysynth.stages._study.seed_rounds import SeedRounds, claimed_differences, count_test_patients
from xraysynth.stages._study.tested_arm import TestedArm
from xraysynth.stages._workspace import Workspace

if TYPE_CHECKING:
    from xraysynth.evaluation.metrics.power import ExpectedSpread

SEEDS = (3, 5, 10, 20)
"""Numbers of seeds in the table."""

DIFFERENCE_THAT_MATTERS = 0.05
"""Difference in macro-F1 that is planned for if neither study.until nor study.equivalence_margin is given."""

PUBLISHED_SEEDS_SD, PUBLISHED_WEIGHT, PUBLISHED_DISAGREEMENT = 0.03, 0.7, 0.06
"""Spreads of `experiments/quickstart`: sd of macro-F1 between seeds, weight of what its eight arms have in
common, and the variance of a difference over patients times their number."""


@dataclass(frozen=True)
class DetectableDifference:
    """A row of the table.

    Attributes:
        seeds: Number of seeds of every arm.
        detectable: Smallest true difference in macro-F1 that is found, on the test images there are.
        needed_patients: Number of test patients with which the wanted difference is found; None if these
            seeds are too few for any number of patients.
        needed_images: Number of test images of so many patients.
    """

    seeds: int
    detectable: float
    needed_patients: int | None
    needed_images: int | None

    def __str__(self) -> str:
        needed = "more seeds, whatever the patients"
        if self.needed_patients is not None:
            needed = f"{self.needed_patients} ({format_count(self.needed_images or 0, 'image')})"
        return f"  {self.seeds:>5}  ±{format_number(self.detectable)}      {needed}"


@dataclass(frozen=True)
class PowerTable:
    """Which differences a study can find with how many seeds and test patients.

    Attributes:
        wanted: The smallest difference that matters.
        claims: Number of differences to real only that p-values are adjusted over.
        patients: Number of test patients there are.
        images: Number of test images there are.
        origin: Where the spreads are from, as a sentence.
        rows: One row per number of seeds.
    """

    wanted: float
    claims: int
    patients: int
    images: int
    origin: str
    rows: Sequence[DetectableDifference]

    def __str__(self) -> str:
        over = f", adjusted over {self.claims} arms" if self.claims > 1 else ""
        lines = [
            "true difference in macro-F1 that is found with a probability of 80 % "
            f"(p < {SIGNIFICANT}{over}), on {format_count(self.images, 'test image')} of "
            f"{format_count(self.patients, 'patient')}:",
            f"  seeds  difference  test patients needed to find ±{self.wanted:g}",
            *map(str, self.rows),
            f"  spreads {self.origin}",
        ]
        return "\n".join(lines)


def build_power_table(workspace: Workspace, *, is_prepared: bool) -> PowerTable | None:
    """Build the table of a study; None if no arm of it makes a claim.

    Args:
        workspace: The study's workspace, with the number of images per class.
        is_prepared: Whether the cohort is prepared; finished trainings are only looked for if it is.
    """
    config = workspace.config
    claims = _count_claims(workspace)
    if not claims:
        return None
    patients, images = count_test_patients(workspace), len(workspace.cohort.split("test"))
    finished_arms = SeedRounds(workspace).load_finished_arms() if is_prepared else []
    spread, origin = _measure_spread(workspace, finished_arms) or _published_spread(patients)
    wanted, level = _wanted_difference(config), SIGNIFICANT / claims
    rows = []
    for seeds in SEEDS:
        needed = spread.needed_patients(wanted, seeds, level)
        needed_images = None if needed is None else round(needed * images / patients)
        row = DetectableDifference(seeds, spread.detectable(seeds, level), needed, needed_images)
        rows.append(row)
    return PowerTable(wanted, claims, patients, images, origin, rows)


def _wanted_difference(config: Config) -> float:
    """Return the smallest difference that matters."""
    return config.study.until or config.study.equivalence_margin or DIFFERENCE_THAT_MATTERS


def _count_claims(workspace: Workspace) -> int:
    """Count the arms whose difference to real only is claimed as a finding."""
    arms = build_arms(workspace.config, workspace.cohort)
    return sum(TestedArm(arm, {}, []).makes_claim for arm in arms)


def _published_spread(patients: int) -> tuple["ExpectedSpread", str]:
    """Return the spreads of `experiments/quickstart`, with where they are from."""
    from xraysynth.evaluation.metrics.power import ExpectedSpread

    patients_sd = (PUBLISHED_DISAGREEMENT / patients) ** 0.5
    spread = ExpectedSpread(PUBLISHED_SEEDS_SD, PUBLISHED_WEIGHT, patients_sd, patients)
    return spread, (
        "are published ones (experiments/quickstart), because this study has no two arms with two "
        f"finished seeds yet: {_describe_spread(spread)}"
    )


def _measure_spread(
    workspace: Workspace, arms: Sequence[TestedArm]
) -> tuple["ExpectedSpread", str] | None:
    """Return the spreads of finished trainings; None if no two arms are there to compare."""
    import numpy as np

    from xraysynth.evaluation.metrics.bootstrap_scores import moderate_arms
    from xraysynth.evaluation.metrics.power import ExpectedSpread

    scorer = Scorer(workspace.config, arms, linked_patients=workspace.linked_patients)
    pairs = claimed_differences(scorer, arms)
    if not pairs:
        return None
    scores = [scorer.resample(arm.predictions, decisions_only=True) for arm in arms]
    sizes = [arm.training_images for arm in arms]
    moderated, groups = moderate_arms(scores, sizes, [PRIMARY_METRIC])
    patients_variances = []
    for arm, reference in pairs:
        spread = moderated[arm].difference_spread(moderated[reference], PRIMARY_METRIC)
        patients_variances.append(spread.patients_sd**2 if spread else 0.0)
    runs = [group.runs - group.arms for group in groups[PRIMARY_METRIC]]
    expected = ExpectedSpread(
        seeds_sd=float(
            np.sqrt(np.average([group.sd**2 for group in groups[PRIMARY_METRIC]], weights=runs))
        ),
        weight=float(np.average([group.weight for group in groups[PRIMARY_METRIC]], weights=runs)),
        patients_sd=float(np.sqrt(np.mean(patients_variances))),
        patients=scores[0].patient_counts[""],
    )
    trainings = sum(len(arm.jobs) for arm in arms)
    return expected, (
        f"are those of {trainings} finished trainings of {len(arms)} arms of this study: "
        f"{_describe_spread(expected)}"
    )


def _describe_spread(spread: "ExpectedSpread") -> str:
    """Return the standard deviations in words."""
    return (
        f"sd {format_number(spread.seeds_sd)} between seeds, and {format_number(spread.patients_sd)} of "
        "a difference over patients"
    )
