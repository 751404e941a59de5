"""Scores of a study's arms on the same test images, and their differences to other arms."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from xraysynth.config import Config
from xraysynth.data.persons import person_keys
from xraysynth.evaluation.classifier_evaluation import TrainResult, select_meaningful
from xraysynth.evaluation.metrics.arm_probes import ArmProbes
from xraysynth.evaluation.metrics.pointing_game import PointingGame
from xraysynth.evaluation.metrics.statistics import Interval
from xraysynth.report.content import Arm, Comparison
from xraysynth.stages import train
from xraysynth.stages._study.decisions import decide
from xraysynth.stages._study.tested_arm import TestedArm, load_predictions, select_source
from xraysynth.training.recipe import Control

if TYPE_CHECKING:
    from xraysynth.evaluation.metrics.classification import BootstrapScores
    from xraysynth.evaluation.metrics.seed_variance import SpreadOfSeeds
    from xraysynth.evaluation.metrics.statistics import DifferenceSpread

PRIMARY_METRIC = "macro_f1"
"""The score that arms are compared by."""


class Scorer:
    """Scores arms on the same images, all of them on the same bootstrap draws of patients.

    Arms of about as many training images lend each other their variances between seeds; see
    `evaluation.metrics.seed_variance`.

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
        self._equivalence_margin = config.study.equivalence_margin

    @cached_property
    def _scores(self) -> tuple[list["BootstrapScores"], dict[str, list["SpreadOfSeeds"]]]:
        """Scores of all arms on the study's test images, and how much their seeds differ."""
        return self.score_together(
            self._tested_arms, [arm.predictions for arm in self._tested_arms]
        )

    def resample_arm(self, arm: TestedArm) -> "BootstrapScores":
        """Return the scores of an arm of the study under every draw of patients."""
        scores, _ = self._scores
        titles = [other.title for other in self._tested_arms]
        return scores[titles.index(arm.title)]

    def spread_of_seeds(self) -> list["SpreadOfSeeds"]:
        """Return how much seeds differ in `PRIMARY_METRIC`, by group of arms of about one size."""
        _, spreads = self._scores
        return spreads.get(PRIMARY_METRIC, [])

    def score_together(
        self, arms: Sequence[TestedArm], predictions: Sequence[Sequence[pd.DataFrame]]
    ) -> tuple[list["BootstrapScores"], dict[str, list["SpreadOfSeeds"]]]:
        """Score arms on the same images under every draw of patients.

        Args:
            arms: The arms.
            predictions: For each arm one table of predictions per seed, all of the same images in the
                same order, with the columns of `load_predictions`.

        Returns:
            The scores of each arm, with moderated variances between seeds, and what
            `bootstrap_scores.moderate_arms` says of them.
        """
        from xraysynth.evaluation.metrics.bootstrap_scores import moderate_arms

        sizes = [arm.training_images for arm in arms]
        return moderate_arms(list(map(self.resample, predictions)), sizes)

    def resample(
        self, tables: Sequence[pd.DataFrame], *, decisions_only: bool = False
    ) -> "BootstrapScores":
        """Return the scores of one arm's predictions, one table per seed; variances are its own.

        With `decisions_only`, AUROC and other slow scores are left out.
        """
        from xraysynth.evaluation.metrics.classification import BootstrapScores

        columns = [f"p_{name}" for name in self._classes]
        return BootstrapScores.from_runs(
            [table[columns].to_numpy() for table in tables],
            pd.Categorical(tables[0]["label"], categories=self._classes).codes.astype(int),
            person_keys(tables[0], self._linked_patients),
            classes=self._classes,
            replicates=self._replicates,
            decisions_only=decisions_only,
        )

    def external_scores(self, arm: TestedArm) -> dict[str, dict[str, Interval]]:
        """Return the arm's scores by external source; empty if a training was not tested on any."""
        found = {}
        for source, scores_by_arm in self._external.items():
            if arm.title in scores_by_arm:
                found[source] = scores_by_arm[arm.title]
        return found

    @cached_property
    def _external(self) -> dict[str, dict[str, dict[str, Interval]]]:
        """Scores that the classes of an external source allow, by source and title of the arm."""
        predictions = {}
        for arm in self._tested_arms:
            if all((job.folder / train.EXTERNAL_PREDICTIONS).exists() for job in arm.jobs.values()):
                predictions[arm.title] = _load_external(arm)
        arms = [arm for arm in self._tested_arms if arm.title in predictions]
        if not arms:
            return {}
        found = {}
        for source in sorted(set(predictions[arms[0].title][0]["source"])):
            tables = [select_source(predictions[arm.title], source) for arm in arms]
            labels = set(tables[0][0]["label"])
            scores, _ = self.score_together(arms, tables)
            intervals = [select_meaningful(s.intervals(), labels, self._classes) for s in scores]
            found[source] = dict(zip(predictions, intervals, strict=True))
        return found

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
        """Return the scores of the arm minus those of another, paired by test patient.

        Args:
            arm: The arm that is compared.
            reference: The arm that it is compared with; None if the study has none.

        Returns:
            Differences with intervals, and the seeds of the arm that has fewer of them; empty without a
            reference.
        """
        if reference is None:
            return Comparison()
        scores, reference_scores = self.resample_arm(arm), self.resample_arm(reference)
        return Comparison(
            differences=scores.difference_to(reference_scores),
            seeds=min((list(arm.jobs), list(reference.jobs)), key=len),
        )

    def spread(self, arm: TestedArm, reference: TestedArm | None) -> "DifferenceSpread | None":
        """Return what the difference of two arms in `PRIMARY_METRIC` varies by.

        None without a reference, or if one of the arms has a single seed.
        """
        if reference is None:
            return None
        return self.resample_arm(arm).difference_spread(
            self.resample_arm(reference), PRIMARY_METRIC
        )

    @property
    def equivalence_margin(self) -> float | None:
        """The largest difference in `PRIMARY_METRIC` that does not matter; None if none is given."""
        return self._equivalence_margin


def _load_external(arm: TestedArm) -> list[pd.DataFrame]:
    """Load an arm's predictions for the external test sets, one table per seed."""
    return [load_predictions(job, train.EXTERNAL_PREDICTIONS) for job in arm.jobs.values()]


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
    comparisons = []
    spreads: dict[int, DifferenceSpread] = {}
    for index, arm in enumerate(tested_arms):
        reference = find_reference(arm)
        spread = scorer.spread(arm, reference)
        p_value = None if spread is None else spread.p_value()
        comparisons.append(replace(scorer.compare(arm, reference), p=p_value))
        if arm.makes_claim and spread is not None and np.isfinite(spread.p_value()):
            spreads[index] = spread
    for index, decision in decide(spreads, scorer.equivalence_margin).items():
        comparisons[index] = replace(comparisons[index], **vars(decision))
    return comparisons


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
        external=scorer.external_scores(arm),
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
    reference = scorer.resample_arm(real_only).run_values(PRIMARY_METRIC).mean()
    return errors_removed(over_real.differences[PRIMARY_METRIC], reference=float(reference))
