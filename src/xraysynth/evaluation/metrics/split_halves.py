"""Random halves of the real patients and as many synthetic images, all in one class mix.

The docstring of `measures` says why sets are compared in such splits.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from xraysynth.evaluation.metrics.class_mix import apportion
from xraysynth.evaluation.metrics.labelled_features import LabelledFeatures, format_classes
from xraysynth.progress import DELAY_SECONDS, progress_bar
from xraysynth.seeds import derive_seed

MIN_IMAGES_PER_HALF = 10
"""Number of images in a half of a set below which nothing is measured."""

DEFAULT_SPLITS = 20


class SplitRows(NamedTuple):
    """Rows of the images of one split, `(n,)` each.

    `reference` and `baseline` are rows of the real images, `synthetic` of the synthetic ones.
    """

    reference: np.ndarray
    baseline: np.ndarray
    synthetic: np.ndarray


@dataclass(frozen=True)
class SplitPlan:
    """The number of images of each class that is drawn, on each side and in each split alike.

    Attributes:
        counts: Number of images by class; empty where a side has too few images.
        one_row_per_patient: For each split, rows `(P,)` of one image per real patient in random order.
        seed: Seed by which synthetic images are drawn.
        note: Why nothing can be compared, or which classes are left out or limit n.
        drawn_fraction: Fraction of the real patients that is on one side plus fraction of the
            synthetic images that is, for the class in which this sum is largest.
    """

    counts: dict[str, int]
    one_row_per_patient: Sequence[np.ndarray]
    seed: int
    note: str
    drawn_fraction: float = 1.0

    @property
    def n(self) -> int:
        """Number of images on each side; 0 where a side has too few images."""
        return sum(self.counts.values())

    def draw_splits(self, real: LabelledFeatures, synthetic: LabelledFeatures) -> list[SplitRows]:
        """Draw the images of each split.

        For each class, the reference half takes the first patients of the split's random order, and
        the baseline half the next ones. Synthetic images are drawn at random.
        """
        rng = np.random.default_rng(derive_seed(self.seed, "drawn"))
        splits = []
        for real_rows in self.one_row_per_patient:
            synthetic_rows = rng.permutation(len(synthetic.labels))
            references, baselines, drawn = [], [], []
            for label, count in self.counts.items():
                real_class = real_rows[real.labels[real_rows] == label]
                synthetic_class = synthetic_rows[synthetic.labels[synthetic_rows] == label]
                references.append(real_class[:count])
                baselines.append(real_class[count : 2 * count])
                drawn.append(synthetic_class[:count])
            splits.append(
                SplitRows(
                    np.concatenate(references), np.concatenate(baselines), np.concatenate(drawn)
                )
            )
        return splits


def plan_halves(
    real: LabelledFeatures,
    synthetic: LabelledFeatures,
    splits: int,
    seed: int,
    *,
    real_name: str = "real",
) -> SplitPlan:
    """Plan the largest splits in the class mix of the real patients that can be drawn every time.

    Args:
        real: Images that are dealt to the reference and the baseline half.
        synthetic: Images that are compared with the reference half.
        splits: Number of splits.
        seed: Seed of all draws.
        real_name: Word for `real` in the plan's note, such as "held-out".
    """
    rng = np.random.default_rng(derive_seed(seed, "halves"))
    picks = [_draw_one_per_patient(real.patients, rng) for _ in range(splits)]
    patients, images, halves, missing = {}, {}, {}, []
    for label in _class_names(real, synthetic):
        patients[label] = _fewest_picked(real.labels, picks, label)
        images[label] = int(np.sum(synthetic.labels == label))
        half = min(patients[label], images[label]) // 2
        if half:
            halves[label] = half
        else:
            missing.append(label)
    counts, notes = _choose_class_counts(_patients_per_class(real), halves)
    if sum(counts.values()) < MIN_IMAGES_PER_HALF:
        return SplitPlan({}, picks, seed, _explain_too_few(real, synthetic, real_name))
    if missing:
        note = f"without {format_classes(missing)}, of which one side has too few to halve"
        notes = [note, *notes]
    drawn_fraction = _largest_drawn_fraction(counts, patients, images)
    return SplitPlan(counts, picks, seed, "; ".join(notes), drawn_fraction=drawn_fraction)


def _class_names(real: LabelledFeatures, synthetic: LabelledFeatures) -> list[str]:
    labels = np.unique(np.concatenate([real.labels, synthetic.labels]))
    return list(map(str, labels))


def _draw_one_per_patient(patients: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return rows `(P,)` of one image of each patient; images and patients are in random order."""
    order = rng.permutation(len(patients))
    _, first = np.unique(patients[order], return_index=True)
    return np.asarray(order[np.sort(first)])


