"""How often the 95 % intervals of the scores of one run contain the truth.

Test sets are drawn from a population whose scores are known: patients of four classes with one to
three images each, whose logits share an effect of the patient. See README.md.
"""

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from xraysynth.evaluation.metrics.classification import BootstrapScores
from xraysynth.evaluation.metrics.scores import replicate_scores
from xraysynth.evaluation.metrics.statistics import (
    Interval,
    percentile_interval,
    score_interval,
)

CLASSES = ("normal", "pneumonia", "covid19", "tuberculosis")
SCORES = ("accuracy", "macro_f1", "macro_auroc")
BALANCED, UNBALANCED = (0.25, 0.25, 0.25, 0.25), (0.55, 0.25, 0.14, 0.06)
Found = dict[tuple[str, str], Interval]  # by method and score


def arm_replicates(runs: Any, *given: Any, **options: Any) -> dict[str, np.ndarray]:
    """Every score of an arm `(1 + R,)`: its value, then its replicates."""
    arm = BootstrapScores.from_runs(runs, *given, **options)
    return {name: arm.replicates(name) for name in arm.means_and_deviations}


@dataclass(frozen=True)
class Cell:
    """A kind of test set. `skill` raises the logit of the true class. Variances of a patient's, an
    image's and a run's own logits add up to 1. The class mix is fixed, as in a stratified split, unless
    `mixed`."""

    name: str
    mix: tuple[float, ...] = BALANCED
    patients: int = 75
    skill: float = 2.0
    mixed: bool = False
    most_images: int = 3
    of_patient: float = 0.6
    of_image: float = 0.4

    @property
    def of_run(self) -> float:
        """Variance of what each training run makes of an image."""
        return max(0.0, 1 - self.of_patient - self.of_image)


SINGLE = (
    Cell("150 images, balanced"),
    Cell("400 images, balanced", patients=200),
    Cell("150 images, unbalanced", UNBALANCED),
    Cell("400 images, unbalanced", UNBALANCED, patients=200),
    Cell("400 images, balanced, few errors", patients=200, skill=3.0),
    Cell("150 images, unbalanced, hardly an error", UNBALANCED, skill=3.5),
    Cell("150 images, unbalanced, class mix free", UNBALANCED, mixed=True),
)


@dataclass(frozen=True)
class TestSet:
    """Classes and owners of the images, `(N,)`, and the part of their logits all runs share `(N, C)`."""

    targets: np.ndarray
    patients: np.ndarray
    shared: np.ndarray

    def predictions(self, cell: Cell, skill: float, rng: np.random.Generator) -> np.ndarray:
        """Probabilities `(N, C)` by one training run of that skill."""
        own = np.sqrt(cell.of_run) * rng.normal(size=self.shared.shape)
        raised = np.exp(self.shared + own + skill * np.eye(len(CLASSES))[self.targets])
        probabilities: np.ndarray = raised / raised.sum(1, keepdims=True)
        return probabilities


def draw(cell: Cell, patients: int, rng: np.random.Generator, *, mixed: bool = False) -> TestSet:
    """A test set of so many patients."""
    if mixed:
        classes = rng.choice(len(CLASSES), patients, p=cell.mix)
    else:
        classes = np.repeat(np.arange(4), np.round(np.array(cell.mix) * patients).astype(int))
    owners = np.repeat(np.arange(len(classes)), rng.integers(1, cell.most_images + 1, len(classes)))
    effects = np.sqrt(cell.of_patient) * rng.normal(size=(len(classes), 4))
    images = np.sqrt(cell.of_image) * rng.normal(size=(len(owners), 4))
    return TestSet(classes[owners], owners, effects[owners] + images)


def truth(cell: Cell, *, patients: int) -> dict[str, float]:
    """Scores in a population of so many patients."""
    rng = np.random.default_rng(1)
    population = draw(cell, patients, rng)
    scores = replicate_scores(
        population.predictions(cell, cell.skill, rng),
        population.targets,
        np.ones((1, len(population.targets))),
        classes=CLASSES,
    )
    return {name: float(scores[name][0]) for name in SCORES}


def intervals_of_one_run(cell: Cell, seed: int, replicates: int) -> Found:
    """Intervals of the scores of one run: ours, its percentiles, and ours blind to patients."""
    rng = np.random.default_rng([seed, 1])
    images = draw(cell, cell.patients, rng, mixed=cell.mixed)
    run = images.predictions(cell, cell.skill, rng)
    found = {}
    for way, owners in (("", images.patients), (" by image", np.arange(len(images.targets)))):
        scores = arm_replicates(
            [run], images.targets, owners, classes=CLASSES, replicates=replicates, seed=seed
        )
        for name in SCORES:
            value, drawn = scores[name][0], scores[name][1:]
            patients = len(np.unique(owners))
            found[f"logit{way}", name] = score_interval(value, drawn, n=0, patients=patients)
            found[f"percentile{way}", name] = percentile_interval(value, drawn, n=0)
    return found


def coverage(found: Sequence[Found], wanted: dict[str, float]) -> Iterator[dict]:
    """Per method and score: how often the interval contains the truth, or lies above or below it."""
    for method, name in found[0]:
        true = wanted[name]
        ends = np.array([(one[method, name].low, one[method, name].high) for one in found])
        above, below = ends[:, 0] > true, ends[:, 1] < true
        yield {
            "method": method,
            "score": name,
            "truth": round(true, 4),
            "coverage": round(1 - np.mean(above | below), 4),
            "above": round(np.mean(above), 4),
            "below": round(np.mean(below), 4),
            "width": round(float(np.median(ends[:, 1] - ends[:, 0])), 4),
            "test_sets": len(found),
        }


def measure(cell: Cell, *, sets: int, replicates: int, population: int = 60_000) -> list[dict]:
    """Rows of the result table for one cell; `population` is the number of patients that are the truth."""
    wanted = truth(cell, patients=population)
    found = [intervals_of_one_run(cell, seed, replicates) for seed in range(sets)]
    return [{"cell": cell.name} | row for row in coverage(found, wanted)]


def main() -> None:
    """Write results.csv, cell by cell."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sets", type=int, default=1000, help="test sets a cell")
    parser.add_argument("--replicates", type=int, default=300)
    arguments = parser.parse_args()
    rows: list[dict] = []
    for cell in SINGLE:
        rows += measure(cell, sets=arguments.sets, replicates=arguments.replicates)
        print(pd.DataFrame(rows[-12:]).to_string(index=False), flush=True)
        pd.DataFrame(rows).to_csv(Path(__file__).with_name("results.csv"), index=False)


if __name__ == "__main__":
    main()
