"""A set of synthetic images measured against real ones, each value beside its real-real baseline.

What differs between the sides must be the images, not how many there are, how independent they are,
or which classes they show. Some twenty times, therefore, one image of each real patient is picked at
random and the patients of each class are dealt at random to a reference and a baseline half. The
baseline half and as many synthetic images, drawn without replacement, are measured against the same
reference half. All three have n images, of which the classes have the shares that they have among
the real patients: a pool with equally many images of each class is compared in the natural mix. No
patient is in both halves, or twice in one. A class that one side lacks is left out on both, and so is
one of which there are so few that n would be less than half of what the other classes allow.

At most half of the synthetic images of each class are drawn, too: the spread over random halves of a
set is that over sets of its size, whereas a set drawn whole each time would not spread at all. Values
are means over the splits and intervals their central 95 %. They are not bootstrap intervals, as
drawing with replacement repeats images, which raises a Frechet distance and shrinks the distance to a
neighbour. The excess is value minus baseline, paired: an interval around 0 means that no difference
from real images is shown. Its p-value is that of Student's t: mean over standard error of the splits'
excesses, with one degree of freedom less than there are splits. The standard error is their standard
deviation, not divided by the root of their number, as halves of one set overlap. That is exact for
what is linear in the images, and cautious for the rest. Kernel distances are quadratic where nothing
differs, which is known: see `_kernel_error`; their p-value may be small where the interval holds 0. A
Frechet distance is not, in heavy tails above all.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import t as student_t

from xraysynth.errors import XraysynthError, some
from xraysynth.evaluation.metrics.class_mix import (
    apportion,
    class_shares,
    draw_in_classes,
    scarce,
    shared_classes,
    weights_to_mix,
)
from xraysynth.evaluation.metrics.copying import authentic, data_copying
from xraysynth.evaluation.metrics.diversity import vendi
from xraysynth.evaluation.metrics.features import Features, require_same
from xraysynth.evaluation.metrics.fidelity import (
    Moments,
    cmmd,
    cmmd_name,
    extrapolated,
    fd_infinity_name,
    fd_name,
    frechet,
    kd_name,
    memorisation_distance,
    memorisation_informed,
    mifd_name,
    two_sides,
)
from xraysynth.evaluation.metrics.memorization import (
    FEWEST_OF_A_CLASS,
    LEVEL,
    FlaggedShare,
    Memorization,
    memorization,
)
from xraysynth.evaluation.metrics.points import RealSide, point_measures
from xraysynth.evaluation.metrics.statistics import (
    REPLICATES,
    Interval,
    cluster_weights,
    interval,
)
from xraysynth.evaluation.results import Measure
from xraysynth.progress import LATE_SECONDS, progress
from xraysynth.seeds import derive_seed

FEWEST = 10
"""Images in a half of a set below which nothing is measured."""

SPLITS = 20
NEAR_THE_FLOOR = ("precision", "recall", "density", "coverage", "Vendi", "AuthPct", "C_T")
"""Measures that are best where real images lie, too much being as wrong as too little."""

Rows = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Rows of the reference half, of the baseline half and of the synthetic images drawn, `(n,)` each."""


def measure_sets(
    *,
    real: Features,
    synthetic: Features,
    real_labels: ArrayLike,
    synthetic_labels: ArrayLike,
    patients: ArrayLike,
    classes: Sequence[str],
    splits: int = SPLITS,
    seed: int = 0,
) -> list[Measure]:
    """Fidelity and diversity of a synthetic set, over all classes and, where it is enough, in each.

    FD, KD, precision, recall, density, coverage and Vendi; over all classes FD∞ and CMMD too, all in
    the class mix of the real patients. `real` must hold nothing that the generator was trained on.
    Labels are names of `classes`; `patients` are those of the real images.
    """
    require_same(real, synthetic)
    two_sides(real.values, synthetic.values)
    if splits < 2:
        raise XraysynthError(
            f"splits={splits}: the interval and the baseline of a measure are taken over random halves "
            "of the real patients; at least 2 splits are needed, and 20 are usual"
        )
    x = _Labelled.sorted(real, real_labels, patients, classes, "real")
    y = _Labelled.sorted(synthetic, synthetic_labels, None, classes, "synthetic")
    if len(np.unique(x.patients)) < 2:
        raise XraysynthError(
            f"all {len(real.values)} real images are of one patient: the baseline is measured between "
            "halves of the patients, of which at least 2 are needed"
        )
    found = _compared(x, y, "", splits, seed)
    for label in classes:
        found += _compared(x.of(label), y.of(label), label, splits, seed)
    return found


