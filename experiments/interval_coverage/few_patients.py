"""How often intervals hold the truth where a class has few patients: ours, and the bootstrap alone.

40, 20 and 10 patients of three classes and one to eight of the fourth, one to three images each. The
truth is that of 600 times as many. Writes few_patients.csv.
"""

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
from simulate import CLASSES, Cell, TestSet

from xraysynth.evaluation.metrics import bootstrap_scores, statistics
from xraysynth.evaluation.metrics.bootstrap_scores import BootstrapScores
from xraysynth.evaluation.metrics.scores import replicate_scores

RARE = CLASSES[3]
SCORES = (
    "accuracy",
    "macro_f1",
    "balanced_accuracy",
    "macro_auroc",
    f"recall/{RARE}",
    f"auroc/{RARE}",
)
OTHERS = (40, 20, 10)
CELL = Cell("few patients")


def draw(counts: tuple[int, ...], rng: np.random.Generator) -> TestSet:
    """A test set with these patients of each class."""
    classes = np.repeat(np.arange(len(counts)), counts)
    owners = np.repeat(np.arange(len(classes)), rng.integers(1, CELL.most_images + 1, len(classes)))
    effects = np.sqrt(CELL.of_patient) * rng.normal(size=(len(classes), len(CLASSES)))
    images = np.sqrt(CELL.of_image) * rng.normal(size=(len(owners), len(CLASSES)))
    return TestSet(classes[owners], owners, effects[owners] + images)


@contextmanager
def bootstrap_alone() -> Iterator[None]:
    """Without Wilson's interval for few patients."""
    kept = statistics.MIN_BOOTSTRAP_PATIENTS
    statistics.MIN_BOOTSTRAP_PATIENTS = bootstrap_scores.MIN_BOOTSTRAP_PATIENTS = 0
    try:
        yield
    finally:
        statistics.MIN_BOOTSTRAP_PATIENTS = bootstrap_scores.MIN_BOOTSTRAP_PATIENTS = kept


def covered(rare: int, *, sets: int, replicates: int) -> list[dict]:
    """A row per score for `rare` patients of the rare class."""
    rng = np.random.default_rng(rare)
    counts = (*OTHERS, rare)
    population = draw(tuple(600 * n for n in counts), rng)
    once = np.ones((1, len(population.targets)))
    predicted = population.predictions(CELL, CELL.skill, rng)
    truth = replicate_scores(predicted, population.targets, once, classes=CLASSES)
    hits: dict[tuple[str, str], list[bool]] = {}
    for seed in range(sets):
        images = draw(counts, rng)
        run = images.predictions(CELL, CELL.skill, rng)
        options = {"classes": CLASSES, "replicates": replicates, "seed": seed}
        arm = BootstrapScores.from_runs([run], images.targets, images.patients, **options)
        found = {"ours": arm.intervals()}
        with bootstrap_alone():
            plain = BootstrapScores.from_runs([run], images.targets, images.patients, **options)
            found["bootstrap alone"] = plain.intervals()
        for way, scores in found.items():
            for name in SCORES:
                inside = scores[name].low <= truth[name][0] <= scores[name].high
                hits.setdefault((way, name), []).append(inside)
    return [
        {"patients_of_rare_class": rare, "score": name, "interval": way, "test_sets": sets}
        | {"coverage": round(float(np.mean(values)), 4)}
        for (way, name), values in hits.items()
    ]


def main() -> None:
    """Write few_patients.csv."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sets", type=int, default=500, help="test sets a row")
    parser.add_argument("--replicates", type=int, default=200)
    given = parser.parse_args()
    rows: list[dict] = []
    for rare in (1, 2, 3, 4, 5, 6, 8):
        rows += covered(rare, sets=given.sets, replicates=given.replicates)
        pd.DataFrame(rows).to_csv(Path(__file__).with_name("few_patients.csv"), index=False)
        print(pd.DataFrame(rows[-2 * len(SCORES) :]).to_string(index=False), flush=True)


if __name__ == "__main__":
    main()
