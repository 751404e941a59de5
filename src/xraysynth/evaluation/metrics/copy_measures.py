"""Whether synthetic images copy those of a training set: rows of a table, beside held-out images."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike

from xraysynth.errors import XraysynthError
from xraysynth.evaluation.metrics.class_mix import (
    class_proportions,
    sample_weights_for_mix,
    scarce_class_mask,
    shared_classes,
    stratified_bootstrap_weights,
)
from xraysynth.evaluation.metrics.copying import data_copying, is_authentic
from xraysynth.evaluation.metrics.features import Features, require_same_encoder
from xraysynth.evaluation.metrics.fidelity import (
    Moments,
    frechet_from_moments,
    memorisation_distance,
    memorisation_informed_distance,
    mifd_name,
    require_comparable_features,
)
from xraysynth.evaluation.metrics.labelled_features import LabelledFeatures, format_classes
from xraysynth.evaluation.metrics.measure_rows import (
    build_measure,
    build_missing_measure,
    summarise_splits,
)
from xraysynth.evaluation.metrics.memorization import (
    FLAG_LEVEL,
    MIN_IMAGES_PER_CLASS,
    FlaggedShare,
    Memorization,
    detect_memorization,
)
from xraysynth.evaluation.metrics.resampling import cluster_bootstrap_weights
from xraysynth.evaluation.metrics.split_halves import DEFAULT_SPLITS, iterate_splits, plan_halves
from xraysynth.evaluation.metrics.statistics import REPLICATES, Interval, percentile_interval
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
    require_same_encoder(train, held_out, synthetic)
    for other in (held_out, synthetic):
        require_comparable_features(train.values, other.values)
    if (held_out_labels is None) != (synthetic_labels is None):
        raise XraysynthError(
            "held_out_labels and synthetic_labels: the classes of both sets are compared, so give both "
            "or neither"
        )
    held = LabelledFeatures.from_features(held_out, held_out_labels, patients, None, "held-out")
    made = LabelledFeatures.from_features(synthetic, synthetic_labels, None, None, "synthetic")
    note, labels = (
        _describe_one_sided_classes(held, made),
        np.unique(np.concatenate([held.labels, made.labels])),
    )
    held, made = (
        side.select_classes(shared_classes(held.labels, made.labels)) for side in (held, made)
    )
    if not len(held.labels):
        note = "the held-out and the synthetic images have no class in common"
        names = "memorised share", "AuthPct", "C_T", mifd_name(train.encoder)
        return [build_missing_measure(train.encoder, name, "", note) for name in names]
    found = [
        *_measure_memorised_share(train, held, made, labels.tolist(), replicates, seed),
        _measure_authenticity(train, held, made, replicates, seed),
        *_measure_data_copying(train, held, made, seed),
    ]
    return [one if one.label else _with_note(one, note) for one in found]


def _measure_memorised_share(
    train: Features,
    held_out: LabelledFeatures,
    synthetic: LabelledFeatures,
    labels: Sequence[str],
    replicates: int,
    seed: int,
) -> list[Measure]:
    """The memorised share of all classes and of each of the `labels`."""
    name, encoder = "memorised share", train.encoder
    if len(held_out.labels) < 1 / FLAG_LEVEL:
        note = f"needs {1 / FLAG_LEVEL:.0f} held-out images, there are {len(held_out.labels)}"
        return [build_missing_measure(encoder, name, "", note)]
    found = detect_memorization(
        train=train,
        held_out=held_out.features,
        synthetic=synthetic.features,
        patients=held_out.patients,
        held_out_labels=held_out.labels,
        synthetic_labels=synthetic.labels,
        replicates=replicates,
        seed=seed,
    )
    expected = Interval(FLAG_LEVEL, FLAG_LEVEL, FLAG_LEVEL, len(held_out.labels))
    share = found.flagged
    excess = replace(share, low=share.low - FLAG_LEVEL, high=share.high - FLAG_LEVEL)
    weights = sample_weights_for_mix(synthetic.labels, class_proportions(held_out.labels))
    few = sorted(set(synthetic.labels[scarce_class_mask(synthetic.labels, weights)]))
    note = f"few images of {format_classes(few)}: none or all may be flagged" if few else ""
    whole = build_measure(encoder, name, "", share, expected, excess, note=note, p=found.p_value)
    by_class = [
        _measure_memorised_class(encoder, label, found) for label in labels if len(labels) > 1
    ]
    return [whole, *by_class]


def _measure_memorised_class(encoder: str, label: str, result: Memorization) -> Measure:
    """The memorised share of one class, beside the held-out images of this class."""
    name, share = "memorised share", result.by_class.get(label)
    if not isinstance(share, FlaggedShare):
        fewest = MIN_IMAGES_PER_CLASS
        note = f"needs {fewest} synthetic and {fewest} held-out images of the class"
        return build_missing_measure(encoder, name, label, note)
    note = "at the threshold of all classes"
    return build_measure(
        encoder, name, label, share.synthetic, share.held_out, share.excess, note=note
    )


def _measure_authenticity(
    train: Features,
    held_out: LabelledFeatures,
    synthetic: LabelledFeatures,
    replicates: int,
    seed: int,
) -> Measure:
    """AuthPct: the share of images that are authentic, resampled."""
    answers = [
        is_authentic(train=train.values, synthetic=side.features.values)
        for side in (synthetic, held_out)
    ]
    weights = (
        sample_weights_for_mix(synthetic.labels, class_proportions(held_out.labels)),
        np.ones(len(held_out.labels)),
    )
    draws = (
        stratified_bootstrap_weights(synthetic.labels, replicates, derive_seed(seed, "drawn")),
        cluster_bootstrap_weights(held_out.patients, replicates, seed),
    )
    shares = []
    for answer, weight, drawn in zip(answers, weights, draws, strict=True):
        counts = weight * np.vstack([np.ones(len(answer)), drawn])
        shares.append(counts @ answer / (counts @ np.ones(len(answer))))
    value, floor = shares
    m = int(np.sum(weights[0] > 0))
    few = sorted(set(synthetic.labels[scarce_class_mask(synthetic.labels, weights[0])]))
    if few:  # they do not show how far they differ
        value[1:] = np.nan
    return build_measure(
        synthetic.features.encoder,
        "AuthPct",
        "",
        percentile_interval(float(value[0]), value[1:], n=m),
        percentile_interval(float(floor[0]), floor[1:], n=len(answers[1])),
        percentile_interval(float(value[0] - floor[0]), value[1:] - floor[1:], n=m),
        note=f"few images of {format_classes(few)}: no interval" if few else "",
    )


def _with_note(measure: Measure, note: str) -> Measure:
    return replace(measure, note="; ".join(filter(None, (note, measure.note))))


def _describe_one_sided_classes(held_out: LabelledFeatures, synthetic: LabelledFeatures) -> str:
    """Which classes are in one of the sets alone, and so without weight in a share of both."""
    alone = sorted(set(held_out.labels) ^ set(synthetic.labels))
    return f"without {format_classes(alone)}, which only one of the sets has" if alone else ""


def _measure_data_copying(
    train: Features, held_out: LabelledFeatures, synthetic: LabelledFeatures, seed: int
) -> list[Measure]:
    """C_T and MiFD over halves of the held-out patients."""
    encoder = train.encoder
    plan = plan_halves(held_out, synthetic, DEFAULT_SPLITS, seed, real_name="held-out")
    if not plan.n:
        return [
            build_missing_measure(encoder, name, "", plan.note)
            for name in ("C_T", mifd_name(encoder))
        ]
    moments, pairs = Moments.from_features(train.values), []
    rows = plan.draw_splits(held_out, synthetic)
    for reference, floor, drawn in iterate_splits(rows, f"{encoder} copying"):
        null = held_out.features.values[reference]
        others = synthetic.features.values[drawn], held_out.features.values[floor]
        pairs.append([_compute_ct_and_mifd(train, moments, null, other, seed) for other in others])
    return summarise_splits(train, "", pairs, plan)


def _compute_ct_and_mifd(
    train: Features, moments: Moments, held_out: np.ndarray, synthetic: np.ndarray, seed: int
) -> dict[str, float]:
    x = train.values
    distance = frechet_from_moments(moments, Moments.from_features(synthetic))
    memorised = memorisation_distance(train=x, synthetic=synthetic)
    try:
        copying = data_copying(train=x, held_out=held_out, synthetic=synthetic, seed=seed)
    except XraysynthError:  # no part of the features holds enough of both: nothing to compare
        copying = float("nan")
    return {
        "C_T": copying,
        mifd_name(train.encoder): memorisation_informed_distance(distance, memorised),
    }
