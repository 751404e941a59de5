"""Scores of a study's arms on the same test images, and their differences to other arms."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from xraysynth.config import Config
from xraysynth.data.persons import person_keys
from xraysynth.evaluation.classifier_evaluation import TrainResult, is_meaningful
from xraysynth.evaluation.metrics.arm_probes import ArmProbes
from xraysynth.evaluation.metrics.pointing_game import PointingGame
from xraysynth.evaluation.metrics.statistics import Interval
from xraysynth.report.content import Arm, Comparison
from xraysynth.stages import train
from xraysynth.stages._study.tested_arm import TestedArm, load_predictions, shared_seeds
from xraysynth.training.recipe import Control

if TYPE_CHECKING:
    from xraysynth.evaluation.metrics.classification import BootstrapScores

PRIMARY_METRIC = "macro_f1"
"""The score that arms are compared by."""


class Scorer:
    """Scores arms on the study's test images, all of them on the same bootstrap draws of patients.

    Args:
        config: The study's configuration, which names classes and number of bootstrap replicates.
        tested_arms: All arms of the study; controls and references are looked up among them.
        linked_patients: Groups of patient keys that are one person each, who is drawn as one.
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
        """Return the scores of the arm under every draw of patients; they are computed once."""
        if id(arm) not in self._resampled_by_arm:
            self._resampled_by_arm[id(arm)] = self.resample(arm.predictions)
        return self._resampled_by_arm[id(arm)]

    def resample_seeds(self, arm: TestedArm, seeds: Sequence[int]) -> "BootstrapScores":
        """Return the scores of the arm's trainings with these seeds, in this order."""
        arm_seeds = list(arm.jobs)
        return self.resample_arm(arm).select_runs([arm_seeds.index(seed) for seed in seeds])

    def resample(self, tables: Sequence[pd.DataFrame]) -> "BootstrapScores":
        """Return the scores of predictions under every draw of patients.

        Args:
            tables: One table of predictions per seed, all of the same images in the same order, with
                the columns of `load_predictions`.

        Returns:
            The scores of S seeds under R draws; all tables are scored on the same draws.
        """
        from xraysynth.evaluation.metrics.classification import BootstrapScores

        columns = [f"p_{name}" for name in self._classes]
        return BootstrapScores.from_runs(
            [table[columns].to_numpy() for table in tables],
            pd.Categorical(tables[0]["label"], categories=self._classes).codes.astype(int),
            person_keys(tables[0], self._linked_patients),
            classes=self._classes,
            replicates=self._replicates,
        )

    def meaningful_scores(self, tables: Sequence[pd.DataFrame]) -> dict[str, Interval]:
        """Return the scores of predictions that their classes allow, as a class may have no image.

        Args:
            tables: One table of predictions per seed, all of the same images in the same order.
        """
        labels = set(tables[0]["label"])
        scores = {}
        for name, interval in self.resample(tables).intervals().items():
            if is_meaningful(name, labels, self._classes):
                scores[name] = interval
        return scores

    def find_real_only(self, arm: TestedArm) -> TestedArm | None:
        """Return the real-only arm with the same real images; None for a real-only arm."""
        if arm.is_real_only:
            return None
        for reference in self._tested_arms:
            has_same_real_images = reference.data.real_fraction == arm.data.real_fraction
            if reference.is_real_only and has_same_real_images:
                return reference
        return None

    def find_duplicate_control(self, arm: TestedArm) -> TestedArm | None:
        """Return the duplicate control of an arm that mixes real and synthetic images, else None."""
        if arm.data.control is not Control.none or not 0 < arm.data.synthetic_fraction < 1:
            return None
        controls = (
            control for control in self._tested_arms if control.is_duplicate_control_of(arm)
        )
        return next(controls, None)

    def find_permuted_control(self, arm: TestedArm) -> TestedArm | None:
        """Return the control that trains on the same images with permuted labels, if there is one."""
        if not arm.is_generator_arm:
            return None
        controls = (control for control in self._tested_arms if control.is_permuted_control_of(arm))
        return next(controls, None)

    def compare(self, arm: TestedArm, reference: TestedArm | None) -> Comparison:
        """Return the scores of the arm minus those of another, paired by test patient and seed.

        Args:
            arm: The arm that is compared.
            reference: The arm that it is compared with; None if the study has none.

        Returns:
            Differences with intervals, the seeds that both arms have finished, and the two-sided
            p-value of the difference in `PRIMARY_METRIC`; empty without a reference or a shared seed.
        """
        seeds = shared_seeds([arm, reference]) if reference is not None else []
        if reference is None or not seeds:
            return Comparison()
        arm_scores = self.resample_seeds(arm, seeds)
        reference_scores = self.resample_seeds(reference, seeds)
        return Comparison(
            differences=arm_scores.difference_to(reference_scores),
            seeds=seeds,
            p=arm_scores.p_value(reference_scores, PRIMARY_METRIC),
        )


@dataclass(frozen=True)
class ArmComparisons:
    """The comparisons of one arm: with real-only, its duplicate control and its permuted control."""

    over_real: Comparison
    over_duplicates: Comparison
    over_permuted: Comparison