def measure_copying(
    *,
    train: Features,
    held_out: Features,
    synthetic: Features,
    patients: ArrayLike,
    held_out_labels: ArrayLike | None = None,
    synthetic_labels: ArrayLike | None = None,
    replicates: int = REPLICATES,
    seed: int = 0,
) -> list[Measure]:
    """Whether synthetic images copy those of `train`: memorised share, AuthPct, C_T and MiFD.

    `held_out` are real images of other `patients`; what they score is the baseline. With labels of
    both, the synthetic images are taken in the class mix of the held-out ones, and the memorised
    share is given by class too; a class that only one of the two has is left out of both, and named
    in the note. Intervals of the shares resample held-out patients and synthetic images; those of C_T
    and MiFD are over halves of the held-out patients.
    """
    require_same(train, held_out, synthetic)
    for other in (held_out, synthetic):
        two_sides(train.values, other.values)
    if (held_out_labels is None) != (synthetic_labels is None):
        raise XraysynthError(
            "held_out_labels and synthetic_labels: the classes of both sets are compared, so give both "
            "or neither"
        )
    held = _Labelled.sorted(held_out, held_out_labels, patients, None, "held-out")
    made = _Labelled.sorted(synthetic, synthetic_labels, None, None, "synthetic")
    note, labels = _one_sided(held, made), np.unique(np.concatenate([held.labels, made.labels]))
    held, made = (side.within(shared_classes(held.labels, made.labels)) for side in (held, made))
    if not len(held.labels):
        note = "the held-out and the synthetic images have no class in common"
        names = "memorised share", "AuthPct", "C_T", mifd_name(train.encoder)
        return [_unknown(train.encoder, name, "", note) for name in names]
    found = [
        *_memorised(train, held, made, labels.tolist(), replicates, seed),
        _authentic(train, held, made, replicates, seed),
        *_copied(train, held, made, seed),
    ]
    return [one if one.label else _noted(one, note) for one in found]


@dataclass(frozen=True)
class _Labelled:
    """Features with a label and a patient for each image."""

    features: Features
    labels: np.ndarray
    patients: np.ndarray

    @classmethod
    def sorted(
        cls,
        features: Features,
        labels: ArrayLike | None,
        patients: ArrayLike | None,
        classes: Sequence[str] | None,
        what: str,
    ) -> "_Labelled":
        """By content, so that what is drawn does not depend on the order of the files."""
        n = len(features.values)
        columns = [
            np.full(n, "") if column is None else np.asarray(column).astype(str)
            for column in (labels, patients)
        ]
        if any(column.shape != (n,) for column in columns):
            raise XraysynthError(
                f"{n} {what} images, but labels of shape {columns[0].shape} and patient ids of "
                f"shape {columns[1].shape}; give one of each an image"
            )
        if classes is not None and (unknown := set(columns[0]) - set(classes)):
            raise XraysynthError(
                f"labels of {what} images are not among the classes {some(classes)}: "
                f"{some(sorted(unknown))}"
            )
        keys = [_digest(*row) for row in zip(features.values, *columns, strict=True)]
        order = np.array(sorted(range(n), key=keys.__getitem__))
        return cls(_taken(features, order), *(column[order] for column in columns))

    def of(self, label: str) -> "_Labelled":
        """The images of one class."""
        return self.within([label])

    def within(self, labels: Sequence[str]) -> "_Labelled":
        """The images of some classes."""
        rows = np.flatnonzero(np.isin(self.labels, labels))
        return _Labelled(_taken(self.features, rows), self.labels[rows], self.patients[rows])


def _digest(row: np.ndarray, label: str, patient: str) -> bytes:
    return hashlib.sha256(row.tobytes() + f"{label}\n{patient}".encode()).digest()


def _taken(features: Features, rows: np.ndarray) -> Features:
    return replace(features, values=features.values[rows])


