"""A trained classifier on real images that it has not seen: predictions, scores, and probes."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from xraysynth.data.persons import person_keys
from xraysynth.evaluation.metrics.arm_probes import ArmProbes, probe_arm
from xraysynth.evaluation.metrics.statistics import Interval
from xraysynth.manifest import Manifest
from xraysynth.training.run import FitSummary, ImageCounts

if TYPE_CHECKING:  # a stage is planned before torch is there
    from xraysynth.training.classifier import XrayClassifier
    from xraysynth.training.datamodule import XrayDataModule

MACRO_SCORES = ("macro_precision", "macro_recall", "macro_f1")
"""Scores that are means over all classes, and say nothing where some are absent."""


@dataclass(frozen=True, kw_only=True)
class TestResult:
    """Scores of the one test of a classifier, and the file of its predictions."""

    accuracy: float
    macro_f1: float
    test_images: int
    test_evaluations: int
    predictions: str
    scores: dict[str, Interval]


@dataclass(frozen=True, kw_only=True)
class TrainResult(TestResult, FitSummary, ImageCounts):
    """What a training came to: how it went, the images it saw, and how it was tested.

    `pools` are digests of the synthetic images by generator, empty where an earlier version did not
    record them; `external` are scores by external data set; `probes` is None for controls.
    """

    pools: dict[str, str] = field(default_factory=dict)
    probes: ArmProbes | None = None
    external: dict[str, dict[str, Interval]] = field(default_factory=dict)
    external_test_evaluations: int = 0


@dataclass(frozen=True, kw_only=True)
class FidelityClassifierResult(TestResult, FitSummary):
    """What the judge of synthetic images came to; `trained_on` says on whom, in words."""

    trained_on: str


@dataclass(frozen=True)
class ClassifierTest:
    """How classifiers are tested: `linked` patients are one person, and drawn as one."""

    classes: Sequence[str]
    replicates: int
    size_px: int
    cache: Path
    linked: Sequence[Sequence[str]] = ()

    def predict(self, images: Manifest, module: "XrayClassifier | Path") -> np.ndarray:
        """Class probabilities `(N, C)` by a classifier or its file, in the order of the manifest."""
        from xraysynth.data.pixels import load_cached_pixels
        from xraysynth.training.batches import XrayDataset, sequential_loader
        from xraysynth.training.classifier import XrayClassifier, predict

        if isinstance(module, Path):
            module = XrayClassifier.load(module, list(self.classes))
        arrays = load_cached_pixels(images, size_px=self.size_px, folder=self.cache)
        dataset = XrayDataset([(arrays, np.arange(len(images)), images.targets)])
        return predict(module, sequential_loader(dataset))[0]

    def test(
        self, images: Manifest, probabilities: np.ndarray, targets: np.ndarray, *, path: Path
    ) -> TestResult:
        """The scores of predictions `(N, C)`, which are written to `path`."""
        table = predictions_table(images, probabilities)
        table.to_parquet(path, index=False)
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
        """Scores by external data set; of one without all classes, those that say something."""
        probabilities = self.predict(external, module)
        table = predictions_table(external, probabilities)
        table.to_parquet(path, index=False)
        scores = {}
        for source, part in table.groupby("source"):
            rows, labels = part.index.to_numpy(), set(part["label"])
            found = self._compute_scores(part, probabilities[rows], external.targets[rows], ())
            scores[str(source)] = select_meaningful(found, labels, self.classes)
        return scores

    def _compute_scores(
        self,
        table: pd.DataFrame,
        probabilities: np.ndarray,
        targets: np.ndarray,
        linked: Sequence[Sequence[str]],
    ) -> dict[str, Interval]:
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
        """What the classifier tells that it should not, and whether it looks where the finding is."""
        real, *synthetic = datamodule.images("train")
        (tested,) = datamodule.images("test")
        return probe_arm(
            module,
            real,
            np.concatenate([real[:0], *synthetic]),
            person_keys(datamodule.train_manifests[0].table, self.linked),
            tested,
            test.targets,
            [json.loads(boxes) if boxes else [] for boxes in test.table["boxes"]],
            person_keys(test.table, self.linked),
            replicates=self.replicates,
            seed=seed,
        )


def select_meaningful(
    scores: Mapping[str, Interval], labels: set[str], classes: Sequence[str]
) -> dict[str, Interval]:
    """The scores that say something where only these classes occur."""
    return {name: s for name, s in scores.items() if is_meaningful(name, labels, classes)}


def is_meaningful(score: str, labels: set[str], classes: Sequence[str]) -> bool:
    """Whether a score says something where only these classes occur.

    >>> is_meaningful("macro_f1", {"normal"}, ["normal", "pneumonia"])
    False
    >>> is_meaningful("recall/normal", {"normal"}, ["normal", "pneumonia"])
    True
    """
    metric, _, label = score.partition("/")
    return label in labels if label else metric not in MACRO_SCORES or labels == set(classes)


def predictions_table(images: Manifest, probabilities: np.ndarray) -> pd.DataFrame:
    """One row per image with its label and the probability of each class (`p_<class>`)."""
    columns = ["image_id", "patient_id", "source", "label"]
    table = images.table[columns].reset_index(drop=True)
    return table.assign(
        **{f"p_{name}": p for name, p in zip(images.classes, probabilities.T, strict=True)}
    )
