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
differs, which is known (`measure_rows._kernel_standard_error`): their p-value may be small where the interval
holds 0. A Frechet distance is not, in heavy tails above all.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from xraysynth.errors import XraysynthError
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
from xraysynth.evaluation.metrics.split_halves import DEFAULT_SPLITS, iterate_splits, plan_halves
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
    """Fidelity and diversity of a synthetic set, over all classes and, where it is enough, in each.

    FD, KD, precision, recall, density, coverage and Vendi; over all classes FD∞ and CMMD too, all in
    the class mix of the real patients. `real` must hold nothing that the generator was trained on.
    Labels are names of `classes`; `patients` are those of the real images.
    """
    require_same_encoder(real, synthetic)
    require_comparable_features(real.values, synthetic.values)
    if splits < 2:
        raise XraysynthError(
            f"splits={splits}: the interval and the baseline of a measure are taken over random halves "
            "of the real patients; at least 2 splits are needed, and 20 are usual"
        )
    x = LabelledFeatures.from_features(real, real_labels, patients, classes, "real")
    y = LabelledFeatures.from_features(synthetic, synthetic_labels, None, classes, "synthetic")
    if len(np.unique(x.patients)) < 2:
        raise XraysynthError(
            f"all {len(real.values)} real images are of one patient: the baseline is measured between "
            "halves of the patients, of which at least 2 are needed"
        )
    found = _measure_class(x, y, "", splits, seed)
    for label in classes:
        found += _measure_class(x.select_class(label), y.select_class(label), label, splits, seed)
    return found


def _measure_class(
    real: LabelledFeatures, synthetic: LabelledFeatures, label: str, splits: int, seed: int
) -> list[Measure]:
    """All measures of one class, or of all classes where `label` is ""."""
    encoder, whole = real.features.encoder, label == ""
    plan = plan_halves(real, synthetic, splits, derive_seed(seed, label))
    if not plan.n:
        return [
            build_missing_measure(encoder, name, label, plan.note)
            for name in _measure_names(encoder, whole)
        ]
    pairs = []
    rows = plan.draw_splits(real, synthetic)
    for number, (reference, floor, drawn) in enumerate(
        iterate_splits(rows, f"{encoder} {label}".strip())
    ):
        side = RealReference.from_features(real.features.select_rows(reference))
        others = synthetic.features.select_rows(drawn), real.features.select_rows(floor)
        key = derive_seed(seed, label, "sizes", number)
        pairs.append([_compute_measures(side, other, whole, key) for other in others])
    return summarise_splits(real.features, label, pairs, plan)


def _compute_measures(
    real: RealReference, synthetic: Features, all_classes: bool, seed: int
) -> dict[str, float]:
    x, y, encoder = real.features.values, synthetic.values, synthetic.encoder
    found = compute_point_estimates(real=real, synthetic=synthetic) | {"Vendi": vendi_score(y)}
    if not all_classes:
        return found
    found[fd_infinity_name(encoder)] = extrapolate_frechet(x, y, np.random.default_rng(seed))
    return found | {cmmd_name(encoder): cmmd(real=x, synthetic=y)}


def _measure_names(encoder: str, all_classes: bool) -> list[str]:
    names = [fd_name(encoder), kd_name(encoder), *BEST_AT_BASELINE[:5]]
    return [*names, fd_infinity_name(encoder), cmmd_name(encoder)] if all_classes else names
