"""The scores of an arm with intervals from a bootstrap over patients and training seeds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from xraysynth.errors import XraysynthError
from xraysynth.evaluation.metrics.class_mix import ALL_CLASSES
from xraysynth.evaluation.metrics.resampling import cluster_bootstrap_weights
from xraysynth.evaluation.metrics.scores import (
    check_predictions,
    count_images,
    replicate_scores,
    sample_weights_for_targets,
)
from xraysynth.evaluation.metrics.statistics import (
    MIN_BOOTSTRAP_PATIENTS,
    REPLICATES,
    Interval,
    difference_p_value,
    paired_difference,
    percentile_interval,
    proportion_sd,
    score_interval,
)
from xraysynth.seeds import derive_seed

PERCENTILE_SCORES = ("ece", "brier")
"""Scores with percentile intervals: these are errors, not proportions."""


class MeanOverRuns(NamedTuple):
    """The average of a score over the runs of an arm: the point value, then one value per draw.

    `means` `(1 + R,)` are the averages. `deviations` `(1 + R,)` are random deviations from them, as
    another choice of training seeds would cause.
    """

    means: np.ndarray
    deviations: np.ndarray


@dataclass(frozen=True)
class BootstrapScores:
    """All scores of one arm for every draw of patients and each of S runs with different seeds.

    Attributes:
        by_run: Scores `(S, 1 + R)` by name: for each run the point value, then one value per draw.
        image_counts: Number of test images by class, and of all under "".
        patient_counts: Number of patients by class, and of all under "".
        seed: Seed of all draws.
    """

    by_run: Mapping[str, np.ndarray]
    image_counts: Mapping[str, int]
    patient_counts: Mapping[str, int]
    seed: int

    @classmethod
    def from_runs(
        cls,
        runs: Sequence[np.ndarray],
        targets: np.ndarray,
        patients: ArrayLike,
        *,
        classes: Sequence[str],
        replicates: int = REPLICATES,
        seed: int = 0,
        mix: np.ndarray | None = None,
    ) -> "BootstrapScores":
        """Score the runs of an arm on the same test images.

        Draws depend on the seed, the patients and the number of runs alone, so that all arms are
        scored on the same draws.

        Args:
            runs: Probabilities `(N, C)` of each run.
            targets: Index of the true class of each image, `(N,)`.
            patients: Patient id of each image, `(N,)`.
            classes: Names of the C classes.
            replicates: Number of draws, R.
            seed: Seed of all draws.
            mix: Proportions `(C,)` of the classes after weighting; None for no weighting. Accuracy,
                precision and the scores made of precision depend on how common each class is.

        Raises:
            XraysynthError: If there is no run, or if the arguments do not match.
        """
        if not len(runs):
            raise XraysynthError("an arm without runs has no scores; train at least one run of it")
        targets = np.asarray(targets)
        check_predictions(runs[0], targets, classes)  # before the targets choose the strata
        draws = cluster_bootstrap_weights(patients, replicates, seed, targets=targets)
        weights = np.vstack([np.ones_like(draws[:1]), draws])
        if mix is not None:
            weights = weights * sample_weights_for_targets(targets, mix, classes)
        scores = [replicate_scores(run, targets, weights, classes=classes) for run in runs]
        by_run = {}
        for name in scores[0]:
            by_run[name] = np.stack([run_scores[name] for run_scores in scores])
        patient_counts = _count_patients(patients, targets, classes)
        return cls(by_run, count_images(targets, classes), patient_counts, seed)

    @property
    def n_runs(self) -> int:
        """Number of runs, S."""
        return len(self.by_run["accuracy"])

    @property
    def n_replicates(self) -> int:
        """Number of draws, R."""
        return len(self.by_run["accuracy"][0]) - 1

    def select_runs(self, rows: Sequence[int]) -> "BootstrapScores":
        """Return the scores of some of the runs, in the order of `rows`."""
        by_run = {name: scores[list(rows)] for name, scores in self.by_run.items()}
        return replace(self, by_run=by_run)

    @cached_property
    def means_and_deviations(self) -> Mapping[str, MeanOverRuns]:
        """Each score averaged over the runs, and the deviations of the average between runs."""
        rng = np.random.default_rng(derive_seed(self.seed, "runs", self.n_runs))
        draws = _t_mixture_weights(rng, self.n_replicates, self.n_runs)
        mixtures = np.vstack([np.zeros(self.n_runs), draws])
        averages = {}
        for name, scores in self.by_run.items():
            averages[name] = MeanOverRuns(scores.mean(0), mixtures @ scores[:, 0])
        return averages

    def replicates(self, name: str) -> np.ndarray:
        """Return one score `(1 + R,)`: the mean over runs, then its replicates.

        Each replicate draws the patients once, jointly for all runs, and adds a deviation between
        runs: Student's t with S - 1 degrees of freedom times the standard error of the S runs'
        point values. Drawing the runs themselves would understate their spread, for three runs by a
        third and without tails. The deviation is a linear combination of the runs' scores with the
        same coefficients for all arms, so that it is paired in a difference of arms. A replicate may
        leave [0, 1].
        """
        average = self.means_and_deviations[name]
        replicates: np.ndarray = average.means + average.deviations
        return replicates

    @cached_property
    def scarce_classes(self) -> list[str]:
        """Classes that have patients, but too few for a bootstrap to show how these differ."""
        return [
            label
            for label in self._present_classes
            if self.patient_counts[label] < MIN_BOOTSTRAP_PATIENTS
        ]

    @cached_property
    def _present_classes(self) -> list[str]:
        return [label for label, n in self.patient_counts.items() if label != ALL_CLASSES and n]

    def sd_beyond_bootstrap(self, name: str) -> float:
        """Return the standard deviation of a score that its replicates do not show.

        The bootstrap misses variance of a class in two cases: if the class has few patients, or if
        its score is exactly 0 or 1, so that no draw of patients changes it (for example if the
        classifier never predicts the class). The variance of such a class is then taken from
        `proportion_interval`, if this is larger; it enters a mean over C classes with factor 1 / C².
        """
        metric, _, label = name.partition("/")
        if metric in (*PERCENTILE_SCORES, "accuracy"):
            return 0.0
        if label:
            return float(np.sqrt(self._variance_beyond_bootstrap(name)))
        class_score = metric.removeprefix("macro_")
        if metric == "balanced_accuracy":
            class_score = "recall"
        variances = []
        for label in self._present_classes:
            variances.append(self._variance_beyond_bootstrap(f"{class_score}/{label}"))
        return float(np.sqrt(np.sum(variances)) / len(self._present_classes))

    def _variance_beyond_bootstrap(self, name: str) -> float:
        """Return the variance of a score of one class that its replicates do not show."""
        label = _class_of(name)
        means = self.means_and_deviations[name].means
        value, draws = means[0], means[1:]
        is_hidden = label in self.scarce_classes or value in (0.0, 1.0)
        if not (is_hidden and np.isfinite(value)):
            return 0.0
        bootstrap_variance = float(np.nanvar(draws)) if np.isfinite(draws).any() else 0.0
        variance = proportion_sd(value, trials=self.patient_counts[label]) ** 2
        return max(0.0, variance - bootstrap_variance)

    def _deviations_beyond_bootstrap(self, sd: float) -> np.ndarray | float:
        """Draw normal deviations `(R,)` with this `sd`, from the same draws for all scores and arms."""
        if not sd:
            return 0.0
        rng = np.random.default_rng(derive_seed(self.seed, "few patients"))
        deviations: np.ndarray = sd * rng.normal(size=self.n_replicates)
        return deviations

    def intervals(self) -> dict[str, Interval]:
        """Return every score with its interval over training seeds and patients.

        With a single run the interval is over patients alone. It is a `score_interval`; only the
        calibration error and Brier's score have plain percentiles. A class of fewer than
        `MIN_BOOTSTRAP_PATIENTS` patients gets a `proportion_interval` over its patients, and means
        over classes include the variance of such a class.
        """
        return {name: self._interval(name) for name in self.by_run}

    def _interval(self, name: str) -> Interval:
        """Return one score with its interval; see `intervals`."""
        label = _class_of(name)
        n = self.image_counts[label]
        means, deviations = self.means_and_deviations[name]
        if name in PERCENTILE_SCORES:
            has_too_few = self.patient_counts[ALL_CLASSES] < MIN_BOOTSTRAP_PATIENTS
            draws = np.full(1, np.nan) if has_too_few else self.replicates(name)[1:]
            return percentile_interval(means[0], draws, n=n)
        hidden: np.ndarray | float = 0.0
        if label == ALL_CLASSES:
            hidden = self._deviations_beyond_bootstrap(self.sd_beyond_bootstrap(name))
        return score_interval(
            means[0],
            means[1:],
            patients=self.patient_counts[label],
            between_runs=deviations[1:] + hidden,
            n=n,
        )

    def difference_to(self, reference: "BootstrapScores") -> dict[str, Interval]:
        """Return every score of this arm minus that of `reference`, with paired intervals.

        Both arms are scored on the same draws of patients. Run k of both arms must have the same seed,
        so that an effect of the seed on both arms cancels. With one run each, the interval is over
        patients alone.

        Raises:
            XraysynthError: If the numbers of runs differ.
        """
        self._require_same_runs(reference)
        return {name: self._difference(reference, name) for name in self.by_run}

    def _require_same_runs(self, reference: "BootstrapScores") -> None:
        if self.n_runs != reference.n_runs:
            raise XraysynthError(
                f"difference of arms: {self.n_runs} and {reference.n_runs} runs cannot be paired; compare "
                "the runs of the seeds that both have (select_runs)"
            )

    def _difference(self, reference: "BootstrapScores", name: str) -> Interval:
        """Return the difference of one score with its interval; see `difference_to`."""
        arm_scores, reference_scores = self.replicates(name), reference.replicates(name)
        n = self.image_counts[_class_of(name)]
        if name in PERCENTILE_SCORES and self.patient_counts[ALL_CLASSES] < MIN_BOOTSTRAP_PATIENTS:
            value = float(arm_scores[0] - reference_scores[0])
            return Interval(value, float("nan"), float("nan"), n)
        sd = self._difference_sd_beyond_bootstrap(reference, name)
        arm_scores = arm_scores.copy()
        arm_scores[1:] += self._deviations_beyond_bootstrap(sd)
        return paired_difference(arm_scores, reference_scores, n=n)

    def _difference_sd_beyond_bootstrap(self, reference: "BootstrapScores", name: str) -> float:
        """Return the standard deviation of a difference that its replicates do not show.

        The hidden variances of both arms are added as if they were independent, the most cautious
        assumption.
        """
        return float(np.hypot(self.sd_beyond_bootstrap(name), reference.sd_beyond_bootstrap(name)))

    def p_value(self, reference: "BootstrapScores", name: str) -> float | None:
        """Return the two-sided p-value of `difference_to` for one score.

        It is None for arms of one run each, because these do not show how runs differ.

        Raises:
            XraysynthError: If the numbers of runs differ.
        """
        self._require_same_runs(reference)
        if self.n_runs < 2:
            return None
        differences = self.by_run[name] - reference.by_run[name]
        point_values, draws = differences[:, 0], differences.mean(0)[1:]
        hidden_sd = self._difference_sd_beyond_bootstrap(reference, name)
        return difference_p_value(
            float(point_values.mean()),
            patients_sd=float(np.hypot(np.nanstd(draws), hidden_sd)),
            seeds_se=float(np.std(point_values, ddof=1) / np.sqrt(self.n_runs)),
            seeds=self.n_runs,
        )


def _count_patients(
    patients: ArrayLike, targets: np.ndarray, classes: Sequence[str]
) -> dict[str, int]:
    """Count patients by class, and all of them under ""."""
    ids = np.asarray(patients).astype(str)
    counts = {}
    for index, label in enumerate(classes):
        counts[label] = len(np.unique(ids[targets == index]))
    counts[ALL_CLASSES] = len(np.unique(ids))
    return counts


def _class_of(score_name: str) -> str:
    """Return the class in <score>/<class>, or "" for a score over all classes."""
    return score_name.partition("/")[2]


def _t_mixture_weights(rng: np.random.Generator, replicates: int, runs: int) -> np.ndarray:
    """Draw weights w `(R, S)` that sum to 0; w x is distributed as t_(S-1) sd(x) / sqrt(S)."""
    if runs == 1:
        return np.zeros((replicates, 1))
    normal = rng.normal(size=(replicates, runs))
    normal -= normal.mean(1, keepdims=True)
    mixtures: np.ndarray = normal / np.sqrt(runs * rng.chisquare(runs - 1, size=(replicates, 1)))
    return mixtures
