"""How well a classifier does on real test images, with patient-clustered bootstrap intervals.

Notation: N images, C classes, R bootstrap replicates. Probabilities are `(N, C)`, targets `(N,)`
class indices, weights `(R, N)` counts from `resampling.cluster_bootstrap_weights`. The predicted class is the
most probable one, the first of equals. Point values are scikit-learn's.

Conventions where a score is undefined: precision, recall and F1 of a class without predictions or
images are 0 (`zero_division=0`); balanced accuracy averages over the classes that occur; AUROC is
NaN without positives or without negatives, AUPRC without positives, and their macro means leave
NaN out.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from xraysynth.errors import XraysynthError
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
"""Scores whose intervals are percentiles: errors, of which 1 is not the natural end."""


def score_run(
    probabilities: np.ndarray,
    targets: np.ndarray,
    patients: ArrayLike,
    *,
    classes: Sequence[str],
    replicates: int = REPLICATES,
    seed: int = 0,
    mix: np.ndarray | None = None,
) -> dict[str, Interval]:
    """All scores of one run, each with its interval over patients; `mix` as in `BootstrapScores.of`.

    Keys: accuracy, balanced_accuracy, ece, brier, macro_<score> and <score>/<class> for precision,
    recall, f1, auroc and auprc. `n` is the number of images, of the class where there is one.
    """
    return score_arm(
        [probabilities],
        targets,
        patients,
        classes=classes,
        replicates=replicates,
        seed=seed,
        mix=mix,
    )


def score_arm(
    runs: Sequence[np.ndarray], targets: np.ndarray, patients: ArrayLike, **options: Any
) -> dict[str, Interval]:
    """`BootstrapScores.scores` of one arm; the options are those of `BootstrapScores.of`."""
    return BootstrapScores.from_runs(runs, targets, patients, **options).intervals()


def compare_arms(
    arm_runs: Sequence[np.ndarray],
    reference_runs: Sequence[np.ndarray],
    targets: np.ndarray,
    patients: ArrayLike,
    **options: Any,
) -> dict[str, Interval]:
    """`BootstrapScores.difference_to` of two arms; the options are those of `BootstrapScores.of`."""
    arm, reference = (
        BootstrapScores.from_runs(runs, targets, patients, **options)
        for runs in (arm_runs, reference_runs)
    )
    return arm.difference_to(reference)


@dataclass(frozen=True)
class BootstrapScores:
    """All scores of one arm, averaged over its runs (training seeds), under every draw of patients.

    `by_run` has the scores of every run, `(S, 1 + R)` each: the point value, then one per draw.
    `images` and `patients` count by class, and overall under "". `seed` decides what is drawn.
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
        """The arm of these runs, each `(N, C)` probabilities of the same images.

        What is drawn depends on the seed, the patients and the number of runs alone, so that arms
        are comparable. With `mix` `(C,)` images are weighted so that the classes have these shares:
        accuracy, precision and what is made of it depend on how common each class is.
        """
        if not len(runs):
            raise XraysynthError("an arm without runs has no scores; train at least one run of it")
        targets = np.asarray(targets)
        check_predictions(runs[0], targets, classes)  # before the targets choose the strata
        weights = cluster_bootstrap_weights(patients, replicates, seed, targets=targets)
        weights = np.vstack([np.ones_like(weights[:1]), weights])
        if mix is not None:
            weights = weights * sample_weights_for_targets(targets, mix, classes)
        scores = [replicate_scores(run, targets, weights, classes=classes) for run in runs]
        by_run = {name: np.stack([score[name] for score in scores]) for name in scores[0]}
        owners = np.asarray(patients).astype(str)
        people = {label: len(np.unique(owners[targets == c])) for c, label in enumerate(classes)}
        return cls(
            by_run, count_images(targets, classes), people | {"": len(np.unique(owners))}, seed
        )

    @property
    def n_runs(self) -> int:
        """Number of runs, S."""
        return len(self.by_run["accuracy"])

    def select_runs(self, rows: Sequence[int]) -> "BootstrapScores":
        """The same arm with some of its runs alone."""
        return replace(self, by_run={name: s[list(rows)] for name, s in self.by_run.items()})

    @cached_property
    def means_and_deviations(self) -> Mapping[str, tuple[np.ndarray, np.ndarray]]:
        """Two rows `(1 + R,)` for each score: its mean over runs, and that mean's deviations between
        runs, the first of either belonging to the point value."""
        replicates = self.by_run["accuracy"].shape[1] - 1
        rng = np.random.default_rng(derive_seed(self.seed, "runs", self.n_runs))
        mixtures = np.vstack(
            [np.zeros(self.n_runs), _t_mixture_weights(rng, replicates, self.n_runs)]
        )
        return {name: (s.mean(0), mixtures @ s[:, 0]) for name, s in self.by_run.items()}

    def replicates(self, name: str) -> np.ndarray:
        """One score `(1 + R,)`: the mean over runs, then its replicates.

        Each replicate draws the patients once, jointly for all runs, and adds a deviation between
        runs: Student's t with S - 1 degrees of freedom times the standard error of the S runs' own
        scores. Drawing the runs themselves would understate their spread, of three by a third and
        without tails. Being a linear combination of the runs' scores, the same for all arms, it is
        paired in a difference of arms. A replicate may leave [0, 1].
        """
        scores, deviations = self.means_and_deviations[name]
        found: np.ndarray = scores + deviations
        return found

    @cached_property
    def scarce_classes(self) -> list[str]:
        """Classes of too few patients for a bootstrap to see how far these differ."""
        return [
            label
            for label, n in self.patient_counts.items()
            if label and 0 < n < MIN_BOOTSTRAP_PATIENTS
        ]

    def sd_beyond_bootstrap(self, name: str) -> float:
        """Standard deviation of a score beyond that of its replicates, which some classes hide.

        A class of few patients does, and one whose score is exactly 0 or 1, as of a classifier that never
        names it: no draw of patients changes it. Their variance is taken as that of `proportion_interval`,
        where this is larger than the bootstrap's; a mean over C classes has 1 / C² of it.
        """
        metric, _, label = name.partition("/")
        if metric in (*PERCENTILE_SCORES, "accuracy"):
            return 0.0
        if label:
            return float(np.sqrt(self._variance_beyond_bootstrap(name)))
        part = {"balanced_accuracy": "recall"}.get(metric, metric.removeprefix("macro_"))
        present = [label for label, n in self.patient_counts.items() if label and n]
        variances = [self._variance_beyond_bootstrap(f"{part}/{label}") for label in present]
        return float(np.sqrt(np.sum(variances)) / len(present))

    def _variance_beyond_bootstrap(self, name: str) -> float:
        scores = self.means_and_deviations[name][0]
        label = name.partition("/")[2]
        is_hidden = label in self.scarce_classes or scores[0] in (0.0, 1.0)
        if not (is_hidden and np.isfinite(scores[0])):
            return 0.0
        seen = np.nanvar(scores[1:]) if np.isfinite(scores[1:]).any() else 0.0
        return max(
            0.0, proportion_sd(scores[0], trials=self.patient_counts[label]) ** 2 - float(seen)
        )

    def _deviations_beyond_bootstrap(self, sd: float) -> np.ndarray | float:
        """Deviations `(R,)` of that size, the same for every score and arm; 0 where it is 0."""
        if not sd:
            return 0.0
        rng = np.random.default_rng(derive_seed(self.seed, "few patients"))
        drawn: np.ndarray = sd * rng.normal(size=self.by_run["accuracy"].shape[1] - 1)
        return drawn

    def intervals(self) -> dict[str, Interval]:
        """Every score with its interval, about the expected score over training seeds and patients.

        One run alone gives that over patients. It is `score_interval`, but plain percentiles for
        the calibration error and Brier's score. A class of fewer than `MIN_BOOTSTRAP_PATIENTS` patients gets
        `proportion_interval` by patients, which means over classes take into account.
        """
        return {name: self._interval(name) for name in self.means_and_deviations}

    def _interval(self, name: str) -> Interval:
        label = name.partition("/")[2]
        n, (scores, deviations) = self.image_counts[label], self.means_and_deviations[name]
        if name in PERCENTILE_SCORES:
            few = self.patient_counts[""] < MIN_BOOTSTRAP_PATIENTS
            draws = np.full(1, np.nan) if few else self.replicates(name)[1:]
            return percentile_interval(scores[0], draws, n=n)
        hidden = 0.0 if label else self._deviations_beyond_bootstrap(self.sd_beyond_bootstrap(name))
        return score_interval(
            scores[0],
            scores[1:],
            patients=self.patient_counts[label],
            between_runs=deviations[1:] + hidden,
            n=n,
        )

    def difference_to(self, reference: "BootstrapScores") -> dict[str, Interval]:
        """This arm minus another on the same test images, paired: both see the same drawn patients.

        Run k of both must be of one seed: what a seed gives both arms is no difference. With one run
        each the interval is over patients alone.
        """
        self._require_same_runs(reference)
        return {name: self._difference(reference, name) for name in self.means_and_deviations}

    def _require_same_runs(self, reference: "BootstrapScores") -> None:
        if self.n_runs != reference.n_runs:
            raise XraysynthError(
                f"difference of arms: {self.n_runs} and {reference.n_runs} runs cannot be paired; compare "
                "the runs of the seeds that both have (select_runs)"
            )

    def _difference(self, reference: "BootstrapScores", name: str) -> Interval:
        own, other = self.replicates(name), reference.replicates(name)
        n = self.image_counts[name.partition("/")[2]]
        if name in PERCENTILE_SCORES and self.patient_counts[""] < MIN_BOOTSTRAP_PATIENTS:
            return Interval(float(own[0] - other[0]), float("nan"), float("nan"), n)
        hidden = self._deviations_beyond_bootstrap(
            self._difference_sd_beyond_bootstrap(reference, name)
        )
        own = np.concatenate([own[:1], own[1:] + hidden])
        return paired_difference(own, other, n=n)

    def _difference_sd_beyond_bootstrap(self, reference: "BootstrapScores", name: str) -> float:
        """As if what few patients hide were independent in the two arms, which is the least favourable."""
        return float(np.hypot(self.sd_beyond_bootstrap(name), reference.sd_beyond_bootstrap(name)))

    def p_value(self, reference: "BootstrapScores", name: str) -> float | None:
        """Two-sided p-value of `difference_to` for one score; None with one run each, which "
        "shows no spread."""
        self._require_same_runs(reference)
        if self.n_runs < 2:
            return None
        by_run = self.by_run[name] - reference.by_run[name]
        over_patients = by_run.mean(0)[1:]
        return difference_p_value(
            float(by_run[:, 0].mean()),
            patients_sd=float(
                np.hypot(
                    np.nanstd(over_patients), self._difference_sd_beyond_bootstrap(reference, name)
                )
            ),
            seeds_se=float(np.std(by_run[:, 0], ddof=1) / np.sqrt(self.n_runs)),
            seeds=self.n_runs,
        )


def _t_mixture_weights(rng: np.random.Generator, replicates: int, runs: int) -> np.ndarray:
    """Weights `(R, S)`, 0 in sum, whose combination of S values x is t_(S-1) sd(x) / sqrt(S)."""
    if runs == 1:
        return np.zeros((replicates, 1))
    normal = rng.normal(size=(replicates, runs))
    normal -= normal.mean(1, keepdims=True)
    mixtures: np.ndarray = normal / np.sqrt(runs * rng.chisquare(runs - 1, size=(replicates, 1)))
    return mixtures