def _compared(x: _Labelled, y: _Labelled, label: str, splits: int, seed: int) -> list[Measure]:
    """All measures of one class, or of all classes where `label` is ""."""
    encoder, whole = x.features.encoder, label == ""
    plan = _plan(x, y, splits, derive_seed(seed, label))
    if not plan.n:
        return [_unknown(encoder, name, label, plan.note) for name in _set_names(encoder, whole)]
    pairs = []
    rows = plan.rows(x, y)
    for number, (reference, floor, drawn) in enumerate(_shown(rows, f"{encoder} {label}".strip())):
        side = RealSide.of(_taken(x.features, reference))
        others = _taken(y.features, drawn), _taken(x.features, floor)
        key = derive_seed(seed, label, "sizes", number)
        pairs.append([_set_values(side, other, whole, key) for other in others])
    return _summarised(x.features, label, pairs, plan)


def _set_values(real: RealSide, other: Features, whole: bool, seed: int) -> dict[str, float]:
    x, y, encoder = real.features.values, other.values, other.encoder
    found = point_measures(real=real, synthetic=other) | {"Vendi": vendi(y)}
    if not whole:
        return found
    found[fd_infinity_name(encoder)] = extrapolated(x, y, np.random.default_rng(seed))
    return found | {cmmd_name(encoder): cmmd(real=x, synthetic=y)}


def _set_names(encoder: str, whole: bool) -> list[str]:
    names = [fd_name(encoder), kd_name(encoder), *NEAR_THE_FLOOR[:5]]
    return [*names, fd_infinity_name(encoder), cmmd_name(encoder)] if whole else names


def _memorised(
    train: Features,
    held: _Labelled,
    made: _Labelled,
    labels: Sequence[str],
    replicates: int,
    seed: int,
) -> list[Measure]:
    """The memorised share of all classes and of each of the `labels`."""
    name, encoder = "memorised share", train.encoder
    if len(held.labels) < 1 / LEVEL:
        note = f"needs {1 / LEVEL:.0f} held-out images, there are {len(held.labels)}"
        return [_unknown(encoder, name, "", note)]
    found = memorization(
        train=train,
        held_out=held.features,
        synthetic=made.features,
        patients=held.patients,
        held_out_labels=held.labels,
        synthetic_labels=made.labels,
        replicates=replicates,
        seed=seed,
    )
    expected = Interval(LEVEL, LEVEL, LEVEL, len(held.labels))
    share = found.flagged
    excess = replace(share, low=share.low - LEVEL, high=share.high - LEVEL)
    weights = weights_to_mix(made.labels, class_shares(held.labels))
    few = sorted(set(made.labels[scarce(made.labels, weights)]))
    note = f"few images of {_classes(few)}: none or all may be flagged" if few else ""
    whole = _measure(encoder, name, "", share, expected, excess, note=note, p=found.p)
    by_class = [_memorised_of(encoder, label, found) for label in labels if len(labels) > 1]
    return [whole, *by_class]


def _memorised_of(encoder: str, label: str, found: Memorization) -> Measure:
    """The memorised share of one class, beside the held-out images of this class."""
    name, share = "memorised share", found.by_class.get(label)
    if not isinstance(share, FlaggedShare):
        fewest = FEWEST_OF_A_CLASS
        note = f"needs {fewest} synthetic and {fewest} held-out images of the class"
        return _unknown(encoder, name, label, note)
    note = "at the threshold of all classes"
    return _measure(encoder, name, label, share.synthetic, share.held_out, share.excess, note=note)


