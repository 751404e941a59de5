"""How well a classifier does on real test images, with patient-clustered bootstrap intervals.

Notation: N images, C classes, R bootstrap replicates. Probabilities are `(N, C)`, targets `(N,)`
class indices, weights `(R, N)` counts from `statistics.cluster_weights`. The predicted class is the
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
from xraysynth.evaluation.metrics.statistics import (
    FEW_PATIENTS,
    REPLICATES,
    Interval,
    cluster_weights,
    difference_p_value,
    interval,
    paired_difference,
    score_interval,
    share_sd,
)
from xraysynth.seeds import derive_seed

CALIBRATION_BINS = 15
UNBOUNDED = ("ece", "brier")
"""Scores whose intervals are percentiles: errors, of which 1 is not the natural end."""

_BLOCK = 2_000_000  # weights held as float64 at a time: 16 MB a temporary array


def evaluate(
    probabilities: np.ndarray,
    targets: np.ndarray,
    patients: ArrayLike,
    *,
    classes: Sequence[str],
    replicates: int = REPLICATES,
    seed: int = 0,
    mix: np.ndarray | None = None,
) -> dict[str, Interval]:
    """All scores of one run, each with its interval over patients; `mix` as in `Resampled.of`.

    Keys: accuracy, balanced_accuracy, ece, brier, macro_<score> and <score>/<class> for precision,
    recall, f1, auroc and auprc. `n` is the number of images, of the class where there is one.
    """
    options: dict[str, Any] = {"replicates": replicates, "seed": seed, "mix": mix}
    return arm_scores([probabilities], targets, patients, classes=classes, **options)


def arm_scores(
    runs: Sequence[np.ndarray], targets: np.ndarray, patients: ArrayLike, **options: Any
) -> dict[str, Interval]:
    """`Resampled.scores` of one arm; the options are those of `Resampled.of`."""
    return Resampled.of(runs, targets, patients, **options).scores()


def arm_difference(
    arm_runs: Sequence[np.ndarray],
    reference_runs: Sequence[np.ndarray],
    targets: np.ndarray,
    patients: ArrayLike,
    **options: Any,
) -> dict[str, Interval]:
    """`Resampled.minus` of two arms; the options are those of `Resampled.of`."""
    arm, reference = (
        Resampled.of(runs, targets, patients, **options) for runs in (arm_runs, reference_runs)
    )
    return arm.minus(reference)


@dataclass(frozen=True)
class Resampled:
    """All scores of one arm, averaged over its runs (training seeds), under every draw of patients.

    `by_run` has the scores of every run, `(S, 1 + R)` each: the point value, then one per draw.
    `images` and `patients` count by class, and overall under "". `seed` decides what is drawn.
    """

    by_run: Mapping[str, np.ndarray]
    images: Mapping[str, int]
    patients: Mapping[str, int]
    seed: int

    @classmethod
    def of(
        cls,
        runs: Sequence[np.ndarray],
        targets: np.ndarray,
        patients: ArrayLike,
        *,
        classes: Sequence[str],
        replicates: int = REPLICATES,
        seed: int = 0,
        mix: np.ndarray | None = None,
    ) -> "Resampled":
        """The arm of these runs, each `(N, C)` probabilities of the same images.

        What is drawn depends on the seed, the patients and the number of runs alone, so that arms
        are comparable. With `mix` `(C,)` images are weighted so that the classes have these shares:
        accuracy, precision and what is made of it depend on how common each class is.
        """
        if not len(runs):
            raise XraysynthError("an arm without runs has no scores; train at least one run of it")
        targets = np.asarray(targets)
        _check(runs[0], targets, classes)  # before the targets choose the strata
        weights = cluster_weights(patients, replicates, seed, targets=targets)
        weights = np.vstack([np.ones_like(weights[:1]), weights])
        if mix is not None:
            weights = weights * _class_weights(targets, mix, classes)
        scores = [replicate_scores(run, targets, weights, classes=classes) for run in runs]
        by_run = {name: np.stack([score[name] for score in scores]) for name in scores[0]}
        owners = np.asarray(patients).astype(str)
        people = {label: len(np.unique(owners[targets == c])) for c, label in enumerate(classes)}
        return cls(by_run, _counts(targets, classes), people | {"": len(np.unique(owners))}, seed)

    @property
    def runs(self) -> int:
        """Number of runs, S."""
        return len(self.by_run["accuracy"])

    def select_runs(self, rows: Sequence[int]) -> "Resampled":
        """The same arm with some of its runs alone."""
        return replace(self, by_run={name: s[list(rows)] for name, s in self.by_run.items()})

    @cached_property
    def levels(self) -> Mapping[str, tuple[np.ndarray, np.ndarray]]:
        """Two rows `(1 + R,)` for each score: its mean over runs, and that mean's deviations between
        runs, the first of either belonging to the point value."""
        replicates = self.by_run["accuracy"].shape[1] - 1
        rng = np.random.default_rng(derive_seed(self.seed, "runs", self.runs))
        mixtures = np.vstack([np.zeros(self.runs), _mixtures(rng, replicates, self.runs)])
        return {name: (s.mean(0), mixtures @ s[:, 0]) for name, s in self.by_run.items()}

    def replicates(self, name: str) -> np.ndarray:
        """One score `(1 + R,)`: the mean over runs, then its replicates.

        Each replicate draws the patients once, jointly for all runs, and adds a deviation between
        runs: Student's t with S - 1 degrees of freedom times the standard error of the S runs' own
        scores. Drawing the runs themselves would understate their spread, of three by a third and
        without tails. Being a linear combination of the runs' scores, the same for all arms, it is
        paired in a difference of arms. A replicate may leave [0, 1].
        """
        scores, deviations = self.levels[name]
        found: np.ndarray = scores + deviations
        return found

    @cached_property
    def scarce_classes(self) -> list[str]:
        """Classes of too few patients for a bootstrap to see how far these differ."""
        return [label for label, n in self.patients.items() if label and 0 < n < FEW_PATIENTS]

    def hidden_sd(self, name: str) -> float:
        """Standard deviation of a score beyond that of its replicates, which some classes hide.

        A class of few patients does, and one whose score is exactly 0 or 1, as of a classifier that never
        names it: no draw of patients changes it. Their variance is taken as that of `share_interval`,
        where this is larger than the bootstrap's; a mean over C classes has 1 / C² of it.
        """
        metric, _, label = name.partition("/")
        if metric in (*UNBOUNDED, "accuracy"):
            return 0.0
        if label:
            return float(np.sqrt(self._hidden_variance(name)))
        part = {"balanced_accuracy": "recall"}.get(metric, metric.removeprefix("macro_"))
        present = [label for label, n in self.patients.items() if label and n]
        variances = [self._hidden_variance(f"{part}/{label}") for label in present]
        return float(np.sqrt(np.sum(variances)) / len(present))

    def _hidden_variance(self, name: str) -> float:
        scores = self.levels[name][0]
        label = name.partition("/")[2]
        is_hidden = label in self.scarce_classes or scores[0] in (0.0, 1.0)
        if not (is_hidden and np.isfinite(scores[0])):
            return 0.0
        seen = np.nanvar(scores[1:]) if np.isfinite(scores[1:]).any() else 0.0
        return max(0.0, share_sd(scores[0], trials=self.patients[label]) ** 2 - float(seen))

    def _hidden_deviations(self, sd: float) -> np.ndarray | float:
        """Deviations `(R,)` of that size, the same for every score and arm; 0 where it is 0."""
        if not sd:
            return 0.0
        rng = np.random.default_rng(derive_seed(self.seed, "few patients"))
        drawn: np.ndarray = sd * rng.normal(size=self.by_run["accuracy"].shape[1] - 1)
        return drawn

    def scores(self) -> dict[str, Interval]:
        """Every score with its interval, about the expected score over training seeds and patients.

        One run alone gives that over patients. It is `score_interval`, but plain percentiles for
        the calibration error and Brier's score. A class of fewer than `FEW_PATIENTS` patients gets
        `share_interval` by patients, which means over classes take into account.
        """
        return {name: self._interval(name) for name in self.levels}

    def _interval(self, name: str) -> Interval:
        label = name.partition("/")[2]
        n, (scores, deviations) = self.images[label], self.levels[name]
        if name in UNBOUNDED:
            few = self.patients[""] < FEW_PATIENTS
            draws = np.full(1, np.nan) if few else self.replicates(name)[1:]
            return interval(scores[0], draws, n=n)
        hidden = 0.0 if label else self._hidden_deviations(self.hidden_sd(name))
        return score_interval(
            scores[0],
            scores[1:],
            patients=self.patients[label],
            between_runs=deviations[1:] + hidden,
            n=n,
        )

    def minus(self, reference: "Resampled") -> dict[str, Interval]:
        """This arm minus another on the same test images, paired: both see the same drawn patients.

        Run k of both must be of one seed: what a seed gives both arms is no difference. With one run
        each the interval is over patients alone.
        """
        self._require_same_runs(reference)
        return {name: self._difference(reference, name) for name in self.levels}

    def _require_same_runs(self, reference: "Resampled") -> None:
        if self.runs != reference.runs:
            raise XraysynthError(
                f"difference of arms: {self.runs} and {reference.runs} runs cannot be paired; compare "
                "the runs of the seeds that both have (select_runs)"
            )

    def _difference(self, reference: "Resampled", name: str) -> Interval:
        own, other = self.replicates(name), reference.replicates(name)
        n = self.images[name.partition("/")[2]]
        if name in UNBOUNDED and self.patients[""] < FEW_PATIENTS:
            return Interval(float(own[0] - other[0]), float("nan"), float("nan"), n)
        hidden = self._hidden_deviations(self._hidden_difference_sd(reference, name))
        own = np.concatenate([own[:1], own[1:] + hidden])
        return paired_difference(own, other, n=n)

    def _hidden_difference_sd(self, reference: "Resampled", name: str) -> float:
        """As if what few patients hide were independent in the two arms, which is the least favourable."""
        return float(np.hypot(self.hidden_sd(name), reference.hidden_sd(name)))

    def p_value(self, reference: "Resampled", name: str) -> float | None:
        """Two-sided p-value of `minus` for one score; None with one run each, which shows no spread."""
        self._require_same_runs(reference)
        if self.runs < 2:
            return None
        by_run = self.by_run[name] - reference.by_run[name]
        over_patients = by_run.mean(0)[1:]
        return difference_p_value(
            float(by_run[:, 0].mean()),
            patients_sd=float(
                np.hypot(np.nanstd(over_patients), self._hidden_difference_sd(reference, name))
            ),
            seeds_se=float(np.std(by_run[:, 0], ddof=1) / np.sqrt(self.runs)),
            seeds=self.runs,
        )


def _class_weights(targets: np.ndarray, mix: np.ndarray, classes: Sequence[str]) -> np.ndarray:
    """Weight `(N,)` of each image that gives the classes the shares `mix` `(C,)`, 1 on average.

    Of a class without images nothing can be weighted; the others share what is left.
    """
    shares = np.asarray(mix, np.float64)
    if shares.shape != (len(classes),) or not np.isfinite(shares).all() or shares.min() < 0:
        raise XraysynthError(
            f"mix={shares.tolist()}: must be the share of each of {len(classes)} classes, at least 0"
        )
    own = np.bincount(targets, minlength=len(classes)) / len(targets)
    wanted = np.where(own > 0, shares, 0)
    if not wanted.sum() > 0:
        raise XraysynthError(
            f"mix={shares.tolist()} gives no weight to any class that has images; leave mix out"
        )
    factor = np.divide(wanted / wanted.sum(), own, out=np.zeros_like(own), where=own > 0)
    weights: np.ndarray = factor[targets]
    return weights


def _mixtures(rng: np.random.Generator, replicates: int, runs: int) -> np.ndarray:
    """Weights `(R, S)`, 0 in sum, whose combination of S values x is t_(S-1) sd(x) / sqrt(S)."""
    if runs == 1:
        return np.zeros((replicates, 1))
    normal = rng.normal(size=(replicates, runs))
    normal -= normal.mean(1, keepdims=True)
    mixtures: np.ndarray = normal / np.sqrt(runs * rng.chisquare(runs - 1, size=(replicates, 1)))
    return mixtures


def replicate_scores(
    probabilities: np.ndarray, targets: np.ndarray, weights: np.ndarray, *, classes: Sequence[str]
) -> dict[str, np.ndarray]:
    """The scores of `evaluate` under each row of `weights` `(R, N)`: `(R,)` each."""
    probabilities, targets = np.asarray(probabilities, np.float64), np.asarray(targets)
    _check(probabilities, targets, classes)
    if weights.ndim != 2 or weights.shape[1] != len(targets):
        raise XraysynthError(f"weights of shape {weights.shape}: must be (R, {len(targets)})")
    blocks = np.array_split(weights, -(-weights.size // _BLOCK))
    parts = [_scores(probabilities, targets, block.astype(float), classes) for block in blocks]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def confusion(
    probabilities: np.ndarray, targets: np.ndarray, weights: np.ndarray | None = None
) -> np.ndarray:
    """Images per true class (rows) and predicted class: `(C, C)` int64, or `(R, C, C)` weighted."""
    n_classes = probabilities.shape[1]
    cell = targets * n_classes + probabilities.argmax(1)
    if weights is None:
        counts = np.bincount(cell, minlength=n_classes**2)
        return counts.reshape(n_classes, n_classes)
    cells: np.ndarray = weights @ np.eye(n_classes**2)[cell]
    return cells.reshape(-1, n_classes, n_classes)


def pr_curve(
    probabilities: np.ndarray, targets: np.ndarray, *, index: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Precision, recall (both `(T + 1,)`) and thresholds `(T,)` of one class against the rest."""
    from sklearn.metrics import precision_recall_curve

    precision, recall, thresholds = precision_recall_curve(
        np.asarray(targets) == index, probabilities[:, index]
    )
    return precision, recall, thresholds


