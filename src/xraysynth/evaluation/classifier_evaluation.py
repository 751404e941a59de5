"""Tests a trained classifier on held-out real images: predictions, scores, and shortcut probes."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from xraysynth.data.persons import person_keys
from xraysynth.evaluation.metrics.arm_probes import ArmProbes, probe_arm
from xraysynth.evaluation.metrics.statistics import Interval
from xraysynth.files import atomic_path
from xraysynth.manifest import Manifest
from xraysynth.training.run import FitSummary, ImageCounts

if TYPE_CHECKING:  # a stage is planned without importing torch
    from xraysynth.training.classifier import XrayClassifier
    from xraysynth.training.datamodule import XrayDataModule

MACRO_SCORES = ("macro_precision", "macro_recall", "macro_f1")
"""Scores that are means over all classes, and are meaningless where some classes are absent."""


@dataclass(frozen=True, kw_only=True)
class TestResult:
    """Scores of the one test of a classifier.

    Attributes:
        accuracy: The proportion of test images whose most probable class is the label.
        macro_f1: The mean over classes of F1.
        test_images: The number of test images.
        test_evaluations: How often the classifier was tested on them, which should be once.
        predictions: The path of the Parquet file with the class probabilities of each image.
        scores: Every score by name, with its interval.
    """

    accuracy: float
    macro_f1: float
    test_images: int
    test_evaluations: int
    predictions: str
    scores: dict[str, Interval]


@dataclass(frozen=True, kw_only=True)
class TrainResult(TestResult, FitSummary, ImageCounts):
    """The record of one training run: the fit, the images it used, and the test of its classifier.

    Attributes:
        pools: The digest of the synthetic images by generator; empty in records of earlier versions.
        probes: The shortcut probes of the classifier, None for control arms.
        external: Scores by external test set.
        external_test_evaluations: How often the classifier was tested on external images.
    """

    pools: dict[str, str] = field(default_factory=dict)
    probes: ArmProbes | None = None
    external: dict[str, dict[str, Interval]] = field(default_factory=dict)
    external_test_evaluations: int = 0


@dataclass(frozen=True, kw_only=True)
class FidelityClassifierResult(TestResult, FitSummary):
    """The record of the label-fidelity classifier; `trained_on` describes its training images in words."""

    trained_on: str


@dataclass(frozen=True)
class ClassifierTest:
    """Tests classifiers on manifests, all in the same way.

    Attributes:
        classes: The classes, in the order of the classifier's outputs.
        replicates: The number of bootstrap replicates of each interval.
        size_px: The side in pixels at which classifiers see images.
        cache: The folder where pixels are kept.
        linked: Keys of patients who are one person, one sequence per person; the bootstrap draws all
            images of a person together.
    """

    classes: Sequence[str]
    replicates: int
    size_px: int
    cache: Path
    linked: Sequence[Sequence[str]] = ()

    def predict(self, images: Manifest, module: "XrayClassifier | Path") -> np.ndarray:
        """Returns class probabilities `(N, C)` float, in the order of the manifest.

        Args:
            images: The images to classify.
            module: A classifier, or the file of its weights.
        """
        from xraysynth.data.pixels import load_cached_pixels
        from xraysynth.training.batches import XrayDataset, sequential_loader
        from xraysynth.training.classifier import XrayClassifier, predict

        if isinstance(module, Path):
            module = XrayClassifier.load(module, list(self.classes))
        pixels = load_cached_pixels(images, size_px=self.size_px, folder=self.cache)
        dataset = XrayDataset([(pixels, np.arange(len(images)), images.targets)])
        return predict(module, sequential_loader(dataset))[0]

    def test(
        self, images: Manifest, probabilities: np.ndarray, targets: np.ndarray, *, path: Path
    ) -> TestResult:
        """Scores class probabilities `(N, C)` against `targets` `(N,)`, and writes them to `path`."""
        table = predictions_table(images, probabilities)
        _write_parquet(table, path)
        scores = self._compute_scores(table, probabilities, targets, self.linked)
        return TestResult(
            accuracy=scores["accuracy"].value,
            macro_f1=scores["macro_f1"].value,
            test_images=len(images),
            test_evaluations=1,
            predictions=str(path),
            scores=scores,
        )

    def test_external(
        self, external: Manifest, module: "XrayClassifier", *, path: Path
    ) -> dict[str, dict[str, Interval]]:
        """Scores a classifier on each external test set, and writes its predictions to `path`.

        Returns:
            Scores by data set. A data set that lacks classes gets only the scores that are meaningful
            without them, see `is_meaningful`.
        """
        probabilities = self.predict(external, module)
        table = predictions_table(external, probabilities)
        _write_parquet(table, path)
        scores_by_source = {}
        for source, images in table.groupby("source"):
            rows = images.index.to_numpy()
            scores = self._compute_scores(images, probabilities[rows], external.targets[rows], ())
            labels = set(images["label"])
            scores_by_source[str(source)] = select_meaningful(scores, labels, self.classes)
        return scores_by_source

    def _compute_scores(
        self,
        table: pd.DataFrame,
        probabilities: np.ndarray,
        targets: np.ndarray,
        linked: Sequence[Sequence[str]],
    ) -> dict[str, Interval]:
        """Computes every score of the images in `table`, with intervals clustered by person."""
        from xraysynth.evaluation.metrics.classification import score_run

        return score_run(
            probabilities,
            targets,
            person_keys(table, linked),
            classes=self.classes,
            replicates=self.replicates,
        )

    def probe(
        self, datamodule: "XrayDataModule", module: "XrayClassifier", test: Manifest, *, seed: int
    ) -> ArmProbes:
        """Tests whether a classifier uses shortcuts, and whether it looks where the finding is.

        Args:
            datamodule: The training and test images of the classifier.
            module: The classifier.
            test: The manifest of the test images, with the boxes of their findings.
            seed: The seed of the probes.
        """
        real, *synthetic = datamodule.images("train")
        (test_images,) = datamodule.images("test")
        return probe_arm(
            module,
            real,
            np.concatenate([real[:0], *synthetic]),  # an empty set where the arm is real-only
            person_keys(datamodule.train_manifests[0].table, self.linked),
            test_images,
            test.targets,
            list(map(_parse_boxes, test.table["boxes"])),
            person_keys(test.table, self.linked),
            replicates=self.replicates,
            seed=seed,
        )


def _write_parquet(table: pd.DataFrame, path: Path) -> None:
    with atomic_path(path) as partial:
        table.to_parquet(partial, index=False)


def _parse_boxes(boxes: str) -> Any:
    """Parses the `boxes` cell of a manifest, which is JSON or empty."""
    return json.loads(boxes) if boxes else []


def select_meaningful(
    scores: Mapping[str, Interval], labels: set[str], classes: Sequence[str]
) -> dict[str, Interval]:
    """Returns the scores that are meaningful for test images of these `labels` alone."""
    return {name: s for name, s in scores.items() if is_meaningful(name, labels, classes)}


def is_meaningful(score: str, labels: set[str], classes: Sequence[str]) -> bool:
    """Whether a score is meaningful where test images of only these `labels` exist.

    A score of one class needs images of that class, a mean over classes needs images of all.

    Args:
        score: The name of the score, followed by `/<class>` where it is of one class.
        labels: The classes of the test images.
        classes: All classes that the classifier knows.

    >>> is_meaningful("macro_f1", {"normal"}, ["normal", "pneumonia"])
    False
    >>> is_meaningful("recall/normal", {"normal"}, ["normal", "pneumonia"])
    True
    """
    metric, _, label = score.partition("/")
    if label:
        return label in labels
    return metric not in MACRO_SCORES or labels == set(classes)


def predictions_table(images: Manifest, probabilities: np.ndarray) -> pd.DataFrame:
    """Returns one row per image with its label and the probability of each class (`p_<class>`).

    Args:
        images: N images.
        probabilities: Class probabilities `(N, C)`, in the order of `images`.
    """
    columns = ["image_id", "patient_id", "source", "label"]
    table = images.table[columns].reset_index(drop=True)
    for class_name, values in zip(images.classes, probabilities.T, strict=True):
        table[f"p_{class_name}"] = values
    return table