def _authentic(
    train: Features, held: _Labelled, made: _Labelled, replicates: int, seed: int
) -> Measure:
    """AuthPct: the share of images that are authentic, resampled."""
    answers = [
        authentic(train=train.values, synthetic=side.features.values) for side in (made, held)
    ]
    weights = (
        weights_to_mix(made.labels, class_shares(held.labels)),
        np.ones(len(held.labels)),
    )
    draws = (
        draw_in_classes(made.labels, replicates, derive_seed(seed, "drawn")),
        cluster_weights(held.patients, replicates, seed),
    )
    shares = []
    for answer, weight, drawn in zip(answers, weights, draws, strict=True):
        counts = weight * np.vstack([np.ones(len(answer)), drawn])
        shares.append(counts @ answer / (counts @ np.ones(len(answer))))
    value, floor = shares
    m = int(np.sum(weights[0] > 0))
    few = sorted(set(made.labels[scarce(made.labels, weights[0])]))
    if few:  # they do not show how far they differ
        value[1:] = np.nan
    return _measure(
        made.features.encoder,
        "AuthPct",
        "",
        interval(float(value[0]), value[1:], n=m),
        interval(float(floor[0]), floor[1:], n=len(answers[1])),
        interval(float(value[0] - floor[0]), value[1:] - floor[1:], n=m),
        note=f"few images of {_classes(few)}: no interval" if few else "",
    )


def _noted(measure: Measure, note: str) -> Measure:
    return replace(measure, note="; ".join(filter(None, (note, measure.note))))


def _one_sided(held: _Labelled, made: _Labelled) -> str:
    """Which classes are in one of the sets alone, and so without weight in a share of both."""
    alone = sorted(set(held.labels) ^ set(made.labels))
    return f"without {_classes(alone)}, which only one of the sets has" if alone else ""


def _copied(train: Features, held: _Labelled, made: _Labelled, seed: int) -> list[Measure]:
    """C_T and MiFD over halves of the held-out patients."""
    encoder = train.encoder
    plan = _plan(held, made, SPLITS, seed, real_name="held-out")
    if not plan.n:
        return [_unknown(encoder, name, "", plan.note) for name in ("C_T", mifd_name(encoder))]
    moments, pairs = Moments.of(train.values), []
    rows = plan.rows(held, made)
    for reference, floor, drawn in _shown(rows, f"{encoder} copying"):
        null = held.features.values[reference]
        others = made.features.values[drawn], held.features.values[floor]
        pairs.append([_copy_values(train, moments, null, other, seed) for other in others])
    return _summarised(train, "", pairs, plan)


def _copy_values(
    train: Features, moments: Moments, null: np.ndarray, images: np.ndarray, seed: int
) -> dict[str, float]:
    x = train.values
    distance = frechet(moments, Moments.of(images))
    memorised = memorisation_distance(train=x, synthetic=images)
    try:
        copying = data_copying(train=x, held_out=null, synthetic=images, seed=seed)
    except XraysynthError:  # no part of the features holds enough of both: nothing to compare
        copying = float("nan")
    return {"C_T": copying, mifd_name(train.encoder): memorisation_informed(distance, memorised)}


def _summarised(
    features: Features, label: str, pairs: Sequence[Sequence[dict[str, float]]], plan: "_Plan"
) -> list[Measure]:
    """Measures of values and baselines, a pair of them for each split."""
    encoder, measures = features.encoder, []
    for name in pairs[0][0]:
        both = np.array([[found[name] for found in pair] for pair in pairs])
        both = both[np.isfinite(both).all(1)]
        if not len(both):
            note = "in no part of the features there are enough images of both sets to compare"
            measures.append(_unknown(encoder, name, label, note))
            continue
        columns = both[:, 0], both[:, 1], both[:, 0] - both[:, 1]
        spread = [_spread(column, plan.n) for column in columns]
        notes = plan.note, _caution(name, plan.n, features.values.shape[1])
        kernel = name in (kd_name(encoder), cmmd_name(encoder))
        error = _kernel_error(plan.drawn, len(both)) if kernel else 1.0
        note, p = "; ".join(filter(None, notes)), _p_value(columns[2], error)
        measures.append(_measure(encoder, name, label, *spread, note=note, p=p))
    return measures


def _p_value(excess: np.ndarray, error: float = 1.0) -> float:
    """Two-sided p-value of "the excess is 0" from the excesses `(S,)` of the splits.

    The standard error is `error` times their standard deviation; see the module.
    """
    if len(excess) < 2:
        return float("nan")
    mean, deviation = float(excess.mean()), float(excess.std(ddof=1))
    if deviation == 0:
        return float(mean == 0)
    return float(2 * student_t.sf(abs(mean) / (error * deviation), len(excess) - 1))


