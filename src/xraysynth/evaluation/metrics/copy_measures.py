"""Rows of the table of measures on whether synthetic images copy those of a training set."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike

from xraysynth.errors import XraysynthError
from xraysynth.evaluation.metrics.class_mix import (
    ALL_CLASSES,
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
    Memorization,
    detect_memorization,
)
from xraysynth.evaluation.metrics.resampling import cluster_bootstrap_weights
from xraysynth.evaluation.metrics.split_halves import DEFAULT_SPLITS, iterate_splits, plan_halves
from xraysynth.evaluation.metrics.statistics import REPLICATES, Interval, percentile_interval
from xraysynth.evaluation.results import Measure
from xraysynth.seeds import derive_seed

MEMORISED_SHARE = "memorised share"
"""Name of the measure in the table: the fraction of images with the memorisation flag."""


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
    """Measure whether synthetic images copy those of `train`: memorised share, AuthPct, C_T and MiFD.

    The values of the held-out images are the baseline. With labels of both sets, the synthetic images
    are taken in the class mix of the held-out ones, and the memorised share is given by class too. A
    class that only one of the two sets has is left out of both, and named in the note. Intervals of
    the memorised share and of AuthPct resample held-out patients and synthetic images; those of C_T
    and MiFD are over halves of the held-out patients.

    Args:
        train: Features of the real images that the generator was trained on.
        held_out: Features of real images of other patients.
        synthetic: Features of the synthetic images.
        patients: Patient id of each held-out image.
        held_out_labels: Class name of each held-out image; give labels of both sets or of neither.
        synthetic_labels: Class name of each synthetic image.
        replicates: Number of bootstrap replicates.
        seed: Seed of all draws.

    Raises:
        XraysynthError: If features are of different encoders or not finite, or if labels of one set
            alone are given.
    """
    require_same_encoder(train, held_out, synthetic)
    require_comparable_features(train.values, held_out.values)
    require_comparable_features(train.values, synthetic.values)
    if (held_out_labels is None) != (synthetic_labels is None):
        raise XraysynthError(
            "held_out_labels and synthetic_labels: the classes of both sets are compared, so give both "
            "or neither"
        )
    held_out_set = LabelledFeatures.from_features(
        held_out, held_out_labels, patients, None, "held-out"
    )
    synthetic_set = LabelledFeatures.from_features(
        synthetic, synthetic_labels, None, None, "synthetic"
    )
    labels = np.union1d(held_out_set.labels, synthetic_set.labels).tolist()
    shared = shared_classes(held_out_set.labels, synthetic_set.labels)
    if not shared:
        return _missing_measures(train.encoder)
    note = _describe_one_sided_classes(held_out_set, synthetic_set)
    held_out_set = held_out_set.select_classes(shared)
    synthetic_set = synthetic_set.select_classes(shared)
    measures = [
        *_measure_memorised_share(train, held_out_set, synthetic_set, labels, replicates, seed),
        _measure_authenticity(train, held_out_set, synthetic_set, replicates, seed),
        *_measure_data_copying(train, held_out_set, synthetic_set, seed),
    ]
    return list(_with_note_on_all_classes(measures, note))


def _missing_measures(encoder: str) -> list[Measure]:
    """Build the rows of two sets that have no class in common."""
    note = "the held-out and the synthetic images have no class in common"
    rows = []
    for name in (MEMORISED_SHARE, "AuthPct", "C_T", mifd_name(encoder)):
        rows.append(build_missing_measure(encoder, name, ALL_CLASSES, note))
    return rows


def _describe_one_sided_classes(held_out: LabelledFeatures, synthetic: LabelledFeatures) -> str:
    """Return a note on the classes that only one of the sets has, "" where there are none."""
    one_sided = sorted(set(held_out.labels) ^ set(synthetic.labels))
    if not one_sided:
        return ""
    return f"without {format_classes(one_sided)}, which only one of the sets has"


def _with_note_on_all_classes(measures: Sequence[Measure], note: str) -> Iterator[Measure]:
    """Yield the measures; `note` precedes the notes of those over all classes."""
    for measure in measures:
        if measure.label == ALL_CLASSES:
            measure = replace(measure, note="; ".join(filter(None, (note, measure.note))))
        yield measure


def _measure_memorised_share(
    train: Features,
    held_out: LabelledFeatures,
    synthetic: LabelledFeatures,
    labels: Sequence[str],
    replicates: int,
    seed: int,
) -> list[Measure]:
    """Measure the memorised share over all classes and, where there are several, in each of `labels`."""
    encoder = train.encoder
    if len(held_out.labels) < 1 / FLAG_LEVEL:
        n = len(held_out.labels)
        note = f"the measure needs {1 / FLAG_LEVEL:.0f} held-out images, but there are {n}"
        return [build_missing_measure(encoder, MEMORISED_SHARE, ALL_CLASSES, note)]
    memorization = detect_memorization(
        train=train,
        held_out=held_out.features,
        synthetic=synthetic.features,
        patients=held_out.patients,
        held_out_labels=held_out.labels,
        synthetic_labels=synthetic.labels,
        replicates=replicates,
        seed=seed,
    )
    share = memorization.flagged
    expected = Interval(FLAG_LEVEL, FLAG_LEVEL, FLAG_LEVEL, len(held_out.labels))
    excess = replace(share, low=share.low - FLAG_LEVEL, high=share.high - FLAG_LEVEL)
    weights = sample_weights_for_mix(synthetic.labels, class_proportions(held_out.labels))
    scarce = _scarce_classes(synthetic.labels, weights)
    note = f"few images of {format_classes(scarce)}: none or all may be flagged" if scarce else ""
    p = memorization.p_value
    rows = [
        build_measure(
            encoder, MEMORISED_SHARE, ALL_CLASSES, share, expected, excess, note=note, p=p
        )
    ]
    if len(labels) > 1:
        for label in labels:
            rows.append(_measure_memorised_class(encoder, label, memorization))
    return rows


def _measure_memorised_class(encoder: str, label: str, memorization: Memorization) -> Measure:
    """Build the row of one class, whose baseline are the held-out images of this class."""
    share = memorization.by_class.get(label)
    if share is None:
        fewest = MIN_IMAGES_PER_CLASS
        note = f"the measure needs {fewest} synthetic and {fewest} held-out images of the class"
        return build_missing_measure(encoder, MEMORISED_SHARE, label, note)
    return build_measure(
        encoder,
        MEMORISED_SHARE,
        label,
        share.synthetic,
        share.held_out,
        share.excess,
        note="at the threshold of all classes",
    )


def _scarce_classes(labels: np.ndarray, weights: np.ndarray) -> list[str]:
    """Return the classes of too few images to show how far these differ."""
    return sorted(set(labels[scarce_class_mask(labels, weights)]))


def _measure_authenticity(
    train: Features,
    held_out: LabelledFeatures,
    synthetic: LabelledFeatures,
    replicates: int,
    seed: int,
) -> Measure:
    """Measure AuthPct, the proportion of images that are authentic, with bootstrap intervals."""
    weights = sample_weights_for_mix(synthetic.labels, class_proportions(held_out.labels))
    value = _weighted_proportions(
        is_authentic(train=train.values, synthetic=synthetic.features.values),
        weights,
        stratified_bootstrap_weights(synthetic.labels, replicates, derive_seed(seed, "drawn")),
    )
    n_held_out = len(held_out.labels)
    baseline = _weighted_proportions(
        is_authentic(train=train.values, synthetic=held_out.features.values),
        np.ones(n_held_out),
        cluster_bootstrap_weights(held_out.patients, replicates, seed),
    )
    scarce = _scarce_classes(synthetic.labels, weights)
    if scarce:  # these do not show how far their images differ
        value[1:] = np.nan
    n = int(np.sum(weights > 0))
    return build_measure(
        synthetic.features.encoder,
        "AuthPct",
        ALL_CLASSES,
        percentile_interval(float(value[0]), value[1:], n=n),
        percentile_interval(float(baseline[0]), baseline[1:], n=n_held_out),
        percentile_interval(float(value[0] - baseline[0]), value[1:] - baseline[1:], n=n),
        note=f"few images of {format_classes(scarce)}: no interval" if scarce else "",
    )


def _weighted_proportions(
    is_positive: np.ndarray, weights: np.ndarray, draws: np.ndarray
) -> np.ndarray:
    """Return the weighted proportion of `is_positive` `(N,)`, then that of each draw: `(1 + R,)`."""
    ones = np.ones(len(is_positive))
    counts = weights * np.vstack([ones, draws])
    proportions: np.ndarray = counts @ is_positive / (counts @ ones)
    return proportions


def _measure_data_copying(
    train: Features, held_out: LabelledFeatures, synthetic: LabelledFeatures, seed: int
) -> list[Measure]:
    """Measure C_T and MiFD over halves of the held-out patients."""
    encoder = train.encoder
    plan = plan_halves(held_out, synthetic, DEFAULT_SPLITS, seed, real_name="held-out")
    if not plan.n:
        return [
            build_missing_measure(encoder, "C_T", ALL_CLASSES, plan.note),
            build_missing_measure(encoder, mifd_name(encoder), ALL_CLASSES, plan.note),
        ]
    moments = Moments.from_features(train.values)
    values = []
    splits = plan.draw_splits(held_out, synthetic)
    for split in iterate_splits(splits, f"{encoder} copying"):
        reference = held_out.features.values[split.reference]
        synthetic_half = synthetic.features.values[split.synthetic]
        baseline_half = held_out.features.values[split.baseline]
        synthetic_values = _compute_ct_and_mifd(train, moments, reference, synthetic_half, seed)
        baseline_values = _compute_ct_and_mifd(train, moments, reference, baseline_half, seed)
        values.append((synthetic_values, baseline_values))
    return summarise_splits(train, ALL_CLASSES, values, plan)


def _compute_ct_and_mifd(
    train: Features, moments: Moments, held_out: np.ndarray, synthetic: np.ndarray, seed: int
) -> dict[str, float]:
    """Compute C_T and MiFD by name; `moments` are those of the training images."""
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
