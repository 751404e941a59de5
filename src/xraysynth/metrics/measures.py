"""A set of synthetic images measured against real ones, each value beside its real-real floor.

The real images are split at random by patient into a reference and a floor half, some twenty times.
In each split the floor half and as many synthetic images, drawn without replacement, are measured
against the same reference half, all cut to one size n. At most half of the synthetic images are
drawn too: the spread over random halves of a set is that over sets of its size, whereas a set drawn
whole each time would not spread at all. Values are means over the splits and intervals their central
95 %. They are not bootstrap intervals, as drawing with replacement repeats images, which raises a
Frechet distance and shrinks the distance to a neighbour. The excess is value minus floor, paired: an
interval around 0 means that no difference from real images is shown.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike

from xraysynth.errors import XraysynthError, some
from xraysynth.metrics.copying import authentic, data_copying
from xraysynth.metrics.diversity import vendi
from xraysynth.metrics.features import Features, require_same
from xraysynth.metrics.fidelity import (
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
from xraysynth.metrics.memorization import LEVEL, memorization
from xraysynth.metrics.points import RealSide, point_measures
from xraysynth.metrics.statistics import (
    REPLICATES,
    Interval,
    cluster_weights,
    count_draws,
    interval,
)
from xraysynth.progress import LATE_SECONDS, progress
from xraysynth.seeds import derive_seed

FEWEST = 10
"""Images in a half of a set below which nothing is measured."""

SPLITS = 20
NEAR_THE_FLOOR = ("precision", "recall", "density", "coverage", "Vendi", "AuthPct", "C_T")
"""Measures that are best where real images lie, too much being as wrong as too little."""

Rows = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Rows of the reference half, of the floor half and of the synthetic images drawn, `(n,)` each."""