def _kernel_error(drawn: float, splits: int) -> float:
    """Standard error of a mean excess of kernel distances in their standard deviations over splits.

    Between sets of one distribution the excess of a split is |S|^2 - |B|^2 - 2 R.S + 2 R.B, of the
    means R, B and S of its three sides, each of variance 1 in a dimension of the kernel's space: of
    variance 12. Its mean over all splits is |X - Y|^2 and a constant, of the means of all real and
    all synthetic images, whose variances add up to c, `drawn`: the sum of the shares of real patients
    and of synthetic images that are on one side. That has variance 2 c^2, and single splits have the
    rest: sqrt(c^2 / (6 - c^2) + 1 / S), 0.5 of twenty splits of halves.
    """
    return float(np.sqrt(drawn**2 / (6 - drawn**2) + 1 / splits))


def _spread(values: np.ndarray, n: int) -> Interval:
    """Mean and central 95 % over splits; the usual interpolation holds but 90 % of twenty values."""
    low, high = np.quantile(values, [0.025, 0.975], method="weibull")
    return Interval(float(values.mean()), float(low), float(high), n)


def _caution(metric: str, n: int, dimensions: int) -> str:
    if not metric.startswith(("FD", "FID", "MiFD", "MiFID")):
        return ""
    if "∞" in metric and n // 10 <= dimensions:
        return f"few images: sizes from {n // 10} on in {dimensions} dimensions are not on a line"
    if n <= dimensions:
        return f"few images: {n} in {dimensions} dimensions; biased, read it beside the floor only"
    return ""


def _measure(
    encoder: str,
    metric: str,
    label: str,
    found: Interval,
    floor: Interval,
    excess: Interval,
    *,
    note: str = "",
    p: float = float("nan"),
) -> Measure:
    return Measure(
        *found.as_tuple(),
        encoder=encoder,
        metric=metric,
        label=label,
        floor=floor.value,
        floor_low=floor.low,
        floor_high=floor.high,
        excess_low=excess.low,
        excess_high=excess.high,
        better="floor" if metric in NEAR_THE_FLOOR else "lower",
        note=note,
        p=p,
    )


def _unknown(encoder: str, metric: str, label: str, note: str) -> Measure:
    nan = float("nan")
    nothing = Interval(nan, nan, nan, 0)
    return _measure(encoder, metric, label, nothing, nothing, nothing, note=note)


@dataclass(frozen=True)
class _Plan:
    """How many images of each class are drawn in each split: `counts` by class, the same in all.

    `picked` are the rows `(P,)` of one image of each real patient, in random order, split by split.
    `drawn` is the sum of the shares of real patients and of synthetic images on one side, of the class
    in which it is largest. `n` is 0 where a side is left with too few images; `note` says why, or
    which classes are left out.
    """

    counts: dict[str, int]
    picked: Sequence[np.ndarray]
    seed: int
    note: str
    drawn: float = 1.0

    @property
    def n(self) -> int:
        """Images on each side."""
        return sum(self.counts.values())

    def rows(self, real: _Labelled, made: _Labelled) -> list[Rows]:
        """What is compared in each split: of each class the first patients, the next, and as many
        synthetic images."""
        rng = np.random.default_rng(derive_seed(self.seed, "drawn"))
        found = []
        for picked in self.picked:
            order = rng.permutation(len(made.labels))
            parts = []
            for label, count in self.counts.items():
                patients = picked[real.labels[picked] == label]
                images = order[made.labels[order] == label]
                parts.append((patients[:count], patients[count : 2 * count], images[:count]))
            reference, baseline, drawn = (np.concatenate(side) for side in zip(*parts, strict=True))
            found.append((reference, baseline, drawn))
        return found


