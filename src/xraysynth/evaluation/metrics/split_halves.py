"""Halves of the real patients and as many synthetic images, all in one class mix: what is compared.

Why sets are compared so is said in `measures`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from xraysynth.evaluation.metrics.class_mix import apportion
from xraysynth.evaluation.metrics.labelled_features import LabelledFeatures, format_classes
from xraysynth.progress import DELAY_SECONDS, progress_bar
from xraysynth.seeds import derive_seed

MIN_IMAGES_PER_HALF = 10
"""Images in a half of a set below which nothing is measured."""

DEFAULT_SPLITS = 20
SplitRows = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Rows of the reference half, of the baseline half and of the synthetic images drawn, `(n,)` each."""


@dataclass(frozen=True)
class SplitPlan:
    """How many images of each class are drawn in each split: `counts` by class, the same in all.

    `picked` are the rows `(P,)` of one image of each real patient, in random order, split by split.
    `drawn` is the sum of the shares of real patients and of synthetic images on one side, of the class
    in which it is largest. `n` is 0 where a side is left with too few images; `note` says why, or
    which classes are left out.
    """

    counts: dict[str, int]
    one_row_per_patient: Sequence[np.ndarray]
    seed: int
    note: str
    drawn_fraction: float = 1.0

    @property
    def n(self) -> int:
        """Images on each side."""
        return sum(self.counts.values())

    def draw_splits(self, real: LabelledFeatures, synthetic: LabelledFeatures) -> list[SplitRows]:
        """What is compared in each split: of each class the first patients, the next, and as many
        synthetic images."""
        rng = np.random.default_rng(derive_seed(self.seed, "drawn"))
        found = []
        for picked in self.one_row_per_patient:
            order = rng.permutation(len(synthetic.labels))
            parts = []
            for label, count in self.counts.items():
                patients = picked[real.labels[picked] == label]
                images = order[synthetic.labels[order] == label]
                parts.append((patients[:count], patients[count : 2 * count], images[:count]))
            reference, baseline, drawn = (np.concatenate(side) for side in zip(*parts, strict=True))
            found.append((reference, baseline, drawn))
        return found


def plan_halves(
    real: LabelledFeatures,
    synthetic: LabelledFeatures,
    splits: int,
    seed: int,
    *,
    real_name: str = "real",
) -> SplitPlan:
    """The largest numbers in the class mix of the real patients that all splits can draw."""
    rng = np.random.default_rng(derive_seed(seed, "halves"))
    picked = [_draw_one_per_patient(real.patients, rng) for _ in range(splits)]
    labels = [str(label) for label in np.unique(np.concatenate([real.labels, synthetic.labels]))]
    patients = {
        label: min(int(np.sum(real.labels[rows] == label)) for rows in picked) for label in labels
    }
    images = {label: int(np.sum(synthetic.labels == label)) for label in labels}
    halves = {label: min(patients[label], images[label]) // 2 for label in labels}
    missing = [label for label in labels if not halves[label]]
    counts, notes = _choose_class_counts(
        _patients_per_class(real), {n: h for n, h in halves.items() if h}
    )
    if sum(counts.values()) < MIN_IMAGES_PER_HALF:
        return SplitPlan({}, picked, seed, _explain_too_few(real, synthetic, real_name))
    if missing:
        notes = [
            f"without {format_classes(missing)}, of which one side has too few to halve",
            *notes,
        ]
    drawn = max(count / patients[label] + count / images[label] for label, count in counts.items())
    return SplitPlan(counts, picked, seed, "; ".join(notes), drawn_fraction=drawn)


def _choose_class_counts(
    mix: dict[str, float], halves: dict[str, int]
) -> tuple[dict[str, int], list[str]]:
    """How many of each class are drawn, of those that `halves` has, and what to say of scarce ones.

    A class that would bound N below half of what the others allow is left out, as long as those left
    out hold less than half of the real patients; one that bounds it less is named.
    """
    notes, left_out = [], 0.0
    whole = sum(mix[label] for label in halves)
    counts = _largest_counts_in_mix(mix, halves)
    while len(halves) > 1:
        others = {
            label: sum(
                _largest_counts_in_mix(
                    mix, {n: h for n, h in halves.items() if n != label}
                ).values()
            )
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
        left_out, counts = left_out + mix[label], _largest_counts_in_mix(mix, halves)
    return counts, notes


def _largest_counts_in_mix(mix: dict[str, float], halves: dict[str, int]) -> dict[str, int]:
    """The largest numbers by class in proportion to `mix` of which none exceeds its half."""
    shares = np.array([mix[label] for label in halves], float)
    counts = _largest_apportionment(shares, np.array(list(halves.values()), int))
    return dict(zip(halves, counts.tolist(), strict=True))


def _draw_one_per_patient(patients: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Rows of one image of each patient `(P,)`, both in random order."""
    order = rng.permutation(len(patients))
    first = np.unique(patients[order], return_index=True)[1]
    return np.asarray(order[np.sort(first)])


def _patients_per_class(real: LabelledFeatures) -> dict[str, float]:
    """Patients by class, a patient of several classes counting in part to each."""
    _, patient, images = np.unique(real.patients, return_inverse=True, return_counts=True)
    each = 1 / images[patient]
    return {str(label): float(each[real.labels == label].sum()) for label in set(real.labels)}


def _largest_apportionment(mix: np.ndarray, available: np.ndarray) -> np.ndarray:
    """The largest counts by class in proportion to `mix` of which no class exceeds `available`."""
    for n in range(int(available.sum()), 0, -1):
        counts = apportion(mix, n)
        if (counts <= available).all():
            return counts
    return np.zeros(len(available), int)


def _explain_too_few(real: LabelledFeatures, synthetic: LabelledFeatures, real_name: str) -> str:
    patients, fewest = len(np.unique(real.patients)), 2 * MIN_IMAGES_PER_HALF
    note = (
        f"needs {MIN_IMAGES_PER_HALF} images a side, of as many patients and in the class mix of "
        f"the {real_name} images: "
        f"{fewest} {real_name} patients, in two halves, and {fewest} synthetic images; there are "
        f"{patients} patients with {len(real.labels)} {real_name} images, and "
        f"{len(synthetic.labels)} synthetic "
        "images"
    )
    if len(labels := np.unique(np.concatenate([real.labels, synthetic.labels]))) < 2:
        return note
    counts = []
    for label in labels:
        owners = len(np.unique(real.patients[real.labels == label]))
        counts.append(f"{label} {owners} and {np.sum(synthetic.labels == label)}")
    return f"{note} (by class: {', '.join(counts)})"


def iterate_splits(splits: Sequence[SplitRows], description: str) -> Iterator[SplitRows]:
    """The splits one by one, with a progress bar where they take long."""
    with progress_bar(description, len(splits), "split", delay=DELAY_SECONDS) as bar:
        for item in splits:
            yield item
            bar.update()
