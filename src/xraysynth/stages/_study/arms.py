"""The arms of a study scored on the same test images and compared: gains, controls, what images are worth."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from xraysynth.config import Config
from xraysynth.data.persons import person_keys
from xraysynth.evaluation.classifier_evaluation import TrainResult, is_meaningful
from xraysynth.evaluation.metrics.arm_probes import ArmProbes
from xraysynth.evaluation.metrics.statistics import Interval
from xraysynth.jobs.job import Job
from xraysynth.report.content import Arm, Comparison
from xraysynth.stages import train
from xraysynth.stages._study import plan
from xraysynth.training.recipe import Control, DataRecipe, MixMode

if TYPE_CHECKING:
    from xraysynth.evaluation.metrics.classification import BootstrapScores

PRIMARY_METRIC = "macro_f1"
"""The score that arms are compared by."""


def load_predictions(job: Job, name: str = train.PREDICTIONS) -> pd.DataFrame:
    """What a training job predicted of the study's test images, or of the external ones."""
    return pd.read_parquet(job.folder / name)


@dataclass(frozen=True)
class TestedArm:
    """An arm of the study, its finished jobs and what they predicted, one table per seed."""

    arm_config: plan.ArmConfig
    jobs: Mapping[int, Job]
    predictions: Sequence[pd.DataFrame]

    @classmethod
    def from_jobs(cls, arm_config: plan.ArmConfig, jobs: Mapping[int, Job]) -> "TestedArm":
        """The arm with the predictions of its jobs."""
        return cls(arm_config, jobs, [load_predictions(job) for job in jobs.values()])

    @property
    def results(self) -> list[TrainResult]:
        """What each training came to."""
        return [job.record().result_as(TrainResult) for job in self.jobs.values()]

    @property
    def generator(self) -> str:
        """Name of the generator whose images it sees; empty where there are none."""
        return next(iter(self.arm_config.config.generators())) if self.arm_config.generator else ""

    @property
    def data(self) -> DataRecipe:
        """What it was trained on."""
        return self.arm_config.config.data

    @property
    def is_real_only(self) -> bool:
        """True for the arms that others are compared with."""
        return not self.data.synthetic_fraction and not self.data.leave_out

    @property
    def is_generator_arm(self) -> bool:
        """True for arms that see a generator's images under their own labels."""
        return bool(self.generator) and self.data.control is Control.none

    def is_permuted_control_of(self, other: "TestedArm") -> bool:
        """True when this arm is the other with the labels of its synthetic images permuted."""
        mine, its = self.data, other.data
        same_generator = self.generator == other.generator
        return same_generator and mine == replace(its, control=Control.permuted)

    def is_duplicate_control_of(self, other: "TestedArm") -> bool:
        """True when this arm has repeats of real images where the other has synthetic ones."""
        mine, its = self.data, other.data
        alike = (mine.synthetic_fraction, mine.real_fraction) == (
            its.synthetic_fraction,
            its.real_fraction,
        )
        # Synthetic images that come first, or on top, have the same control.
        modes = (mine.mode is MixMode.replace) == (its.mode is MixMode.replace)
        return mine.control is Control.duplicate and alike and modes


class Scorer:
    """Scores of arms on the study's test images, all on the same drawn patients.

    `linked` are the patients who are one person, as the audit of the cohort says: drawn as one.
    """

    def __init__(
        self,
        config: Config,
        tested_arms: Sequence[TestedArm],
        *,
        linked_patients: Sequence[Sequence[str]] = (),
    ) -> None:
        self._classes, self._replicates = config.classes, config.evaluate.replicates
        self._tested_arms, self._linked_patients = tested_arms, linked_patients
        self._resampled_by_arm: dict[int, BootstrapScores] = {}

    def resample_arm(self, arm: TestedArm) -> "BootstrapScores":
        """Scores of the arm under every draw of patients, worked out once."""
        if id(arm) not in self._resampled_by_arm:
            self._resampled_by_arm[id(arm)] = self.resample(arm.predictions)
        return self._resampled_by_arm[id(arm)]

    def resample(self, tables: Sequence[pd.DataFrame]) -> "BootstrapScores":
        """The same of some predictions, one table per seed."""
        from xraysynth.evaluation.metrics.classification import BootstrapScores

        columns = [f"p_{name}" for name in self._classes]
        runs = [table[columns].to_numpy() for table in tables]
        targets = pd.Categorical(tables[0]["label"], categories=self._classes).codes.astype(int)
        patients = person_keys(tables[0], self._linked_patients)
        options: dict[str, Any] = {"classes": self._classes, "replicates": self._replicates}
        return BootstrapScores.from_runs(runs, targets, patients, **options)

    def meaningful_scores(self, tables: Sequence[pd.DataFrame]) -> dict[str, Interval]:
        """Scores of predictions where some classes may be missing: those that can be told."""
        labels = set(tables[0]["label"])
        found = self.resample(tables).intervals().items()
        return {name: s for name, s in found if is_meaningful(name, labels, self._classes)}

    def find_real_only(self, arm: TestedArm) -> TestedArm | None:
        """The real-only arm with the same real images, for arms that add synthetic ones."""
        if arm.is_real_only:
            return None
        fraction = arm.data.real_fraction
        same = [t for t in self._tested_arms if t.is_real_only and t.data.real_fraction == fraction]
        return same[0] if same else None

    def find_duplicate_control(self, arm: TestedArm) -> TestedArm | None:
        """Its duplicate control, for arms that mix real and synthetic images."""
        if arm.data.control is not Control.none or not 0 < arm.data.synthetic_fraction < 1:
            return None
        return next((t for t in self._tested_arms if t.is_duplicate_control_of(arm)), None)

    def find_permuted_control(self, arm: TestedArm) -> TestedArm | None:
        """The same arm with permuted labels."""
        if not arm.is_generator_arm:
            return None
        return next((t for t in self._tested_arms if t.is_permuted_control_of(arm)), None)

    def resample_seeds(self, arm: TestedArm, seeds: Sequence[int]) -> "BootstrapScores":
        """Scores of the arm by some of its seeds, in this order."""
        places = list(arm.jobs)
        return self.resample_arm(arm).select_runs([places.index(seed) for seed in seeds])

    def compare(self, arm: TestedArm, other: TestedArm | None) -> Comparison:
        """The arm minus another, by the seeds that both have finished."""
        if other is None:
            return Comparison()
        seeds = shared_seeds([arm, other])
        if not seeds:
            return Comparison()
        own, reference = (self.resample_seeds(one, seeds) for one in (arm, other))
        return Comparison(
            own.difference_to(reference), seeds, own.p_value(reference, PRIMARY_METRIC)
        )


