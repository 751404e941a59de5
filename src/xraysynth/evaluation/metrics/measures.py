"""A set of synthetic images measured against real ones, each value with a real-vs-real baseline.

A difference between the two sides must come from the images, not from how many there are, how
independent they are, or which classes they show. Sets are therefore compared in about twenty random
splits. For each split, one image of each real patient is picked at random, and the patients of each
class are divided at random into a reference half and a baseline half. The baseline half and as many
synthetic images, drawn without replacement, are measured against the same reference half. All three
sets have n images in the class mix of the real patients, even if the pool has equally many images of
each class. No patient is in both halves, or twice in one half. A class that one side lacks is left out
on both sides. A class that has very few images is left out, too: if with it n would be less than half
of what the other classes allow.

At most half of the synthetic images of each class are drawn for a split. If all were drawn every time,
the splits would not differ in them; the spread over random halves of a set shows how much sets of this
size vary. Values are means over the splits, and intervals are the central 95 % of the splits. They
are not bootstrap intervals: drawing with replacement repeats images, which raises a Frechet distance
and shrinks the distance to a neighbour.

The excess is value minus baseline, paired by split: an interval around 0 means that no difference from
real images is shown. Its p-value is from a t-test: t is the mean of the splits' excesses divided by its
standard error, with one degree of freedom less than there are splits. The standard error is the
standard deviation of the excesses, not divided by the root of their number, because halves of one set
overlap. That is exact for a measure that is linear in the images, and cautious for the others. Kernel
distances are quadratic if the two sides do not differ, so that their standard error is known
(`measure_rows`); their p-value may be small although the interval includes 0. A Frechet distance is not
quadratic then, least of all with heavy tails, and keeps the cautious standard error.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from xraysynth.errors import XraysynthError
from xraysynth.evaluation.metrics.class_mix import ALL_CLASSES
from xraysynth.evaluation.metrics.diversity import vendi_score
from xraysynth.evaluation.metrics.features import Features, require_same_encoder
from xraysynth.evaluation.metrics.fidelity import (
    extrapolate_frechet,
    fd_infinity_name,
    fd_name,
    require_comparable_features,
)
from xraysynth.evaluation.metrics.kernel_distances import cmmd, cmmd_name, kd_name
from xraysynth.evaluation.metrics.labelled_features import LabelledFeatures
from xraysynth.evaluation.metrics.measure_rows import (
    BEST_AT_BASELINE,
    build_missing_measure,
    summarise_splits,
)
from xraysynth.evaluation.metrics.point_estimates import RealReference, compute_point_estimates
from xraysynth.evaluation.metrics.split_halves import (
    DEFAULT_SPLITS,
    SplitPlan,
    iterate_splits,
    plan_halves,
)
from xraysynth.evaluation.results import Measure
from xraysynth.seeds import derive_seed


def measure_sets(
    *,
    real: Features,
    synthetic: Features,
    real_labels: ArrayLike,
    synthetic_labels: ArrayLike,
    patients: ArrayLike,
    classes: Sequence[str],
    splits: int = DEFAULT_SPLITS,
    seed: int = 0,
) -> list[Measure]:
    """Measure fidelity and diversity of a synthetic set, over all classes and within each class.

    The measures are FD, KD, precision, recall, density, coverage and Vendi, and over all classes also
    FD∞ and CMMD, in the class mix of the real patients. The module's docstring says how sets are
    compared.

    Args:
        real: Features of real images, none of which the generator may have been trained on.
        synthetic: Features of synthetic images, by the same encoder.
        real_labels: Class name of each real image.
        synthetic_labels: Class name of each synthetic image.
        patients: Patient id of each real image.
        classes: Names of all classes, in the order of the rows.
        splits: Number of random halvings of the real patients, at least 2.
        seed: Seed of all draws.

    Returns:
        One row per measure: all classes first, under the label "", then class by class. Values of a
        class with too few images are NaN, and the row's note says what is missing.

    Raises:
        XraysynthError: If features come from different encoders or are not finite, if a label is not
            in `classes`, if `splits` is below 2, or if all real images are of one patient.
    """
    require_same_encoder(real, synthetic)
    require_comparable_features(real.values, synthetic.values)
    if splits < 2:
        raise XraysynthError(
            f"splits={splits}: the interval and the baseline of a measure are taken over random halves "
            "of the real patients; at least 2 splits are needed, and 20 are usual"
        )
    real_set = LabelledFeatures.from_features(real, real_labels, patients, classes, "real")
    synthetic_set = LabelledFeatures.from_features(
        synthetic, synthetic_labels, None, classes, "synthetic"
    )
    if len(np.unique(real_set.patients)) < 2:
        raise XraysynthError(
            f"all {len(real.values)} real images are of one patient: the baseline is measured between "
            "halves of the patients, of which at least 2 are needed"
        )
    measures = _measure_class(real_set, synthetic_set, ALL_CLASSES, splits, seed)
    for label in classes:
        real_class = real_set.select_class(label)
        synthetic_class = synthetic_set.select_class(label)
        measures += _measure_class(real_class, synthetic_class, label, splits, seed)
    return measures


def _measure_class(
    real: LabelledFeatures, synthetic: LabelledFeatures, label: str, splits: int, seed: int
) -> list[Measure]:
    """Measure one class, or all classes where `label` is `ALL_CLASSES`."""
    encoder = real.features.encoder
    plan = plan_halves(real, synthetic, splits, derive_seed(seed, label))
    if plan.n:
        values = _measure_splits(real, synthetic, plan, label, seed)
        return summarise_splits(real.features, label, values, plan)
    rows = []
    for name in _measure_names(encoder, label):
        rows.append(build_missing_measure(encoder, name, label, plan.note))
    return rows


def _measure_splits(
    real: LabelledFeatures, synthetic: LabelledFeatures, plan: SplitPlan, label: str, seed: int
) -> list[tuple[dict[str, float], dict[str, float]]]:
    """Return, split by split, the measures of the synthetic images and of the baseline half."""
    values = []
    description = f"{real.features.encoder} {label}".strip()
    splits = iterate_splits(plan.draw_splits(real, synthetic), description)
    for number, split in enumerate(splits):
        reference = RealReference.from_features(real.features.select_rows(split.reference))
        synthetic_half = synthetic.features.select_rows(split.synthetic)
        baseline_half = real.features.select_rows(split.baseline)
        sizes_seed = derive_seed(seed, label, "sizes", number)
        synthetic_values = _compute_measures(reference, synthetic_half, label, sizes_seed)
        baseline_values = _compute_measures(reference, baseline_half, label, sizes_seed)
        values.append((synthetic_values, baseline_values))
    return values


def _compute_measures(
    reference: RealReference, images: Features, label: str, seed: int
) -> dict[str, float]:
    """Compute every measure of `images` against the reference half, by name."""
    encoder = images.encoder
    values = compute_point_estimates(real=reference, synthetic=images)
    values["Vendi"] = vendi_score(images.values)
    if label == ALL_CLASSES:
        real = reference.features.values
        rng = np.random.default_rng(seed)
        values[fd_infinity_name(encoder)] = extrapolate_frechet(real, images.values, rng)
        values[cmmd_name(encoder)] = cmmd(real=real, synthetic=images.values)
    return values


def _measure_names(encoder: str, label: str) -> list[str]:
    """Return the names of the measures of a class, in the order of the table."""
    names = [fd_name(encoder), kd_name(encoder), *BEST_AT_BASELINE[:5]]
    if label == ALL_CLASSES:
        names += [fd_infinity_name(encoder), cmmd_name(encoder)]
    return names
