"""The scores of an arm with intervals from a bootstrap over patients and training seeds."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, NamedTuple

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
from xraysynth.evaluation.metrics.seed_variance import (
    VARIANCE_DRAWS,
    SpreadOfSeeds,
    draw_variances,
    group_by_size,
    summarise_spread,
)
from xraysynth.evaluation.metrics.statistics import (
    MIN_BOOTSTRAP_PATIENTS,
    REPLICATES,
    DifferenceSpread,
    Interval,
    paired_replicates,
    percentile_interval,
    proportion_sd,
    score_interval,
)
from xraysynth.seeds import derive_seed

PERCENTILE_SCORES = ("ece", "brier")
"""Scores with percentile intervals: these are errors, not proportions."""


class MeanOverRuns(NamedTuple):
    """The average of a score over the runs of an arm: the point value, then one value per draw.

    `means` `(1 + R,)` are the averages over the runs, under each draw of patients. `deviations`
    `(1 + R,)` are random deviations, as another choice of training seeds would cause. `own_variance` is
    the part of the variance of `means` that these very runs cause: what a run makes of an image differs
    from run to run, and with it the mean over a draw of patients. This part is in the deviations, too.
    """

    means: np.ndarray
    deviations: np.ndarray
    own_variance: float


class _ComputedWhenAsked(Mapping[str, MeanOverRuns]):
    """A mapping whose values are computed once, when they are first asked for."""

    def __init__(self, compute: Callable[[str], MeanOverRuns], names: Iterable[str]) -> None:
        self._compute, self._names = compute, list(names)
        self._values: dict[str, MeanOverRuns] = {}

    def __getitem__(self, name: str) -> MeanOverRuns:
        if name not in self._values:
            self._values[name] = self._compute(name)
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


@dataclass(frozen=True)
class BootstrapScores:
    """All scores of one arm for every draw of patients and each of S runs with different seeds.

    Attributes:
        by_run: Scores `(S, 1 + R)` by name: for each run the point value, then one value per draw.
        image_counts: Number of test images by class, and of all under "".
        patient_counts: Number of patients by class, and of all under "".
        seed: Seed of all draws.
        run_variances: Plausible variances `(D,)` of a score between runs, by name, where they are
            moderated over the arms of a study (`moderate_arms`). Otherwise the runs' own variance
            counts, and the mean deviates as Student's t with S - 1 degrees of freedom does.
    """

    by_run: Mapping[str, np.ndarray]
    image_counts: Mapping[str, int]
    patient_counts: Mapping[str, int]
    seed: int
    run_variances: Mapping[str, np.ndarray] = field(default_factory=dict)

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
        decisions_only: bool = False,
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
            decisions_only: Whether to leave out the slow scores (`replicate_scores`).

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
        options: dict[str, Any] = {"classes": classes, "decisions_only": decisions_only}
        scores = [replicate_scores(run, targets, weights, **options) for run in runs]
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
        return _ComputedWhenAsked(self._average, self.by_run)

    def _average(self, name: str) -> MeanOverRuns:
        scores = self.by_run[name]
        normal = self._normal_deviates
        deviations = normal * np.sqrt(self.variances_of_mean(name)[: len(normal)])
        own_variance = _variance_by_run(scores) / self.n_runs
        return MeanOverRuns(scores.mean(0), np.concatenate([[0.0], deviations]), own_variance)

    @cached_property
    def _normal_deviates(self) -> np.ndarray:
        """Standard normal deviates `(R,)`, the same for all scores, and others for other runs."""
        runs = self.by_run["accuracy"][:, 0], self.by_run["macro_f1"][:, 0]
        values = np.round(np.concatenate(runs), 9).tolist()
        rng = np.random.default_rng(derive_seed(self.seed, "runs", str(values)))
        deviates: np.ndarray = rng.normal(size=self.n_replicates)
        return deviates

    def variances_of_mean(self, name: str) -> np.ndarray:
        """Return plausible variances `(D,)` of the mean over the runs; 0 for a single run."""
        if self.n_runs < 2:
            return np.zeros(max(VARIANCE_DRAWS, self.n_replicates))
        variances = self.run_variances.get(name)
        if variances is None:
            (variances,) = _draw_run_variances([self], name)
        return variances / self.n_runs

    def run_values(self, name: str) -> np.ndarray:
        """Return one score of each run on all patients, `(S,)`."""
        values: np.ndarray = self.by_run[name][:, 0]
        return values

    def replicates(self, name: str) -> np.ndarray:
        """Return one score `(1 + R,)`: the mean over runs, then its replicates.

        Each replicate draws the patients once, jointly for all runs, and adds a deviation between
        runs, which is normal with one of the plausible variances of the mean (`run_variances`). Drawing
        the runs themselves would understate their spread, for three runs by a third and without tails.
        A replicate may leave [0, 1].
        """
        means, deviations, own_variance = self.means_and_deviations[name]
        replicates: np.ndarray = _without_variance(means, own_variance) + deviations
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
        means = self.by_run[name].mean(0)
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
        means, deviations, own_variance = self.means_and_deviations[name]
        if name in PERCENTILE_SCORES:
            has_too_few = self.patient_counts[ALL_CLASSES] < MIN_BOOTSTRAP_PATIENTS
            draws = np.full(1, np.nan) if has_too_few else self.replicates(name)[1:]
            return percentile_interval(means[0], draws, n=n)
        hidden: np.ndarray | float = 0.0
        if label == ALL_CLASSES:
            hidden = self._deviations_beyond_bootstrap(self.sd_beyond_bootstrap(name))
        return score_interval(
            means[0],
            _without_variance(means, own_variance)[1:],
            patients=self.patient_counts[label],
            between_runs=deviations[1:] + hidden,
            n=n,
        )

    def difference_to(self, reference: "BootstrapScores") -> dict[str, Interval]:
        """Return every score of this arm minus that of `reference`, with intervals paired by patient.

        Both arms are scored on the same draws of patients, and may have different numbers of runs. Runs of
        one seed count as independent. They are somewhat alike (`experiments/quickstart`), so that the
        interval is somewhat wider than it must be, and not narrower. If one of the arms has a single run,
        the interval is over patients and the runs of the other one alone.

        Raises:
            XraysynthError: If the arms have different draws.
        """
        return {name: self.difference(reference, name) for name in self.by_run}

    def difference(self, reference: "BootstrapScores", name: str) -> Interval:
        """Return the difference of one score with its interval; see `difference_to`."""
        means, deviations, _ = self.means_and_deviations[name]
        reference_means, reference_deviations, _ = reference.means_and_deviations[name]
        n = self.image_counts[_class_of(name)]
        if name in PERCENTILE_SCORES and self.patient_counts[ALL_CLASSES] < MIN_BOOTSTRAP_PATIENTS:
            return Interval(float(means[0] - reference_means[0]), float("nan"), float("nan"), n)
        replicates = paired_replicates(means, reference_means)
        replicates = _without_variance(replicates, self._own_variance_beside(reference, name))
        replicates += deviations - reference_deviations
        sd = self._difference_sd_beyond_bootstrap(reference, name)
        replicates[1:] += self._deviations_beyond_bootstrap(sd)
        return percentile_interval(replicates[0], replicates[1:], n=n)

    def _own_variance_beside(self, reference: "BootstrapScores", name: str) -> float:
        """Return the variance over draws of patients that the very runs of two arms cause."""
        if reference is self:
            return 0.0
        arms = self.means_and_deviations[name], reference.means_and_deviations[name]
        return sum(arm.own_variance for arm in arms)

    def _difference_sd_beyond_bootstrap(self, reference: "BootstrapScores", name: str) -> float:
        """Return the standard deviation of a difference that its replicates do not show.

        The hidden variances of both arms are added as if they were independent, the most cautious
        assumption.
        """
        return float(np.hypot(self.sd_beyond_bootstrap(name), reference.sd_beyond_bootstrap(name)))

    def difference_spread(self, reference: "BootstrapScores", name: str) -> DifferenceSpread | None:
        """Return what the difference of one score from that of `reference` varies by.

        It is None if one of the arms has a single run, which does not show how runs differ.
        """
        if min(self.n_runs, reference.n_runs) < 2:
            return None
        differences = self.by_run[name].mean(0) - reference.by_run[name].mean(0)
        patients_variance = np.nanvar(differences[1:]) - self._own_variance_beside(reference, name)
        hidden_sd = self._difference_sd_beyond_bootstrap(reference, name)
        seeds_variances = self.variances_of_mean(name) + reference.variances_of_mean(name)
        return DifferenceSpread(
            difference=float(differences[0]),
            patients_sd=float(np.sqrt(max(0.0, patients_variance) + hidden_sd**2)),
            seeds_variances=seeds_variances,
        )

    def p_value(self, reference: "BootstrapScores", name: str) -> float | None:
        """Return the two-sided p-value of `difference_to` for one score.

        It is None if one of the arms has a single run, which does not show how runs differ.
        """
        spread = self.difference_spread(reference, name)
        return None if spread is None else spread.p_value()


def moderate_arms(
    arms: Sequence[BootstrapScores], sizes: Sequence[int], names: Sequence[str] | None = None
) -> tuple[list[BootstrapScores], dict[str, list[SpreadOfSeeds]]]:
    """Moderate the variances between the runs of arms that were tested on the same images.

    Arms borrow from those of about as many training images alone; see `seed_variance`.

    Args:
        arms: The arms.
        sizes: Number of training images of each arm.
        names: Names of the scores; None for all.

    Returns:
        The arms with `run_variances`, in the same order; and by name of a score, how much its seeds
        differ in each group of arms, the smallest images first.
    """
    moderated = list(arms)
    spreads: dict[str, list[SpreadOfSeeds]] = {}
    for group in group_by_size(sizes):
        members = [arms[position] for position in group]
        variances: list[dict[str, np.ndarray]] = [{} for _ in members]
        for name in members[0].by_run if names is None else names:
            for by_name, drawn in zip(variances, _draw_run_variances(members, name), strict=True):
                by_name[name] = drawn
            spread = summarise_spread([arm.run_values(name) for arm in members])
            if spread is not None:
                images = tuple(sizes[position] for position in group if arms[position].n_runs > 1)
                spreads.setdefault(name, []).append(replace(spread, images=images))
        for position, arm, by_name in zip(group, members, variances, strict=True):
            moderated[position] = replace(arm, run_variances=by_name)
    return moderated, spreads


def _draw_run_variances(arms: Sequence[BootstrapScores], name: str) -> np.ndarray:
    """Draw plausible variances `(A, D)` of a score between the runs of each arm, jointly."""
    values = [arm.run_values(name) for arm in arms]
    rng = np.random.default_rng(derive_seed(arms[0].seed, "variances", name))
    return draw_variances(values, rng, max(VARIANCE_DRAWS, arms[0].n_replicates))


def _variance_by_run(scores: np.ndarray) -> float:
    """Return the variance over draws of patients of what one run has apart from the others.

    Args:
        scores: Scores `(S, 1 + R)` of one arm: the point value, then one value per draw.
    """
    runs = len(scores)
    apart = (scores - scores.mean(0))[:, 1:]
    if runs < 2 or not np.isfinite(apart).any():
        return 0.0
    return float(np.nanmean(np.nanvar(apart, axis=1)) * runs / (runs - 1))


def _without_variance(scores: np.ndarray, variance: float) -> np.ndarray:
    """Shrink replicates `(1 + R,)` around their mean by so much variance; the point value stays."""
    draws = scores[1:]
    if not variance or not np.isfinite(draws).any():
        return scores.copy()
    centre, total = np.nanmean(draws), np.nanvar(draws)
    factor = np.sqrt(max(0.0, 1 - variance / total)) if total else 0.0
    return np.concatenate([scores[:1], centre + factor * (draws - centre)])


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