def shared_seeds(arms: Sequence[TestedArm]) -> list[int]:
    """Training seeds that all of these arms have finished."""
    return [seed for seed in arms[0].jobs if all(seed in arm.jobs for arm in arms)]


@dataclass(frozen=True)
class ArmComparisons:
    """One arm minus all that it is compared with."""

    over_real: Comparison
    over_duplicates: Comparison
    over_permuted: Comparison


def compare_all(scorer: Scorer, tested_arms: Sequence[TestedArm]) -> list[ArmComparisons]:
    """Every arm's comparisons, their p-values adjusted after Holm, each kind over the whole study.

    Controls, and arms that leave a data set out, are compared by number alone: nothing is claimed of
    them, so they are in no family.
    """
    families = [
        [scorer.compare(one, other(one)) for one in tested_arms]
        for other in (
            scorer.find_real_only,
            scorer.find_duplicate_control,
            scorer.find_permuted_control,
        )
    ]
    claimed = [one.is_generator_arm and not one.data.leave_out for one in tested_arms]
    adjusted = [_adjust_p_values(family, claimed) for family in families]
    return [ArmComparisons(*kinds) for kinds in zip(*adjusted, strict=True)]


def _adjust_p_values(family: Sequence[Comparison], claimed: Sequence[bool]) -> list[Comparison]:
    """The comparisons with adjusted p-values, where something is claimed."""
    from xraysynth.evaluation.metrics.statistics import holm_adjust

    p_values = {
        str(place): comparison.p
        for place, comparison in enumerate(family)
        if comparison.p is not None and np.isfinite(comparison.p) and claimed[place]
    }
    adjusted = holm_adjust(p_values)
    return [
        replace(comparison, p_holm=adjusted.get(str(place)))
        for place, comparison in enumerate(family)
    ]


def build_arm(scorer: Scorer, arm: TestedArm, comparisons: ArmComparisons) -> Arm:
    """The arm as the report shows it."""
    data, results = arm.data, arm.results
    probes = [result.probes or ArmProbes() for result in results]
    return Arm(
        generator=arm.generator,
        synthetic_fraction=data.synthetic_fraction,
        mode=data.mode.value,
        control="" if data.control is Control.none else data.control.value,
        real_fraction=data.real_fraction,
        left_out_source=data.leave_out,
        seeds=list(arm.jobs),
        real_images=results[0].real_images,
        synthetic_images=results[0].synthetic_images,
        real_repeats=results[0].real_repeats,
        predictions=arm.predictions,
        scores=scorer.resample_arm(arm).intervals(),
        over_real=comparisons.over_real,
        over_duplicates=comparisons.over_duplicates,
        over_permuted=comparisons.over_permuted,
        errors_removed=_errors_removed(scorer, arm, comparisons.over_real),
        external=_external_scores(scorer, arm),
        real_vs_synthetic_auroc=[
            found.real_vs_synthetic_auroc for found in probes if found.real_vs_synthetic_auroc
        ],
        pointing_game=[
            found.pointing_game.with_comparable_chance for found in probes if found.pointing_game
        ],
        scores_by_seed=[
            {name: score.value for name, score in result.scores.items()} for result in results
        ],
        seconds=[job.record().seconds or 0.0 for job in arm.jobs.values()],
        optimiser_steps=[result.optimiser_steps for result in results],
    )


def _errors_removed(scorer: Scorer, arm: TestedArm, over_real: Comparison) -> Interval | None:
    """The gain as a share of what the real-only arm lacks to 1."""
    from xraysynth.evaluation.metrics.statistics import errors_removed

    reference = scorer.find_real_only(arm)
    if reference is None or PRIMARY_METRIC not in over_real.differences:
        return None
    score = scorer.resample_seeds(reference, over_real.seeds).means_and_deviations[PRIMARY_METRIC][
        0
    ][0]
    return errors_removed(over_real.differences[PRIMARY_METRIC], reference=float(score))


def _external_scores(scorer: Scorer, arm: TestedArm) -> dict[str, dict[str, Interval]]:
    """Scores on every external data set."""
    jobs = list(arm.jobs.values())
    if not all((job.folder / train.EXTERNAL_PREDICTIONS).exists() for job in jobs):
        return {}
    tables = [load_predictions(job, train.EXTERNAL_PREDICTIONS) for job in jobs]
    return {
        source: scorer.meaningful_scores([table[table["source"] == source] for table in tables])
        for source in sorted(set(tables[0]["source"]))
    }
