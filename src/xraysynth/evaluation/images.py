"""Compares synthetic images with real ones: every measure of an image set in one call.

`evaluate` takes manifests, of a study's pools or of any two folders (`folders.from_folder`); the package's
docstring has an example. Without training images it measures how far synthetic images are from real ones;
with them, also whether synthetic images are copies of training images.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from xraysynth.evaluation._image_sets import CopyMeasureInputs, ImageSets, Resampling
from xraysynth.evaluation.encoders.base import Encoder
from xraysynth.evaluation.metrics import appearance, diversity
from xraysynth.evaluation.metrics.class_mix import class_proportions, shared_classes, weighted_mean
from xraysynth.evaluation.metrics.copy_measures import measure_copying
from xraysynth.evaluation.metrics.features import Features
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
"""The number of reported pairs of a synthetic image and its nearest training image."""

MAX_APPEARANCE_FILES = 2000
"""The number of files whose appearance is measured: a mean needs no more, and originals are large."""


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
    """Measures `synthetic` images against `real` ones that their generator was not trained on.

    Means over all classes are weighted to the class mix of the real images, whatever the mix of
    `synthetic` is; a class that only one of the two sets has is left out of both.

    Args:
        real: Real images that the generator was not trained on.
        synthetic: The images to measure.
        encoders: The encoders whose features are compared. Copies are flagged by the first.
        size_px: The side in pixels of the study format that all images are put into first.
        cache: The folder where pixels and features are kept.
        train: The images that may have been copied. Without it copies are not looked for.
        held_out: Real images of other patients than those of `train`; they show how near images lie
            that are not copies. `real` by default.
        originals: The files as the generator wrote them, for `appearance`; the files of `synthetic` by
            default.
        resampling: The number of splits, replicates and pairs.
        linked: Keys (source/patient_id) of real patients who are one person, one sequence per person,
            as from `data.persons.find_linked_patients`.
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
        measures += _measure_distances(features, sets)
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


def _measure_distances(features: Mapping[str, Features], sets: ImageSets) -> list[Measure]:
    """Compares the features of synthetic and real images, over all classes and by class."""
    return measure_sets(
        real=features["real"],
        synthetic=features["synthetic"],
        real_labels=sets.labels("real"),
        synthetic_labels=sets.labels("synthetic"),
        patients=sets.patients("real"),
        classes=sets.manifests["real"].classes,
        splits=sets.resampling.splits,
    )


@dataclass(frozen=True)
class _CopyFindings:
    """Results of the search for copies by one encoder.

    Attributes:
        similarity: Similarity of synthetic images to their nearest training images.
        closest: The pairs of a synthetic and a training image that lie closest.
        flags: The memorisation flag of each synthetic image, `(N,)` bool; None where there are too few
            held-out images for a threshold.
    """

    similarity: list[Similarity]
    closest: list[ClosestPair]
    flags: np.ndarray | None


def _find_copies(arguments: CopyMeasureInputs, sets: ImageSets) -> _CopyFindings:
    """Compares synthetic and held-out images with their nearest training images."""
    train = arguments["train"].values
    distances, rows = nearest_neighbours(arguments["synthetic"].values, train)
    _, held_out_rows = nearest_neighbours(arguments["held_out"].values, train)
    labels, held_out_labels = arguments["synthetic_labels"], arguments["held_out_labels"]
    is_shared = np.isin(held_out_labels, shared_classes(labels, held_out_labels))
    memorization = None
    if is_shared.sum() >= 1 / FLAG_LEVEL:
        memorization = detect_memorization(**arguments)
    similarity: list[Similarity] = []
    if is_shared.any():
        similarity = _nearest_similarity(sets, rows[:, 0], held_out_rows[:, 0])
    return _CopyFindings(
        similarity,
        _closest_pairs(distances[:, 0], rows[:, 0], memorization, sets),
        memorization.flags if memorization else None,
    )


def _nearest_similarity(
    sets: ImageSets, rows: np.ndarray, held_out_rows: np.ndarray
) -> list[Similarity]:
    """Measures SSIM and MS-SSIM of images to their nearest training images.

    Args:
        sets: The image sets.
        rows: The training row that is nearest to each synthetic image, `(N,)`.
        held_out_rows: The training row that is nearest to each held-out image, `(H,)`.
    """
    train = sets.pixels["train"]
    values = diversity.nearest_real_similarity(sets.pixels["synthetic"], train, rows)
    real_values = diversity.nearest_real_similarity(sets.pixels["held_out"], train, held_out_rows)
    labels, real_labels = sets.labels("synthetic"), sets.labels("held_out")
    similarity = []
    for column, metric in enumerate(("SSIM", diversity.ms_ssim_name(train.shape[1]))):
        mean, real_mean = _compare_means(
            values[:, column],
            real_values[:, column],
            labels,
            real_labels,
            sets.resampling.replicates,
        )
        similarity.append(Similarity(*mean.as_tuple(), metric=metric, real=real_mean))
    return similarity


