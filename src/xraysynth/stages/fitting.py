"""A classifier fitted to a data module, tested, and asked what it has learned."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from xraysynth import tracking
from xraysynth.config import Config
from xraysynth.data.audit import person_keys
from xraysynth.files import write_atomically
from xraysynth.manifest import Manifest
from xraysynth.records import LearningRecord, to_json
from xraysynth.training.recipe import Control

if TYPE_CHECKING:  # a wrong option must be refused before torch is there
    from xraysynth.training.classifier import FitResult, XrayClassifier
    from xraysynth.training.datamodule import XrayDataModule


SEEN = "pools.json"
"""File beside the checkpoint of a training: the digests of the synthetic images that it sees."""


def data(
    config: Config,
    cohort: Manifest,
    synthetic: Mapping[str, Manifest] | None = None,
    learned: Mapping[str, LearningRecord | None] | None = None,
) -> "XrayDataModule":
    """The images of this configuration as loaders; `learned` are the records of the generators."""
    from xraysynth.training.datamodule import XrayDataModule

    return XrayDataModule(
        real=cohort,
        synthetic=synthetic or {},
        learned=learned,
        recipe=config.data,
        size_px=config.size_px,
        cache_folder=config.output / "cache",
        seed=config.seed,
    )


def fitted(
    config: Config, datamodule: "XrayDataModule", run: Any, *, weights: Path
) -> tuple["XrayClassifier", dict[str, Any]]:
    """The trained classifier, its weights saved, and how its training went; resumes beside them."""
    module, fitted = _fit(config, datamodule, run, weights.parent)
    module.save(weights)
    return module, {
        "kept_step": fitted.step,
        "optimiser_steps": fitted.history[-1]["step"],
        "first_real_step": fitted.first_real_step,
        "fit_seconds": None if fitted.seconds is None else round(fitted.seconds, 2),
        "processes": fitted.processes,
        "weights": str(weights),
        "history": fitted.history,
    }


def assist(config: Config, datamodule: "XrayDataModule", *, folder: Path) -> None:
    """Take part in the training of another process, which calls `fitted` and keeps the result."""
    _fit(config, datamodule, None, folder)


def _fit(
    config: Config, datamodule: "XrayDataModule", run: Any, folder: Path
) -> tuple["XrayClassifier", "FitResult"]:
    from xraysynth.training.classifier import XrayClassifier, fit

    module = XrayClassifier(
        classes=list(config.classes),
        recipe=to_json(config.classifier),
        max_steps=config.trainer.max_steps,
        class_counts=datamodule.class_counts,
        seed=config.seed,
    )
    logger = tracking.lightning_logger(run)
    return module, fit(module, datamodule, config.trainer, folder=folder, logger=logger)


def start_over_unless(folder: Path, pools: Mapping[str, str]) -> None:
    """Resume only a training that has seen these pools (name to digest), or does not say what."""
    path = folder / SEEN
    if path.exists() and json.loads(path.read_text()) != pools:
        forget_steps(folder)
    write_atomically(path, json.dumps(pools).encode())


def forget_steps(folder: Path) -> None:
    """Delete what was only needed to resume."""
    for name in ("last.ckpt", "best.safetensors", SEEN):
        (folder / name).unlink(missing_ok=True)


def sizes(trained_on: Sequence[Manifest]) -> dict[str, int]:
    """Images by kind; `real_images` are distinct ones, whose repeats are counted beside them."""
    real, *others = trained_on
    made = [int(part.table["is_synthetic"].sum()) for part in others]
    repeats = sum(map(len, others)) - sum(made)
    return {"real_images": len(real), "real_repeats": repeats, "synthetic_images": sum(made)}


def tested(
    config: Config,
    test: Manifest,
    probabilities: np.ndarray,
    targets: np.ndarray,
    *,
    path: Path,
    linked: Sequence[Sequence[str]],
) -> dict[str, Any]:
    """Predictions on disk, and the scores of the one test; `linked` patients are one person."""
    table = _predictions(test, probabilities)
    table.to_parquet(path, index=False)
    scores = _scores(config, table, probabilities, targets, linked)
    return {
        "accuracy": scores["accuracy"]["value"],
        "macro_f1": scores["macro_f1"]["value"],
        "test_images": len(test),
        "test_evaluations": 1,
        "predictions": str(path),
        "scores": scores,
    }


def tested_outside(
    config: Config, external: Manifest, module: "XrayClassifier", *, path: Path
) -> dict[str, Any]:
    """The same on external test sets, by data set; of one without all classes, fewer scores."""
    probabilities = predicted(config, external, module)
    table = _predictions(external, probabilities)
    table.to_parquet(path, index=False)
    found = {}
    for source, part in table.groupby("source"):
        rows = part.index.to_numpy()
        scores = _scores(config, part, probabilities[rows], external.targets[rows])
        found[str(source)] = {
            name: score
            for name, score in scores.items()
            if told(name, set(part["label"]), config.classes)
        }
    return {"external": found, "external_test_evaluations": 1}


def told(score: str, labels: set[str], classes: Sequence[str]) -> bool:
    """Whether a score says something where only these classes occur: means over absent ones do not."""
    metric, _, label = score.partition("/")
    averaged = metric in ("macro_precision", "macro_recall", "macro_f1")
    return label in labels if label else not averaged or labels == set(classes)


def predicted(config: Config, images: Manifest, module: "XrayClassifier | Path") -> np.ndarray:
    """Class probabilities `(N, C)` by a classifier or its file, in the order of the manifest."""
    from xraysynth.data.pixels import pixels
    from xraysynth.training.classifier import XrayClassifier, predict
    from xraysynth.training.datamodule import XrayDataset, in_order

    if isinstance(module, Path):
        module = XrayClassifier.load(module, config.classes)
    arrays = pixels(images, size_px=config.size_px, folder=config.output / "cache")
    dataset = XrayDataset([(arrays, np.arange(len(images)), images.targets)])
    return predict(module, in_order(dataset))[0]


def _predictions(images: Manifest, probabilities: np.ndarray) -> pd.DataFrame:
    columns = ["image_id", "patient_id", "source", "label"]
    table = images.table[columns].reset_index(drop=True)
    return table.assign(
        **{f"p_{name}": p for name, p in zip(images.classes, probabilities.T, strict=True)}
    )


def _scores(
    config: Config,
    table: pd.DataFrame,
    probabilities: np.ndarray,
    targets: np.ndarray,
    linked: Sequence[Sequence[str]] = (),
) -> dict[str, dict[str, Any]]:
    from xraysynth.evaluation.metrics.classification import evaluate

    found = evaluate(
        probabilities,
        targets,
        person_keys(table, linked),
        classes=config.classes,
        replicates=config.evaluate.replicates,
    )
    return {name: score.as_dict() for name, score in found.items()}


def probes(
    config: Config,
    datamodule: "XrayDataModule",
    module: "XrayClassifier",
    test: Manifest,
    *,
    linked: Sequence[Sequence[str]] = (),
) -> dict[str, Any]:
    """What the classifier tells that it should not, and whether it looks where the finding is.

    Patients who are `linked` count as one, and lie in one fold. Empty for controls, which are no arms
    of their own interest.
    """
    from xraysynth.evaluation.metrics.arm_probes import arm_probes

    if config.data.control is not Control.none:
        return {}
    real, *made = datamodule.images("train")
    (tested,) = datamodule.images("test")
    found = arm_probes(
        module,
        real,
        np.concatenate([real[:0], *made]),
        person_keys(datamodule.train_manifests[0].table, linked),
        tested,
        test.targets,
        [json.loads(boxes) if boxes else [] for boxes in test.table["boxes"]],
        person_keys(test.table, linked),
        replicates=config.evaluate.replicates,
        seed=config.seed,
    )
    result: dict[str, Any] = to_json(found)
    return result
