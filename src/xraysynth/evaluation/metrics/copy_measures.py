"""Whether synthetic images copy those of a training set: rows of a table, beside held-out images."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike

from xraysynth.errors import XraysynthError
from xraysynth.evaluation.metrics.class_mix import (
    class_shares,
    draw_in_classes,
    scarce,
    shared_classes,
    weights_to_mix,
)
from xraysynth.evaluation.metrics.copying import authentic, data_copying
from xraysynth.evaluation.metrics.features import Features, require_same
from xraysynth.evaluation.metrics.fidelity import (
    Moments,
    frechet,
    memorisation_distance,
    memorisation_informed,
    mifd_name,
    two_sides,
)
from xraysynth.evaluation.metrics.labelled_features import Labelled, name_classes
from xraysynth.evaluation.metrics.measure_rows import measure_row, summarise, unmeasured
from xraysynth.evaluation.metrics.memorization import (
    FEWEST_OF_A_CLASS,
    LEVEL,
    FlaggedShare,
    Memorization,
    memorization,
)
from xraysynth.evaluation.metrics.resampling import cluster_weights
from xraysynth.evaluation.metrics.split_halves import SPLITS, plan_halves, with_progress
from xraysynth.evaluation.metrics.statistics import REPLICATES, Interval, interval
from xraysynth.evaluation.results import Measure
from xraysynth.seeds import derive_seed


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
    held = Labelled.sorted(held_out, held_out_labels, patients, None, "held-out")
    made = Labelled.sorted(synthetic, synthetic_labels, None, None, "synthetic")
    note, labels = _one_sided(held, made), np.unique(np.concatenate([held.labels, made.labels]))
    held, made = (side.within(shared_classes(held.labels, made.labels)) for side in (held, made))
    if not len(held.labels):
        note = "the held-out and the synthetic images have no class in common"
        names = "memorised share", "AuthPct", "C_T", mifd_name(train.encoder)
        return [unmeasured(train.encoder, name, "", note) for name in names]
    found = [
        *_memorised(train, held, made, labels.tolist(), replicates, seed),
        _authentic(train, held, made, replicates, seed),
        *_copied(train, held, made, seed),
    ]
    return [one if one.label else _noted(one, note) for one in found]


def _memorised(
    train: Features,
    held: Labelled,
    made: Labelled,
    labels: Sequence[str],
    replicates: int,
    seed: int,
) -> list[Measure]:
    """The memorised share of all classes and of each of the `labels`."""
    name, encoder = "memorised share", train.encoder
    if len(held.labels) < 1 / LEVEL:
        note = f"needs {1 / LEVEL:.0f} held-out images, there are {len(held.labels)}"
        return [unmeasured(encoder, name, "", note)]
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
    note = f"few images of {name_classes(few)}: none or all may be flagged" if few else ""
    whole = measure_row(encoder, name, "", share, expected, excess, note=note, p=found.p)
    by_class = [_memorised_of(encoder, label, found) for label in labels if len(labels) > 1]
    return [whole, *by_class]


def _memorised_of(encoder: str, label: str, found: Memorization) -> Measure:
    """The memorised share of one class, beside the held-out images of this class."""
    name, share = "memorised share", found.by_class.get(label)
    if not isinstance(share, FlaggedShare):
        fewest = FEWEST_OF_A_CLASS
        note = f"needs {fewest} synthetic and {fewest} held-out images of the class"
        return unmeasured(encoder, name, label, note)
    note = "at the threshold of all classes"
    return measure_row(
        encoder, name, label, share.synthetic, share.held_out, share.excess, note=note
    )


def _authentic(
    train: Features, held: Labelled, made: Labelled, replicates: int, seed: int
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
    return measure_row(
        made.features.encoder,
        "AuthPct",
        "",
        interval(float(value[0]), value[1:], n=m),
        interval(float(floor[0]), floor[1:], n=len(answers[1])),
        interval(float(value[0] - floor[0]), value[1:] - floor[1:], n=m),
        note=f"few images of {name_classes(few)}: no interval" if few else "",
    )


def _noted(measure: Measure, note: str) -> Measure:
    return replace(measure, note="; ".join(filter(None, (note, measure.note))))


def _one_sided(held: Labelled, made: Labelled) -> str:
    """Which classes are in one of the sets alone, and so without weight in a share of both."""
    alone = sorted(set(held.labels) ^ set(made.labels))
    return f"without {name_classes(alone)}, which only one of the sets has" if alone else ""


def _copied(train: Features, held: Labelled, made: Labelled, seed: int) -> list[Measure]:
    """C_T and MiFD over halves of the held-out patients."""
    encoder = train.encoder
    plan = plan_halves(held, made, SPLITS, seed, real_name="held-out")
    if not plan.n:
        return [unmeasured(encoder, name, "", plan.note) for name in ("C_T", mifd_name(encoder))]
    moments, pairs = Moments.of(train.values), []
    rows = plan.rows(held, made)
    for reference, floor, drawn in with_progress(rows, f"{encoder} copying"):
        null = held.features.values[reference]
        others = made.features.values[drawn], held.features.values[floor]
        pairs.append([_copy_values(train, moments, null, other, seed) for other in others])
    return summarise(train, "", pairs, plan)


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