def pr_band(
    probabilities: np.ndarray,
    targets: np.ndarray,
    weights: np.ndarray,
    *,
    index: int,
    recall: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Precision of one class at given recalls in (0, 1], and its pointwise 95 % band, `(L,)` each.

    The precision at recall r is that of the highest threshold which reaches r: no interpolation.
    """
    rows = np.vstack([np.ones(len(targets)), weights])
    hits, totals = _tied_sums(probabilities[:, index], np.asarray(targets) == index, rows)
    found, named = hits.cumsum(1), totals.cumsum(1)
    wanted = recall * found[:, -1:] - 1e-9  # recall 0.3 of 10 images is 3 of them, not 4
    first = np.stack(
        [np.searchsorted(row, level) for row, level in zip(found, wanted, strict=True)]
    )
    with np.errstate(invalid="ignore"):
        precision = np.take_along_axis(found / named, np.minimum(first, found.shape[1] - 1), 1)
    bands = [interval(point[0], point[1:], n=len(targets)) for point in precision.T]
    return (
        np.array([band.value for band in bands]),
        np.array([band.low for band in bands]),
        np.array([band.high for band in bands]),
    )


def _scores(
    probabilities: np.ndarray, targets: np.ndarray, weights: np.ndarray, classes: Sequence[str]
) -> dict[str, np.ndarray]:
    cells = confusion(probabilities, targets, weights)
    true, predicted, hits = cells.sum(2), cells.sum(1), np.diagonal(cells, axis1=1, axis2=2)
    ranking = [_ranking(p, targets == c, weights) for c, p in enumerate(probabilities.T)]
    per_class = {  # (R, C) each
        "precision": _ratio(hits, predicted),
        "recall": _ratio(hits, true),
        "f1": _ratio(2 * hits, true + predicted),
        "auroc": np.stack([auroc for auroc, _ in ranking], 1),
        "auprc": np.stack([auprc for _, auprc in ranking], 1),
    }
    scores = {
        "accuracy": hits.sum(1) / weights.sum(1),
        "balanced_accuracy": _mean_defined(np.where(true > 0, per_class["recall"], np.nan)),
        "ece": _calibration_error(probabilities, targets, weights),
        "brier": _brier(probabilities, targets, weights),
    }
    scores |= {f"macro_{name}": _mean_defined(values) for name, values in per_class.items()}
    for index, label in enumerate(classes):
        scores |= {f"{name}/{label}": values[:, index] for name, values in per_class.items()}
    return scores


def _ranking(
    scores: np.ndarray, positive: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """AUROC (Mann-Whitney, ties count half) and AUPRC (average precision), `(R,)` each."""
    hits, totals = _tied_sums(scores, positive, weights)
    found, named = hits.cumsum(1), totals.cumsum(1)
    positives = found[:, -1]
    with np.errstate(invalid="ignore"):
        above = ((totals - hits) * (found - hits / 2)).sum(1)
        auroc = above / (positives * (named[:, -1] - positives))
        auprc = (hits * _ratio(found, named)).sum(1) / positives
    return auroc, auprc


def _tied_sums(
    scores: np.ndarray, positive: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Weight of positives and of all images at each distinct score, highest first, `(R, G)`."""
    order = np.argsort(-scores, kind="stable")
    starts = np.flatnonzero(np.diff(scores[order], prepend=np.inf))
    ordered = weights[:, order]
    hits = np.add.reduceat(ordered * positive[order], starts, axis=1)
    return hits, np.add.reduceat(ordered, starts, axis=1)


def _calibration_error(
    probabilities: np.ndarray, targets: np.ndarray, weights: np.ndarray
) -> np.ndarray:
    """Expected calibration error of the top label, lower is better (Guo et al. 2017, eq. 3).

    ECE = sum_b |sum_{i in b} w_i (correct_i - confidence_i)| / sum_i w_i over 15 bins of equal
    width, each open to the left: (0, 1/15], ... It grows when images repeat, so that its bootstrap
    interval lies high around the point value.
    """
    confidence = probabilities.max(1)
    gap = (probabilities.argmax(1) == targets) - confidence
    edges = np.linspace(0, 1, CALIBRATION_BINS + 1)
    bins = np.clip(np.searchsorted(edges, confidence) - 1, 0, CALIBRATION_BINS - 1)
    by_bin = np.eye(CALIBRATION_BINS)[bins] * gap[:, None]
    error: np.ndarray = np.abs(weights @ by_bin).sum(1) / weights.sum(1)
    return error


def _brier(probabilities: np.ndarray, targets: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Mean over images of sum_c (p_c - y_c)^2, in [0, 2], lower is better (Brier 1950)."""
    squares = (probabilities - np.eye(probabilities.shape[1])[targets]) ** 2
    score: np.ndarray = weights @ squares.sum(1) / weights.sum(1)
    return score


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    blank = np.zeros(np.broadcast_shapes(numerator.shape, denominator.shape))
    ratio: np.ndarray = np.divide(numerator, denominator, out=blank, where=denominator > 0)
    return ratio


def _mean_defined(values: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore"):
        mean: np.ndarray = np.nansum(values, 1) / np.sum(~np.isnan(values), 1)
    return mean


def _counts(targets: np.ndarray, classes: Sequence[str]) -> dict[str, int]:
    counts = {label: int(np.sum(targets == index)) for index, label in enumerate(classes)}
    return counts | {"": len(targets)}


def _check(probabilities: np.ndarray, targets: np.ndarray, classes: Sequence[str]) -> None:
    shape, n_classes = np.shape(probabilities), len(classes)
    if shape != (len(targets), n_classes) or not len(targets):
        raise XraysynthError(
            f"probabilities of shape {shape}: must be (images, classes), here "
            f"({len(targets)}, {n_classes}) with at least one image"
        )
    if not np.allclose(np.sum(probabilities, 1), 1, atol=1e-3) or np.min(probabilities) < 0:
        raise XraysynthError(
            "probabilities must be finite, at least 0 and sum to 1 over the classes; pass the "
            "softmax of the logits"
        )
    if targets.dtype.kind not in "iu" or targets.min() < 0 or targets.max() >= n_classes:
        raise XraysynthError(
            f"targets must be class indices from 0 to {n_classes - 1}, got {targets.dtype} from "
            f"{targets.min()} to {targets.max()}"
        )