def compare_all(scorer: Scorer, tested_arms: Sequence[TestedArm]) -> list[ArmComparisons]:
    """Return the comparisons of every arm, with p-values adjusted after Holm (1979).

    Each kind of comparison is one family over the whole study. Controls, and arms that leave a source
    out, are in no family: they are compared by number, and nothing is claimed of them.

    Args:
        scorer: The scores of all arms, among which it finds each arm's references.
        tested_arms: All arms of the study.

    Returns:
        One entry per arm, in the same order.
    """
    over_real = _compare_family(scorer, tested_arms, scorer.find_real_only)
    over_duplicates = _compare_family(scorer, tested_arms, scorer.find_duplicate_control)
    over_permuted = _compare_family(scorer, tested_arms, scorer.find_permuted_control)
    return list(map(ArmComparisons, over_real, over_duplicates, over_permuted))


def _compare_family(
    scorer: Scorer,
    tested_arms: Sequence[TestedArm],
    find_reference: Callable[[TestedArm], TestedArm | None],
) -> list[Comparison]:
    """Compare every arm with its reference, and adjust the p-values of arms that make a claim."""
    from xraysynth.evaluation.metrics.statistics import holm_adjust

    comparisons = [scorer.compare(arm, find_reference(arm)) for arm in tested_arms]
    p_values = {}
    for index, (arm, comparison) in enumerate(zip(tested_arms, comparisons, strict=True)):
        if arm.makes_claim and comparison.p is not None and np.isfinite(comparison.p):
            p_values[str(index)] = comparison.p
    adjusted_p_values = holm_adjust(p_values)
    adjusted = []
    for index, comparison in enumerate(comparisons):
        adjusted.append(replace(comparison, p_holm=adjusted_p_values.get(str(index))))
    return adjusted


def build_arm(scorer: Scorer, arm: TestedArm, comparisons: ArmComparisons) -> Arm:
    """Build the entry of an arm in the report.

    Args:
        scorer: The scores of all arms.
        arm: The arm with its finished trainings.
        comparisons: Its differences to the other arms, from `compare_all`.
    """
    data, results = arm.data, arm.results
    first_result = results[0]  # All seeds see the same number of images.
    real_vs_synthetic_aurocs, pointing_games = _collect_probes(results)
    return Arm(
        generator=arm.generator,
        synthetic_fraction=data.synthetic_fraction,
        mode=data.mode.value,
        control="" if data.control is Control.none else data.control.value,
        real_fraction=data.real_fraction,
        left_out_source=data.leave_out,
        seeds=list(arm.jobs),
        real_images=first_result.real_images,
        synthetic_images=first_result.synthetic_images,
        real_repeats=first_result.real_repeats,
        predictions=arm.predictions,
        scores=scorer.resample_arm(arm).intervals(),
        over_real=comparisons.over_real,
        over_duplicates=comparisons.over_duplicates,
        over_permuted=comparisons.over_permuted,
        errors_removed=_errors_removed(scorer, arm, comparisons.over_real),
        external=_external_scores(scorer, arm),
        real_vs_synthetic_auroc=real_vs_synthetic_aurocs,
        pointing_game=pointing_games,
        scores_by_seed=list(map(_score_values, results)),
        seconds=[job.record().seconds or 0.0 for job in arm.jobs.values()],
        optimiser_steps=[result.optimiser_steps for result in results],
    )


def _score_values(result: TrainResult) -> dict[str, float]:
    """Return the scores of one training without their intervals."""
    return {name: interval.value for name, interval in result.scores.items()}


def _collect_probes(results: Sequence[TrainResult]) -> tuple[list[Interval], list[PointingGame]]:
    """Collect real-vs-synthetic AUROCs and pointing games of the seeds for which they were measured."""
    aurocs, pointing_games = [], []
    for result in results:
        probes = result.probes or ArmProbes()
        if probes.real_vs_synthetic_auroc is not None:
            aurocs.append(probes.real_vs_synthetic_auroc)
        if probes.pointing_game is not None:
            pointing_games.append(probes.pointing_game.with_comparable_chance)
    return aurocs, pointing_games


def _errors_removed(scorer: Scorer, arm: TestedArm, over_real: Comparison) -> Interval | None:
    """Return the gain over real-only, divided by 1 minus the real-only score."""
    from xraysynth.evaluation.metrics.statistics import errors_removed

    real_only = scorer.find_real_only(arm)
    if real_only is None or PRIMARY_METRIC not in over_real.differences:
        return None
    real_only_scores = scorer.resample_seeds(real_only, over_real.seeds)
    means, _ = real_only_scores.means_and_deviations[PRIMARY_METRIC]
    return errors_removed(over_real.differences[PRIMARY_METRIC], reference=float(means[0]))


def _external_scores(scorer: Scorer, arm: TestedArm) -> dict[str, dict[str, Interval]]:
    """Return the arm's scores by external source; empty if a training was not tested on any."""
    tables = []
    for job in arm.jobs.values():
        if not (job.folder / train.EXTERNAL_PREDICTIONS).exists():
            return {}
        tables.append(load_predictions(job, train.EXTERNAL_PREDICTIONS))
    scores = {}
    for source in sorted(set(tables[0]["source"])):
        source_tables = [table[table["source"] == source] for table in tables]
        scores[source] = scorer.meaningful_scores(source_tables)
    return scores
