"""Synthetic images against real ones: every measure of a set of images, in one call.

`evaluate` takes manifests, of a study's pools or of any two folders (`folders.from_folder`):

    real, synthetic = from_folder("real"), from_folder("mine", is_synthetic=True)
    evaluation = evaluate(real=real, synthetic=synthetic, encoders=[build("embedded")], size_px=256,
                          cache=Path("cache"))
    pd.DataFrame(evaluation.measures)

Without `train` it says how far the images are from real ones; with it, whether they are copies.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from xraysynth.evaluation._image_sets import CopyMeasureInputs, ImageSets, Resampling
from xraysynth.evaluation.encoders.base import Encoder
from xraysynth.evaluation.metrics import appearance, diversity
from xraysynth.evaluation.metrics.class_mix import class_proportions, shared_classes, weighted_mean
from xraysynth.evaluation.metrics.copy_measures import measure_copying
from xraysynth.evaluation.metrics.measures import measure_sets
from xraysynth.evaluation.metrics.memorization import FLAG_LEVEL, Memorization, detect_memorization
from xraysynth.evaluation.metrics.neighbours import nearest_neighbours
from xraysynth.evaluation.metrics.statistics import Interval
from xraysynth.evaluation.results import (
    Appearance,
    ClosestPair,
    Diversity,
    Evaluation,
    Measure,
    Similarity,
)
from xraysynth.images import read_colour
from xraysynth.manifest import Manifest
from xraysynth.seeds import derive_seed

__all__ = ["MAX_CLOSEST_PAIRS", "Resampling", "evaluate"]

MAX_CLOSEST_PAIRS = 6
"""Pairs of a synthetic image and its nearest training image that are shown."""


def evaluate(
    *,
    real: Manifest,
    synthetic: Manifest,
    encoders: Sequence[Encoder],
    size_px: int,
    cache: Path,
    train: Manifest | None = None,
    held_out: Manifest | None = None,
    originals: Sequence[Path] | None = None,
    resampling: Resampling | None = None,
    linked: Sequence[Sequence[str]] = (),
) -> Evaluation:
    """Measures of `synthetic` beside `real` images that its generator has not learned from.

    All images are put into the study's format at `size_px` first. `train` are the images that may
    have been copied, `held_out` real ones of other patients (`real` by default) that show how near
    images lie that are no copies. `originals` are the files as the generator made them, for
    `appearance`. `linked` are keys (source/patient_id) of real patients who are one person, a sequence
    for each person (`audit.linked_patients`). Pixels and features are kept in `cache`.

    Means over all classes are in the class mix of the real images that they stand beside, whatever
    that of `synthetic` is; a class that one of the two lacks is left out of both. Copies are looked
    for in `train` alone.
    """
    resampling = resampling or Resampling()
    manifests = {"synthetic": synthetic, "real": real}
    if train is not None:
        manifests |= {"train": train, "held_out": held_out or real}
    sets = ImageSets(manifests, linked, size_px, cache, resampling)
    measures: list[Measure] = []
    copies: _CopyFindings | None = None
    for encoder in encoders:
        features = sets.features(encoder)
        measures += measure_sets(
            real=features["real"],
            synthetic=features["synthetic"],
            real_labels=sets.labels("real"),
            synthetic_labels=sets.labels("synthetic"),
            patients=sets.patients("real"),
            classes=real.classes,
            splits=resampling.splits,
        )
        if train is not None:
            arguments = sets.copy_measure_inputs(features)
            measures += measure_copying(**arguments)
            copies = copies or _find_copies(arguments, sets)
    return Evaluation(
        images=len(synthetic),
        measures=measures,
        diversity=_measure_diversity(sets),
        nearest_similarity=copies.similarity if copies else [],
        closest=copies.closest if copies else [],
        appearance=_measure_appearance(sets, originals),
        flags=copies.flags if copies else None,
    )


@dataclass(frozen=True)
class _CopyFindings:
    """SSIM to the nearest training image, beside held-out ones; the closest pairs; `flags` `(N,)`."""

    similarity: list[Similarity]
    closest: list[ClosestPair]
    flags: np.ndarray | None


def _find_copies(arguments: CopyMeasureInputs, sets: ImageSets) -> _CopyFindings:
    train = arguments["train"].values
    near = nearest_neighbours(arguments["synthetic"].values, train)
    held_near = nearest_neighbours(arguments["held_out"].values, train)
    labels, held_labels = arguments["synthetic_labels"], arguments["held_out_labels"]
    shared = np.isin(held_labels, shared_classes(labels, held_labels))
    found = detect_memorization(**arguments) if shared.sum() >= 1 / FLAG_LEVEL else None
    similarity = (
        _nearest_similarity(sets, near[1][:, 0], held_near[1][:, 0]) if shared.any() else []
    )
    return _CopyFindings(
        similarity, _closest_pairs(near, found, sets), None if found is None else found.flags
    )


def _nearest_similarity(
    sets: ImageSets, rows: np.ndarray, held_rows: np.ndarray
) -> list[Similarity]:
    """SSIM and MS-SSIM of images to their nearest training ones, at `rows` `(N,)` and `(H,)`."""
    train = sets.pixels["train"]
    made = diversity.nearest_real_similarity(sets.pixels["synthetic"], train, rows)
    held = diversity.nearest_real_similarity(sets.pixels["held_out"], train, held_rows)
    labels, held_labels = sets.labels("synthetic"), sets.labels("held_out")
    similarity = []
    for column, metric in enumerate(("SSIM", diversity.ms_ssim_name(train.shape[1]))):
        mean, real = _compare_means(
            made[:, column], held[:, column], labels, held_labels, sets.resampling.replicates
        )
        similarity.append(Similarity(*mean.as_tuple(), metric=metric, real=real))
    return similarity


def _compare_means(
    values: np.ndarray,
    real_values: np.ndarray,
    labels: np.ndarray,
    real_labels: np.ndarray,
    replicates: int,
) -> tuple[Interval, float]:
    """The mean of synthetic images' values `(N,)` in the class mix of real ones, and the mean of
    the real values `(M,)`, both over the classes that both have."""
    shared = np.isin(real_labels, shared_classes(labels, real_labels))
    mix = class_proportions(real_labels[shared])
    mean = weighted_mean(values, labels, mix, replicates=replicates)
    return mean, float(real_values[shared].mean())


def _closest_pairs(
    neighbours: tuple[np.ndarray, np.ndarray], result: Memorization | None, sets: ImageSets
) -> list[ClosestPair]:
    distances, rows = (values[:, 0] for values in neighbours)
    threshold = result.threshold if result else float("nan")
    files, train_files = sets.manifests["synthetic"].files, sets.manifests["train"].files
    return [
        ClosestPair(
            synthetic=files[row],
            train=train_files[rows[row]],
            distance=float(distances[row]),
            threshold=threshold,
            flagged=bool(distances[row] < threshold),
        )
        for row in np.argsort(distances, kind="stable")[:MAX_CLOSEST_PAIRS]
    ]


def _measure_diversity(sets: ImageSets) -> list[Diversity]:
    real, synthetic = sets.manifests["real"], sets.manifests["synthetic"]
    within_class = partial(
        diversity.intra_class_similarity,
        classes=real.classes,
        max_pairs=sets.resampling.pairs_per_class,
        replicates=sets.resampling.replicates,
    )
    alike = within_class(sets.pixels["synthetic"], synthetic.targets)
    real_alike = within_class(sets.pixels["real"], real.targets, patients=sets.patients("real"))
    rows = []
    for name, mean in alike.items():
        metric, label = name.split("/", 1)
        rows.append(
            Diversity(*mean.as_tuple(), metric=metric, label=label, real=real_alike[name].value)
        )
    return rows


def _measure_appearance(sets: ImageSets, originals: Sequence[Path] | None) -> list[Appearance]:
    """What gives images away, on originals where they are kept, beside real images."""
    if sets.size_px < appearance.MIN_SIDE_PX:
        return []
    real, synthetic = sets.manifests["real"], sets.manifests["synthetic"]
    made, made_labels = _appearance_values(originals or synthetic.files, synthetic)
    looks, labels = _appearance_values(real.files, real)
    if not shared_classes(made_labels, labels):
        return []
    rows = []
    for name, meaning in appearance.MEASURES.items():
        mean, real_mean = _compare_means(
            made[name], looks[name], made_labels, labels, sets.resampling.replicates
        )
        row = Appearance(*mean.as_tuple(), measure=name, meaning=meaning, real=real_mean)
        rows.append(row)
    return rows


def _appearance_values(
    files: Sequence[Path], manifest: Manifest
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """The measures of some images, `(N,)` each, and their labels `(N,)`."""
    rows = _sample_rows(files)
    labels = manifest.table["label"].to_numpy(str)[rows]
    return appearance.measure_images(read_colour(files[row]) for row in rows), labels


def _sample_rows(files: Sequence[Path], max_files: int = 2000) -> list[int]:
    """Rows of all files, or of `most` by hash: a mean needs no more, and originals are large."""
    return sorted(range(len(files)), key=lambda row: derive_seed(0, files[row].name))[:max_files]
