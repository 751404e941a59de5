"""The seeds of each arm where a study adds them until its differences are known well enough.

Nothing is recorded of the rounds in which seeds are added: they are found again from the finished
trainings, each round from the scores of those before it. What a study ends with therefore depends
neither on where it was interrupted nor on how many trainings ran at once.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING

import pandas as pd

from xraysynth.data.persons import person_keys
from xraysynth.jobs.job import Job
from xraysynth.report.seeds_until import KnownDifference, SeedsUntil
from xraysynth.stages import train
from xraysynth.stages._study import plan
from xraysynth.stages._study.arm_configs import ArmConfig, build_arms
from xraysynth.stages._study.arms import PRIMARY_METRIC, Scorer
from xraysynth.stages._study.tested_arm import TestedArm, load_predictions
from xraysynth.stages._workspace import Workspace
from xraysynth.threads import one_thread

if TYPE_CHECKING:
    from xraysynth.evaluation.metrics.seed_allocation import Precision


@dataclass(frozen=True)
class SeedsOfArms:
    """The seeds of each arm, as far as finished trainings tell.

    Attributes:
        by_arm: Seeds by title of the arm.
        end: Why no more seeds are added; None unless study.until is given.
    """

    by_arm: Mapping[str, Sequence[int]]
    end: SeedsUntil | None = None


@dataclass
class SeedRounds:
    """Finds the seeds that a study has, and those that it needs next.

    Attributes:
        workspace: The study's workspace, with the number of images per class.
        build_job: Builds the job of a training, whose `intact` says whether it is finished.
    """

    workspace: Workspace
    build_job: Callable[[Workspace], Job] = train.build_unchecked_job
    _jobs: dict[tuple[str, int], Job] = field(default_factory=dict)
    _predictions: dict[str, pd.DataFrame] = field(default_factory=dict)
    _precisions: dict[tuple[int, ...], list["Precision"]] = field(default_factory=dict)
    _asked_for: set[str] = field(default_factory=set)

    def find(self) -> SeedsOfArms:
        """Find the seeds of each arm: those of study.seeds, and those of all rounds that can be known.

        A round is known once all trainings of the rounds before it are finished.
        """
        from xraysynth.evaluation.metrics.seed_allocation import add_rounds

        study = self.workspace.config.study
        if study.until is None:
            return SeedsOfArms({arm.title: study.seeds for arm in self._arms})
        start = [len(self._first_seeds(0))] * len(self._arms)
        numbers, precisions = add_rounds(
            self._measure, start, until=study.until, most_seeds=study.most_seeds
        )
        seeds = {}
        for arm, number in zip(self._arms, numbers, strict=True):
            seeds[arm.title] = self._first_seeds(number)
        return SeedsOfArms(seeds, self._describe_end(precisions, study.until, study.most_seeds))

    def _first_seeds(self, number: int) -> list[int]:
        """Return so many seeds: those of study.seeds, and the integers after the largest of them."""
        seeds = list(dict.fromkeys(self.workspace.config.study.seeds))
        after = max(seeds) + 1
        return [*seeds, *range(after, after + number - len(seeds))]

    def missing_steps(self) -> list[plan.Step]:
        """List the trainings of the first round that is not finished.

        No training is listed twice; without study.until the list is empty.
        """
        if self.workspace.config.study.until is None:
            return []
        steps = []
        seeds = self.find().by_arm
        for arm in self._arms:
            for seed in seeds[arm.title]:
                step = plan.training_step(self.workspace, arm, seed)
                if not self._load(arm, seed) and step.title not in self._asked_for:
                    self._asked_for.add(step.title)
                    steps.append(step)
        return steps

    def steps_of_added_seeds(self) -> list[plan.Step]:
        """List the trainings of all known seeds that are not in study.seeds, finished or not."""
        seeds = self.find().by_arm
        steps = []
        for arm in self._arms:
            for seed in seeds[arm.title]:
                if seed not in self.workspace.config.study.seeds:
                    steps.append(plan.training_step(self.workspace, arm, seed))
        return steps

    def load_finished_arms(self) -> list[TestedArm]:
        """Load the arms of which two trainings or more are finished, as far as the rounds are known."""
        seeds = self.find().by_arm
        arms = [self._load_finished(arm, seeds[arm.title]) for arm in self._arms]
        return [arm for arm in arms if len(arm.jobs) > 1]

    @cached_property
    def _arms(self) -> list[ArmConfig]:
        return build_arms(self.workspace.config, self.workspace.cohort)

    def _measure(self, numbers: Sequence[int]) -> list["Precision"] | None:
        """Measure how well differences are known with so many seeds; None if a training is missing."""
        arms = []
        for arm, number in zip(self._arms, numbers, strict=True):
            seeds = self._first_seeds(number)
            if not all(self._load(arm, seed) for seed in seeds):
                return None
            arms.append(self._load_finished(arm, seeds))
        key = tuple(numbers)
        if key not in self._precisions:
            self._precisions[key] = _measure_precisions(self.workspace, arms)
        return self._precisions[key]

    def _describe_end(
        self, precisions: Sequence["Precision"] | None, until: float, most_seeds: int
    ) -> SeedsUntil:
        """Return what is known of the differences where no more seeds are added."""
        if precisions is None:
            return SeedsUntil(until, most_seeds, is_complete=False)
        people = count_test_patients(self.workspace)
        differences = []
        for one in precisions:
            differences.append(
                KnownDifference(
                    arm=self._arms[one.arm].title,
                    reference=self._arms[one.reference].title,
                    seeds=one.seeds[0],
                    half_width=one.half_width,
                    patients_half_width=one.patients_half_width,
                    needed_patients=one.needed_patients(until, people, most_seeds),
                )
            )
        images = len(self.workspace.cohort.split("test"))
        return SeedsUntil(until, most_seeds, people, images, differences)

    def _load_finished(self, arm: ArmConfig, seeds: Sequence[int]) -> TestedArm:
        """Load the arm with those of its trainings that are finished."""
        finished_seeds = [seed for seed in seeds if self._load(arm, seed)]
        jobs = {seed: self._jobs[arm.title, seed] for seed in finished_seeds}
        predictions = [self._predictions[job.key] for job in jobs.values()]
        return TestedArm(arm, jobs, predictions)

    def _load(self, arm: ArmConfig, seed: int) -> bool:
        """Load the predictions of a training, once; return whether it is finished."""
        if (arm.title, seed) not in self._jobs:
            workspace = self.workspace.with_config(replace(arm.config, seed=seed))
            self._jobs[arm.title, seed] = self.build_job(workspace)
        job = self._jobs[arm.title, seed]
        if job.key not in self._predictions and job.intact:
            self._predictions[job.key] = load_predictions(job)
        return job.key in self._predictions


def _measure_precisions(workspace: Workspace, arms: Sequence[TestedArm]) -> list["Precision"]:
    """Measure how well the differences are known of which something is claimed."""
    from xraysynth.evaluation.metrics.seed_allocation import measure_precisions

    scorer = Scorer(workspace.config, arms, linked_patients=workspace.linked_patients)
    sizes = [arm.training_images for arm in arms]
    pairs = claimed_differences(scorer, arms)
    with one_thread():  # whose sums are the same on every machine
        scores = [scorer.resample(arm.predictions, decisions_only=True) for arm in arms]
        return measure_precisions(scores, sizes, pairs, PRIMARY_METRIC)


def count_test_patients(workspace: Workspace) -> int:
    """Count the persons that the test images are of."""
    test_images = workspace.cohort.split("test")
    return int(person_keys(test_images.table, workspace.linked_patients).nunique())


def claimed_differences(scorer: Scorer, tested_arms: Sequence[TestedArm]) -> list[tuple[int, int]]:
    """List the differences of which something is claimed, as positions of arm and reference.

    They are those of each arm with a generator's images to real only, to its duplicate control and to its
    permuted control.
    """
    titles = [arm.title for arm in tested_arms]
    pairs = []
    for position, arm in enumerate(tested_arms):
        if not arm.makes_claim:
            continue
        for find_reference in (
            scorer.find_real_only,
            scorer.find_duplicate_control,
            scorer.find_permuted_control,
        ):
            reference = find_reference(arm)
            if reference is not None:
                pairs.append((position, titles.index(reference.title)))
    return pairs