def _compare_means(
    values: np.ndarray,
    real_values: np.ndarray,
    labels: np.ndarray,
    real_labels: np.ndarray,
    replicates: int,
) -> tuple[Interval, float]:
    """Compares the means of synthetic and real values over the classes that both sets have.

    Args:
        values: One value per synthetic image, `(N,)`.
        real_values: One value per real image, `(M,)`.
        labels: The classes of the synthetic images, `(N,)`.
        real_labels: The classes of the real images, `(M,)`.
        replicates: The number of bootstrap replicates of the interval.

    Returns:
        The mean of the synthetic values in the class mix of the real images, and the real mean.
    """
    is_shared = np.isin(real_labels, shared_classes(labels, real_labels))
    mix = class_proportions(real_labels[is_shared])
    mean = weighted_mean(values, labels, mix, replicates=replicates)
    return mean, float(real_values[is_shared].mean())


def _closest_pairs(
    distances: np.ndarray,
    train_rows: np.ndarray,
    memorization: Memorization | None,
    sets: ImageSets,
) -> list[ClosestPair]:
    """Returns the synthetic images that lie closest to a training image, the closest first.

    Args:
        distances: The distance of each synthetic image to its nearest training image, `(N,)`.
        train_rows: The row of that training image, `(N,)`.
        memorization: The result with the threshold of a flag, None where there is none.
        sets: The image sets.
    """
    threshold = memorization.threshold if memorization else float("nan")
    files, train_files = (sets.manifests[name].listed_files for name in ("synthetic", "train"))
    pairs = []
    for row in np.argsort(distances, kind="stable")[:MAX_CLOSEST_PAIRS]:
        synthetic, train = files[row], train_files[train_rows[row]]
        pair = ClosestPair(
            synthetic=synthetic.path,
            train=train.path,
            distance=float(distances[row]),
            threshold=threshold,
            flagged=bool(distances[row] < threshold),
            synthetic_sha256=synthetic.sha256,
            train_sha256=train.sha256,
        )
        pairs.append(pair)
    return pairs


def _measure_diversity(sets: ImageSets) -> list[Diversity]:
    """Measures the similarity of image pairs within each class, of synthetic and of real images."""
    real, synthetic = sets.manifests["real"], sets.manifests["synthetic"]
    resampling = sets.resampling
    similarity = diversity.intra_class_similarity(
        sets.pixels["synthetic"],
        synthetic.targets,
        classes=real.classes,
        max_pairs=resampling.pairs_per_class,
        replicates=resampling.replicates,
    )
    real_similarity = diversity.intra_class_similarity(
        sets.pixels["real"],
        real.targets,
        classes=real.classes,
        patients=sets.patients("real"),
        max_pairs=resampling.pairs_per_class,
        replicates=resampling.replicates,
    )
    rows = []
    for name, mean in similarity.items():
        metric, label = name.split("/", 1)
        real_mean = real_similarity[name].value
        rows.append(Diversity(*mean.as_tuple(), metric=metric, label=label, real=real_mean))
    return rows


def _measure_appearance(sets: ImageSets, originals: Sequence[Path] | None) -> list[Appearance]:
    """Measures what gives synthetic images away, on the generator's original files where kept."""
    if sets.size_px < appearance.MIN_SIDE_PX:
        return []
    real, synthetic = sets.manifests["real"], sets.manifests["synthetic"]
    values, labels = _appearance_values(originals or synthetic.files, synthetic)
    real_values, real_labels = _appearance_values(real.files, real)
    if not shared_classes(labels, real_labels):
        return []
    rows = []
    for name, meaning in appearance.MEASURES.items():
        mean, real_mean = _compare_means(
            values[name], real_values[name], labels, real_labels, sets.resampling.replicates
        )
        row = Appearance(*mean.as_tuple(), measure=name, meaning=meaning, real=real_mean)
        rows.append(row)
    return rows


def _appearance_values(
    files: Sequence[Path], manifest: Manifest
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Returns the appearance measures of a sample of files, `(N,)` each, and its labels `(N,)`.

    Args:
        files: The files to measure, in the order of the manifest: its own, or originals, whose SHA-256
            it does not list.
        manifest: The manifest with the labels.
    """
    rows = _sample_rows(files)
    labels = manifest.table["label"].to_numpy(str)[rows]
    listed = dict(zip(manifest.files, manifest.table["sha256"].to_numpy(str), strict=True))
    pixels = (read_colour(files[row], sha256=listed.get(files[row], "")) for row in rows)
    return appearance.measure_images(pixels), labels


def _sample_rows(files: Sequence[Path], max_files: int = MAX_APPEARANCE_FILES) -> list[int]:
    """Returns the rows of at most `max_files` files, drawn by a hash of their names."""
    order = sorted(range(len(files)), key=lambda row: derive_seed(0, files[row].name))
    return order[:max_files]