def _fewest_picked(labels: np.ndarray, picks: Sequence[np.ndarray], label: str) -> int:
    """Return in how many of the picked rows a class is, in the split where it is rarest."""
    return min(int(np.sum(labels[rows] == label)) for rows in picks)


def _largest_drawn_fraction(
    counts: Mapping[str, int], patients: Mapping[str, int], images: Mapping[str, int]
) -> float:
    """Return the largest sum, over classes, of the fractions of patients and of images drawn."""
    sums = [count / patients[label] + count / images[label] for label, count in counts.items()]
    return max(sums)


def _choose_class_counts(
    mix: Mapping[str, float], halves: Mapping[str, int]
) -> tuple[dict[str, int], list[str]]:
    """Choose how many images of each class in `halves` are drawn, and explain scarce classes.

    A class that would bound n below half of what the others allow is left out, as long as the classes
    left out hold less than half of the real patients. A class that bounds n less is named only.
    """
    notes: list[str] = []
    patients_left_out = 0.0
    n_patients = sum(mix[label] for label in halves)
    counts = _largest_counts_in_mix(mix, halves)
    while len(halves) > 1:
        label, n_without = _most_limiting_class(mix, halves)
        n = sum(counts.values())
        if n_without <= n:
            break
        if 2 * n >= n_without or patients_left_out + mix[label] >= n_patients / 2:
            notes.append(f"the class {label} bounds N, which would be {n_without} without it")
            break
        notes.append(
            f"without the class {label}, which would bound N to {n} in place of {n_without}"
        )
        patients_left_out += mix[label]
        halves = _without_class(halves, label)
        counts = _largest_counts_in_mix(mix, halves)
    return counts, notes


def _most_limiting_class(mix: Mapping[str, float], halves: Mapping[str, int]) -> tuple[str, int]:
    """Return the class without which most images could be drawn, and their number then."""
    totals = {}
    for label in halves:
        counts = _largest_counts_in_mix(mix, _without_class(halves, label))
        totals[label] = sum(counts.values())
    label = max(totals, key=totals.__getitem__)
    return label, totals[label]


def _without_class(halves: Mapping[str, int], label: str) -> dict[str, int]:
    others = dict(halves)
    del others[label]
    return others


def _largest_counts_in_mix(mix: Mapping[str, float], halves: Mapping[str, int]) -> dict[str, int]:
    """Return the largest counts by class in proportion to `mix`, none of which exceeds its half."""
    proportions = np.array([mix[label] for label in halves], float)
    counts = _largest_apportionment(proportions, np.array(list(halves.values()), int))
    return dict(zip(halves, counts.tolist(), strict=True))


def _largest_apportionment(mix: np.ndarray, available: np.ndarray) -> np.ndarray:
    """Return the largest counts `(C,)` in proportion to `mix`, none of which exceeds `available`."""
    for n in range(int(available.sum()), 0, -1):
        counts = apportion(mix, n)
        if (counts <= available).all():
            return counts
    return np.zeros(len(available), int)


def _patients_per_class(real: LabelledFeatures) -> dict[str, float]:
    """Count patients by class; a patient of several classes counts in part to each of them."""
    _, patient, n_images = np.unique(real.patients, return_inverse=True, return_counts=True)
    weights = 1 / n_images[patient]
    counts = {}
    for label in np.unique(real.labels):
        counts[str(label)] = float(weights[real.labels == label].sum())
    return counts


def _explain_too_few(real: LabelledFeatures, synthetic: LabelledFeatures, real_name: str) -> str:
    """Return the note of a plan without images: what is needed, and what there is by class."""
    n_patients, fewest = len(np.unique(real.patients)), 2 * MIN_IMAGES_PER_HALF
    note = (
        f"the measure needs {MIN_IMAGES_PER_HALF} images on each side, each of another patient and in the "
        f"class mix of the {real_name} images; that takes {fewest} {real_name} patients, in two halves, "
        f"and {fewest} synthetic images, but there are {n_patients} patients with "
        f"{len(real.labels)} {real_name} images, and {len(synthetic.labels)} synthetic images"
    )
    labels = _class_names(real, synthetic)
    if len(labels) < 2:
        return note
    counts = []
    for label in labels:
        n_patients = len(np.unique(real.patients[real.labels == label]))
        counts.append(f"{label} {n_patients} and {np.sum(synthetic.labels == label)}")
    return f"{note} (by class: {', '.join(counts)})"


def iterate_splits(splits: Sequence[SplitRows], description: str) -> Iterator[SplitRows]:
    """Yield the splits one by one, with a progress bar where they take long."""
    with progress_bar(description, len(splits), "split", delay=DELAY_SECONDS) as bar:
        for split in splits:
            yield split
            bar.update()