@dataclass(frozen=True)
class Measure:
    """A value of `n` synthetic images, its 95 % interval and the same of real images, the floor.

    `label` is a class, "" for all. `better` is "lower", "higher" or "floor": the nearer to the floor
    the better. NaN where it cannot be measured; `note` says why, or what to be careful about.
    """

    encoder: str
    metric: str
    label: str
    value: float
    low: float
    high: float
    n: int
    floor: float
    floor_low: float
    floor_high: float
    excess_low: float
    excess_high: float
    better: str
    note: str = ""


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

    FD, KD, precision, recall, density, coverage and Vendi; over all classes FD∞ and CMMD too. `real`
    must hold nothing that the generator was trained on, and both sets should have the same class
    mix. Labels are names of `classes`; `patients` are those of the real images.
    """
    require_same(real, synthetic)
    two_sides(real.values, synthetic.values)
    if splits < 2:
        raise XraysynthError(
            f"splits={splits}: the interval and the floor of a measure are taken over random halves "
            "of the real patients; at least 2 splits are needed, and 20 are usual"
        )
    x = _Labelled.sorted(real, real_labels, patients, classes, "real")
    y = _Labelled.sorted(synthetic, synthetic_labels, None, classes, "synthetic")
    if len(np.unique(x.patients)) < 2:
        raise XraysynthError(
            f"all {len(real.values)} real images are of one patient: the floor is measured between "
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
    replicates: int = REPLICATES,
    seed: int = 0,
) -> list[Measure]:
    """Whether synthetic images copy those of `train`: memorised share, AuthPct, C_T and MiFD.

    `held_out` are real images of other `patients`; what they score is the floor. Intervals of the
    shares resample held-out patients and synthetic images; those of C_T and MiFD are over halves of
    the held-out patients.
    """
    require_same(train, held_out, synthetic)
    for other in (held_out, synthetic):
        two_sides(train.values, other.values)
    held = _Labelled.sorted(held_out, None, patients, (), "held-out")
    made = _Labelled.sorted(synthetic, None, None, (), "synthetic")
    sets = train, held.features, made.features
    return [
        _memorised(*sets, held.patients, replicates, seed),
        _authentic(*sets, held.patients, replicates, seed),
        *_copied(*sets, held.patients, seed),
    ]


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
        classes: Sequence[str],
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
        if labels is not None and (unknown := set(columns[0]) - set(classes)):
            raise XraysynthError(
                f"labels of {what} images are not among the classes {some(classes)}: "
                f"{some(sorted(unknown))}"
            )
        keys = [_digest(*row) for row in zip(features.values, *columns, strict=True)]
        order = np.array(sorted(range(n), key=keys.__getitem__))
        return cls(_taken(features, order), *(column[order] for column in columns))

    def of(self, label: str) -> "_Labelled":
        """The images of one class."""
        rows = np.flatnonzero(self.labels == label)
        return _Labelled(_taken(self.features, rows), self.labels[rows], self.patients[rows])


def _digest(row: np.ndarray, label: str, patient: str) -> bytes:
    return hashlib.sha256(row.tobytes() + f"{label}\n{patient}".encode()).digest()


def _taken(features: Features, rows: np.ndarray) -> Features:
    return replace(features, values=features.values[rows])


def _compared(x: _Labelled, y: _Labelled, label: str, splits: int, seed: int) -> list[Measure]:
    """All measures of one class, or of all classes where `label` is ""."""
    encoder, whole = x.features.encoder, label == ""
    rows = _halved(x.patients, len(y.labels), splits, derive_seed(seed, label))
    if not rows:
        return [
            _unknown(encoder, name, label, _needed(x, y)) for name in _set_names(encoder, whole)
        ]
    pairs = []
    for number, (reference, floor, drawn) in enumerate(_shown(rows, f"{encoder} {label}".strip())):
        side = RealSide.of(_taken(x.features, reference))
        others = _taken(y.features, drawn), _taken(x.features, floor)
        key = derive_seed(seed, label, "sizes", number)
        pairs.append([_set_values(side, other, whole, key) for other in others])
    return _summarised(x.features, label, pairs, len(rows[0][0]))


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


def _needed(x: _Labelled, y: _Labelled) -> str:
    return (
        f"needs {FEWEST} images in each half: {2 * FEWEST} real ones, in two halves of their "
        f"patients, and {2 * FEWEST} synthetic ones; there are {len(x.labels)} real ones of "
        f"{len(np.unique(x.patients))} patients and {len(y.labels)} synthetic ones"
    )


def _memorised(
    train: Features,
    held: Features,
    made: Features,
    patients: np.ndarray,
    replicates: int,
    seed: int,
) -> Measure:
    name = "memorised share"
    if len(held.values) < 1 / LEVEL:
        note = f"needs {1 / LEVEL:.0f} held-out images, there are {len(held.values)}"
        return _unknown(made.encoder, name, "", note)
    found = memorization(
        train=train,
        held_out=held,
        synthetic=made,
        patients=patients,
        replicates=replicates,
        seed=seed,
    ).flagged
    expected = Interval(LEVEL, LEVEL, LEVEL, len(held.values))
    excess = replace(found, low=found.low - LEVEL, high=found.high - LEVEL)
    return _measure(made.encoder, name, "", found, expected, excess)


def _authentic(
    train: Features,
    held: Features,
    made: Features,
    patients: np.ndarray,
    replicates: int,
    seed: int,
) -> Measure:
    """AuthPct: the share of images that are authentic, resampled."""
    answers = [authentic(train=train.values, synthetic=side.values) for side in (made, held)]
    m = len(answers[0])
    draws = np.random.default_rng(derive_seed(seed, "drawn")).integers(m, size=(replicates, m))
    weights = count_draws(draws, m), cluster_weights(patients, replicates, seed)
    drawn, floors = (
        counts @ answer / counts.sum(1) for counts, answer in zip(weights, answers, strict=True)
    )
    value, floor = (float(answer.mean()) for answer in answers)
    return _measure(
        made.encoder,
        "AuthPct",
        "",
        interval(value, drawn, n=m),
        interval(floor, floors, n=len(answers[1])),
        interval(value - floor, drawn - floors, n=m),
    )


def _copied(
    train: Features, held: Features, made: Features, patients: np.ndarray, seed: int
) -> list[Measure]:
    """C_T and MiFD over halves of the held-out patients."""
    rows = _halved(patients, len(made.values), SPLITS, seed)
    if not rows:
        note = (
            f"needs {2 * FEWEST} held-out images, in two halves of their patients, and "
            f"{2 * FEWEST} synthetic ones; there are {len(held.values)} and {len(made.values)}"
        )
        names = "C_T", mifd_name(made.encoder)
        return [_unknown(made.encoder, name, "", note) for name in names]
    moments, pairs = Moments.of(train.values), []
    for reference, floor, drawn in _shown(rows, f"{made.encoder} copying"):
        null, others = held.values[reference], (made.values[drawn], held.values[floor])
        pairs.append([_copy_values(train, moments, null, other, seed) for other in others])
    return _summarised(train, "", pairs, len(rows[0][0]))


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
    features: Features, label: str, pairs: Sequence[Sequence[dict[str, float]]], n: int
) -> list[Measure]:
    """Measures of values and floors, a pair of them for each split."""
    encoder, measures = features.encoder, []
    for name in pairs[0][0]:
        both = np.array([[found[name] for found in pair] for pair in pairs])
        both = both[np.isfinite(both).all(1)]
        if not len(both):
            note = "in no part of the features there are enough images of both sets to compare"
            measures.append(_unknown(encoder, name, label, note))
            continue
        columns = both[:, 0], both[:, 1], both[:, 0] - both[:, 1]
        spread = [_spread(column, n) for column in columns]
        note = _caution(name, n, features.values.shape[1])
        measures.append(_measure(encoder, name, label, *spread, note=note))
    return measures


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
) -> Measure:
    return Measure(
        encoder=encoder,
        metric=metric,
        label=label,
        value=found.value,
        low=found.low,
        high=found.high,
        n=found.n,
        floor=floor.value,
        floor_low=floor.low,
        floor_high=floor.high,
        excess_low=excess.low,
        excess_high=excess.high,
        better="floor" if metric in NEAR_THE_FLOOR else "lower",
        note=note,
    )


def _unknown(encoder: str, metric: str, label: str, note: str) -> Measure:
    nan = float("nan")
    nothing = Interval(nan, nan, nan, 0)
    return _measure(encoder, metric, label, nothing, nothing, nothing, note=note)


def _halved(patients: np.ndarray, m: int, splits: int, seed: int) -> list[Rows]:
    """What is compared in each split, or nothing where a side is left with too few images."""
    if len(np.unique(patients)) < 2:
        return []
    halves = _halves(patients, splits, derive_seed(seed, "halves"))
    n = int(min(halves.sum(1).min(), (~halves).sum(1).min(), m // 2))
    if n < FEWEST:
        return []
    rng = np.random.default_rng(derive_seed(seed, "drawn"))
    sides = ((np.flatnonzero(half), np.flatnonzero(~half), np.arange(m)) for half in halves)
    return [tuple(rng.choice(rows, n, replace=False) for rows in side) for side in sides]  # type: ignore[misc]


def _halves(patients: np.ndarray, splits: int, seed: int) -> np.ndarray:
    """Which images are in the reference half of each split, `(splits, N)` bool, by patient."""
    patient = np.unique(patients, return_inverse=True)[1]
    rng = np.random.default_rng(seed)
    return np.stack([_half(np.bincount(patient), rng)[patient] for _ in range(splits)])


def _half(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Patients of one half, `(P,)` bool: each goes to the smaller half, those with most first."""
    order = rng.permutation(len(images))
    held = [0, 0]
    side = np.full(len(images), rng.integers(2))
    for patient in order[np.argsort(-images[order], kind="stable")]:
        if held[0] != held[1]:
            side[patient] = int(held[1] < held[0])
        held[side[patient]] += images[patient]
    return np.equal(side, 1)


def _shown(items: Sequence[Rows], what: str) -> Iterator[Rows]:
    with progress(what, len(items), "split", delay=LATE_SECONDS) as bar:
        for item in items:
            yield item
            bar.update()