def _plan(
    real: _Labelled, made: _Labelled, splits: int, seed: int, *, real_name: str = "real"
) -> _Plan:
    """The largest numbers in the class mix of the real patients that all splits can draw."""
    rng = np.random.default_rng(derive_seed(seed, "halves"))
    picked = [_one_of_each(real.patients, rng) for _ in range(splits)]
    labels = [str(label) for label in np.unique(np.concatenate([real.labels, made.labels]))]
    patients = {
        label: min(int(np.sum(real.labels[rows] == label)) for rows in picked) for label in labels
    }
    images = {label: int(np.sum(made.labels == label)) for label in labels}
    halves = {label: min(patients[label], images[label]) // 2 for label in labels}
    missing = [label for label in labels if not halves[label]]
    counts, notes = _counted(_patient_shares(real), {n: h for n, h in halves.items() if h})
    if sum(counts.values()) < FEWEST:
        return _Plan({}, picked, seed, _needed(real, made, real_name))
    if missing:
        notes = [f"without {_classes(missing)}, of which one side has too few to halve", *notes]
    drawn = max(count / patients[label] + count / images[label] for label, count in counts.items())
    return _Plan(counts, picked, seed, "; ".join(notes), drawn=drawn)


def _counted(mix: dict[str, float], halves: dict[str, int]) -> tuple[dict[str, int], list[str]]:
    """How many of each class are drawn, of those that `halves` has, and what to say of scarce ones.

    A class that would bound N below half of what the others allow is left out, as long as those left
    out hold less than half of the real patients; one that bounds it less is named.
    """
    notes, left_out = [], 0.0
    whole = sum(mix[label] for label in halves)
    counts = _in_mix(mix, halves)
    while len(halves) > 1:
        others = {
            label: sum(_in_mix(mix, {n: h for n, h in halves.items() if n != label}).values())
            for label in halves
        }
        label = max(others, key=lambda name: others[name])
        n, more = sum(counts.values()), others[label]
        if more <= n:
            break
        if 2 * n >= more or left_out + mix[label] >= whole / 2:
            notes.append(f"the class {label} bounds N, which would be {more} without it")
            break
        notes.append(f"without the class {label}, which would bound N to {n} in place of {more}")
        halves = {n: h for n, h in halves.items() if n != label}
        left_out, counts = left_out + mix[label], _in_mix(mix, halves)
    return counts, notes


def _in_mix(mix: dict[str, float], halves: dict[str, int]) -> dict[str, int]:
    """The largest numbers by class in proportion to `mix` of which none exceeds its half."""
    shares = np.array([mix[label] for label in halves], float)
    counts = _largest(shares, np.array(list(halves.values()), int))
    return dict(zip(halves, counts.tolist(), strict=True))


def _one_of_each(patients: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Rows of one image of each patient `(P,)`, both in random order."""
    order = rng.permutation(len(patients))
    first = np.unique(patients[order], return_index=True)[1]
    return np.asarray(order[np.sort(first)])


def _patient_shares(real: _Labelled) -> dict[str, float]:
    """Patients by class, a patient of several classes counting in part to each."""
    _, patient, images = np.unique(real.patients, return_inverse=True, return_counts=True)
    each = 1 / images[patient]
    return {str(label): float(each[real.labels == label].sum()) for label in set(real.labels)}


def _largest(mix: np.ndarray, available: np.ndarray) -> np.ndarray:
    """The largest counts by class in proportion to `mix` of which no class exceeds `available`."""
    for n in range(int(available.sum()), 0, -1):
        counts = apportion(mix, n)
        if (counts <= available).all():
            return counts
    return np.zeros(len(available), int)


def _needed(real: _Labelled, made: _Labelled, name: str) -> str:
    patients, fewest = len(np.unique(real.patients)), 2 * FEWEST
    note = (
        f"needs {FEWEST} images a side, of as many patients and in the class mix of the {name} images: "
        f"{fewest} {name} patients, in two halves, and {fewest} synthetic images; there are "
        f"{patients} patients with {len(real.labels)} {name} images, and {len(made.labels)} synthetic "
        "images"
    )
    if len(labels := np.unique(np.concatenate([real.labels, made.labels]))) < 2:
        return note
    counts = []
    for label in labels:
        owners = len(np.unique(real.patients[real.labels == label]))
        counts.append(f"{label} {owners} and {np.sum(made.labels == label)}")
    return f"{note} (by class: {', '.join(counts)})"


def _classes(labels: Sequence[str]) -> str:
    return f"the class{'es' * (len(labels) > 1)} {', '.join(labels)}"


def _shown(items: Sequence[Rows], what: str) -> Iterator[Rows]:
    with progress(what, len(items), "split", delay=LATE_SECONDS) as bar:
        for item in items:
            yield item
            bar.update()
